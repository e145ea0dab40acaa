"""Gaussian noise added to labels, gradients or weights (the paper's appendix 6.3); to activations layers/noise.py adds it.

Every number is a function of the seed and of what it is added to, never of the layout: noise of labels of the example's place
in the stream, noise of gradients and weights of the update and the variable, after the sum over replicas.
"""

import dataclasses

import tensorflow as tf

from ..keras_versions import native
from ..layers.noise import decayed, position_normal

# Streams of their own, apart from those that layers number from 0.
_LABELS, _GRADIENTS, _WEIGHTS = -1, -2, -3


@dataclasses.dataclass(frozen=True)
class NoiseInjection:
    """One kind of noise of a run: e standard normal, s_t = stddev (1 + t)^(-decay / 2), t the updates done.

    ```
    labels       q_i = onehot(y_i) + s_t e             targets of the cross-entropy; e of (seed, place in the stream, class)
    gradients    g   = g + s_t e                       of the global batch, before clipping; e of (seed, t, variable)
    weights      w   = w + s_t e                       after the update;                    e of (seed, t, variable)
    ```

    Args:
        kind: "labels", "gradients", "weights"; "activations" does nothing here.
        stddev, decay: at least 0.
        seed: int, the run's.
    """

    kind: str
    stddev: float
    decay: float
    seed: int

    def targets(self, view, classes):
        """float32 [m, classes], to be added to one-hot labels; None for another kind."""
        if self.kind != "labels":
            return None
        # A place of the stream is one example in one epoch, at any batch size.
        places = view.origin + view.update * view.layout.batch_size + view.positions
        drawn = position_normal(self.seed, tf.bitwise.right_shift(places, 32)[0], places, _LABELS, classes)
        return decayed(self.stddev, self.decay, view.update) * drawn

    def gradients(self, gradients, update):
        """The gradients that the optimizer gets, from those of the global batch."""
        if self.kind != "gradients":
            return gradients
        return [gradient + noise for gradient, noise in zip(gradients, self._of(gradients, update, _GRADIENTS))]

    def shake(self, variables, update, applied):
        """Adds to the weights where the update was applied (bool scalar), in replica context."""
        if self.kind != "weights":
            return
        variables = [native(variable) for variable in variables]
        for variable, noise in zip(variables, self._of(variables, update, _WEIGHTS)):
            variable.assign_add(tf.where(applied, noise, 0.0))

    def _of(self, tensors, update, stream):
        scale = decayed(self.stddev, self.decay, update)
        seed = tf.cast(self.seed, tf.int64)
        return [scale * tf.random.stateless_normal(tensor.shape, [seed * 8 + stream, update * len(tensors) + number])
                for number, tensor in enumerate(tensors)]
