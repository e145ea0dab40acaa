"""Adagrad, original and layer-wise."""

import tensorflow as tf

from tf_hugebatch.keras_versions import register_serializable
from tf_hugebatch.optimizers.arguments import check_choice, check_number
from tf_hugebatch.optimizers.base import HugeBatchOptimizer


def divide_by_root(gradient, square, epsilon, placement):
    """gradient / sqrt(square + epsilon) ("inside") or gradient / (sqrt(square) + epsilon) ("outside")."""
    if placement == "inside":
        return gradient / tf.sqrt(square + epsilon)
    return gradient / (tf.sqrt(square) + epsilon)


@register_serializable
class Adagrad(HugeBatchOptimizer):
    """Gradients over the root of the sum of their squares; layer-wise, at a rate per variable.

    ```
    a = a + g^2                                            # a starts at initial_accumulator_value
    u = g / sqrt(a + epsilon)                              # epsilon_placement="inside", as Keras
    u = g / (sqrt(a) + epsilon)                            # epsilon_placement="outside", as the paper
    u = u + weight_decay * w
    w = w - learning_rate * u
    ```

    `layerwise=True`, in place of the last line:

    ```
    r = trust_coefficient * ||w|| / ||u||                  # 1 where a norm is 0, or excluded
    r = min(max(r, lower), upper)                          # with trust_bounds
    w = w - learning_rate * r * u
    ```

    Arguments not listed: see `HugeBatchOptimizer`.

    Args:
        initial_accumulator_value: where the sum of squares starts, >= 0.
        epsilon: >= 0; with 0 and an initial value of 0, a zero gradient gives 0/0.
        epsilon_placement: "inside" or "outside" the root.

    Reference: Duchi et al. 2011, JMLR 12, equation 1 in its diagonal form (figure 1).
    """

    def __init__(self, learning_rate, *, initial_accumulator_value=0.1, epsilon=1e-7,
                 epsilon_placement="inside", weight_decay=0.0, decoupled_weight_decay=False, layerwise=False,
                 trust_coefficient=1.0,
                 trust_bounds=None, trust_bounds_schedule="fixed", trust_bounds_rate=1e-3,
                 exclude_from_decay=None, exclude_from_adaptation=None, fixed_trust_ratios=None,
                 clip_global_norm=None, name="adagrad"):
        super().__init__(
            learning_rate, weight_decay=weight_decay, layerwise=layerwise,
            trust_coefficient=trust_coefficient, trust_bounds=trust_bounds,
            trust_bounds_schedule=trust_bounds_schedule, trust_bounds_rate=trust_bounds_rate,
            exclude_from_decay=exclude_from_decay, exclude_from_adaptation=exclude_from_adaptation,
            fixed_trust_ratios=fixed_trust_ratios, clip_global_norm=clip_global_norm, name=name,
            decoupled_weight_decay=decoupled_weight_decay)
        self.initial_accumulator_value = check_number(
            "initial_accumulator_value", initial_accumulator_value, 0.0)
        self.epsilon = check_number("epsilon", epsilon, 0.0)
        self.epsilon_placement = check_choice("epsilon_placement", epsilon_placement, ("inside", "outside"))
        self.slots = (("accumulator", self.initial_accumulator_value),)

    def update(self, operand, now):
        accumulator, = operand.slots
        accumulator = accumulator.set(accumulator.value + tf.square(operand.gradient))
        direction = divide_by_root(operand.gradient, accumulator, self.epsilon, self.epsilon_placement)
        direction = self.decayed(direction, operand)
        rate, ratio = self.layerwise_rate(direction, operand, now)
        operand.descend(rate, direction)
        return ratio
