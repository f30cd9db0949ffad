"""One rule for everything that the package writes: one writer at a time, whole or not at all, never over what is not ours.

Files and folders are written to a temporary sibling and renamed. A folder that a computation fills has a stamp, written
last: its key, a hash of all that its content follows from, and the length of each file. `owned` is a lock that the kernel
releases when its process dies.
"""

import errno
import json
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, BinaryIO
from uuid import uuid4

import numpy as np
from filelock import FileLock, Timeout

from vlsm_helpers.errors import BusyError, SettingsError

if TYPE_CHECKING:
    import pandas as pd

STAMP = "stamp.json"
REPLACED = "replaced"  # in the name of a folder that gives way to another one
ABANDONED = 3600  # seconds after which a half-written sibling that nobody writes to is thrown away
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # what file systems answer that cannot lock
ANOTHER_DISK = "free some space, or name a folder on another disk in {}."


@contextmanager
def owned(lock: Path, what: str, *, wait: float = 0.0) -> Iterator[None]:
    """Hold the lock file `lock` while the block runs, after at most `wait` seconds.

    `what` the other process does, for the message: "trains this run". Raises BusyError where another process holds the
    lock, SettingsError where it cannot be made. A file system without locks is warned of, and written to without one.
    """
    holder = FileLock(lock)
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        holder.acquire(timeout=wait)
    except Timeout:
        hint = "wait until it ends (it may run on another machine), or choose another name."
        raise BusyError(f"Another process {what}.", where=lock.parent, hint=hint) from None
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in NO_LOCKS:
            raise _unwritable("folder", error, lock.parent, ANOTHER_DISK.format("VLSM_RUNS")) from error
        warnings.warn(
            f"{lock.parent}: this file system has no locks ({error}); let one process at a time write there.",
            stacklevel=4,
        )
    try:
        yield
    finally:
        holder.release()


def is_complete(folder: Path, key: str) -> bool:
    """Whether `folder` holds what belongs to `key`, every file as long as its stamp says."""
    try:
        stamp = json.loads((folder / STAMP).read_text(encoding="utf-8"))
        lengths = {name: (folder / name).stat().st_size for name in stamp["bytes"]}
        return stamp == {"key": key, "bytes": lengths}
    except (OSError, ValueError, KeyError, TypeError):
        return False


def sibling(path: Path, kind: str = "partial") -> Path:
    """A temporary path beside `path` that no other process, of this machine or another one, uses."""
    return path.with_name(f".{path.name}.{kind}-{uuid4().hex[:12]}")


def write(folder: Path, key: str, fill: Callable[[Path], None]) -> None:
    """Let `fill` write files to a new folder, stamp it and move it to `folder`, in place of an older one.

    Of several processes that write the same, the first one's stays. What killed processes left half-written beside it is
    removed. Raises SettingsError where it cannot be written, and where `folder` holds files of others.
    """
    _refuse_files_of_others(folder, (".npy", ".json"))
    sweep(folder.parent)
    partial = sibling(folder)
    try:
        partial.mkdir(parents=True)
        fill(partial)
        lengths = {path.name: path.stat().st_size for path in partial.iterdir()}
        _refuse_files_of_others(folder, tuple(lengths))
        _write_bytes(partial / STAMP, as_json({"key": key, "bytes": lengths}).encode())
        swap(partial, folder, lambda there: is_complete(there, key))
    except OSError as error:
        if not is_complete(folder, key):
            raise _unwritable("folder", error, folder, ANOTHER_DISK.format("VLSM_CACHE or VLSM_RUNS")) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def swap(fresh: Path, folder: Path, wins: Callable[[Path], bool] = lambda there: False) -> None:
    """Move `fresh` to `folder`; the folder that was there is removed, and put back if the move fails.

    Where `wins` says that the folder there is as good, which another process may have finished in the meantime, it stays.
    """
    for _ in range(10):  # others may put theirs there again and again
        if wins(folder):
            return
        aside = sibling(folder, REPLACED)
        with suppress(FileNotFoundError):
            if folder.is_dir():  # never a file
                os.replace(folder, aside)
        try:
            os.replace(aside if wins(aside) else fresh, folder)  # the former: finished between the look and the move
            return
        except BaseException as error:
            if not (isinstance(error, OSError) and folder.is_dir()):  # else another process put one there first
                with suppress(FileNotFoundError):
                    os.replace(aside, folder)
                raise
        finally:
            if folder.is_dir():
                shutil.rmtree(aside, ignore_errors=True)
    raise SettingsError("Other processes keep replacing the folder.", where=folder, hint="wait until they end.")


