"""What a rule is, and what it is given: one variable, its state tensors, and the scalars of the update."""

import dataclasses
import functools

import tensorflow as tf

from tf_hugebatch.optimizers import norms, trust
from tf_hugebatch.optimizers.arguments import refuse_unknown_arguments


@dataclasses.dataclass(frozen=True)
class Now:
    """The float32 scalars of one update. `update` counts from 1, as the t of the equations does.

    done: the updates before, as an int64: float32 can't tell updates apart beyond 16.8 million.
    """

    learning_rate: tf.Tensor
    update: tf.Tensor
    previous_learning_rate: tf.Tensor | None
    done: tf.Tensor

    def is_due(self, interval):
        """Whether this update is one of every `interval`, of which the first update is the first; bool scalar."""
        return tf.equal(self.done % interval, 0)


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

    @property
    def handle(self):
        return self._variable.handle

    def approach(self, target, fraction):
        """slot + fraction * (target - slot), stored: a moving average whose memory is 1 - fraction.

        fraction: a number, or a scalar tensor.
        """
        if not tf.is_tensor(fraction) and fraction <= 0.5:
            descend(self._variable, fraction, self.value - target)
            return self.value
        # A pass more; a target that is small beside the slot is lost in their difference.
        return self.set((1.0 - fraction) * self.value + fraction * target)


class Operand:
    """One variable as a rule sees it: tensors, and norms, computed at most once and only if asked for; and its step."""

    def __init__(self, variable, gradient, slots, factors, assignment, weight_norm=None, gradient_norm=None):
        self.variable = variable
        self.gradient = gradient
        # What to go along, before decay; a rule that turns gradients in `prepare` puts something else here.
        self.direction = gradient
        self.slots = slots
        self.factors = factors
        self.assignment = assignment
        self.decays = assignment.decays
        self.adapts = assignment.adapts
        self.fixed_ratio = assignment.fixed_ratio
        self._given = (weight_norm, gradient_norm)
        self._step = None
        self._decay = None

    @functools.cached_property
    def weight(self):
        """The weights before the step, after a decoupled decay. Read when first asked for: while a tensor that was read is
        in use, a kernel that moves its variable must copy it first.
        """
        return tf.convert_to_tensor(self.variable)

    @functools.cached_property
    def weight_norm(self):
        return norms.norm(self.weight) if self._given[0] is None else self._given[0]

    @functools.cached_property
    def gradient_norm(self):
        return norms.norm(self.gradient) if self._given[1] is None else self._given[1]

    def decay(self, fraction):
        """w = (1 - fraction) * w, before the weights or their norm are asked for."""
        descend(self.variable, fraction, tf.convert_to_tensor(self.variable))
        self._decay = fraction
        if self._given[0] is not None:
            self._given = tf.abs(1.0 - fraction) * self._given[0], self._given[1]

    def descend(self, rate, direction):
        """w = w - rate * direction."""
        descend(self.variable, rate, direction)
        self.stepped(rate, lambda: direction)

    def descend_with_momentum(self, velocity, addend, momentum, rate=1.0):
        """v = momentum * v + addend; w = w - rate * v. In one kernel, which saves two passes and a temporary."""
        tf.raw_ops.ResourceApplyMomentum(var=self.variable.handle, accum=velocity.handle, lr=rate, grad=addend,
                                         momentum=momentum)
        self.stepped(rate, lambda: velocity.value)

    def stepped(self, rate, direction):
        """Notes what the variable was moved by: a scalar, and a function that gives a tensor."""
        self._step = rate, direction

    def step_norm(self):
        """||w_new - w||, a pass of its own."""
        rate, direction = self._step
        if self._decay is None:
            return rate * norms.norm(direction())
        step = rate * direction()
        # What decay took off, from what it left: the weights before it are kept nowhere.
        decayed = tf.convert_to_tensor(self.variable) + step
        return norms.norm(step + (self._decay / (1.0 - self._decay)) * decayed)


class Rule:
    """The update of one variable, and the parts that rules share; reads the constructor arguments."""

    # (name, initial value) of each per-variable state tensor.
    slots = ()
    # Whether the rule reads the learning rate of the update before.
    keeps_learning_rate = False
    # Whether the rule needs K-FAC's factors of every update.
    needs_factors = False

    def __new__(cls, *arguments, **named):
        refuse_unknown_arguments(cls, named)
        return super().__new__(cls)

    def factors_of(self, assignment):
        """(name, shape) of each state tensor of a variable whose shape is not the variable's own; they start at 0.

        assignment: the variable's row of the role table.
        """
        return ()

    def require_factors(self, factors):
        """Raises ValueError where the rule needs factors and there are none."""
        if self.needs_factors and not factors:
            raise ValueError(f"{self.name} needs the inputs and output gradients of layers, which `fit` does not tell an "
                             f"optimizer: train with hb.train or the command line, on a model of hb.layers.Dense and Conv2D, "
                             f"or choose another optimizer for `fit`")

    def prepare(self, operands, now, factors):
        """Called once before the updates of an update's variables: what a rule needs of all of them together.

        factors: {path of a kernel: (A, G)}; None unless the rule `needs_factors`.
        """
        return None  # AutoGraph can't transform a body of a docstring alone, and says so to every user.

    def keeps_slot(self, name, assignment):
        """Whether the variable of this row of the role table has the slot of this name."""
        return True

    def role_columns(self):
        """What `describe` shows beside every rule's columns: pairs of a heading and a function of a row of the role table."""
        return ()

    def update(self, operand, now):
        """Moves one variable and its slots, each once; returns the trust ratio."""
        raise NotImplementedError

    def adds_decay(self, operand):
        """Whether decay is part of the variable's direction."""
        return self.weight_decay > 0.0 and operand.decays and not self.decoupled_weight_decay

    def scales(self, operand):
        """Whether a trust ratio scales the variable's update."""
        return self.layerwise and operand.adapts

    def decayed(self, direction, operand, scale=1.0):
        """u with scale * u = scale * direction + lambda * w, or direction itself where decay leaves the variable out."""
        if not self.adds_decay(operand):
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
        if not self.scales(operand):
            return rate, tf.constant(1.0)
        if operand.fixed_ratio is None:
            ratio = self.trust_ratio(operand, scale * norms.norm(direction), now)
        else:
            ratio = self.bounded(tf.constant(operand.fixed_ratio), now)
        return rate * ratio, ratio
