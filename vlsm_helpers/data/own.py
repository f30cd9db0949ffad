"""A dataset of one's own: a folder of images and one of masks in the course's layout, split so that nothing leaks."""

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from vlsm_helpers.data import alike as near
from vlsm_helpers.data import registry
from vlsm_helpers.data.checks import MAX_ASPECT, Report, check
from vlsm_helpers.data.decode import decode
from vlsm_helpers.data.folds import CLUSTER
from vlsm_helpers.data.images import as_rgb, bit_depth, read_mask
from vlsm_helpers.data.masks import HINT, Foreground, find_foreground, parse
from vlsm_helpers.data.pairing import SHOWN, Pair, pairs, passed_over, patients
from vlsm_helpers.data.prompts import ladder
from vlsm_helpers.data.samples import FACTS
from vlsm_helpers.data.seen import SeenImage, SeenMask
from vlsm_helpers.data.splits import SHARES, split_groups
from vlsm_helpers.errors import DataError, SettingsError
from vlsm_helpers.io import atomic
from vlsm_helpers.io.progress import tqdm
from vlsm_helpers.settings import data_folder, writable

__all__ = ["ALIKE", "SHARES", "Adopted", "adopt", "pairs", "read_mask", "split_groups"]

ALIKE = 0.98  # images whose thumbnails correlate more are put into one group; `check` tells of more than 0.95

Grouping = str | Callable[[str], str] | None


@dataclass(frozen=True)
class Adopted:
    """What `adopt` made: its folder, the number of images per group, near-duplicates that joined groups, what was passed over in
    both folders, what else the user should know (`notes`), and what `check` found."""

    folder: Path
    sizes: list[int]
    joined: list[tuple[str, str]]
    passed_over: list[str]
    report: Report
    notes: list[str] = field(default_factory=list)

    @property
    def groups(self) -> int:
        """The number of groups."""
        return len(self.sizes)

    def __str__(self) -> str:
        names = ", ".join(f"{one} and {other}" for one, other in self.joined[:SHOWN])
        more = f" and {len(self.joined) - SHOWN} pairs more" * (len(self.joined) > SHOWN)
        least, most = min(self.sizes), max(self.sizes)
        sizes = f"{least} to {most} images" if least < most else f"{most} image{'s' * (most > 1)}"
        lines = [str(self.report), "", *self.notes, f"{self.groups} groups of {sizes}, none of them in two splits"]
        lines += self.passed_over
        return "\n".join([*lines, *[f"near-duplicates, kept together: {names}{more}"] * bool(self.joined)])


def adopt(
    name: str,
    images: Path,
    masks: Path,
    noun: str,
    *,
    modality: str | None = None,
    group: Grouping = None,
    alike: float = ALIKE,
    seed: int = 0,
    folder: Path | None = None,
    foreground: str | None = None,
    mask_name: str | None = None,
    merge_masks: bool = False,
) -> Adopted:
    """Make the dataset `name` of the images in one folder and their masks in another (or in the same); copies are made.

    Masks are found by name and `mask_name`, several per image are united with `merge_masks` (see `pairing.pairs`); `foreground`
    says which of their values or colours count (see `masks.find_foreground`). `noun` ("tumor") and `modality` ("breast
    ultrasound") make the prompts; p1 is the noun for every image, so that it does not tell which masks are empty. `group` says
    which images belong together (one patient, one video): a function of the image's name without extension, or a regular
    expression whose first bracket is the group; without it, a sub-folder is a group. Images whose grey thumbnails correlate by
    more than `alike` belong together anyhow; at 1 none do: for images of one kind that all look much the same. 60 % of the
    images become train, 20 % val, 20 % test, drawn with `seed`; no group is split. Images with more than 8 bits per channel
    become PNG files with 8, by one scale for all; the others keep their bytes. dataset.json keeps that scale.

    The dataset appears only if all of it can be used. Raises DataError, naming the files, for images and masks without a partner,
    for files that cannot be read or have another shape than their partner, for masks whose foreground is ambiguous, for names
    that `group` does not fit, for too few groups or lesions, and for a name that is taken; SettingsError for an `alike` outside
    0 to 1, a `foreground` or a `mask_name` that is none.
    """
    if not 0 < alike <= 1:
        raise SettingsError(f"Images cannot be alike by {alike}.", hint="give a correlation such as 0.99, or 1.")
    if foreground is not None:
        parse(foreground)
    target = writable(folder or data_folder()) / name
    _refuse_name(name, target)
    found = pairs(Path(images), Path(masks), mask_name, merge_masks)
    named = _groups(found, group)
    depth = bit_depth([pair.image for pair in found])
    with atomic.new_folder(target) as fresh:
        for part in ("images", "masks", "anns"):
            (fresh / part).mkdir()
        read = _read_all(fresh, found, noun, modality, {"foreground": foreground, "depth": depth})
        numbers, joined = near.join([one.image.thumbnail for one in read], named, alike)
        splits = split_groups(numbers, [one.mask.box is not None for one in read], seed)
        _write_annotations(fresh, read, named, splits, numbers)
        facts = {"bit_depth": depth, "foreground": foreground}
        (fresh / FACTS).write_text(json.dumps(facts, indent=1), encoding="utf-8")
    told = [told for folder in dict.fromkeys((Path(images), Path(masks))) if (told := passed_over(folder))]
    seen = {one.image.file: one.image for one in read} | {one.mask.file: one.mask for one in read}
    report = check(name, folder=target.parent, seen=seen)
    together = [(found[one].id, found[other].id) for one, other in joined]
    notes = _notes(found, read, depth, grouped=group is not None)
    return Adopted(target, sorted(Counter(numbers).values()), together, told, report, notes)


