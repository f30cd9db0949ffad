"""The hidden folder in which a dataset of one's own is made, so that an interrupted `adopt` goes on where it stopped.

It lies beside the dataset's folder and becomes it by one rename. What has been read of each frame is a line of `read.jsonl`
and a thumbnail in `thumbnails.f16`; a line counts if its files have kept their sizes and times.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from vlsm_helpers.data.alike import THUMBNAIL
from vlsm_helpers.data.seen import SeenImage, SeenMask
from vlsm_helpers.errors import SettingsError
from vlsm_helpers.io import atomic

WORTH_KEEPING = 60  # seconds of reading that are kept if files are then refused: they can be fixed
KEPT = 7 * 86400  # seconds after which the next `adopt` of that name removes what an interrupted one left
_LINES, _THUMBNAILS, _LOCK = "read.jsonl", "thumbnails.f16", "lock"
_ITEM = THUMBNAIL**2  # numbers of a thumbnail
_GO_ON = "what has been read is kept, so that the same command goes on"


@dataclass(frozen=True)
class Record:
    """What is kept of a frame: what `check` and the splits need of its image and masks, prompts by class, and for the report
    the level that was foreground, whether EXIF turned the image but not its mask, and whether it had more than 8 bits."""

    id: str
    image: SeenImage
    masks: dict[str, SeenMask]
    prompts: dict[str, dict]
    level: str
    turned: bool
    deep: bool

    @property
    def seen(self) -> list[tuple[str, SeenImage | SeenMask]]:
        """Its files in the dataset, such as images/a.png, with what is kept of each."""
        return [(one.file, one) for one in (self.image, *self.masks.values())]

    @property
    def has_lesion(self) -> bool:
        """Whether any of its masks has foreground."""
        return any(mask.box for mask in self.masks.values())


class Staging:
    """The folder, and the records of the frames that have been read into it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._done = dict(_load(folder))
        for part in ("images", "masks"):
            (folder / part).mkdir(exist_ok=True)
        self._lines = (folder / _LINES).open("a", encoding="utf-8")
        self._thumbnails = (folder / _THUMBNAILS).open("ab")

    def done(self, id: str, signature: str) -> Record | None:
        """What has been read of a frame; None where nothing has, or its files have changed since."""
        record, known = self._done.get(id, (None, ""))
        return record if known == signature else None

    def add(self, record: Record, signature: str) -> None:
        """Keep what has been read of a frame, its files being written."""
        self._thumbnails.write(record.image.thumbnail.tobytes())
        self._thumbnails.flush()
        line = asdict(replace(record, image=replace(record.image, thumbnail=None))) | {"signature": signature}
        self._lines.write(json.dumps(line) + "\n")
        self._lines.flush()

    def keep_only(self, files: set[str]) -> None:
        """Remove what an interrupted run wrote for frames that are no longer there; `files` such as "images/a.png"."""
        for part in ("images", "masks"):
            for path in (self.folder / part).iterdir():
                if f"{part}/{path.name}" not in files:
                    path.unlink()

    def close(self) -> None:
        """Close the files of records."""
        self._lines.close()
        self._thumbnails.close()


@contextmanager
def staging(target: Path, options: str) -> Iterator[Staging]:
    """The folder in which `target` is made with these `options`; it becomes `target` when the block ends.

    An interruption (also kill -9, a full disk) leaves the folder, and the same options go on with it; an error removes it, unless
    reading took long. Raises BusyError while another process makes the same, SettingsError where it cannot be written.
    """
    folder = target.with_name(f".{target.name}.partial-{hashlib.sha256(options.encode()).hexdigest()[:12]}")
    started, keep = time.monotonic(), True
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic.owned(folder / _LOCK, f"makes the dataset {target.name!r}"):
            os.utime(folder / _LOCK)
            atomic.sweep(target.parent, target.name, KEPT)
            stage = Staging(folder)
            try:
                yield stage
            except Exception as error:
                keep = isinstance(error, OSError) or time.monotonic() - started > WORTH_KEEPING
                raise
            finally:
                stage.close()
        for name in (_LINES, _THUMBNAILS, _LOCK):
            (folder / name).unlink(missing_ok=True)
        os.replace(folder, target)
    except OSError as error:
        hint = f"free some space, or name another folder; {_GO_ON}."
        what = f"The dataset could not be written ({error.strerror or error})."
        raise SettingsError(what, where=target, hint=hint) from error
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def _load(folder: Path) -> Iterator[tuple[str, tuple[Record, str]]]:
    """The records of an interrupted run; a last line or thumbnail that was cut off is cut away."""
    lines, thumbnails = folder / _LINES, folder / _THUMBNAILS
    with suppress(FileNotFoundError):
        whole = [line for line in lines.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
        looks = np.fromfile(thumbnails, np.float16)
        looks = looks[: len(looks) // _ITEM * _ITEM].reshape(-1, _ITEM)[: len(whole)]
        whole = whole[: len(looks)]
        lines.write_bytes(b"".join(whole))
        looks.tofile(thumbnails)
        for line, look in zip(whole, looks, strict=True):
            facts = json.loads(line)
            signature = facts.pop("signature")
            facts["image"] = SeenImage(**facts["image"] | {"thumbnail": look})
            facts["masks"] = {name: SeenMask(**_with_box(mask)) for name, mask in facts["masks"].items()}
            yield facts["id"], (Record(**facts), signature)


def _with_box(facts: dict) -> dict:
    return facts | {"box": tuple(facts["box"]) if facts["box"] else None}
