from math import nan

import pytest

from vlsm_helpers.course.index_page import bar, duration


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (84.2, "84 s"), (105, "1.8 min")])
def test_durations_have_a_fitting_unit(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("score", "drawn"),
    [
        (("dice", 0.5, 0.4, 0.625), ("40.0%", "50.0%", "62.5%")),
        (("dice", 0.5, nan, nan), ("50.0%", "50.0%", "50.0%")),  # a point
        (("hd95_relative", 0.1, 0.05, 0.2), None),
        (("dice", nan, nan, nan), None),
    ],
)
def test_a_bar_spans_the_interval_of_a_fraction(score, drawn):
    assert bar(*score) == drawn