def restore(folder: Path) -> None:
    """Put back what a `swap` had moved aside when it was killed between its two renames; for the owner of `folder` alone."""
    for aside in folder.parent.glob(f".{folder.name}.{REPLACED}-*"):
        if folder.exists():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            os.replace(aside, folder)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill, which is moved to `folder` when the block ends, and removed if it ends with an error.

    Raises SettingsError where it cannot be written, and where something is there already.
    """
    fresh = sibling(folder)
    try:
        fresh.mkdir(parents=True)
        yield fresh
        os.replace(fresh, folder)
    except OSError as error:
        raise _unwritable("folder", error, folder, "free some space, or name another folder.") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def require_writable(path: Path, hint: str) -> None:
    """Raise SettingsError, with `hint`, unless `path` can be made: the nearest folder above it that is there takes files."""
    above = next(folder for folder in path.absolute().parents if folder.exists())
    try:
        TemporaryFile(dir=above).close()
    except OSError as error:
        raise SettingsError(f"It cannot be written to ({error.strerror}).", where=above, hint=hint) from error


def write_text(path: Path, text: str, hint: str = ANOTHER_DISK.format("VLSM_RUNS")) -> None:
    """Write a text file as UTF-8, line ends as they are, as `new_file` does."""
    with new_file(path, hint) as partial:
        _write_bytes(partial, text.encode("utf-8"))


@contextmanager
def new_file(path: Path, hint: str = "free some space, or name another folder.", ending: str = "") -> Iterator[Path]:
    """A file to write, which takes the place of `path` when the block ends; its name ends with `ending`.

    Raises SettingsError, with `hint`, where it cannot be written; an older file is then kept.
    """
    partial = sibling(path)
    partial = partial.with_name(partial.name + ending)
    try:
        yield partial
        os.replace(partial, path)
    except OSError as error:
        raise _unwritable("file", error, path, hint) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def write_table(path: Path, table: "pd.DataFrame", hint: str = ANOTHER_DISK.format("VLSM_RUNS")) -> None:
    r"""Write a table as CSV, as `write_text` does; lines end with \n on every system."""
    write_text(path, table.to_csv(index=False, lineterminator="\n"), hint)


def as_json(facts: Any, indent: int | None = None) -> str:
    """JSON of facts; NumPy's numbers, which the json module refuses, are numbers, and paths are text."""
    return json.dumps(facts, indent=indent, default=_plain)


@contextmanager
def array_file(path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> Iterator[BinaryIO]:
    """A .npy file of this type and shape, to be written piece by piece: on a full disk, a memory map would crash."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        yield file
        file.flush()
        os.fsync(file.fileno())


def sweep(root: Path, of: str = "*", age: float = ABANDONED) -> None:
    """Remove the half-written siblings of `of` (a glob) that nobody wrote to for `age` seconds.

    They belong to other processes, so that any may vanish at any moment: that is no error.
    """
    for path in [*root.glob(f".{of}.partial-*"), *root.glob(f".{of}.{REPLACED}-*")]:
        with suppress(OSError):
            parts = list(path.glob("*")) or [path]
            touched = max(part.stat().st_mtime for part in parts)
            if time.time() - touched <= age:
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _write_bytes(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())  # a rename may reach the disk before the content does


def _refuse_files_of_others(folder: Path, endings: tuple[str, ...]) -> None:
    """Raise SettingsError unless `folder` may be replaced: it is not there, is stamped, or all its files end in `endings`."""
    try:
        names = [] if (folder / STAMP).exists() else os.listdir(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unwritable("folder", error, folder, "name another folder.") from error
    if others := [name for name in names if not name.endswith(endings)]:
        what = f"The folder holds something else, such as {min(others)}: it is not replaced."
        raise SettingsError(what, where=folder, hint="name a new folder.")


def _unwritable(kind: str, error: OSError, where: Path, hint: str) -> SettingsError:
    kept = "; the one before it is kept" if kind == "file" else ""
    return SettingsError(f"The {kind} could not be written ({error.strerror}){kept}.", where=where, hint=hint)


def _plain(value: Any) -> Any:
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
