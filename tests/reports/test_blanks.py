"""What blanks cost: in words, in order, and in all."""

import pytest

from tf_hugebatch.reports.blanks import IMAGES_PER_SECOND, Blank, Cost, cheapest_first, cost_in_words, total_in_words


def blank(command, seconds):
    return Blank("a cell", command, Cost("in words", seconds))


def test_a_cost_is_words_and_the_time_that_they_say():
    cost = cost_in_words("lenet5", 60 * 60 * IMAGES_PER_SECOND["lenet5"])
    assert cost == "54,000,000 images through lenet5: about 60 minutes on two CPU cores" and cost.seconds == 3600
    assert cost_in_words("resnet20", 1e6) == "1,000,000 images through resnet20; its speed here isn't known"
    assert cost_in_words("resnet20", 1e6).seconds is None and Blank("", "", "seconds; nothing is trained").seconds is None


@pytest.mark.parametrize("seconds, words", [
    ([3600, 3600 * 5], "about 6 hours on two CPU cores in all"), ([30], "about 1 minute on two CPU cores in all"),
    ([3600, None, None], "about 60 minutes on two CPU cores in all, not counting 2 whose time can't be added up"),
    ([3600, 7200, 86400 * 400], "about 400 days on two CPU cores in all, the 2 of less than a day about 3 hours"),
    ([86400 * 4], "about 4 days on two CPU cores in all"), ([None], "time unknown")])
def test_times_add_up(seconds, words):
    assert total_in_words([blank(str(number), one) for number, one in enumerate(seconds)]) == words


def test_a_command_that_fills_two_blanks_is_paid_once():
    assert total_in_words([blank("same", 3600), blank("same", 3600), blank("other", 3600)]).startswith("about 2 hours")


def test_the_cheapest_comes_first_and_what_is_unknown_last():
    given = [blank("a", None), blank("b", 60), blank("c", 30), blank("d", 60)]
    assert [one.command for one in cheapest_first(given)] == ["c", "b", "d", "a"]
