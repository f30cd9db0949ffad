"""Checks of the notebooks' exercises: they say why an answer is wrong, never what is right.

Each takes the reader's answer; `...` is none yet. With `strict=True`, as the solutions call it, a wrong answer raises
WrongAnswer.
"""

from vlsm_helpers.course.exercises import (  # noqa: F401 - each registers its checks
    ensembles,
    first_steps,
    members,
    own_data,
    training,
)
from vlsm_helpers.course.exercises.answers import EXERCISES, WrongAnswer

globals().update(EXERCISES)

__all__ = ["WrongAnswer", *EXERCISES]
