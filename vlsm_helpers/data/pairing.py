"""Which mask belongs to which image, by the names of files as people have them; and which images one patient may share."""

import difflib
import fnmatch
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vlsm_helpers.data.files import image_paths, may_have_frames, stem
from vlsm_helpers.errors import DataError, SettingsError, some_of

SHOWN = 5  # file names in a message
_WORDS = r"masks?|seg|segmentations?|labels?|gt|ground[ _-]?truth|annotations?"
_BEHIND = re.compile(rf"[ _.-]*({_WORDS})([ _-]?\d+)?$", re.IGNORECASE)
_BEFORE = re.compile(rf"^({_WORDS})[ _.-]+", re.IGNORECASE)
_NUMBER = re.compile(r"[ _.-]*\d+$")
_FOLDER = re.compile(rf"(images?|imgs?|{_WORDS})", re.IGNORECASE)
_PERSON = r"(?:patient|pat|subject|subj|sub|case|person|video|vid|series|seq|sequence|study)"


@dataclass(frozen=True)
class Pair:
    """An image file with its masks; `id` is unique among the images, `patient` the sub-folder that it was found in ("" for none).

    Of a file that may hold several frames (TIFF, DICOM, NIfTI, video), a mask may be one frame's, with its number in its name.
    """

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
        what = f"The name {mask_name!r} lacks {{stem}}."
        raise SettingsError(what, hint="write it as in --mask-name '{stem}_lesion'.")
    image_files, mask_files = image_paths(images), image_paths(masks)
    if images.resolve() == masks.resolve():
        is_mask = _matches_of(mask_name, images, image_files) if mask_name else _has_mask_word
        mask_files = [path for path in mask_files if is_mask(path, masks)]
        taken = set(mask_files)
        image_files = [path for path in image_files if path not in taken]
    ids = _ids(image_files, images)
    found, strangers = _assigned(image_files, mask_files, images, masks, mask_name)
    if strangers:
        raise _without_image(strangers, image_files, masks)
    if lonely := [path.name for path in image_files if not found[path]]:
        hint = "add a mask for each (all black where there is nothing), or remove the image"
        raise _unpaired("Images without a mask", lonely, images, hint)
    several = [mask.name for path, one in found.items() if len(one) > 1 and not may_have_frames(path) for mask in one]
    if several and not merge:
        hint = "give --merge-masks if all masks of an image together are its foreground, or keep one of each"
        raise _unpaired("Several masks of one image", several, masks, hint)
    return [Pair(ids[path], path, tuple(found[path]), "/".join(_patient(path, images))) for path in image_files]


def images_of(folder: Path) -> list[Pair]:
    """The images of a folder, without masks. Raises DataError where there are none, or several of one name."""
    files = image_paths(folder)
    ids = _ids(files, folder)
    return [Pair(ids[path], path, (), "/".join(_patient(path, folder))) for path in files]


def _ids(image_files: Sequence[Path], images: Path) -> dict[Path, str]:
    """What each image is called. Raises DataError for several of one name."""
    ids = {path: "_".join((*_patient(path, images), stem(path))) for path in image_files}
    twice = {one for one, count in Counter(ids.values()).items() if count > 1}
    if twice:
        names = [path.name for path in image_files if ids[path] in twice]
        raise _unpaired("Images of one name", names, images, "keep one of each")
    return ids


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
    exact, folded = _by_name(image_files, images)
    for mask in mask_files:
        patient = _patient(mask, masks)
        if mask_name is not None:
            mine = _by_rule(mask, patient, exact, mask_name)
        else:
            mine = _by_words(stem(mask), patient, exact, folded)
        (found[mine] if mine else strangers).append(mask)
    return found, strangers


def _by_name(image_files: Sequence[Path], images: Path) -> tuple[dict[tuple, Path], dict[tuple, list[Path]]]:
    """The images by patient and name, with its ending or without; and by patient and name in lower case."""
    exact, folded = {}, {}
    for path in image_files:
        patient = _patient(path, images)
        exact[patient, path.name] = exact[patient, stem(path)] = path
        folded.setdefault((patient, stem(path).casefold()), []).append(path)
    return exact, folded


