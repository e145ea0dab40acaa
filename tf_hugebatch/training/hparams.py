"""A run for TensorBoard's HParams page: its experiment settings, how it ended, and its final numbers as metrics."""

from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api, api_pb2, summary

from ..fields import kind_of
from ..parsers import pair

_STATUS = {"done": api_pb2.STATUS_SUCCESS, "diverged": api_pb2.STATUS_FAILURE}


def started(settings, note):
    """Summary of the settings, and of the words (`note`, a dict) that go with every number.

    Runs that differ in nothing but the seed are one group, whose mean the page can show.
    """
    values = settings.as_dict()
    shown = {name: _plain(value) for name, value in values.items()
             if value is not None and name != "seed" and kind_of(name, values) == "experiment"}
    return api.hparams_pb({**shown, **note})


def ended(status, final):
    """Summaries of a run's end.

    Args:
        status: "done", "diverged" or "interrupted".
        final: name -> number or None, as in status.json.
    """
    numbers = [Summary.Value(tag=f"final/{name}", simple_value=value) for name, value in final.items() if value is not None]
    end = summary.session_end_pb(_STATUS.get(status, api_pb2.STATUS_UNKNOWN))
    return Summary(value=numbers), Summary.FromString(end.SerializeToString())


def _plain(value):
    """A list as text, its pairs as they are typed; the page knows numbers, texts and switches."""
    if not isinstance(value, list):
        return value
    return ",".join(pair(part) if isinstance(part, list) else str(part) for part in value)
