"""What a rule is, and what it is given: one variable, its state tensors, and the scalars of the update."""

import dataclasses
import functools

import tensorflow as tf

from tf_hugebatch.optimizers import norms, trust


@dataclasses.dataclass(frozen=True)
class Now:
    """The float32 scalars of one update. `update` counts from 1, as the t of the equations does."""

    learning_rate: tf.Tensor
    update: tf.Tensor
    previous_learning_rate: tf.Tensor | None


def descend(variable, rate, direction):
    """variable -= rate * direction, in one pass over the three; an expression would make a tensor of the product first.

    variable: a float32 tf.Variable, in an update context the replica's own. rate: a scalar.
    """
    tf.raw_ops.ResourceApplyGradientDescent(var=variable.handle, alpha=rate, delta=direction)


class Slot:
    """One state tensor of one variable."""

    def __init__(self, variable):
        self._variable = variable

    @property
    def value(self):
        return tf.convert_to_tensor(self._variable)

    def set(self, value):
        """The value, stored."""
        self._variable.assign(value)
        return value

    def approach(self, target, fraction):
        """slot + fraction * (target - slot), stored: a moving average whose memory is 1 - fraction."""
        descend(self._variable, fraction, self.value - target)
        return self.value


class Operand:
    """One variable as a rule sees it: tensors, and norms, computed at most once and only if asked for."""

    def __init__(self, weight, gradient, slots, assignment, weight_norm=None, gradient_norm=None):
        self.weight = weight
        self.gradient = gradient
        self.slots = slots
        self.decays = assignment.decays
        self.adapts = assignment.adapts
        self._given = (weight_norm, gradient_norm)

    @functools.cached_property
    def weight_norm(self):
        return norms.norm(self.weight) if self._given[0] is None else self._given[0]

    @functools.cached_property
    def gradient_norm(self):
        return norms.norm(self.gradient) if self._given[1] is None else self._given[1]


class Rule:
    """The update of one variable, and the parts that rules share; reads the constructor arguments."""

    # (name, initial value) of each per-variable state tensor.
    slots = ()
    # Whether the rule reads the learning rate of the update before.
    keeps_learning_rate = False

    def update(self, operand, now):
        """(rate, direction, trust ratio) for one variable, with w_new = w - rate * direction. Moves the operand's slots and
        nothing else.
        """
        raise NotImplementedError

    def decayed(self, direction, operand, scale=1.0):
        """u with scale * u = scale * direction + lambda * w, or direction itself where decay leaves the variable out."""
        if self.weight_decay == 0.0 or not operand.decays:
            return direction
        return direction + (self.weight_decay / scale) * operand.weight

    def trust_ratio(self, operand, update_norm, now):
        """The bounded joint trust ratio of `operand` for an update of this norm."""
        ratio = trust.joint_trust_ratio(operand.weight_norm, update_norm, self.trust_coefficient)
        return self.bounded(ratio, now)

    def bounded(self, ratio, now):
        """The ratio within trust_bounds, as they are at this update."""
        bounds = self.bounds_at(now.update)
        return ratio if bounds is None else trust.bound(ratio, *bounds)

    def bounds_at(self, update):
        """trust_bounds as they are at `update`, counted from 1; None without bounds."""
        if self.trust_bounds is None or self.trust_bounds_schedule == "fixed":
            return self.trust_bounds
        return trust.adabound_bounds(*self.trust_bounds, self.trust_bounds_rate, update)

    def layerwise_rate(self, direction, operand, now, scale=1.0):
        """(learning_rate * r * scale, r) for an update scale * direction that holds its decay; r = 1 without adaptation."""
        rate = now.learning_rate * scale
        if not (self.layerwise and operand.adapts):
            return rate, tf.constant(1.0)
        ratio = self.trust_ratio(operand, scale * norms.norm(direction), now)
        return rate * ratio, ratio
