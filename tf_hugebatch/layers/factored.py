"""Dense and convolution layers that leave what K-FAC's Kronecker factors are made of."""

import keras
import tensorflow as tf

from .. import replica
from ..keras_versions import register_serializable


class FactoredLayer:
    """What the two layers share: a call that is seen, and the factors of what was seen.

    Outside a step, and in a step whose optimizer asks for no factors, they are Keras' own layers.
    """

    def call(self, inputs):
        view = replica.current()
        if view is None or view.calls is None:
            return super().call(inputs)
        outputs = self.before_activation(inputs)
        view.calls.setdefault(self, []).append((inputs, outputs))
        return outputs if self.activation is None else self.activation(outputs)

    @property
    def factor_sizes(self):
        """(rows of A, rows of G): fan_in, and 1 where there is a bias; fan_out."""
        fan_in = int(tf.TensorShape(self.kernel.shape[:-1]).num_elements())
        return fan_in + int(self.use_bias), int(self.kernel.shape[-1])

    def locations(self, gradient):
        """T, float32: of each example in a call, whose outputs have this gradient; 1 for a dense layer on vectors."""
        return tf.cast(tf.size(gradient) // (tf.shape(gradient)[0] * gradient.shape[-1]), tf.float32)

    def factor_sums(self, inputs, gradient, weights, batch_size, locations):
        """A micro-batch's share of A and G: adding up over calls, micro-batches and replicas is all that is left to do.

            A = 1/B sum_i sum_t a_it a_it^T              G = 1/B sum_i 1/T sum_t g_it g_it^T

        with a_it what the kernel is multiplied by at location t of example i (and a 1 for the bias), and g_it the gradient of
        loss_i by the layer's output there, before its activation.

        Args:
            inputs, gradient: of one call; gradient is that of the global batch's mean loss, so g_it / B, and 0 where an
                example has weight 0.
            weights: float32 [m], 1 for an example that counts and 0 for one that does not.
            batch_size: B.
            locations: T, of all calls of the layer together.

        Returns:
            (A, G), float32 and symmetric.
        """
        rows, columns = self.factor_sizes
        seen = tf.cast(self.seen_by_kernel(inputs), tf.float32)
        if self.use_bias:
            seen = tf.concat([seen, tf.ones_like(seen[..., :1])], axis=-1)
        examples = tf.shape(seen)[0]
        seen = tf.reshape(tf.reshape(seen, [examples, -1]) * weights[:, tf.newaxis], [-1, rows])
        gradient = tf.reshape(tf.cast(gradient, tf.float32), [-1, columns])
        # Before the product: squares of g / B of a large batch would leave float32's range sooner.
        gradient *= tf.sqrt(batch_size / locations)
        return tf.matmul(seen, seen, transpose_a=True) / batch_size, tf.matmul(gradient, gradient, transpose_a=True)


@register_serializable
class Dense(FactoredLayer, keras.layers.Dense):
    """Keras' Dense; in a step it leaves its inputs and outputs for K-FAC. Arguments and call: Keras'."""

    def before_activation(self, inputs):
        outputs = tf.matmul(inputs, self.kernel)
        return outputs + self.bias if self.use_bias else outputs

    def seen_by_kernel(self, inputs):
        return inputs


@register_serializable
class Conv2D(FactoredLayer, keras.layers.Conv2D):
    """Keras' Conv2D, channels last and in one group; in a step it leaves its inputs and outputs for K-FAC.

    Arguments and call: Keras'.

    Raises:
        ValueError: groups other than 1, or data_format "channels_first".
    """

    def __init__(self, filters, kernel_size, strides=(1, 1), padding="valid", **options):
        super().__init__(filters, kernel_size, strides, padding, **options)
        if self.groups != 1 or self.data_format != "channels_last":
            raise ValueError(f"groups={self.groups}, data_format={self.data_format!r}: the factors of such a convolution are "
                             f"not known here; use keras.layers.Conv2D, whose kernel K-FAC leaves to the plain rule.")

    def before_activation(self, inputs):
        outputs = self.convolution_op(inputs, self.kernel)
        return outputs + self.bias if self.use_bias else outputs

    def seen_by_kernel(self, inputs):
        """Patches [m, height, width, fan_in], in the order of a kernel reshaped to [fan_in, fan_out]."""
        return tf.image.extract_patches(
            inputs, sizes=[1, *self.kernel_size, 1], strides=[1, *self.strides, 1], rates=[1, *self.dilation_rate, 1],
            padding=self.padding.upper())
