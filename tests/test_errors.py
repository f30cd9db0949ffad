import pytest

from vlsm_helpers.errors import CourseError, DataError


def test_an_error_says_what_where_and_how_to_mend_it():
    error = DataError("The mask is missing.", where="masks/7.png", hint="restore it.")
    assert str(error) == "The mask is missing.\n  where: masks/7.png\n  hint: restore it."
    assert (error.what, error.where, error.hint) == ("The mask is missing.", "masks/7.png", "restore it.")


def test_place_and_mending_may_be_unknown():
    assert str(CourseError("It stopped.")) == "It stopped."


@pytest.mark.parametrize("kind", CourseError.__subclasses__())
def test_the_command_catches_every_kind(kind):
    with pytest.raises(CourseError):
        raise kind("It stopped.")
