"""What every optimizer here shares: build, roles, clipping, and one update of all variables on each replica.

Contexts. `apply` (Keras' contract, used by `fit`) is called in replica context with this replica's gradients
and sums them over replicas. `apply_reduced` (our step) is called in replica context with gradients that are
reduced already and identical on every replica; it never all-reduces. Both end in `_update_all`, which runs
once per replica in an update context and touches that replica's copies only.
"""

import numbers

import keras
import tensorflow as tf

from tf_hugebatch.keras_versions import Optimizer, native, variable_path
from tf_hugebatch.optimizers import norms, roles
from tf_hugebatch.optimizers.arguments import (
    as_config, check_bounds, check_choice, check_flag, check_float32, check_number, check_ratios, constructor_parameters,
    refuse_accumulation, refuse_arguments_without_effect, refuse_twice)
from tf_hugebatch.optimizers.rule import Now, Operand, Rule, Slot


class HugeBatchOptimizer(Rule, Optimizer):
    """direction -> + lambda w -> trust ratio -> bound -> step. A subclass gives `slots` and `update`.

    ```
    u = direction(g)
    u = u + weight_decay * w                              # unless excluded from decay
    r = trust_coefficient * ||w|| / ||u||                 # layerwise; 1 where a norm is 0, or excluded
    r = min(max(r, lower), upper)                         # trust_bounds; not for excluded variables
    w = w - learning_rate * r * u
    ```

    The base class' clipnorm, clipvalue, global_clipnorm, use_ema, loss_scale_factor and
    gradient_accumulation_steps can't be given: they act before the sum over replicas, or crash under
    tf.distribute. clip_global_norm acts after.

    Args:
        learning_rate: a finite number >= 0 or a `keras.optimizers.schedules.LearningRateSchedule`, evaluated
            at the number of updates done so far.
        weight_decay: lambda, part of the direction (so inside the trust ratio).
        decoupled_weight_decay: whether decay acts beside the update instead, outside the trust ratio and the momentum:
            w = (1 - learning_rate * weight_decay) * w before all else. Loshchilov and Hutter 2019, arXiv 1711.05101, as
            Keras' optimizers and AdamW do it.
        layerwise: whether updates are scaled by a trust ratio per variable.
        trust_coefficient: eta.
        trust_bounds: None or (lower, upper), bounds on r.
        trust_bounds_schedule: "fixed", or "adabound": bounds that tighten towards trust_bounds (`trust.adabound_bounds`).
        trust_bounds_rate: the rate of the "adabound" schedule, per update.
        exclude_from_decay, exclude_from_adaptation: None (biases and norm scales and offsets), () (nothing)
            or regular expressions searched in `variable.path`.
        fixed_trust_ratios: None, or {regular expression searched in `variable.path`: r} that names every adapted variable
            once: r is that number at every update, zero norms included, in the place of one from norms, its coefficient and
            clip; bounds still hold.
        clip_global_norm: None, or the largest global norm of the global-batch gradient, clipped before anything else.
        name: name of the optimizer's variables.

    Raises:
        TypeError, ValueError: for a value out of its range, what acts on a trust ratio without layerwise, or "adabound"
        without bounds and rate.
    """

    _saved_paths = ()

    def __init__(self, learning_rate, *, weight_decay, layerwise, trust_coefficient, trust_bounds,
                 trust_bounds_schedule, trust_bounds_rate, exclude_from_decay, exclude_from_adaptation,
                 clip_global_norm, name, decoupled_weight_decay=False, fixed_trust_ratios=None):
        if isinstance(learning_rate, numbers.Real):
            learning_rate = check_number("learning_rate", learning_rate, 0.0)
        elif not isinstance(learning_rate, keras.optimizers.schedules.LearningRateSchedule):
            raise TypeError(f"learning_rate={learning_rate!r}: give a number or a LearningRateSchedule")
        super().__init__(learning_rate=learning_rate, name=name)
        self.weight_decay = check_number("weight_decay", weight_decay, 0.0)
        self.decoupled_weight_decay = check_flag("decoupled_weight_decay", decoupled_weight_decay)
        self.layerwise = check_flag("layerwise", layerwise)
        self.trust_coefficient = check_number("trust_coefficient", trust_coefficient, 0.0, but=0.0)
        self.trust_bounds = check_bounds("trust_bounds", trust_bounds)
        self.trust_bounds_schedule = check_choice("trust_bounds_schedule", trust_bounds_schedule, ("fixed", "adabound"))
        self.trust_bounds_rate = check_number("trust_bounds_rate", trust_bounds_rate, 0.0)
        self.exclude_from_decay = roles.check_patterns("exclude_from_decay", exclude_from_decay)
        self.exclude_from_adaptation = roles.check_patterns("exclude_from_adaptation", exclude_from_adaptation)
        self.fixed_trust_ratios = check_ratios("fixed_trust_ratios", fixed_trust_ratios)
        self.clip_global_norm = clip_global_norm if clip_global_norm is None else check_number(
            "clip_global_norm", clip_global_norm, 0.0, but=0.0)
        refuse_arguments_without_effect(self)

    def build(self, variables):
        """Creates the slots and decides every variable's role. Idempotent.

        Raises ValueError for a variable that is not float32, the policy mixed_float16, gradient_accumulation_steps as an
        attribute, an exclusion that matches nothing, and fixed ratios that don't match variables one by one.
        """
        if self.built:
            return
        check_float32(variables)
        refuse_accumulation(self)
        self._paths = [variable_path(variable) for variable in variables]
        paths, gone = roles.as_saved(self._paths, self._saved_paths)
        roles.refuse_unmatched(self._exclusions(), [*paths, *gone])
        self._role_table = roles.assign([(path, tuple(v.shape)) for path, v in zip(paths, variables)],
                                        self.exclude_from_decay, self.exclude_from_adaptation)
        if self.fixed_trust_ratios is not None:
            self._role_table = roles.fix_ratios(self._role_table, self.fixed_trust_ratios, gone)
        super().build(variables)
        self._slot_variables = [
            [self.add_optimizer_variables([variable], name, initializer=keras.initializers.Constant(value))[0]
             if self.keeps_slot(name, row) else None for variable, row in zip(variables, self._role_table)]
            for name, value in self.slots]
        self._factor_variables = [
            [self._add_float32(f"{assignment.path.replace('/', '_')}_{name}", shape, "zeros")
             for name, shape in self.factors_of(assignment)] for assignment in self._role_table]
        if self.layerwise:
            self._trust_ratios = self._add_float32("trust_ratios", (len(variables),), "ones")
        if self.keeps_learning_rate:
            self._previous_learning_rate = self._add_float32("previous_learning_rate", (), "zeros")

    def _add_float32(self, name, shape, initializer):
        return self.add_variable(shape=shape, initializer=initializer, dtype="float32",
                                 aggregation="only_first_replica", name=name)

    def _require_built(self):
        if not self.built:
            raise ValueError(f"{self.name} has no variables yet: call optimizer.build(model.trainable_variables)")

    def trust_ratios(self):
        """{variable path: trust ratio of the last update}; 1.0 before any update and where none is computed. Of several
        variables of one path the second is path#2. Raises ValueError before it is built."""
        ratios = self.trust_ratio_vector().numpy().tolist()
        return dict(zip(roles.told_apart(self._paths), ratios))

    def trust_ratio_vector(self):
        """The same as one tensor, float32 [variables], in the order in which the optimizer was built."""
        self._require_built()
        if self.layerwise:
            return tf.convert_to_tensor(native(self._trust_ratios))
        return tf.ones([len(self._role_table)])

    def adapted(self):
        """Whether each variable has a trust ratio of its own: list of bool, in the order of `trust_ratio_vector`."""
        self._require_built()
        return [self.layerwise and assignment.adapts for assignment in self._role_table]

    def describe(self):
        """The role table as text: path, shape, role, the rule that decided it, decay and adaptation."""
        self._require_built()
        return roles.render(self._role_table, self.weight_decay > 0.0, self.layerwise, self.role_columns())

    def get_config(self):
        """Every constructor argument, each kept in the attribute of its name: from_config loses nothing. Where patterns decide
        roles, once built, the "paths" that they were searched in too, since Keras does not keep all names of a model."""
        inherited = super().get_config()
        own = {name: as_config(getattr(self, name)) for name in constructor_parameters(type(self)) if name != "learning_rate"}
        config = {"learning_rate": inherited["learning_rate"], **own}
        by_pattern = self.fixed_trust_ratios or any(self._exclusions().values())
        paths = [row.path for row in self._role_table] if self.built else list(self._saved_paths)
        return {**config, "paths": paths} if by_pattern and paths else config

    def _exclusions(self):
        return {name: getattr(self, name) for name in constructor_parameters(type(self)) if name.startswith("exclude_from_")}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """The optimizer of a `get_config()`."""
        config = dict(config)
        paths = config.pop("paths", ())
        optimizer = super().from_config(config, custom_objects)
        optimizer._saved_paths = tuple(paths)
        return optimizer

    def exclude_from_weight_decay(self, var_list=None, var_names=None):
        """Refused with NotImplementedError, so that it is not ignored."""
        raise NotImplementedError("exclude_from_weight_decay(): give the constructor exclude_from_decay, which takes patterns")

    def _apply_weight_decay(self, variables):
        """Does nothing: Keras would decay here whatever decoupled_weight_decay says, and an update without its guard."""

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        """Keras' hook below `apply`, in replica context: sum over replicas, then update. No finite guard."""
        self.require_factors(None)
        pairs = self._all_reduce_sum_gradients(list(zip(grads, [native(v) for v in trainable_variables])))
        gradients = [_dense(gradient) for gradient, _ in pairs]
        indices = [self._get_variable_index(variable) for variable in trainable_variables]
        refuse_twice(self.name, indices)

        def on_replica(_, gradients, learning_rate):
            self._update_all(indices, gradients, learning_rate)

        def merged(strategy, gradients, learning_rate):
            strategy.extended.update(native(trainable_variables[0]), on_replica,
                                     args=(gradients, learning_rate), group=False)

        tf.__internal__.distribute.interim.maybe_merge_call(
            merged, self._distribution_strategy, gradients, tf.convert_to_tensor(learning_rate))

    def apply_reduced(self, gradients, variables, *, ok=None, factors=None):
        """One update from gradients of the global-batch mean loss that are reduced already.

        In replica context, or without a strategy; never all-reduces.

        Args:
            gradients: one tensor per variable, identical on every replica.
            variables: all variables that the optimizer was built with, in the order of `gradients`.
            ok: None or a bool scalar, identical on every replica. Unless it is true and the global norms of gradients,
                weights and factors are finite, nothing changes: weights, slots, iterations and trust ratios stay.
            factors: {path of a kernel: (A, G)}, reduced as the gradients are, for a rule that `needs_factors`.

        Returns:
            A dict of float32 tensors. Of each variable, in the order in which the optimizer was built: "gradient_norms"
            (before clipping), "weight_norms" (before the update), "update_norms" (||w_new - w_old||, 0 if nothing
            changed; not a number where decoupled decay takes off all of w_old). Over all of them, scalars: "grad_norm",
            "weight_norm", "update_norm". And "applied", 1 or 0.

        Raises:
            ValueError: for missing variables or gradients, and for variables with a constraint, which acts
                after the update, outside the guard.
        """
        gradients, variables = self._in_build_order(gradients, variables)
        self.require_factors(factors)
        gradient_norms = [norms.norm(gradient) for gradient in gradients]
        weight_norms = [norms.norm(native(variable)) for variable in variables]
        found = {"gradient_norms": tf.stack(gradient_norms), "weight_norms": tf.stack(weight_norms)}
        grad_norm, weight_norm = tf.norm(found["gradient_norms"]), tf.norm(found["weight_norms"])
        measures = [grad_norm, weight_norm, *map(norms.norm, tf.nest.flatten(factors or {}))]
        finite = tf.reduce_all(tf.math.is_finite(measures))
        ok = finite if ok is None else tf.convert_to_tensor(ok, tf.bool) & finite

        def on_replica(_, gradients, gradient_norms, weight_norms, learning_rate, ok, factors):
            def apply():
                moved = self._update_all(range(len(gradients)), gradients, learning_rate, gradient_norms, weight_norms,
                                         factors)
                native(self._iterations).assign_add(1)
                return tf.stack([operand.step_norm() for operand in moved])

            # A branch, not tf.where(ok, new, old): a where would pass over all weights and slots once more.
            return tf.cond(ok, apply, lambda: tf.zeros([len(gradients)]))

        def merged(strategy, *arguments):
            return strategy.extended.update(native(variables[0]), on_replica, args=arguments, group=False)

        update_norms = tf.__internal__.distribute.interim.maybe_merge_call(
            merged, self._distribution_strategy, gradients, gradient_norms, weight_norms,
            tf.convert_to_tensor(self.learning_rate), ok, factors)
        # `update` answers with one result a local replica, all equal. The identity is this replica's own
        # tensor, so that strategy.run returns a value per replica here as it does for the other norms.
        found["update_norms"] = tf.identity(tf.nest.flatten(update_norms)[0])
        return {**found, "grad_norm": grad_norm, "weight_norm": weight_norm, "update_norm": tf.norm(found["update_norms"]),
                "applied": tf.cast(ok, tf.float32)}

    def _in_build_order(self, gradients, variables):
        self._require_built()
        by_index = {self._get_variable_index(v): (g, v) for g, v in zip(gradients, variables, strict=True)}
        missing = [assignment.path for index, assignment in enumerate(self._role_table)
                   if by_index.get(index, (None, None))[0] is None]
        if missing:
            raise ValueError(f"no gradient for {missing}: apply_reduced updates all variables that the "
                             f"optimizer was built with. Give zeros, or build it without them")
        constrained = [variable_path(v) for v in variables if getattr(v, "constraint", None) is not None]
        if constrained:
            raise ValueError(f"{constrained} have a constraint, which acts after the update, outside its "
                             f"guard and norms: train them with fit, or without the constraint")
        ordered = [by_index[index] for index in range(len(by_index))]
        return [_dense(gradient) for gradient, _ in ordered], [variable for _, variable in ordered]

    def _update_all(self, indices, gradients, learning_rate, gradient_norms=None, weight_norms=None, factors=None):
        """Clips, updates this replica's variables `indices`, returns their operands. Update context."""
        if self.clip_global_norm is not None:
            # Here and not before: what all replicas compute in one place comes out equal to the last bit.
            gradient_norms = gradient_norms or [norms.norm(gradient) for gradient in gradients]
            gradients, gradient_norms = norms.clip_by_global_norm(gradients, gradient_norms, self.clip_global_norm)
        now = Now(
            learning_rate=tf.cast(learning_rate, tf.float32),
            update=tf.cast(native(self._iterations) + 1, tf.float32),
            previous_learning_rate=(tf.convert_to_tensor(native(self._previous_learning_rate))
                                    if self.keeps_learning_rate else None),
            done=tf.cast(native(self._iterations), tf.int64))
        ratios = {}
        if self.layerwise and len(indices) < len(self._role_table):
            # Variables without a gradient (only `fit` has such) keep the ratio that they had.
            ratios = dict(enumerate(tf.unstack(native(self._trust_ratios))))
        operands = [Operand(
            native(self._trainable_variables[index]), gradients[position],
            [Slot(native(slot[index])) for slot in self._slot_variables if slot[index] is not None],
            [Slot(native(factor)) for factor in self._factor_variables[index]], self._role_table[index],
            weight_norms and weight_norms[position], gradient_norms and gradient_norms[position])
            for position, index in enumerate(indices)]
        self.prepare(operands, now, factors)
        for index, operand in zip(indices, operands, strict=True):
            if self.decoupled_weight_decay and self.weight_decay > 0.0 and operand.decays:
                operand.decay(now.learning_rate * self.weight_decay)
            ratios[index] = self.update(operand, now)
        if self.layerwise:
            native(self._trust_ratios).assign(tf.stack([ratios[index] for index in sorted(ratios)]))
        if self.keeps_learning_rate:
            native(self._previous_learning_rate).assign(now.learning_rate)
        return operands


def _dense(gradient):
    """A float32 tensor; an embedding's IndexedSlices become dense, since norms need the whole variable. Repeated indices add up
    first, as in a dense gradient; Keras' own Adam, RMSprop and Adagrad square each slice before."""
    return tf.cast(tf.convert_to_tensor(gradient), tf.float32)
