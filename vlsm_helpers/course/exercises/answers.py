"""What every check of an exercise needs: running what a reader wrote, and saying whether it is right."""

from collections.abc import Callable, Iterable
from functools import wraps

import torch

EXERCISES: dict[str, Callable[..., None]] = {}  # every check by its name


class WrongAnswer(Exception):
    """The answer to an exercise is wrong; the message says why."""


def exercise(check: Callable[..., str | None]) -> Callable[..., None]:
    """Make a check of a function that says why an answer is wrong, or None where it is right.

    The check prints whether the answer is right; on `...` it prints that there is none yet. With `strict=True`, as the
    solutions call it, anything but a right answer raises WrongAnswer. `data` goes to a check that tries the answer on it.
    """

    @wraps(check)
    def checked(answer: object, *data: object, strict: bool = False) -> None:
        why = "not answered yet" if answer is ... else check(answer, *data)
        if why and strict:
            raise WrongAnswer(why)
        print("right" if not why else why if answer is ... else f"not yet: {why}")

    del checked.__wrapped__  # so that help() shows `strict`
    EXERCISES[check.__name__] = checked
    return checked


def call(function: Callable, *arguments: object) -> float | None:
    """The result of a reader's function as a number; None where it fails or returns none."""
    try:
        return float(function(*arguments))
    except (TypeError, ValueError, RuntimeError, IndexError, ZeroDivisionError):
        return None


def numbers(function: Callable, cases: Iterable[tuple], tolerance: float = 1e-3) -> str | None:
    """Why a reader's function is wrong in the first of the cases, (arguments ..., expected number, why), that it fails."""
    for *arguments, expected, why in cases:
        got = call(function, *arguments)
        if got is None or not abs(got - expected) <= tolerance:
            return f"{why}, yours gives {got}"
    return None


def tensor(function: Callable, *arguments: torch.Tensor) -> torch.Tensor | None:
    """The result of a reader's function as a tensor; None where it fails or returns none."""
    try:
        return torch.as_tensor(function(*arguments))
    except (TypeError, ValueError, RuntimeError):
        return None


def number(answer: object, expected: float, why: str) -> str | None:
    """`why`, unless the answer is the number `expected`, rounding apart."""
    right = isinstance(answer, (int, float)) and abs(answer - expected) < 1e-6 * max(1, abs(expected))
    return None if right else why
