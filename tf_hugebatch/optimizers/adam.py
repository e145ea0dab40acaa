"""Adam, original and layer-wise."""

import tensorflow as tf

from tf_hugebatch.keras_versions import register_serializable
from tf_hugebatch.optimizers.arguments import check_choice, check_number
from tf_hugebatch.optimizers.base import HugeBatchOptimizer


def adam_moments(operand, beta_1, beta_2):
    """The moving averages of g and g^2 after this gradient."""
    first, second = operand.slots
    return (first.approach(operand.gradient, 1.0 - beta_1), second.approach(tf.square(operand.gradient), 1.0 - beta_2))


def adam_direction(moments, epsilon, correct_1=1.0, correct_2=1.0, placement="corrected"):
    """(c, u) with c * u = m_hat / (sqrt(s_hat) + epsilon), or with the placement "uncorrected" epsilon beside sqrt(s).

    With c = sqrt(1 - beta_2^t) / (1 - beta_1^t), m_hat / (sqrt(s_hat) + epsilon) equals
    c m / (sqrt(s) + epsilon sqrt(1 - beta_2^t)): both placements are one expression, and the scalar c is left to be
    multiplied with other scalars, which saves a pass over the tensors.

    correct_1, correct_2: the bias corrections 1 - beta^t, scalars; 1 without correction.
    """
    first, second = moments
    root_2 = tf.sqrt(correct_2)
    beside = epsilon * root_2 if placement == "corrected" else epsilon
    return root_2 / correct_1, first / (tf.sqrt(second) + beside)


@register_serializable
class Adam(HugeBatchOptimizer):
    """Adam; layer-wise, at a rate per variable.

    ```
    m = beta_1 * m + (1 - beta_1) * g
    s = beta_2 * s + (1 - beta_2) * g^2
    c1, c2 = 1 - beta_1^t, 1 - beta_2^t
    u = (sqrt(c2) / c1) * m / (sqrt(s) + epsilon)          # epsilon_placement="uncorrected", as Keras
    u = (m / c1) / (sqrt(s / c2) + epsilon)                # epsilon_placement="corrected", as algorithm 1
    u = u + weight_decay * w
    w = w - learning_rate * u
    ```

    `layerwise=True`, in place of the last line:

    ```
    r = trust_coefficient * ||w|| / ||u||                  # 1 where a norm is 0, or excluded
    r = min(max(r, lower), upper)                          # with trust_bounds
    w = w - learning_rate * r * u
    ```

    Arguments not listed: see `HugeBatchOptimizer`.

    Args:
        beta_1, beta_2: in [0, 1), the memories of the moving averages.
        epsilon: >= 0.
        epsilon_placement: beside the "uncorrected" or the "corrected" root.

    Reference: Kingma and Ba 2015, arXiv 1412.6980, algorithm 1, and the text before section 2.1
    ("uncorrected").
    """

    slots = (("momentum", 0.0), ("velocity", 0.0))

    def __init__(self, learning_rate, *, beta_1=0.9, beta_2=0.999, epsilon=1e-7,
                 epsilon_placement="uncorrected", weight_decay=0.0, layerwise=False, trust_coefficient=1.0,
                 trust_bounds=None, trust_bounds_schedule="fixed", trust_bounds_rate=1e-3,
                 exclude_from_decay=None, exclude_from_adaptation=None, clip_global_norm=None, name="adam"):
        super().__init__(
            learning_rate, weight_decay=weight_decay, layerwise=layerwise,
            trust_coefficient=trust_coefficient, trust_bounds=trust_bounds,
            trust_bounds_schedule=trust_bounds_schedule, trust_bounds_rate=trust_bounds_rate,
            exclude_from_decay=exclude_from_decay, exclude_from_adaptation=exclude_from_adaptation,
            clip_global_norm=clip_global_norm, name=name)
        self.beta_1 = check_number("beta_1", beta_1, 0.0, 1.0, but=1.0)
        self.beta_2 = check_number("beta_2", beta_2, 0.0, 1.0, but=1.0)
        self.epsilon = check_number("epsilon", epsilon, 0.0)
        self.epsilon_placement = check_choice(
            "epsilon_placement", epsilon_placement, ("uncorrected", "corrected"))

    def update(self, operand, now):
        moments = adam_moments(operand, self.beta_1, self.beta_2)
        scale, direction = adam_direction(moments, self.epsilon, 1.0 - tf.pow(self.beta_1, now.update),
                                          1.0 - tf.pow(self.beta_2, now.update), self.epsilon_placement)
        direction = self.decayed(direction, operand, scale)
        rate, ratio = self.layerwise_rate(direction, operand, now, scale)
        return rate, direction, ratio
