"""When evaluations are due, whatever digits their period was given with."""

import types

import pytest

from tf_hugebatch.durations import Stages
from tf_hugebatch.training.timetable import Timetable


def evaluated(total, batch, examples, period, growth=(), mllog=False):
    """The updates after which an evaluation is due, as the loop comes to them: from stop to stop."""
    settings = types.SimpleNamespace(eval_every_epochs=period, stages=Stages(batch, examples, growth), mllog=mllog,
                                     checkpoint_every_steps="auto", updates_per_epoch=examples / batch)
    timetable, done, due = Timetable(settings, total), 0, []
    while done < total:
        done = timetable.next_stop(done)
        due += [done] * timetable.evaluation_is_due(done)
    return due


@pytest.mark.parametrize("batch, examples, period, every", [
    (1000, 60_000, 0.1666666667, 10), (1000, 60_000, 0.1666666666, 10), (1000, 60_000, 1 / 6, 10), (1000, 60_000, 1.0, 60),
    (8192, 60_000, 0.40960001, 3), (8192, 60_000, 0.4096, 3), (8192, 60_000, 0.40959999, 3),
    (256, 55_000, 0.0139636364, 3), (256, 55_000, 0.0139636363, 3), (10, 60, 0.333333334, 2), (10, 60, 0.01, 1)])
def test_a_period_that_was_cut_off_or_rounded_up_is_the_period_that_was_meant(batch, examples, period, every):
    assert evaluated(5 * every, batch, examples, period) == [every * number for number in range(1, 6)]


def test_a_period_that_is_no_whole_number_of_updates_is_complete_with_the_next():
    assert evaluated(10, 10, 100, 0.25) == [3, 5, 8, 10]
    assert evaluated(10, 10, 100, 0.04) == list(range(1, 11))


def test_epochs_of_a_batch_that_grows_end_sooner():
    assert evaluated(16, 10, 100, 1.0, growth=((1, 5),)) == [10, 12, 14, 16]


@pytest.mark.parametrize("period, due", [(0.5, [4, 8, 12]), (1.5, [8, 12]), (2.0, [8, 12])])
def test_beside_an_mlperf_log_they_come_after_whole_epochs(period, due):
    assert evaluated(12, 30, 100, period, mllog=True) == due


def test_the_clock_of_checkpoints_begins_anew_with_each(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("tf_hugebatch.training.timetable.time", types.SimpleNamespace(monotonic=lambda: now[0]))
    settings = types.SimpleNamespace(eval_every_epochs=1, stages=Stages(10, 100), mllog=False, checkpoint_every_steps="auto")
    found, due = Timetable(settings, 10), []
    for now[0] in (129.0, 130.0, 131.0, 159.0, 160.0):
        due.append(found.checkpoint_is_due(1))
        if due[-1]:
            found.saved()
    assert due == [False, True, False, False, True]