@dataclass(frozen=True)
class _Read:
    """What is kept of a pair: what `check` and the splits need, the prompts, and how its files were written."""

    image: SeenImage
    mask: SeenMask
    prompts: dict
    level: str  # the value or colour that was foreground
    turned: bool  # by an EXIF orientation that the mask does not share
    deep: bool  # more than 8 bits per channel


def _refuse_name(name: str, target: Path) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][\w-]*", name):
        raise DataError(f"A dataset cannot be called {name!r}.", hint="use letters, digits, - and _.")
    if name in registry.DATASETS:
        raise DataError(f"The name {name!r} is that of a dataset of the course.", hint="choose another name.")
    if (target / "anns").is_dir():
        hint = "choose another name, or move that folder away."
        raise DataError(f"There is a dataset {name!r} already.", where=target, hint=hint)
    if target.exists():
        what = f"The dataset {name!r} would be written to a folder that holds something else."
        raise DataError(what, where=target, hint="choose another name, or another folder with --to.")


def _read_all(root: Path, found: Sequence[Pair], noun: str, modality: str | None, rules: dict) -> list[_Read]:
    """Read each file once and write it to the new folder. Raises DataError that names every file that cannot be used."""
    read, broken = [], []
    for pair in tqdm(found, desc="reading", unit="image", delay=2):
        try:
            read.append(_read(root, pair, noun, modality, **rules))
        except DataError as error:
            broken.append(f"{Path(error.where or pair.image).name}: {error.what}")
    if broken:
        shown = "\n".join(f"    {line}" for line in broken[:10])
        shown += f"\n    and {len(broken) - 10} more" * (len(broken) > 10)
        hint = f"fix or remove them; masks need their image's proportions. If masks are ambiguous, {HINT}"
        raise DataError(f"Files that cannot be used ({len(broken)}):\n{shown}", hint=hint)
    if rules["foreground"] is None:
        _refuse_several_levels(found, read)
    elif not any(one.mask.box for one in read):
        what = f"The foreground {rules['foreground']} is in none of the {len(read)} masks."
        raise DataError(
            what, where=found[0].masks[0].parent, hint="give one of the values or colours that the masks have."
        )
    return read


def _read(root: Path, pair: Pair, noun: str, modality: str | None, foreground: str | None, depth: int) -> _Read:
    raster = decode(pair.image)
    image = as_rgb(raster, pair.image, depth)
    mask, level, turn = _united(pair, foreground)
    _refuse_other_shape(pair, image, mask, raster.turn if turn == 1 else 1)
    deep = raster.bits > 8
    image_file, mask_file = f"{pair.id}{'.png' if deep else pair.image.suffix}", f"{pair.id}.png"
    if deep:
        Image.fromarray(image).save(root / "images" / image_file)
    else:
        shutil.copyfile(pair.image, root / "images" / image_file)
    Image.fromarray(mask).save(root / "masks" / mask_file)
    small = np.asarray(Image.fromarray(image).resize(mask.shape[::-1], Image.Resampling.BILINEAR))
    prompts = ladder(small, mask, noun, modality=modality) | {"p1": noun}
    seen = SeenImage.of(f"images/{image_file}", image), SeenMask.of(f"masks/{mask_file}", mask)
    return _Read(*seen, prompts, level, raster.turn != 1 and turn == 1, deep)


