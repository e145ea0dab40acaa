"""Data sets as splits, and the order in which training reads them."""

from tf_hugebatch import registry


def load(settings):
    """The splits of the data set that `settings` names (`splits.Splits`).

    Raises:
        Refusal: the data are not there, or not what they should be.
    """
    return registry.find("dataset", settings.dataset).resolve()(settings)
