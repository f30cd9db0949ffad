"""Which files of a folder are images or masks that can be read, by their names and first bytes."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from vlsm_helpers.data.decode import is_image_name
from vlsm_helpers.data.formats import dicom, video
from vlsm_helpers.errors import DataError

_TIFF = {".tif", ".tiff"}
_NIFTI = (".nii.gz", ".nii")


def kind(path: Path) -> str | None:
    """The format of a file: picture, pages (TIFF), dicom, nifti or video; None for one that is not read.

    DICOM files often have no ending, or the end of a UID as one: where an ending is not known, the first bytes tell.
    """
    name = path.name.lower()
    if name.endswith(_NIFTI):
        return "nifti"
    ending = Path(name).suffix
    for format, endings in (("pages", _TIFF), ("dicom", dicom.ENDINGS), ("video", video.ENDINGS)):
        if ending in endings:
            return format
    if is_image_name(path):
        return "picture"
    return "dicom" if path.is_file() and dicom.is_dicom(path) else None


def stem(path: Path) -> str:
    """The file's name without its ending, if that is one which is read: .nii.gz is one ending, the last part of a UID is none."""
    for ending in _NIFTI:
        if path.name.lower().endswith(ending):
            return path.name[: -len(ending)]
    known = path.suffix.lower() in dicom.ENDINGS | video.ENDINGS or is_image_name(path)
    return path.stem if known else path.name


def may_have_frames(path: Path) -> bool:
    """Whether files of this kind may hold several frames."""
    return kind(path) not in ("picture", None)


def image_paths(folder: Path) -> list[Path]:
    """The image files of a folder by name, or, where it has only folders, of those; hidden and other files are passed over.

    So are videos beside images of other kinds: they are taken where a folder holds nothing else. Raises DataError where there
    are none.
    """
    if not folder.is_dir():
        raise DataError("The folder does not exist.", where=folder, hint="name the folder that holds the files.")
    files = [path for path in sorted(folder.iterdir()) if _is_read(path)]
    files = files or [path for path in sorted(folder.rglob("*")) if _is_read(path) and not is_hidden(path, folder)]
    if not files:
        told = f" ({others})" if (others := passed_over(folder)) else ""
        hint = "it must hold pictures, DICOM, NIfTI or video files, or one folder per patient (export arrays first)."
        raise DataError(f"There is no image in the folder{told}.", where=folder, hint=hint)
    return _without_videos(files) or files


def _without_videos(files: Sequence[Path]) -> list[Path]:
    return [path for path in files if kind(path) != "video"]


def passed_over(folder: Path) -> str:
    """What is not read of a folder, in a few words: files of other kinds, folders beside images; empty if there is nothing."""
    files = [path for path in folder.iterdir() if path.name[0] != "."]
    nested = not any(map(_is_read, files))
    files = [path for path in folder.rglob("*") if not is_hidden(path, folder)] if nested else files
    read = [path for path in files if _is_read(path)]
    read = set(_without_videos(read) or read)
    others = Counter(
        "folders" if path.is_dir() else path.suffix.lower() or "files without an ending"
        for path in files
        if path not in read and not (nested and path.is_dir() and any(map(_is_read, path.rglob("*"))))
    )
    shown = ", ".join(f"{count} {kind}" for kind, count in sorted(others.items()))
    return f"passed over in {folder.name}: {shown}" if others else ""


def _is_read(path: Path) -> bool:
    return path.name[0] != "." and not path.is_dir() and kind(path) is not None


def is_hidden(path: Path, root: Path) -> bool:
    """Whether the file, or a folder between it and `root`, is hidden, or is what macOS adds to its archives."""
    return any(part[0] == "." or part == "__MACOSX" for part in path.relative_to(root).parts)
