"""Probes: what a diagnostic adds to the step, and all of a run's together.

The three hooks are called in replica context while the step is traced, and only if a probe is on: without one the step's
graph is what it is without this module. A probe reads, and changes nothing; every value is the same on all replicas.
"""

import dataclasses

import tensorflow as tf

from .. import registry
from ..keras_versions import native, variable_path
from ..optimizers import roles


class Probe:
    """One diagnostic. Subclasses say what they report and give the hooks that they need.

    Attributes:
        scalars: names of numbers of an update; they join the update's train row.
        vectors: names of what every trainable variable has a number of, in the model's order; they make a row of the probe's
            own kind.
        sums: shapes of the float32 tensors that `after_micro_batch` returns.
        variables: what it keeps on every replica.

    Args:
        model: a built Keras model, with the weights that the run begins with.
        optimizer: a built optimizer of this package.
        layout: `layout.Layout`.

    Raises:
        ValueError: the layout can't give what the probe needs; the text says why and names the remedy.
    """

    scalars = ()
    vectors = ()
    sums = ()
    variables = ()

    def __init__(self, *, model, optimizer, layout):
        self.model, self.optimizer = model, optimizer
        self.cut_by(layout)

    def cut_by(self, layout):
        """From now on batches are cut by `layout`. Raises ValueError as above."""
        self.layout = layout

    def after_micro_batch(self, gradients, count):
        """float32 tensors, to be summed over the micro-batches and replicas of the update.

        gradients: per trainable variable the micro-batch's sum over examples, divided by B. count: float32 scalar, its
        examples.
        """
        return []

    def after_reduce(self, gradients, sums):
        """{name: value} from the gradient of the global batch (before clipping and injected noise), and the sums of what
        `after_micro_batch` returned.
        """
        return {}

    def after_update(self, result, weights):
        """{name: value} from what `apply_reduced` returned, norms by variable among it (in the order in which the optimizer was
        built, see `places_in`), and the weights after the update and injected noise: this replica's variables, in the model's
        order, so that only who wants them reads them. One read before the update would make it copy them.
        """
        return {}


@dataclasses.dataclass(frozen=True)
class Column:
    """One number of an update: whose, its name, and of which variable (its path), or None for one of the whole update.

    Of several variables of one path the second is path#2, as in `trust_ratios()`.
    """

    kind: str
    name: str
    path: str | None


class Probes:
    """The probes of a run, as the step and its journal see them.

    Args:
        probes: {name of the registry's row: Probe}.
        paths: of the model's trainable variables, no two alike.

    Attributes:
        columns: list of Column: what `row` returns, in order.
        sums: shapes of the tensors that `after_micro_batch` returns.
        variables: what the probes keep on every replica.
    """

    def __init__(self, probes, paths):
        self._probes = probes
        self.variables = [variable for probe in probes.values() for variable in probe.variables]
        self.columns = [
            column for kind, probe in probes.items() for column in (
                *(Column(kind, name, None) for name in probe.scalars),
                *(Column(kind, name, path) for name in probe.vectors for path in paths))]
        self.sums = [shape for probe in probes.values() for shape in probe.sums]

    def __bool__(self):
        return bool(self._probes)

    def cut_by(self, layout):
        """From now on batches are cut by `layout`. Raises ValueError as a probe does."""
        for probe in self._probes.values():
            probe.cut_by(layout)

    def after_micro_batch(self, gradients, count):
        return [value for probe in self._probes.values() for value in probe.after_micro_batch(gradients, count)]

    def around(self, gradients, variables, sums, update):
        """Calls `update()`, with the hooks before and after it.

        Returns:
            (what `update` returned, float64 [len(columns)], or None without a probe).
        """
        if not self:
            return update(), None
        variables, sums, found = [native(variable) for variable in variables], list(sums), {}
        for kind, probe in self._probes.items():
            own, sums = sums[:len(probe.sums)], sums[len(probe.sums):]
            found[kind] = dict(probe.after_reduce(gradients, own))
        result = update()
        for kind, probe in self._probes.items():
            found[kind].update(probe.after_update(result, variables))
        parts = [tf.reshape(tf.cast(found[kind][name], tf.float64), [-1])
                 for kind, probe in self._probes.items() for name in (*probe.scalars, *probe.vectors)]
        return result, tf.concat(parts, 0)


def make(names, *, model, optimizer, layout):
    """`Probes` of the registry's rows `names`; in the strategy's scope, before a checkpoint is restored.

    Raises ValueError as a probe does.
    """
    probes = {name: registry.DIAGNOSTICS[name].resolve()(model=model, optimizer=optimizer, layout=layout)
              for name in names}
    places = places_in(optimizer, model.trainable_variables)
    built = sorted(zip(places, map(variable_path, model.trainable_variables)))
    told = dict(zip(sorted(places), roles.told_apart(path for _, path in built)))
    return Probes(probes, [told[place] for place in places])


def places_in(optimizer, variables):
    """Of each variable its place in the order in which the optimizer was built."""
    return [optimizer._get_variable_index(variable) for variable in variables]
