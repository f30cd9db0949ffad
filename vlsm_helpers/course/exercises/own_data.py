"""Checks of the exercises in chapters 6 and 7: a fair table, and your own data."""

import math
import re
from collections.abc import Callable

import numpy as np

from vlsm_helpers.course.exercises.answers import call, exercise, number


@exercise
def check_interval_width(answer: object) -> str | None:
    """Exercise 6.1: half the width, in points, of a 95 % interval of a mean of 100 Dice that spread by 15 points."""
    why = "the standard error is the spread divided by the root of the number of images, and 1.96 of them are half the interval"
    right = isinstance(answer, (int, float)) and abs(answer - 1.96 * 15 / math.sqrt(100)) < 0.07
    return None if right else why


@exercise
def check_fair_gain(answer: object) -> str | None:
    """Exercise 6.2: `fair_gain(val, test)` of Dice (M, N), the ensemble in the last row: its gain over the best member."""
    cases = [
        (
            [[0.9, 0.7], [0.5, 0.5], [0.9, 0.9]],
            [[0.4, 0.6], [0.7, 0.9], [0.8, 0.8]],
            0.3,
            "choose the member on validation: choosing it on test makes the baseline stronger than anybody could have known",
        ),
        (
            [[0.2, 0.2], [0.3, 0.3], [0.9, 0.9]],
            [[0.1, 0.1], [0.5, 0.7], [0.4, 0.4]],
            -0.2,
            "the last row is the ensemble, no member of itself; and a loss has a minus",
        ),
    ]
    for val, test, expected, why in cases:
        got = call(answer, np.array(val), np.array(test))
        if got is None or abs(got - expected) > 1e-6:
            return f"{why}; yours gives {got}"
    return None


@exercise
def check_needed_images(answer: object) -> str | None:
    """Exercise 6.3: test images for a half-width of 1 point where paired differences spread by 8 points."""
    why = "solve 1.96 * 8 / sqrt(n) = 1 for n, and round up"
    return number(answer, math.ceil((1.96 * 8) ** 2), why)


@exercise
def check_patient_group(answer: object) -> str | None:
    """Exercise 7.1: the group of names such as "P07_left_2": an expression, or a function of the name."""
    same = [("P07_left_2", "P07_right_1"), ("P12_left_1", "P12_left_10")]
    other = [("P07_left_2", "P70_left_2"), ("P1_left_1", "P12_left_1")]
    group = _grouping(answer)
    try:
        if any(group(one) != group(two) for one, two in same):
            return "P07_left_2 and P07_right_1 are one patient, on two sides"
        if any(group(one) == group(two) for one, two in other):
            return "P1 and P12 are two patients: the number does not end after one digit"
    except (TypeError, AttributeError, re.error) as error:
        return f"it fails on one of the names P07_left_2, P12_left_10 ({error})"
    return None


def _grouping(answer: object) -> Callable[[str], str]:
    """What `adopt` makes of an expression or a function."""
    if callable(answer):
        return answer

    def group(name: str) -> str:
        match = re.search(answer, name)
        return match[1] if match.groups() else match[0]

    return group


@exercise
def check_coin_bits(answer: object) -> str | None:
    """Exercise 7.2: the entropy, in bits, of a pixel whose probability is 0.25."""
    why = "-(p log2 p + q log2 q) with q = 1 - p; a natural logarithm would give nats"
    right = isinstance(answer, (int, float)) and abs(answer - (0.25 * 2 - 0.75 * math.log2(0.75))) < 2e-3
    return None if right else why


@exercise
def check_referred(answer: object) -> str | None:
    """Exercise 7.3: `referred(doubt, share)`: the indices of the most uncertain share of the images, in any order."""
    cases = [
        ([0.1, 0.4, 0.2, 0.3], 0.5, {1, 3}, "give the indices of the largest values, counted from 0, not the values"),
        ([0.5, 0.1, 0.2, 0.3, 0.4], 0.2, {0}, "a fifth of five images is one"),
        ([0.3, 0.2], 0.0, set(), "a share of 0 refers nobody: note that [-0:] is everything"),
    ]
    for doubt, share, expected, why in cases:
        try:
            got = {int(place) for place in answer(np.array(doubt), share)}
        except (TypeError, ValueError, IndexError) as error:
            return f"it fails on {doubt} ({error})"
        if got != expected:
            return f"{why}; of {doubt} and {share} yours gives {sorted(got)}"
    return None
