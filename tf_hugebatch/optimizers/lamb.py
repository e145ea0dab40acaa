"""LAMB: Adam with decay and a trust ratio per variable."""

from tf_hugebatch.keras_versions import register_serializable
from tf_hugebatch.optimizers import trust
from tf_hugebatch.optimizers.adam import adam_scalars, bias_correction, update_by_adam
from tf_hugebatch.optimizers.arguments import check_bounds, check_flag, check_memory, check_number
from tf_hugebatch.optimizers.base import HugeBatchOptimizer


@register_serializable
class LAMB(HugeBatchOptimizer):
    """Layer-wise adaptive moments.

    ```
    m = beta_1 * m + (1 - beta_1) * g
    s = beta_2 * s + (1 - beta_2) * g^2
    m_hat, s_hat = m / (1 - beta_1^t), s / (1 - beta_2^t)  # bias_correction=True
    m_hat, s_hat = m, s                                    # bias_correction=False
    u = m_hat / (sqrt(s_hat) + epsilon) + weight_decay * w
    r = phi(||w||) / ||u||                                 # 1 where ||w|| or ||u|| is 0, or excluded
    w = w - learning_rate * r * u
    ```

    phi(z) = z, or with `weight_norm_bounds=(low, high)`

    ```
    phi(z) = min(max(z, low), high)                        # bounds the norm of the weights
    ```

    and with `trust_bounds=(lower, upper)`, which is another thing,

    ```
    r = min(max(r, lower), upper)                          # bounds the ratio
    ```

    Arguments not listed: see `HugeBatchOptimizer`.

    Args:
        beta_1, beta_2: in [0, 1), the memories of the moving averages.
        epsilon: >= 0; with 0, a gradient that has been zero so far gives 0/0.
        bias_correction: whether the moving averages are corrected for their start at 0.
        weight_norm_bounds: None or (low, high), bounds on ||w|| in the ratio.

    Reference: You et al. 2019, arXiv 1904.00962, algorithm 2.
    """

    slots = (("momentum", 0.0), ("velocity", 0.0))

    def __init__(self, learning_rate, *, beta_1=0.9, beta_2=0.999, epsilon=1e-6, weight_decay=0.0,
                 decoupled_weight_decay=False, bias_correction=True, weight_norm_bounds=None, trust_bounds=None,
                 exclude_from_decay=None, exclude_from_adaptation=None, fixed_trust_ratios=None,
                 clip_global_norm=None, name="lamb"):
        super().__init__(
            learning_rate, weight_decay=weight_decay, layerwise=True, trust_coefficient=1.0,
            trust_bounds=trust_bounds, trust_bounds_schedule="fixed", trust_bounds_rate=0.0,
            exclude_from_decay=exclude_from_decay, exclude_from_adaptation=exclude_from_adaptation,
            fixed_trust_ratios=fixed_trust_ratios, clip_global_norm=clip_global_norm, name=name,
            decoupled_weight_decay=decoupled_weight_decay)
        self.beta_1 = check_memory("beta_1", beta_1)
        self.beta_2 = check_memory("beta_2", beta_2)
        self.epsilon = check_number("epsilon", epsilon, 0.0)
        self.bias_correction = check_flag("bias_correction", bias_correction)
        self.weight_norm_bounds = check_bounds("weight_norm_bounds", weight_norm_bounds)

    def trust_ratio(self, operand, update_norm, now):
        ratio = trust.joint_trust_ratio(
            operand.weight_norm, update_norm, weight_norm_bounds=self.weight_norm_bounds)
        return self.bounded(ratio, now)

    def update(self, operand, now):
        corrections = [bias_correction(beta, now.update) if self.bias_correction else 1.0
                       for beta in (self.beta_1, self.beta_2)]
        return update_by_adam(self, operand, now, *adam_scalars(self.epsilon, *corrections))
