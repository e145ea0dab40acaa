"""Stochastic gradient descent with momentum, original and layer-wise."""

from tf_hugebatch.keras_versions import register_serializable
from tf_hugebatch.optimizers.arguments import check_flag, check_number
from tf_hugebatch.optimizers.base import HugeBatchOptimizer


def accumulate(velocity, addend, momentum, nesterov, correction=1.0):
    """What to step by after the slot v becomes m c v + d: v itself or, with nesterov, m v + d.

    correction: c, a factor on the old velocity; 1 but for a momentum corrected for a change of learning rate.
    """
    moved = velocity.set((momentum * correction) * velocity.value + addend)
    return momentum * moved + addend if nesterov else moved


def step_with_momentum(operand, velocity, addend, rate, momentum, nesterov, correction=1.0):
    """Moves the slot v as `accumulate` does, and the weights by rate times what it says."""
    if nesterov:
        operand.descend(rate, accumulate(velocity, addend, momentum, nesterov, correction))
    else:
        operand.descend_with_momentum(velocity, addend, momentum * correction, rate)


@register_serializable
class SGD(HugeBatchOptimizer):
    """Momentum SGD; layer-wise, the gradient is rescaled to the norm of the weights before momentum.

    `layerwise=False` (Keras' SGD, with the decay added to the gradient):

    ```
    d = g + weight_decay * w
    v = momentum * v + learning_rate * d
    w = w - v                                              # nesterov: w - (momentum * v + learning_rate * d)
    ```

    `layerwise=True`:

    ```
    d = g + weight_decay * w
    r = trust_coefficient * ||w|| / ||d||                  # 1 where a norm is 0, or excluded
    r = min(max(r, lower), upper)                          # with trust_bounds
    v = momentum * v + r * d
    w = w - learning_rate * v                   # nesterov: w - learning_rate * (momentum * v + r * d)
    ```

    With momentum 0 there is no v. Arguments not listed: see `HugeBatchOptimizer`.

    Args:
        momentum: in [0, 1).
        nesterov: whether to step by the velocity after one more accumulation.

    References: Sutskever et al. 2013, section 2 (momentum, Nesterov); You et al. 2017, arXiv 1708.03888
    (layer-wise rates); the paper's footnote 2 (r = ||w||/||u||).
    """

    def __init__(self, learning_rate, *, momentum=0.0, nesterov=False, weight_decay=0.0,
                 decoupled_weight_decay=False, layerwise=False, trust_coefficient=1.0, trust_bounds=None,
                 trust_bounds_schedule="fixed", trust_bounds_rate=1e-3, exclude_from_decay=None,
                 exclude_from_adaptation=None, fixed_trust_ratios=None, clip_global_norm=None, name="sgd"):
        super().__init__(
            learning_rate, weight_decay=weight_decay, layerwise=layerwise,
            trust_coefficient=trust_coefficient, trust_bounds=trust_bounds,
            trust_bounds_schedule=trust_bounds_schedule, trust_bounds_rate=trust_bounds_rate,
            exclude_from_decay=exclude_from_decay, exclude_from_adaptation=exclude_from_adaptation,
            fixed_trust_ratios=fixed_trust_ratios, clip_global_norm=clip_global_norm, name=name,
            decoupled_weight_decay=decoupled_weight_decay)
        self.momentum = check_number("momentum", momentum, 0.0, 1.0, but=1.0)
        self.nesterov = check_flag("nesterov", nesterov)
        self.slots = (("momentum", 0.0),) if self.momentum else ()

    def update(self, operand, now):
        direction = self.decayed(operand.gradient, operand)
        rate, ratio = self.layerwise_rate(direction, operand, now)
        if not self.momentum:
            operand.descend(rate, direction)
        elif self.layerwise:
            step_with_momentum(operand, operand.slots[0], ratio * direction, now.learning_rate, self.momentum, self.nesterov)
        else:
            step_with_momentum(operand, operand.slots[0], rate * direction, 1.0, self.momentum, self.nesterov)
        return ratio
