"""Models of the paper's experiments, as plain Keras models."""
