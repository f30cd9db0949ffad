"""Checks of the notebooks' exercises: they say what is wrong, never what is right.

Each takes the reader's answer. On `...` it says that there is none yet; a wrong answer is told why, and with
`strict=True`, as the solutions call it, raises WrongAnswer instead.
"""

from collections.abc import Callable

import torch

from vlsm_helpers.models.unet_d import receptive_field


class WrongAnswer(Exception):
    """The answer to an exercise is wrong; the message says why."""


def check_foreground_share(answer: object, *, strict: bool = False) -> None:
    """Exercise 0.1: the share of foreground of a 4x4 mask with a 2x2 square."""
    _check_number(
        answer, 4 / 16, "count the 1s, then divide by all pixels; the answer is a fraction, not a count", strict
    )


def check_leaking_rung(answer: object, *, strict: bool = False) -> None:
    """Exercise 0.2: the first rung of the prompt ladder that needs the true mask to be written."""
    right = isinstance(answer, str) and answer.strip().lower() == "p2"
    _report(answer, right, "which is the first word that somebody without the mask could not have known?", strict)


def check_shifted_dice(answer: object, *, strict: bool = False) -> None:
    """Exercise 3.1: Dice of two 2x2 squares, one pixel apart, in a 4x4 image."""
    _check_number(answer, 0.5, "twice the shared pixels, over the sum of both counts", strict)


def check_convolution_parameters(answer: object, *, strict: bool = False) -> None:
    """Exercise 3.2: the parameters of a 3x3 convolution from 8 to 16 channels, with bias."""
    _check_number(
        answer, 8 * 16 * 9 + 16, "a 3x3 kernel for each pair of channels, and a bias for each output channel", strict
    )


def check_fifth_level(answer: object, *, strict: bool = False) -> None:
    """Exercise 3.3: the receptive field of UNet-D if it had a fifth level."""
    why = "on the fifth level a step is 16 pixels: how many steps do two 3x3 convolutions and one 2x2 pooling add?"
    _check_number(answer, receptive_field(5), why, strict)


def check_soft_dice(answer: object, *, strict: bool = False) -> None:
    """Exercise 3.4: `soft_dice(probabilities, mask)` for tensors (H, W), on cases that are easily forgotten."""
    if answer is ...:
        return _report(answer, False, "", strict)
    square = torch.zeros(4, 4)
    square[1:3, 1:3] = 1
    cases = [
        (square, square, 1.0, "a perfect prediction must give 1"),
        (1 - square, square, 0.0, "a prediction that shares no pixel must give 0"),
        (torch.full((4, 4), 0.5), square, 4 / 12, "probabilities count as they are, not after a threshold"),
        (
            torch.zeros(4, 4),
            torch.zeros(4, 4),
            1.0,
            "nothing predicted where nothing is counts 1 (and must not divide by 0)",
        ),
    ]
    for probabilities, mask, expected, why in cases:
        got = _call(answer, probabilities, mask)
        if got is None or abs(got - expected) > 1e-3:
            return _report(answer, False, f"{why}, yours gives {got}", strict)
    return _report(answer, True, "", strict)


def _call(function: Callable, *arguments: torch.Tensor) -> float | None:
    try:
        return float(function(*arguments))
    except (TypeError, ValueError, RuntimeError, ZeroDivisionError):
        return None


def _check_number(answer: object, expected: float, why: str, strict: bool) -> None:
    right = isinstance(answer, (int, float)) and abs(answer - expected) < 1e-6 * max(1, abs(expected))
    _report(answer, right, why, strict)


def _report(answer: object, right: bool, why: str, strict: bool) -> None:
    if answer is ... and not strict:
        print("not answered yet")
    elif right:
        print("right")
    elif strict:
        raise WrongAnswer(why or "not answered")
    else:
        print(f"not yet: {why}")
