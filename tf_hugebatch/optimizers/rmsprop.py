"""RMSprop, original and layer-wise."""

import tensorflow as tf

from tf_hugebatch.keras_versions import register_serializable
from tf_hugebatch.optimizers.adagrad import divide_by_root
from tf_hugebatch.optimizers.arguments import check_choice, check_memory, check_number
from tf_hugebatch.optimizers.base import HugeBatchOptimizer
from tf_hugebatch.optimizers.sgd import step_with_momentum


@register_serializable
class RMSprop(HugeBatchOptimizer):
    """Gradients over the root of a moving average of their squares; layer-wise, at a rate per variable.

    ```
    s = rho * s + (1 - rho) * g^2
    u = g / sqrt(s + epsilon)                              # epsilon_placement="inside", as Keras
    u = g / (sqrt(s) + epsilon)                            # epsilon_placement="outside"
    u = u + weight_decay * w
    r = 1
    ```

    `layerwise=True`, in place of r = 1:

    ```
    r = trust_coefficient * ||w|| / ||u||                  # 1 where a norm is 0, or excluded
    r = min(max(r, lower), upper)                          # with trust_bounds
    ```

    and then

    ```
    w = w - learning_rate * r * u                          # momentum=0
    v = momentum * v + learning_rate * r * u               # momentum>0
    w = w - v
    ```

    Arguments not listed: see `HugeBatchOptimizer`.

    Args:
        rho: in [0, 1), the memory of the mean square.
        momentum: in [0, 1).
        epsilon: >= 0; with 0, a gradient that has been zero so far gives 0/0.
        epsilon_placement: "inside" or "outside" the root.

    Reference: Tieleman and Hinton 2012, lecture 6.5, slide 29.
    """

    def __init__(self, learning_rate, *, rho=0.9, momentum=0.0, epsilon=1e-7, epsilon_placement="inside",
                 weight_decay=0.0, decoupled_weight_decay=False, layerwise=False, trust_coefficient=1.0, trust_bounds=None,
                 trust_bounds_schedule="fixed", trust_bounds_rate=1e-3, exclude_from_decay=None,
                 exclude_from_adaptation=None, fixed_trust_ratios=None, clip_global_norm=None, name="rmsprop"):
        super().__init__(
            learning_rate, weight_decay=weight_decay, layerwise=layerwise,
            trust_coefficient=trust_coefficient, trust_bounds=trust_bounds,
            trust_bounds_schedule=trust_bounds_schedule, trust_bounds_rate=trust_bounds_rate,
            exclude_from_decay=exclude_from_decay, exclude_from_adaptation=exclude_from_adaptation,
            fixed_trust_ratios=fixed_trust_ratios, clip_global_norm=clip_global_norm, name=name,
            decoupled_weight_decay=decoupled_weight_decay)
        self.rho = check_memory("rho", rho)
        self.momentum = check_number("momentum", momentum, 0.0, 1.0, but=1.0)
        self.epsilon = check_number("epsilon", epsilon, 0.0)
        self.epsilon_placement = check_choice("epsilon_placement", epsilon_placement, ("inside", "outside"))
        self.slots = (("mean_square", 0.0),) + ((("momentum", 0.0),) if self.momentum else ())

    def update(self, operand, now):
        mean_square = operand.slots[0].approach(tf.square(operand.gradient), 1.0 - self.rho)
        direction = divide_by_root(operand.gradient, mean_square, self.epsilon, self.epsilon_placement)
        direction = self.decayed(direction, operand)
        rate, ratio = self.layerwise_rate(direction, operand, now)
        if self.momentum:
            step_with_momentum(operand, operand.slots[1], rate * direction, 1.0, self.momentum, nesterov=False)
        else:
            operand.descend(rate, direction)
        return ratio
