"""Folders, and files, that a computation fills: written beside their place and moved there, so that half of one never counts.

A folder has a stamp, written last: its key, a hash of all that its content follows from, and the length of each file.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

import numpy as np

from vlsm_helpers.errors import SettingsError

STAMP = "stamp.json"
ABANDONED = 3600  # seconds after which a half-written folder that nobody writes to is thrown away


def is_complete(folder: Path, key: str) -> bool:
    """Whether `folder` holds what belongs to `key`, every file as long as its stamp says."""
    try:
        stamp = json.loads((folder / STAMP).read_text())
        lengths = {name: (folder / name).stat().st_size for name in stamp["bytes"]}
        return stamp == {"key": key, "bytes": lengths}
    except (OSError, ValueError, KeyError, TypeError):
        return False


def beside(path: Path) -> Path:
    """A place beside `path` to write to first: no other process, of this machine or another one, has the same."""
    return path.with_name(f".{path.name}.partial-{uuid4().hex[:12]}")


def write(folder: Path, key: str, fill: Callable[[Path], None]) -> None:
    """Let `fill` write files to a new folder, stamp it and move it to `folder`, in place of a broken one.

    Beside it, what killed processes left half-written is thrown away. Raises SettingsError where it cannot be written.
    """
    _sweep(folder.parent)
    partial = beside(folder)
    try:
        partial.mkdir(parents=True)
        fill(partial)
        lengths = {path.name: path.stat().st_size for path in partial.iterdir()}
        (partial / STAMP).write_text(json.dumps({"key": key, "bytes": lengths}))
        if not is_complete(folder, key):  # another process may have finished the same one first
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(partial, folder)
    except OSError as error:
        if not is_complete(folder, key):
            raise SettingsError(
                f"The folder could not be written ({error.strerror}).",
                where=folder,
                hint="free some space, or name a folder on another disk in VLSM_CACHE.",
            ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill, which is moved to `folder` when the block ends, and thrown away if it ends with an error.

    Raises SettingsError where it cannot be written.
    """
    fresh = beside(folder)
    try:
        fresh.mkdir(parents=True)
        yield fresh
        os.replace(fresh, folder)
    except OSError as error:
        raise SettingsError(
            f"The folder could not be written ({error.strerror}).",
            where=folder,
            hint="free some space, or name another.",
        ) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a file of text, in place of an older one, whole or not at all. Raises SettingsError where it cannot be written."""
    partial = beside(path)
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise SettingsError(
            f"The file could not be written ({error.strerror}); the one before it is kept.",
            where=path,
            hint="free some space, or name a folder on another disk in VLSM_RUNS.",
        ) from error


@contextmanager
def array_file(path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> Iterator[BinaryIO]:
    """A .npy file of this type and shape, to be written piece by piece: on a full disk, a memory map would crash."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        yield file
        file.flush()
        os.fsync(file.fileno())


def _sweep(root: Path) -> None:
    for folder in root.glob(".*.partial-*"):
        touched = max((path.stat().st_mtime for path in folder.glob("*")), default=folder.stat().st_mtime)
        if time.time() - touched > ABANDONED:
            shutil.rmtree(folder, ignore_errors=True)