def _by_words(name: str, patient: tuple, exact: dict[tuple, Path], folded: dict[tuple, list[Path]]) -> Path | None:
    """The image that a mask is named after, by itself or with a word; of an image with frames, also with a frame's number."""
    names = [name, _BEHIND.sub("", name), _BEFORE.sub("", name)]
    for one in names:
        if (patient, one) in exact:
            return exact[patient, one]
    for one in names:
        if len(same := folded.get((patient, one.casefold()), [])) == 1:
            return same[0]
    for one in names:
        mine = exact.get((patient, _NUMBER.sub("", one)))
        if mine and may_have_frames(mine):
            return mine
    return None


def _by_rule(mask: Path, patient: tuple, exact: dict[tuple, Path], mask_name: str) -> Path | None:
    """The image with the longest name that the rule makes this mask's name of."""
    name = mask.name
    for size in range(len(name), 0, -1):
        for start in range(len(name) - size + 1):
            image = exact.get((patient, name[start : start + size]))
            if image and image != mask and _fits(mask, image, mask_name):
                return image
    return None


def frame_number(mask: Path, image: Path) -> int | None:
    """The number of the frame that a mask of an image with frames belongs to, behind the image's name; None without a number."""
    _, found, rest = stem(mask).casefold().partition(stem(image).casefold())
    number = re.search(r"\d+", rest if found else "")
    return int(number[0]) if number else None


def _fits(mask: Path, image: Path, mask_name: str) -> bool:
    if stem(image) not in mask.name:
        return False
    pattern = "".join(
        "*" if part == "*" else _escaped(part) for part in re.split(r"(\*)", mask_name.replace("{stem}", "\0"))
    ).replace("\0", _escaped(stem(image)))
    return fnmatch.fnmatchcase(mask.name, pattern) or fnmatch.fnmatchcase(stem(mask), pattern)


def _escaped(text: str) -> str:
    """The text with what `fnmatch` reads as a pattern in brackets."""
    return re.sub(r"([*?[])", r"[\1]", text)


def _matches_of(mask_name: str, images: Path, files: Sequence[Path]):
    """Whether a file is, by the rule, the mask of another one."""
    exact, _ = _by_name(files, images)
    return lambda mask, _: _by_rule(mask, _patient(mask, images), exact, mask_name) is not None


def _has_mask_word(path: Path, root: Path) -> bool:
    folders = path.relative_to(root).parts[:-1]
    named = any(re.fullmatch(_WORDS, folder, re.IGNORECASE) for folder in folders)
    return bool(named or _BEHIND.search(stem(path)) or _BEFORE.search(stem(path)))


def _patient(path: Path, root: Path) -> tuple[str, ...]:
    """The folders between the root and the file but for those called images or masks."""
    return tuple(folder for folder in path.relative_to(root).parts[:-1] if not re.fullmatch(_FOLDER, folder))


def _without_image(strangers: Sequence[Path], image_files: Sequence[Path], masks: Path) -> DataError:
    """The error for masks of no image: beside each, the image of the nearest name, and the rule that would fit."""
    stems = [stem(path) for path in image_files]
    nearest = {
        mask: next(iter(difflib.get_close_matches(stem(mask), stems, n=1, cutoff=0)), stems[0])
        for mask in strangers[:SHOWN]
    }
    shown = ", ".join(f"{mask.name} (nearest image: {image})" for mask, image in nearest.items())
    shown += f" and {len(strangers) - SHOWN} more" * (len(strangers) > SHOWN)
    rule = _rule(strangers, stems)
    anyone = "give the rule, such as --mask-name '{stem}_lesion', name each mask as its image"
    hint = f"{f'give --mask-name {rule!r}' if rule else anyone}, or remove what does not belong."
    return DataError(f"Masks without an image ({len(strangers)}): {shown}.", where=masks, hint=hint)


def _rule(strangers: Sequence[Path], stems: Sequence[str]) -> str | None:
    """The rule by which each of the masks has an image; None where there is no such rule."""
    inside = [one for one in stems if one in stem(strangers[0])]
    if not inside:
        return None
    rule = stem(strangers[0]).replace(max(inside, key=len), "{stem}")
    known = {rule.replace("{stem}", one) for one in stems}
    return rule if all(stem(mask) in known for mask in strangers) else None


def _unpaired(what: str, names: Sequence[str], where: Path, hint: str) -> DataError:
    return DataError(f"{what} ({len(names)}): {some_of(names)}.", where=where, hint=f"{hint}.")
