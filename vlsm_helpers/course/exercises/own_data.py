"""Checks of the exercises in chapters 6 and 7: a fair table, and your own data."""

import re
from collections.abc import Callable

import numpy as np
import pandas as pd

from vlsm_helpers.course.exercises.answers import call, exercise, numbers


@exercise
def check_images_needed(answer: object) -> str | None:
    """Exercise 6.1: `images_needed(differences, half_width)` (N,), in points: test images for that half of a 95 % CI."""
    pilot = np.tile([-8.0, 8.0], 200)  # a standard deviation of 8 points, whichever degrees of freedom are taken
    cases = [
        (pilot, 1.0, (245, 248), "solve 1.96 * s / sqrt(n) = half_width for n, where s is the standard deviation"),
        (pilot, 2.0, (61, 63), "half the precision needs a quarter of the images: square the ratio"),
        (pilot + 5, 1.0, (245, 248), "the mean of the differences does not matter, only how much they vary"),
    ]
    for differences, half_width, (low, high), why in cases:
        got = call(answer, differences, half_width)
        if got is None or not low <= got <= high:
            return f"{why}; yours gives {got}"
        if got != int(got):
            return f"images come whole: round up to an integer; yours gives {got}"
    return None


@exercise
def check_fair_gain(answer: object) -> str | None:
    """Exercise 6.2: `fair_gain(val, test)` of Dice (M, N), the ensemble in the last row: its gain over the best member."""
    on_val = (
        "choose the member on validation: choosing it on test makes the baseline stronger than anybody could have known"
    )
    val, test = [[0.9, 0.7], [0.5, 0.5], [0.9, 0.9]], [[0.4, 0.6], [0.7, 0.9], [0.8, 0.8]]
    last_row = "the last row is the ensemble, no member of itself; and a loss has a minus"
    other_val, other_test = [[0.2, 0.2], [0.3, 0.3], [0.9, 0.9]], [[0.1, 0.1], [0.5, 0.7], [0.4, 0.4]]
    cases = [(val, test, 0.3, on_val), (other_val, other_test, -0.2, last_row)]
    return numbers(answer, [(np.array(one), np.array(other), *rest) for one, other, *rest in cases], 1e-6)


@exercise
def check_scored_by_all(answer: object) -> str | None:
    """Exercise 6.3: `scored_by_all(rows)`: the rows of the images that every model has scored with every seed."""
    rows = pd.DataFrame(
        [(model, seed, image, 0.5) for model in ("A", "UNet-D") for seed in (0, 1) for image in ("x", "y", "z")],
        columns=["model", "seed", "id", "dice"],
    )
    crashed = rows.drop(index=[5])  # A, seed 1, image z
    undefined = rows.assign(dice=rows["dice"].where(rows.index != 4))  # A, seed 1, image y
    cases = [
        (rows, "xyz", "here nothing is missing, and every row stays"),
        (crashed, "xy", "z was not scored by A with seed 1: its other three rows have to go"),
        (undefined, "xz", "a score that is NaN is none: y has to go"),
    ]
    for given, expected, why in cases:
        try:
            got = answer(given.copy())
            images = dict(got["id"].value_counts())
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            return f"it fails on a table with the columns model, seed, id and dice ({error})"
        if images != dict.fromkeys(expected, 4):
            return f"{why}; yours keeps {images}, rows by image"
    return None


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
def check_entropy_bits(answer: object) -> str | None:
    """Exercise 7.2: `entropy_bits(probability)`: the entropy of each pixel of an array, in bits."""
    cases = [
        ([0.5, 0.5], [1.0, 1.0], "a probability of 0.5 has 1 bit; a natural logarithm would give 0.69 nats"),
        ([0.25, 0.75], [0.8113, 0.8113], "both outcomes count, each weighted with its own probability"),
        ([0.0, 1.0], [0.0, 0.0], "certain pixels have 0 bits, not NaN: what is 0 times log2(0)?"),
    ]
    for given, expected, why in cases:
        try:
            with np.errstate(divide="ignore", invalid="ignore"):
                got = np.asarray(answer(np.array([given])), float)
        except (TypeError, ValueError) as error:
            return f"it fails on an array of probabilities ({error})"
        if got.shape != (1, 2) or not np.allclose(got, [expected], atol=1e-3):
            return f"{why}; of {given} yours gives {got.tolist()}"
    return None


@exercise
def check_referred(answer: object) -> str | None:
    """Exercise 7.3: `referred(uncertainty, fraction)`: the indices of the most uncertain images, in any order."""
    cases = [
        ([0.1, 0.4, 0.2, 0.3], 0.5, {1, 3}, "give the indices of the largest values, counted from 0, not the values"),
        ([0.5, 0.1, 0.2, 0.3, 0.4], 0.2, {0}, "a fifth of five images is one"),
        ([0.3, 0.2], 0.0, set(), "a fraction of 0 refers no image: note that [-0:] is everything"),
    ]
    for uncertainty, fraction, expected, why in cases:
        try:
            got = {int(index) for index in answer(np.array(uncertainty), fraction)}
        except (TypeError, ValueError, IndexError) as error:
            return f"it fails on {uncertainty} ({error})"
        if got != expected:
            return f"{why}; of {uncertainty} and {fraction} yours gives {sorted(got)}"
    return None


@exercise
def check_class_map(answer: object) -> str | None:
    """Exercise 7.4: `class_map(probabilities, threshold)` of (K, H, W): each pixel's class from 1, or 0 for background."""
    first, second = [0.9, 0.2, 0.4, 0.6, 0.5], [0.1, 0.8, 0.3, 0.7, 0.1]
    cases = [
        ([first, second], 0.5, [1, 2, 0, 2, 0], "a pixel has its most probable class, if that is above the threshold"),
        ([first, second], 0.75, [1, 2, 0, 0, 0], "the threshold is an argument: it need not be 0.5"),
        ([second, first, second], 0.0, [2, 1, 2, 1, 2], "there may be more than two classes"),
    ]
    for given, threshold, expected, why in cases:
        probabilities = np.array(given)[:, None]
        try:
            got = np.asarray(answer(probabilities, threshold))
        except (TypeError, ValueError, IndexError) as error:
            return f"it fails on probabilities of shape {probabilities.shape} ({error})"
        if got.shape != (1, len(expected)) or got[0].tolist() != expected:
            return f"{why}; of {given} and {threshold} yours gives {got.tolist()}"
    return None
