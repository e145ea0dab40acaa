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
