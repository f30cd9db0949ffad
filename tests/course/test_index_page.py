from collections import namedtuple
from math import nan

import pytest

from vlsm_helpers.course import index_page as page

Score = namedtuple("Score", "metric value low high")


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (84.2, "84 s"), (105, "1.8 min")])
def test_durations_are_said_as_people_say_them(seconds, text):
    assert page._duration(seconds) == text


def test_a_bar_spans_the_interval():
    drawn = page._bar(Score("dice", 0.5, 0.4, 0.625))
    assert "--low:40.0%;--high:62.5%;--value:50.0%" in drawn


def test_a_score_without_an_interval_is_a_point_and_a_distance_has_no_bar():
    assert "--low:50.0%;--high:50.0%" in page._bar(Score("dice", 0.5, nan, nan))
    assert page._bar(Score("hd95_relative", 0.1, 0.05, 0.2)) == ""
    assert page._bar(Score("dice", nan, nan, nan)) == ""