def _united(pair: Pair, foreground: str | None) -> tuple[np.ndarray, str, int]:
    """The union of an image's masks, what counted in them, and their EXIF orientation."""
    parts: list[Foreground] = [find_foreground(path, foreground) for path in pair.masks]
    for path, part in zip(pair.masks, parts, strict=True):
        if part.mask.shape != parts[0].mask.shape:
            raise DataError(
                "Masks of one image have different sizes.", where=path, hint="save them at the image's size."
            )
    levels = sorted({part.level for part in parts} - {""})
    return np.logical_or.reduce([part.mask for part in parts]), " and ".join(levels), parts[0].turn


def _refuse_other_shape(pair: Pair, image: np.ndarray, mask: np.ndarray, turn: int) -> None:
    (height, width), (mask_height, mask_width) = image.shape[:2], mask.shape
    if abs(width * mask_height / (height * mask_width) - 1) <= MAX_ASPECT:
        return
    what = f"{mask_width} x {mask_height}, its image {width} x {height}"
    if turn >= 5 and abs(height * mask_height / (width * mask_width) - 1) <= MAX_ASPECT:
        what += f" after its EXIF orientation ({turn}) turned it; the mask fits the image before that turn"
    raise DataError(what, where=pair.masks[0], hint="save image and mask with the same proportions.")


def _refuse_several_levels(found: Sequence[Pair], read: Sequence[_Read]) -> None:
    """Masks of two levels each, but not the same ones: 1 in some and 255 in others, or green in some and red in others."""
    levels = Counter({"alpha": "white"}.get(one.level, one.level) for one in read if one.level)
    if len(levels) > 1:
        shown = ", ".join(f"{level} in {count} masks" for level, count in levels.most_common(SHOWN))
        what = f"The foreground differs between masks: {shown}."
        raise DataError(what, where=found[0].masks[0].parent, hint=HINT)


def _notes(found: Sequence[Pair], read: Sequence[_Read], depth: int, grouped: bool) -> list[str]:
    notes = []
    if deep := sum(one.deep for one in read):
        notes.append(f"{deep} images have 16 bits per channel: scaled from {depth} bits to 8, and stored as PNG")
    if turned := [one.image.file for one in read if one.turned]:
        what = "were turned as their EXIF orientation says, but their masks have none: check that they fit"
        notes.append(f"{len(turned)} images, such as {turned[0]}, {what}")
    if not grouped and not any(pair.patient for pair in found) and (looks := patients([pair.id for pair in found])):
        notes.append(
            f"the names look like images of {looks[1]} patients, which may now be in two splits: "
            f"if so, adopt again with --group '{looks[0]}'"
        )
    return notes


def _groups(found: Sequence[Pair], group: Grouping) -> list[str]:
    """The group of each image. Raises DataError for an expression that does not fit them all, and for one group of all."""
    names = [pair.id for pair in found]
    if group is None:
        return [pair.patient or pair.id for pair in found]
    groups = [str(group(name)) for name in names] if callable(group) else _matched(names, group)
    if len(set(groups)) == 1:
        hint = (
            "say what tells one patient from another, or leave the group out: each image is then a patient of its own."
        )
        raise DataError(f"All {len(names)} images are in one group, {groups[0]!r}.", hint=hint)
    return groups


def _matched(names: Sequence[str], group: str) -> list[str]:
    """What the expression finds in each name: its first bracket, or all of it where it has none."""
    hint = r"write an expression such as ^(patient\d+)_, whose first bracket is the group"
    try:
        matches = [re.search(group, name) for name in names]
    except re.error as error:
        raise DataError(f"The group {group!r} is no regular expression ({error}).", hint=f"{hint}.") from None
    found = [match and (match[1] if match.re.groups else match[0]) for match in matches]
    if others := [name for name, one in zip(names, found, strict=True) if not one]:
        raise DataError(
            f"The group {group!r} fits {len(names) - len(others)} of {len(names)} names; not, for example, {others[0]!r}.",
            hint=f"{hint}, or leave it out: each image is then a patient of its own, and scores may be too high.",
        )
    return found


def _write_annotations(
    root: Path, read: Sequence[_Read], named: Sequence[str], splits: Sequence[str], clusters: Sequence[int]
) -> None:
    entries: dict[str, list[dict]] = {split: [] for split in SHARES}
    for one, group, split, cluster in zip(read, named, splits, clusters, strict=True):
        files = {"img_name": Path(one.image.file).name, "mask_name": Path(one.mask.file).name}
        entries[split].append(files | {"prompts": one.prompts, "group": group, CLUSTER: cluster})
    for split, rows in entries.items():
        (root / "anns" / f"{split}.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
