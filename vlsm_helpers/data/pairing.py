"""Which mask belongs to which image, by the names of files as people have them; and which images one patient may share."""

import difflib
import fnmatch
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vlsm_helpers.data.decode import is_image_name
from vlsm_helpers.errors import DataError, SettingsError

SHOWN = 5  # file names in a message
_WORDS = r"masks?|seg|segmentations?|labels?|gt|ground[ _-]?truth|annotations?"
_BEHIND = re.compile(rf"[ _.-]*({_WORDS})([ _-]?\d+)?$", re.IGNORECASE)
_BEFORE = re.compile(rf"^({_WORDS})[ _.-]+", re.IGNORECASE)
_FOLDER = re.compile(rf"(images?|imgs?|{_WORDS})", re.IGNORECASE)
_PERSON = r"(?:patient|pat|subject|subj|sub|case|person|video|vid|series|seq|sequence|study)"


@dataclass(frozen=True)
class Pair:
    """An image with its masks; `id` is unique among the images, `patient` the sub-folder that it was found in ("" for none)."""

    id: str
    image: Path
    masks: tuple[Path, ...]
    patient: str = ""


def pairs(images: Path, masks: Path, mask_name: str | None = None, merge: bool = False) -> list[Pair]:
    """Each image with its mask, by name.

    A mask is named as its image, with or without a word such as "_mask" behind or before it, or as the image's file with a
    second ending (x.jpg.png). `mask_name` gives another rule: "{stem}_lesion", where {stem} stands for the image's name without
    its ending and * for anything. With `merge`, an image may have several masks. Where the folders hold no images but folders
    of images, these are patients.

    Raises DataError, naming files, unless each image has its mask and each mask its image; SettingsError for a `mask_name`
    without {stem}.
    """
    if mask_name is not None and "{stem}" not in mask_name:
        raise SettingsError(
            f"The name {mask_name!r} lacks {{stem}}.", hint="write it as in --mask-name '{stem}_lesion'."
        )
    image_files, mask_files = image_paths(images), image_paths(masks)
    if images.resolve() == masks.resolve():
        is_mask = _matches_of(mask_name, images, image_files) if mask_name else _has_mask_word
        mask_files = [path for path in mask_files if is_mask(path, masks)]
        taken = set(mask_files)
        image_files = [path for path in image_files if path not in taken]
    ids = {path: "_".join((*_patient(path, images), path.stem)) for path in image_files}
    twice = {one for one, count in Counter(ids.values()).items() if count > 1}
    if twice:
        names = [path.name for path in image_files if ids[path] in twice]
        raise _unpaired("Images of one name", names, images, "keep one of each")
    found, strangers = _assigned(image_files, mask_files, images, masks, mask_name)
    if strangers:
        raise _without_image(strangers, image_files, masks)
    if lonely := [path.name for path in image_files if not found[path]]:
        hint = "add a mask for each (all black where there is nothing), or remove the image"
        raise _unpaired("Images without a mask", lonely, images, hint)
    if not merge and (several := [mask.name for one in found.values() if len(one) > 1 for mask in one]):
        hint = "give --merge-masks if all masks of an image together are its foreground, or keep one of each"
        raise _unpaired("Several masks of one image", several, masks, hint)
    return [Pair(ids[path], path, tuple(found[path]), "/".join(_patient(path, images))) for path in image_files]


def image_paths(folder: Path) -> list[Path]:
    """The image files of a folder by name, or, where it has only folders, of those; hidden and other files are passed over.

    Raises DataError where there are none.
    """
    if not folder.is_dir():
        raise DataError("The folder does not exist.", where=folder, hint="name the folder that holds the files.")
    files = [path for path in sorted(folder.iterdir()) if _is_picture(path)]
    files = files or [path for path in sorted(folder.rglob("*")) if _is_picture(path) and not _is_hidden(path, folder)]
    if not files:
        told = f" ({others})" if (others := passed_over(folder)) else ""
        hint = "it must hold PNG, JPEG, TIFF, BMP or WebP files, or one folder per patient (export DICOM and arrays first)."
        raise DataError(f"There is no image in the folder{told}.", where=folder, hint=hint)
    return files


def passed_over(folder: Path) -> str:
    """What is not read of a folder, in a few words: files of other kinds, folders beside images; empty if there is nothing."""
    files = [path for path in folder.iterdir() if path.name[0] != "."]
    nested = not any(map(_is_picture, files))
    files = [path for path in folder.rglob("*") if not _is_hidden(path, folder)] if nested else files
    others = Counter(
        "folders" if path.is_dir() else path.suffix.lower() or "files without an ending"
        for path in files
        if not _is_picture(path) and not (nested and path.is_dir() and any(map(_is_picture, path.rglob("*"))))
    )
    shown = ", ".join(f"{count} {kind}" for kind, count in sorted(others.items()))
    return f"passed over in {folder.name}: {shown}" if others else ""


def patients(names: Sequence[str]) -> tuple[str, int] | None:
    """A regular expression whose first bracket seems to name the patient of each image, and how many patients there would be.

    None unless all names hold a word such as "patient" with a number, or begin with a number that another one follows, and
    several share that number.
    """
    patterns = [rf"({_PERSON}[ _-]?\d+)", r"^([^\d]*\d+)[ _.-]+.*\d", r"^([A-Za-z]+\d+)[A-Za-z]+\d+$"]
    for pattern in patterns:
        matches = [re.search(pattern, name, re.IGNORECASE) for name in names]
        if not all(matches):
            continue
        found = Counter(match[1].lower() for match in matches)
        if 2 <= len(found) <= 0.75 * len(names):
            return _expression({match[1] for match in matches}, matches[0].start(1) == 0, pattern), len(found)
    return None


