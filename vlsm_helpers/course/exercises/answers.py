"""What every check of an exercise needs: calling what a reader wrote, and saying what is wrong with it."""

from collections.abc import Callable

import torch


class WrongAnswer(Exception):
    """The answer to an exercise is wrong; the message says why."""


def call(function: Callable, *arguments: object) -> float | None:
    """What a reader's function gives, as a number; None where it fails or gives none."""
    try:
        return float(function(*arguments))
    except (TypeError, ValueError, RuntimeError, IndexError, ZeroDivisionError):
        return None


def tensor(function: Callable, *arguments: torch.Tensor) -> torch.Tensor | None:
    """What a reader's function gives, as a tensor; None where it fails or gives none."""
    try:
        return torch.as_tensor(function(*arguments))
    except (TypeError, ValueError, RuntimeError):
        return None


def check_number(answer: object, expected: float, why: str, strict: bool) -> None:
    """Report on an answer that must be the number `expected`, to a millionth; `why` is the hint to a wrong one."""
    right = isinstance(answer, (int, float)) and abs(answer - expected) < 1e-6 * max(1, abs(expected))
    report(answer, right, why, strict)


def report(answer: object, right: bool, why: str, strict: bool) -> None:
    """Say whether the answer is right, and `why` not; `...` is no answer yet. Raises WrongAnswer where `strict` and not right."""
    if answer is ... and not strict:
        print("not answered yet")
    elif right:
        print("right")
    elif strict:
        raise WrongAnswer(why or "not answered")
    else:
        print(f"not yet: {why}")
