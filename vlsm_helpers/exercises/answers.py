"""What every check of an exercise needs: calling what a reader wrote, and saying what is wrong with it."""

from collections.abc import Callable

import torch


class WrongAnswer(Exception):
    """The answer to an exercise is wrong; the message says why."""


def call(function: Callable, *arguments: object) -> float | None:
    try:
        return float(function(*arguments))
    except (TypeError, ValueError, RuntimeError, IndexError, ZeroDivisionError):
        return None


def tensor(function: Callable, *arguments: torch.Tensor) -> torch.Tensor | None:
    try:
        return torch.as_tensor(function(*arguments))
    except (TypeError, ValueError, RuntimeError):
        return None


def check_number(answer: object, expected: float, why: str, strict: bool) -> None:
    right = isinstance(answer, (int, float)) and abs(answer - expected) < 1e-6 * max(1, abs(expected))
    report(answer, right, why, strict)


def report(answer: object, right: bool, why: str, strict: bool) -> None:
    if answer is ... and not strict:
        print("not answered yet")
    elif right:
        print("right")
    elif strict:
        raise WrongAnswer(why or "not answered")
    else:
        print(f"not yet: {why}")
