"""Trust ratios and norms of every variable at every update: the picture of You et al. 2017 (arXiv 1708.03888), figure 2."""

import tensorflow as tf

from ..keras_versions import native
from .probe import Probe, places_in


class Trust(Probe):
    """Per variable and update: r, ||w||, ||g||, ||u||, and which bound r was held at.

    ```
    trust_ratios    r; where none is computed 1, or the bound that is next to it
    weight_norms    ||w_t||                 before the update
    gradient_norms  ||g_t||                 as the rule gets it: before clipping, with noise injected into gradients
    update_norms    ||w_{t+1} - w_t||       of the rule: rate and trust ratio are in it, noise injected into weights is not
    bound_hits      -1 at the lower of trust_bounds, 1 at the upper (of equal ones too), 0 between them, without bounds, or
                    where no ratio is computed
    ```

    The norms are those that the optimizer took for its update, so looking on takes no pass over anything.
    """

    vectors = ("trust_ratios", "weight_norms", "gradient_norms", "update_norms", "bound_hits")

    def after_update(self, result, weights):
        ratios = self.optimizer.trust_ratio_vector()
        norms = {name: result[name] for name in ("weight_norms", "gradient_norms", "update_norms")}
        found = {"trust_ratios": ratios, "bound_hits": self._bound_hits(ratios, norms), **norms}
        places = places_in(self.optimizer, self.model.trainable_variables)
        return {name: tf.gather(values, places) for name, values in found.items()}

    def _bound_hits(self, ratios, norms):
        """In the order in which the optimizer was built, as the norms and ratios that it takes."""
        bounds = self.optimizer.bounds_at(tf.cast(native(self.optimizer.iterations), tf.float32))
        if bounds is None:
            return tf.zeros_like(ratios)
        lower, upper = bounds
        hits = tf.where(ratios >= upper, 1.0, tf.where(ratios <= lower, -1.0, 0.0))
        # Where a norm that the ratio divides is zero 1 stands in, brought between the bounds: computed nowhere, held nowhere.
        stands_in = (ratios == tf.clip_by_value(1.0, lower, upper)) & (
            (norms["weight_norms"] == 0.0) | (norms["gradient_norms"] == 0.0))
        return tf.where(stands_in, 0.0, hits) * tf.constant(self.optimizer.adapted(), tf.float32)
