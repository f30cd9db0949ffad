"""Errors that say what was wrong, where, and how to fix it."""

from pathlib import Path


class CourseError(Exception):
    """Something the user can fix; the `vlsm` command prints it without a traceback.

    `what` went wrong, `where` (a file, a folder, a name), and a `hint` at how to fix it.
    """

    def __init__(self, what: str, *, where: str | Path | None = None, hint: str | None = None):
        self.what, self.where, self.hint = what, where, hint
        lines = [what]
        if where is not None:
            lines.append(f"  where: {where}")
        if hint is not None:
            lines.append(f"  hint: {hint}")
        super().__init__("\n".join(lines))


class SettingsError(CourseError):
    """A profile, folder or seed that cannot be used."""


class DataError(CourseError):
    """An image, a mask, an annotation file or a dataset that cannot be used."""


class TrainingError(CourseError):
    """A training run that had to stop; its last good checkpoint is kept."""


class WeightsError(CourseError):
    """Pretrained weights that cannot be found, fetched or read."""


class BusyError(CourseError):
    """A folder that another process is writing to."""
