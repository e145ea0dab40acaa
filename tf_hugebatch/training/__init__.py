"""Training: strategy, the step, evaluation, checkpoints, and the loop that composes them."""
