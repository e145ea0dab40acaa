"""What a terminal shows of a sweep, and what a log does."""

import io

from reference.small_sweeps import run

from tf_hugebatch.tuning.screen import Screen, duration, in_words, mean_and_range, percent


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_has_a_live_table_with_best_and_time_left(tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_SECONDS", "1.5")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    assert run(tmp_path / "s", stream=terminal, trials=4, final_seeds=1) == 0
    said = terminal.getvalue()
    assert "trial 0" in said and " of 5 " in said and "final run, seed 1" in said
    assert "best 9" in said and "of 4 trials" in said and "left" in said
    assert "Chosen: trial" in said and "learning_rate=" in said
    assert said.count("Chosen: trial") == 1, "a line that stays is written once"


def test_a_log_has_no_escapes(capsys):
    with Screen() as screen:
        screen.say("[0.1, x=2] is kept as it is")
        assert not screen.wants_more
    assert capsys.readouterr().out == "[0.1, x=2] is kept as it is\n"


def test_numbers_in_words():
    assert in_words({"learning_rate": 0.12345678, "schedule": "cosine", "n": 3}) == "learning_rate=0.1235, schedule=cosine, n=3"
    assert in_words({}) == "-" and percent(None) == "-" and percent(0.98765) == "98.77%"
    assert [mean_and_range(some) for some in ([], [0.5], [0.5, 0.6])] == ["-", "50.00%", "55.00% (50.00% to 60.00%)"]
    assert [duration(seconds) for seconds in (5, 65, 3665)] == ["0:05", "1:05", "1:01:05"]


def test_values_that_look_like_markup_stay_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    with Screen(terminal) as screen:
        screen.show([("trial 0", "starting", "exclude_from_adaptation=[/]bias")], "no best so far")
    assert "[/]bias" in terminal.getvalue()
