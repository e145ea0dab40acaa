"""Data sets as splits, and the order in which training reads them."""

from tf_hugebatch import registry, rows


def load(settings):
    """The splits of the data set that `settings` names (`splits.Splits`).

    Raises:
        Refusal: the data are not there, or not what they should be.
    """
    return registry.find("dataset", settings.dataset).resolve()(settings)


def look(settings):
    """The splits where loading them is a matter of seconds and writes nothing, else None after a look at what is there.

    Raises:
        Refusal: as `load`, for what a look shows.
    """
    look_first = registry.find("dataset", settings.dataset).facts.get("look")
    return rows.imported(look_first)(settings) if look_first else load(settings)
