"""Progress: a bar on a terminal, a plain line now and then everywhere else."""

import io
import re

import pytest

from tf_hugebatch.training.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """clock.now in seconds, moved by hand."""
    class Clock:
        now = 100.0

    monkeypatch.setattr("tf_hugebatch.training.progress.time.monotonic", lambda: Clock.now)
    return Clock


def test_a_log_gets_plain_lines_and_no_more_than_one_in_ten_seconds(clock):
    log = io.StringIO()
    with Progress(100, stream=log) as progress:
        for done in range(1, 101):
            clock.now += 1
            progress.advance(done, f"loss {1 / done:.4f}")
    text = log.getvalue()
    assert not re.search(r"[\r\x1b\b]", text)
    lines = text.splitlines()
    assert len(lines) == 10
    assert lines[0] == "update 10/100  loss 0.1000  1:30 left"
    assert lines[-1] == "update 100/100  loss 0.0100  0:00 left"


def test_the_time_left_after_a_resume_counts_only_what_was_done_since(clock):
    log = io.StringIO()
    with Progress(7_300, done=100, stream=log) as progress:
        clock.now += 10
        progress.advance(110, "loss 1")  # a second each
    assert log.getvalue() == "update 110/7,300  loss 1  1:59:50 left\n"


def test_before_anything_is_done_no_time_is_left(clock):
    log = io.StringIO()
    with Progress(78_125, done=3, stream=log) as progress:
        clock.now += 11
        progress.reading(3, 0, 4)
    assert log.getvalue() == "update 3/78,125  micro-batch 0/4\n"


def test_a_long_update_shows_its_micro_batches(clock):
    log = io.StringIO()
    with Progress(2, stream=log) as progress:
        for micro_batch in range(5_005):
            clock.now += 1 / 128  # exact, as floats go
            progress.reading(0, micro_batch, 5_005)
        progress.advance(1, "loss 1")
        progress.reading(1, 0, 5_005)
    assert log.getvalue().splitlines() == [
        f"update 0/2  micro-batch {n:,}/5,005  {left} left"
        for n, left in ((1_279, "1:08"), (2_559, "0:58"), (3_839, "0:48"))
    ]


def test_where_updates_are_short_only_they_are_shown(clock):
    log = io.StringIO()
    with Progress(100, stream=log) as progress:
        for update in range(100):
            for micro_batch in range(8):
                clock.now += 1 / 8
                progress.reading(update, micro_batch, 8)
            progress.advance(update + 1, "loss 1")
    assert len(log.getvalue().splitlines()) == 10
    assert "micro-batch" not in log.getvalue()


def test_what_is_said_stays_wherever_it_is_said():
    for stream in (io.StringIO(), Terminal()):
        with Progress(3, stream=stream) as progress:
            progress.advance(1, "loss 1")
            progress.say("epoch 1: test accuracy 50.00% [not markup]")
        assert "epoch 1: test accuracy 50.00% [not markup]" in stream.getvalue()


def test_a_terminal_gets_a_bar_that_moves(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    terminal = Terminal()
    with Progress(1_000, stream=terminal) as progress:
        progress.advance(250, "loss 0.1234")
        progress.advance(1_000, "loss 0.0123")
    text = terminal.getvalue()
    assert "\x1b[" in text
    assert "update 1,000/1,000" in text and "loss 0.0123" in text and "━" in text


def test_a_terminal_shows_the_micro_batches_of_a_long_update(clock, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    terminal = Terminal()
    with Progress(2, stream=terminal) as progress:
        clock.now += 11
        progress.reading(0, 2_500, 5_005)
    assert "update 0/2" in terminal.getvalue() and "micro-batch 2,500/5,005" in terminal.getvalue()


@pytest.mark.parametrize("columns, shown", [(80, "loss 1.1737  5,999 images/s"), (200, "rate 1.26e-05  input wait 12%")])
def test_a_narrow_terminal_keeps_how_far_it_is_and_what_is_left(columns, shown, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    with Progress(7032, stream=terminal) as progress:
        progress.advance(63, "epoch 4.032  loss 1.1737  5,999 images/s  rate 1.26e-05  input wait 12%")
    said = terminal.getvalue()
    assert "update 63/7,032" in said and shown in said and "━" in said and "…" not in said and re.search(r"-?:--|\d:\d\d:\d\d", said)
