import doctest

import pytest

from vlsm_helpers import errors
from vlsm_helpers.errors import CourseError, DataError, some_of, unknown


def test_an_error_says_what_where_and_how_to_fix_it():
    error = DataError("The mask is missing.", where="masks/7.png", hint="restore it.")
    assert str(error) == "The mask is missing.\n  where: masks/7.png\n  hint: restore it."
    assert (error.what, error.where, error.hint) == ("The mask is missing.", "masks/7.png", "restore it.")


def test_where_and_hint_may_be_missing():
    assert str(CourseError("It stopped.")) == "It stopped."


@pytest.mark.parametrize("kind", CourseError.__subclasses__())
def test_the_command_catches_every_kind(kind):
    with pytest.raises(CourseError):
        raise kind("It stopped.")


def test_long_lists_are_cut_and_unknown_names_get_the_nearest():
    assert doctest.testmod(errors).failed == 0
    assert some_of(["a", "b"], shown=2) == "a, b"
    error = unknown("dataset", "busy", ["isic", "busi"], error=DataError, where="data")
    assert isinstance(error, DataError)
    assert (error.where, "did you mean busi?" in error.hint) == ("data", True)
    assert "did you mean" not in unknown("dataset", "zzz", ["isic"]).hint