def _expression(beginnings: set[str], anchored: bool, pattern: str) -> str:
    """The pattern in the words of these names where they agree, such as ^(patient\\d+)."""
    words = {re.sub(r"\d+", "\0", one) for one in beginnings}
    if len(words) > 1:
        return pattern
    return f"{'^' * anchored}({re.escape(words.pop()).replace(re.escape(chr(0)), chr(92) + 'd+')})"


def _assigned(
    image_files: Sequence[Path], mask_files: Sequence[Path], images: Path, masks: Path, mask_name: str | None
) -> tuple[dict[Path, list[Path]], list[Path]]:
    """The masks of each image, and the masks of none."""
    found: dict[Path, list[Path]] = {path: [] for path in image_files}
    strangers = []
    if mask_name is not None:
        for mask in mask_files:
            mine = [
                path
                for path in image_files
                if _fits(mask, path, mask_name) and _patient(path, images) == _patient(mask, masks)
            ]
            (found[max(mine, key=lambda path: len(path.stem))] if mine else strangers).append(mask)
        return found, strangers
    exact = {(_patient(path, images), name): path for path in image_files for name in (path.name, path.stem)}
    folded: dict[tuple, list[Path]] = {}
    for path in image_files:
        folded.setdefault((_patient(path, images), path.stem.casefold()), []).append(path)
    for mask in mask_files:
        patient = _patient(mask, masks)
        names = [mask.stem, _BEHIND.sub("", mask.stem), _BEFORE.sub("", mask.stem)]
        mine = next((exact[patient, name] for name in names if (patient, name) in exact), None)
        for name in names if mine is None else ():
            same = folded.get((patient, name.casefold()), [])
            mine = mine or (same[0] if len(same) == 1 else None)
        (found[mine] if mine else strangers).append(mask)
    return found, strangers


def _fits(mask: Path, image: Path, mask_name: str) -> bool:
    if image.stem not in mask.name:
        return False
    pattern = "".join(
        "*" if part == "*" else _escaped(part) for part in re.split(r"(\*)", mask_name.replace("{stem}", "\0"))
    ).replace("\0", _escaped(image.stem))
    return fnmatch.fnmatchcase(mask.name, pattern) or fnmatch.fnmatchcase(mask.stem, pattern)


def _escaped(text: str) -> str:
    """The text with what `fnmatch` reads as a pattern in brackets."""
    return re.sub(r"([*?[])", r"[\1]", text)


def _matches_of(mask_name: str, images: Path, files: Sequence[Path]):
    """Whether a file is, by the rule, the mask of another one."""
    stems = {path: path.stem for path in files}
    return lambda mask, _: any(_fits(mask, other, mask_name) for other in stems if other != mask)


def _has_mask_word(path: Path, root: Path) -> bool:
    folders = path.relative_to(root).parts[:-1]
    named = any(re.fullmatch(_WORDS, folder, re.IGNORECASE) for folder in folders)
    return bool(named or _BEHIND.search(path.stem) or _BEFORE.search(path.stem))


def _patient(path: Path, root: Path) -> tuple[str, ...]:
    """The folders between the root and the file but for those called images or masks."""
    return tuple(folder for folder in path.relative_to(root).parts[:-1] if not re.fullmatch(_FOLDER, folder))


def _is_picture(path: Path) -> bool:
    return is_image_name(path) and path.name[0] != "." and not path.is_dir()


def _is_hidden(path: Path, root: Path) -> bool:
    return any(part[0] == "." or part == "__MACOSX" for part in path.relative_to(root).parts)


def _without_image(strangers: Sequence[Path], image_files: Sequence[Path], masks: Path) -> DataError:
    """The error for masks of no image: beside each, the image of the nearest name, and the rule that would fit."""
    stems = [path.stem for path in image_files]
    nearest = {
        mask: next(iter(difflib.get_close_matches(mask.stem, stems, n=1, cutoff=0)), stems[0])
        for mask in strangers[:SHOWN]
    }
    shown = ", ".join(f"{mask.name} (nearest image: {image})" for mask, image in nearest.items())
    shown += f" and {len(strangers) - SHOWN} more" * (len(strangers) > SHOWN)
    rule = _rule(strangers, stems)
    how = (
        f"give --mask-name '{rule}'"
        if rule
        else "give the rule, such as --mask-name '{stem}_lesion', name each mask as its image"
    )
    return DataError(
        f"Masks without an image ({len(strangers)}): {shown}.",
        where=masks,
        hint=f"{how}, or remove what does not belong.",
    )


def _rule(strangers: Sequence[Path], stems: Sequence[str]) -> str | None:
    """The rule by which each of the masks has an image; None where there is no such rule."""
    inside = [stem for stem in stems if stem in strangers[0].stem]
    if not inside:
        return None
    rule = strangers[0].stem.replace(max(inside, key=len), "{stem}")
    known = {rule.replace("{stem}", stem) for stem in stems}
    return rule if all(mask.stem in known for mask in strangers) else None


def _unpaired(what: str, names: Sequence[str], where: Path, hint: str) -> DataError:
    shown = ", ".join(names[:SHOWN]) + f" and {len(names) - SHOWN} more" * (len(names) > SHOWN)
    return DataError(f"{what} ({len(names)}): {shown}.", where=where, hint=f"{hint}.")
