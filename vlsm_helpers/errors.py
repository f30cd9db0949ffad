"""Errors that say what was wrong, where, and how to fix it."""

import difflib
import importlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType


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


def some_of(names: Sequence[str], shown: int = 5) -> str:
    """The first few names, and how many more there are.

    >>> some_of(["a", "b", "c"], shown=2)
    'a, b and 1 more'
    """
    more = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {more} more" if more > 0 else "")


def to_install(extra: str) -> str:
    """The hint for a missing optional package: the extra of this course that brings it, at the tested version."""
    return f"install the extra in the course's folder: `pip install -c constraints.txt -e '.[{extra}]'`."


def optional(
    package: str, purpose: str, extra: str, *, error: type[CourseError] = SettingsError, where: Path | None = None
) -> ModuleType:
    """Import an optional package. Raises `error`, which says that the `purpose` needs it and which extra brings it, without it.

    >>> optional("json", "Reading files", "files").loads("[1]")
    [1]
    """
    try:
        return importlib.import_module(package)
    except ImportError:
        name = package.partition(".")[0]
        what = f"{purpose} needs the package {name}, which is not installed."
        raise error(what, where=where, hint=to_install(extra)) from None


def unknown(
    kind: str,
    name: str,
    known: Iterable[str],
    *,
    error: type[CourseError] = CourseError,
    where: str | Path | None = None,
    listing: str = "use one of",
) -> CourseError:
    """The error for a `name` that is none of the `known` ones of its kind; its hint gives the nearest of them, then all.

    >>> unknown("member", "unet-d", ["unet_d", "clipseg"]).hint
    'did you mean unet_d? use one of unet_d, clipseg.'
    """
    known = list(known)
    nearest = difflib.get_close_matches(str(name), known, n=3, cutoff=0.4)
    meant = f"did you mean {' or '.join(nearest)}? " if nearest else ""
    return error(f"There is no {kind} {name!r}.", where=where, hint=f"{meant}{listing} {', '.join(known)}.")
