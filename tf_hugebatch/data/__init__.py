"""Data sets as arrays in memory, and the order in which training reads them."""

from tf_hugebatch import registry


def load(settings):
    """The splits of the data set that `settings` names (`splits.Splits`).

    Raises:
        Refusal: the data are not there, or not what they should be.
    """
    row = registry.find("dataset", settings.dataset)
    return row.resolve()(settings.data_dir, settings.validation_examples)
