"""How far the weights are from where they began (figures 11 and 12; Hoffer et al. 2017, arXiv 1705.08741)."""

import tensorflow as tf

from ..optimizers import norms
from .probe import Probe


class Diffusion(Probe):
    """||w_t - w_0|| after every update, in total and of every variable.

    ```
    distances             ||w_t - w_0||                          per variable
    distance_from_start   sqrt(sum over variables of squares)
    ```

    w_0 is what the model holds when the probe is made: a run's initial weights are a function of its seed, so a resumed run
    measures from the same place and nothing of this is checkpointed. Costs one copy of the weights, and a pass over both.
    """

    scalars = ("distance_from_start",)
    vectors = ("distances",)

    def __init__(self, **parts):
        super().__init__(**parts)
        self.variables = [
            tf.Variable(variable.numpy(), trainable=False, aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA)
            for variable in self.model.trainable_variables]

    def after_update(self, result, weights):
        distances = [norms.norm(weight - start) for weight, start in zip(weights, self.variables)]
        return {"distances": distances, "distance_from_start": norms.combined(distances)}
