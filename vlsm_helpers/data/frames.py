"""Frames: a file holds one picture or several (pages, slices, frames of a video), and each of them becomes one image."""

import hashlib
import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from vlsm_helpers.data.files import image_paths, kind, stem
from vlsm_helpers.data.formats import AS_FILED, Reading, Source
from vlsm_helpers.data.formats.dicom import Dicom
from vlsm_helpers.data.formats.nifti import Volume
from vlsm_helpers.data.formats.picture import Pages, Picture
from vlsm_helpers.data.formats.video import Video
from vlsm_helpers.data.raster import Raster
from vlsm_helpers.errors import DataError, some_of
from vlsm_helpers.io.progress import tqdm

FORMATS: dict[str, type[Source]] = {"picture": Picture, "pages": Pages, "dicom": Dicom, "nifti": Volume, "video": Video}


@dataclass(frozen=True)
class Frame:
    """One picture of a file.

    `id`: unique, and free of what identifies a patient if the file is DICOM. `index`: its number in the file, from 0. `group`:
    which frames belong to one patient, or else to one file of several frames; None where nothing tells. `spacing`: (row, column)
    in millimetres, None where it is not known. `plain`: the file is this picture and nothing else. `name`: what the user calls
    it, for messages and expressions; it is not written where it differs from `id`. `note`: what to know about how it is read.
    """

    id: str
    source: Path
    index: int = 0
    group: str | None = None
    spacing: tuple[float, float] | None = None
    plain: bool = True
    reading: Reading = AS_FILED
    name: str = ""
    note: str = ""

    def decode(self) -> Raster:
        """Its pixels. Raises DataError, naming the file, where they cannot be decoded."""
        return opened(self.source, self.reading).image(self.index)


def frames(
    where: Path | Sequence[Path],
    reading: Reading = AS_FILED,
    names: Sequence[str] | None = None,
    patients: Sequence[str] | None = None,
) -> list[Frame]:
    """The frames of the files of a folder, or of a sequence of files, in their order.

    `names`: what ids are made of, one per file, by default the files' names without endings: "a" for a picture, "a_0012" for the
    thirteenth page. Frames of DICOM files have a hash of their SOP Instance UID instead, and a salted hash of the PatientID (else
    of the StudyInstanceUID) as group: the salt is drawn anew in each call and kept nowhere, so that nobody can find an identifier
    by trying. `patients`: the group of each file's frames where the file tells no patient, "" where that is not known.

    Raises DataError that names every file which cannot be opened, and files that hold the same picture twice.
    """
    paths = image_paths(Path(where)) if isinstance(where, str | Path) else list(where)
    names, patients = names or [stem(path) for path in paths], patients or [""] * len(paths)
    salt, found, broken = secrets.token_bytes(16), [], []
    for path, name, patient in zip(tqdm(paths, desc="opening", unit="file", delay=2), names, patients, strict=True):
        try:
            found += _of_file(path, name, patient, reading, salt)
        except DataError as error:
            broken.append(error)
    if broken:
        raise together(broken)
    twice = [id for id, count in Counter(frame.id for frame in found).items() if count > 1]
    if twice:
        files = [frame.source.name for frame in found if frame.id in set(twice)]
        what = f"Files that hold the same picture, or have the same name ({len(files)}): {some_of(files)}."
        raise DataError(what, where=paths[0].parent, hint="keep one of each.")
    return found


def opened(path: Path, reading: Reading = AS_FILED) -> Source:
    """The file, ready to decode its frames; the last ones opened are kept. Raises DataError, naming the file."""
    try:
        facts = path.stat()
    except OSError:
        raise DataError("The file is missing.", where=path, hint="restore it.") from None
    return _opened(path, reading, facts.st_size, facts.st_mtime_ns)


def together(errors: Sequence[DataError], hint: str | None = None) -> DataError:
    """One error for several files, which names each with what is wrong; without a `hint`, with theirs."""
    shown = "\n".join(f"    {Path(error.where).name if error.where else ''}: {error.what}" for error in errors[:10])
    shown += f"\n    and {len(errors) - 10} more" * (len(errors) > 10)
    hints = dict.fromkeys(error.hint for error in errors if error.hint)
    return DataError(f"Files that cannot be used ({len(errors)}):\n{shown}", hint=hint or " Or ".join(hints) or None)


def hashed(text: str, salt: bytes) -> str:
    """A name that does not tell the text, nor lets it be found by trying: the start of a salted SHA-256."""
    return "patient-" + hashlib.sha256(salt + text.encode()).hexdigest()[:12]


def _of_file(path: Path, name: str, patient: str, reading: Reading, salt: bytes) -> list[Frame]:
    source = opened(path, reading)
    secret = source.patient or (patient if source.identity else "")
    group = hashed(secret, salt) if secret else patient or None
    first = Frame(source.identity or name, path, 0, group, source.spacing, source.plain, reading, name, source.note)
    if source.count == 1:
        return [first]
    first = replace(first, group=group or first.id)
    numbers = {index: f"_{index:04d}" for index in source.indices}
    return [replace(first, id=first.id + end, name=name + end, index=index) for index, end in numbers.items()]


@lru_cache(maxsize=2)  # a volume of images and one of masks are read in turn
def _opened(path: Path, reading: Reading, size: int, changed: int) -> Source:
    format = kind(path)
    if format is None:
        hint = "use a picture, DICOM, NIfTI or video file."
        raise DataError("The file is of no format that can be read.", where=path, hint=hint)
    return FORMATS[format](path, reading)
