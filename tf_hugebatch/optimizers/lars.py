"""LARS, with the choices that public implementations make differently as named arguments."""

import tensorflow as tf

from tf_hugebatch.keras_versions import register_serializable
from tf_hugebatch.optimizers import norms, trust
from tf_hugebatch.optimizers.arguments import check_choice, check_flag, check_number, preset_arguments
from tf_hugebatch.optimizers.base import HugeBatchOptimizer
from tf_hugebatch.optimizers.sgd import accumulate, step_with_momentum

MOMENTUM_CONVENTIONS = ("unscaled", "scaled", "after", "update_norm", "corrected")


@register_serializable
class LARS(HugeBatchOptimizer):
    """Layer-wise adaptive rate scaling: momentum SGD at a rate per variable.

    The direction and the trust ratio:

    ```
    d = g + weight_decay * w                               # decay_in_update=True
    d = g                                                  # decay_in_update=False, or excluded from decay
    r = trust_coefficient * ||w|| / (||g|| + weight_decay * ||w|| + epsilon)      # denominator="sum"
    r = trust_coefficient * ||w|| / (||g + weight_decay * w|| + epsilon)          # denominator="joint"
    ```

    r is 1 for variables excluded from adaptation, and where ||w|| is 0 or ||g|| ("joint": ||g + weight_decay
    * w||) is 0. For the others, zero norms included:

    ```
    r = min(r / learning_rate, 1)                          # trust_clip=True (LARC)
    r = min(max(r, lower), upper)                          # trust_bounds=(lower, upper)
    ```

    The momentum, m = momentum, l = learning_rate; `nesterov` steps by m * v + (what was just added to m * v)
    instead of v:

    ```
    v = m * v + l * r * d;   w = w - v                     # momentum_convention="unscaled"
    v = m * v + d;           w = w - l * r * v             # "scaled"
    v = m * v + r * d;       w = w - l * v                 # "after"
    v = m * v + d;           w = w - l * r * v             # "update_norm", where
                             r = trust_coefficient * ||w|| / (||v|| + epsilon)
    v = m * l/l_before * v + l * r * d;   w = w - v        # "corrected"
    ```

    "update_norm" takes the norm of what it steps by, and reads no denominator; its r is 1 where that norm is
    0. "corrected" equals "after" as long as no rate is 0 and every variable has a gradient in every update (one
    that has none keeps its v in units of the rate before). Where the rate before was 0, v is 0 already, so the
    quotient is left out. With momentum 0 there is no v.

    Args:
        momentum: in [0, 1).
        trust_coefficient: eta.
        epsilon: >= 0, in the denominator.
        denominator: "sum" or "joint".
        momentum_convention: one of the five above.
        decay_in_update: whether weight_decay * w is part of the update, or of the denominator only.
        trust_clip: None (or False), or True for LARC's clip.

    Other arguments: see `HugeBatchOptimizer`.

    References: You et al. 2017, arXiv 1708.03888, equation 6 and algorithm 1; Goyal et al. 2017, arXiv
    1706.02677, remark 2 ("corrected").
    """

    def __init__(self, learning_rate, *, momentum=0.9, weight_decay=0.0, trust_coefficient=0.001, epsilon=0.0,
                 nesterov=False, denominator="sum", momentum_convention="unscaled", decay_in_update=True,
                 trust_clip=None, trust_bounds=None, exclude_from_decay=None, exclude_from_adaptation=None,
                 fixed_trust_ratios=None, clip_global_norm=None, name="lars"):
        super().__init__(
            learning_rate, weight_decay=weight_decay, layerwise=True, trust_coefficient=trust_coefficient,
            trust_bounds=trust_bounds, trust_bounds_schedule="fixed", trust_bounds_rate=0.0,
            exclude_from_decay=exclude_from_decay, exclude_from_adaptation=exclude_from_adaptation,
            fixed_trust_ratios=fixed_trust_ratios, clip_global_norm=clip_global_norm, name=name)
        self.momentum = check_number("momentum", momentum, 0.0, 1.0, but=1.0)
        self.epsilon = check_number("epsilon", epsilon, 0.0)
        self.nesterov = check_flag("nesterov", nesterov)
        self.denominator = check_choice("denominator", denominator, ("sum", "joint"))
        self.momentum_convention = check_choice(
            "momentum_convention", momentum_convention, MOMENTUM_CONVENTIONS)
        self.decay_in_update = check_flag("decay_in_update", decay_in_update)
        self.trust_clip = check_choice("trust_clip", trust_clip, (None, False, True))
        self.slots = (("momentum", 0.0),) if self.momentum else ()
        self.keeps_learning_rate = bool(self.momentum) and momentum_convention == "corrected"

    @classmethod
    def preset(cls, preset, /, learning_rate, **overrides):
        """The LARS of a public implementation: "contrib", "mlperf", "tf_models", "optax" or "larc".

        A preset fills the choices that these make differently, not momentum or weight_decay; `overrides` are
        constructor arguments. "larc" is NVIDIA apex LARC with clip=True as timm's LARC computes it; apex
        itself leaves a variable undecayed and unscaled when ||w|| or ||g|| is 0, where here and in timm r is
        1 before the clip. Raises ValueError for another name.
        """
        return cls(learning_rate, **{**preset_arguments("lars", preset), **overrides})

    def _ratio(self, operand, joint, now):
        """r; `joint` is the tensor whose norm "joint" and "update_norm" divide by."""
        if not operand.adapts:
            return tf.constant(1.0)
        if operand.fixed_ratio is not None:
            return self.bounded(tf.constant(operand.fixed_ratio), now)
        if self.denominator == "sum" and self.momentum_convention != "update_norm":
            weight_decay = self.weight_decay if operand.decays else 0.0
            ratio = trust.sum_trust_ratio(operand.weight_norm, operand.gradient_norm, weight_decay,
                                          self.trust_coefficient, self.epsilon)
        else:
            ratio = trust.joint_trust_ratio(operand.weight_norm, norms.norm(joint), self.trust_coefficient,
                                            self.epsilon)
        if self.trust_clip:
            ratio = trust.larc_clip(ratio, now.learning_rate)
        return self.bounded(ratio, now)

    def _step(self, operand, rate, addend, correction=1.0):
        """Steps by what the velocity becomes; without momentum there is none, and by the addend."""
        if self.momentum:
            step_with_momentum(operand, operand.slots[0], addend, rate, self.momentum, self.nesterov, correction)
        else:
            operand.descend(rate, addend)

    def update(self, operand, now):
        joint = self.decayed(operand.gradient, operand)
        direction = joint if self.decay_in_update else operand.gradient
        rate = now.learning_rate
        if self.momentum_convention == "update_norm":
            step = accumulate(operand.slots[0], direction, self.momentum, self.nesterov) if self.momentum else direction
            ratio = self._ratio(operand, step, now)
            operand.descend(rate * ratio, step)
            return ratio
        ratio = self._ratio(operand, joint, now)
        if self.momentum_convention == "scaled":
            self._step(operand, rate * ratio, direction)
        elif self.momentum_convention == "after":
            self._step(operand, rate, ratio * direction)
        else:
            correction = self._correction(now) if self.keeps_learning_rate else 1.0
            self._step(operand, 1.0, (rate * ratio) * direction, correction)
        return ratio

    def _correction(self, now):
        """l / l_before; 1 where l_before is 0, for then v is 0 and any finite factor does."""
        before = now.previous_learning_rate
        return tf.where(before > 0.0, now.learning_rate / before, 1.0)
