"""Errors that say what was wrong, where, and how to mend it."""

from pathlib import Path


class CourseError(Exception):
    """Something the user can mend; the `vlsm` command prints it without a traceback.

    `what` went wrong, `where` (a file, a folder, a name), and how to `mend` it.
    """

    def __init__(self, what: str, *, where: str | Path | None = None, mend: str | None = None):
        self.what, self.where, self.mend = what, where, mend
        lines = [what]
        if where is not None:
            lines.append(f"  where: {where}")
        if mend is not None:
            lines.append(f"  to mend: {mend}")
        super().__init__("\n".join(lines))


class SettingsError(CourseError):
    """A profile, folder or seed that cannot be used."""


class DataError(CourseError):
    """An image, a mask, an annotation file or a dataset that cannot be used."""


class TrainingError(CourseError):
    """A training run that had to stop; its last good checkpoint is kept."""


class WeightsError(CourseError):
    """Pretrained weights that cannot be found, fetched or read."""
