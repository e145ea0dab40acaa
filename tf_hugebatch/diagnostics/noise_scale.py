"""The gradient noise scale tr(Sigma) / |G|^2 (McCandlish et al. 2018, arXiv 1812.06162), from the micro-batches at hand."""

import tensorflow as tf

from .probe import Probe


def estimate(total_power, summed_power, count, summed_squares):
    """Unbiased estimates of |G|^2 and tr(Sigma) from gradient sums over groups of examples that need not be equal in size.

    With s_i the sum of the gradients of group i's n_i examples, n = sum n_i and s = sum s_i,

    ```
    E |s_i|^2 = n_i^2 |G|^2 + n_i tr(Sigma)         E |s|^2 = n^2 |G|^2 + n tr(Sigma)
    |G|^2 = (|s|^2 - sum |s_i|^2) / (n^2 - sum n_i^2)
    tr(Sigma) = (sum |s_i|^2 - |G|^2 sum n_i^2) / n
    ```

    which for groups of equal size are the estimators of McCandlish et al. 2018, appendix A.1.

    Args:
        total_power: |s|^2.
        summed_power: sum of |s_i|^2.
        count: n.
        summed_squares: sum of n_i^2; less than n^2, so there are two groups at least.

    Returns:
        (|G|^2, tr(Sigma)); either can be negative, as an unbiased estimate of a small number is at times.
    """
    power = (total_power - summed_power) / (count * count - summed_squares)
    return power, (summed_power - power * summed_squares) / count


class NoiseScale(Probe):
    """Of every update |G|^2, tr(Sigma) and their quotient, the simple noise scale B_simple, in examples.

    ```
    gradient_power      |G|^2
    gradient_variance   tr(Sigma), of one example's gradient
    noise_scale         tr(Sigma) / |G|^2
    ```

    The quotient of one update is noisy and biased, its parts are not: average the parts over updates before dividing, as the
    figure does. Sigma is of everything that differs between examples, dropout's masks too; batch norm ties the examples of
    a span together, and Sigma is then of spans, which no micro-batch may cut. Costs a pass over the gradient a micro-batch.
    """

    scalars = ("gradient_power", "gradient_variance", "noise_scale")
    sums = ((3,),)

    def cut_by(self, layout):
        super().cut_by(layout)
        if layout.cell(0, 0).count == layout.batch_size:
            remedy = "a --micro_batch_size of at most half the batch, or more replicas" if layout.batch_size > 1 else \
                "a --batch_size of two or more"
            raise ValueError(f"noise_scale: the batch of {layout.batch_size:,} is one micro-batch, and noise shows in how "
                             f"several differ; give {remedy}")
        if layout.across_replicas:
            group = layout.largest_group
            raise ValueError(f"noise_scale: batch-norm groups of {group} lie across replicas, so the gradients of a round's "
                             f"micro-batches hang on each other, and what they differ in is not their noise; give a "
                             f"--micro_batch_size of at least {group} (a group in each replica), or a smaller --bn_span")

    def after_micro_batch(self, gradients, count):
        power = tf.add_n([_power(gradient) for gradient in gradients])
        return [tf.stack([power, count * count, count])]

    def after_reduce(self, gradients, sums):
        summed_power, summed_squares, count = tf.unstack(tf.cast(sums[0], tf.float64))
        # Gradients come divided by B.
        scale = float(self.layout.batch_size) ** 2
        total_power = scale * tf.cast(tf.add_n([_power(gradient) for gradient in gradients]), tf.float64)
        power, variance = estimate(total_power, scale * summed_power, count, summed_squares)
        return {"gradient_power": power, "gradient_variance": variance, "noise_scale": variance / power}


def _power(gradient):
    return 2.0 * tf.nn.l2_loss(gradient)
