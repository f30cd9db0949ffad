"""A dataset of one's own: a folder of images and one of masks in the course's layout, split so that nothing leaks."""

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from vlsm_helpers.data import registry
from vlsm_helpers.data.checks import MAX_ASPECT, Report, check, near_duplicates
from vlsm_helpers.data.images import read_image, read_mask
from vlsm_helpers.data.prompts import ladder
from vlsm_helpers.data.samples import Sample
from vlsm_helpers.errors import DataError, SettingsError
from vlsm_helpers.io import atomic
from vlsm_helpers.io.progress import tqdm
from vlsm_helpers.settings import data_folder, writable

SHARES = {"train": 0.6, "val": 0.2, "test": 0.2}  # of the images, of those with a lesion and of those without
_MASK_WORD = re.compile(r"[ _.-]*(masks?|seg|segmentation|labels?|gt|groundtruth)([ _-]?\d+)?$", re.IGNORECASE)
ALIKE = 0.98  # images whose thumbnails correlate more are put into one group; `check` tells of more than 0.95
_SHOWN = 5  # file names in a message

Grouping = str | Callable[[str], str] | None


@dataclass(frozen=True)
class Adopted:
    """What `adopt` made: where it lies, the images of each group, near-duplicates that joined one, what was passed over in both
    folders, and what `check` found."""

    folder: Path
    sizes: list[int]
    joined: list[tuple[str, str]]
    passed_over: list[str]
    report: Report

    @property
    def groups(self) -> int:
        """How many there are."""
        return len(self.sizes)

    def __str__(self) -> str:
        names = ", ".join(f"{one} and {other}" for one, other in self.joined[:_SHOWN])
        more = f" and {len(self.joined) - _SHOWN} pairs more" * (len(self.joined) > _SHOWN)
        least, most = min(self.sizes), max(self.sizes)
        sizes = f"{least} to {most} images" if least < most else f"{most} image{'s' * (most > 1)}"
        lines = [
            str(self.report),
            "",
            f"{self.groups} groups of {sizes}, none of them in two splits",
            *self.passed_over,
        ]
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
) -> Adopted:
    """Make the dataset `name` of the images in one folder and their masks in another (or in the same); copies are made.

    A mask is named as its image, with or without a word such as "_mask" behind it. `noun` ("tumor") and `modality` ("breast
    ultrasound") make the prompts; p1 is the noun for every image, so that it does not tell which masks are empty. `group` says
    which images belong together (one patient, one video): a function of the image's name without extension, or a regular
    expression whose first bracket is the group. Images whose grey thumbnails correlate by more than `alike` belong together
    anyhow; at 1 none do: for images of one kind that all look much the same. 60 % of the images become train, 20 % val, 20 %
    test, drawn with `seed`; no group is split.

    Everything is read before anything is written. Raises DataError, naming the files, for images and masks without a partner,
    for files that cannot be read or have another shape than their partner, for names that `group` does not fit, for too few
    groups or lesions, and for a name that is taken; SettingsError for an `alike` outside 0 to 1.
    """
    if not 0 < alike <= 1:
        raise SettingsError(f"Images cannot be alike by {alike}.", hint="give a correlation such as 0.99, or 1.")
    target = writable(folder or data_folder()) / name
    if not re.fullmatch(r"[A-Za-z0-9][\w-]*", name):
        raise DataError(f"A dataset cannot be called {name!r}.", hint="use letters, digits, - and _.")
    if name in registry.DATASETS or target.exists():
        hint = "choose another name, or delete the folder to make it anew."
        raise DataError(f"There is a dataset {name!r} already.", where=target, hint=hint)
    found = pairs(Path(images), Path(masks))
    samples = [Sample(image.stem, image, mask, {}) for image, mask in found]
    named = _groups([sample.id for sample in samples], group)
    lesions = _read_all(samples)
    numbers, joined = _together(samples, named, alike)
    splits = split_groups(numbers, lesions, seed)
    with atomic.new_folder(target) as fresh:
        _write(fresh, samples, named, splits, noun, modality)
    passed_over = [told for folder in dict.fromkeys((Path(images), Path(masks))) if (told := _passed_over(folder))]
    return Adopted(target, sorted(Counter(numbers).values()), joined, passed_over, check(name, folder=target.parent))


def pairs(images: Path, masks: Path) -> list[tuple[Path, Path]]:
    """Each image with its mask, by name. Raises DataError, naming files, unless each has exactly one partner."""
    mask_files = _pictures(masks)
    image_files = _pictures(images)
    if images.resolve() == masks.resolve():
        mask_files = [path for path in mask_files if _MASK_WORD.search(path.stem)]
        image_files = [path for path in image_files if not _MASK_WORD.search(path.stem)]
    by_name: dict[str, list[Path]] = {path.stem: [] for path in image_files}
    if len(by_name) < len(image_files):
        twice = [path.name for path in image_files if sum(path.stem == other.stem for other in image_files) > 1]
        raise _unpaired("Images of one name", twice, images, "keep one of each")
    strangers = []
    for path in mask_files:
        plain = _MASK_WORD.sub("", path.stem)
        name = path.stem if path.stem in by_name else plain
        if name in by_name:
            by_name[name].append(path)
        else:
            strangers.append(path.name)
    if strangers:
        raise _unpaired("Masks without an image", strangers, masks, "name each mask as its image, or take it out")
    if lonely := [path.name for path in image_files if not by_name[path.stem]]:
        hint = "add a mask for each (all black where there is nothing), or take them out"
        raise _unpaired("Images without a mask", lonely, images, hint)
    if several := [path.name for found in by_name.values() if len(found) > 1 for path in found]:
        raise _unpaired("Several masks of one image", several, masks, "merge those of one image")
    return [(path, by_name[path.stem][0]) for path in image_files]


def split_groups(groups: Sequence[int], lesions: Sequence[bool], seed: int = 0) -> list[str]:
    """The split of each image, by its group's number and whether its mask has a lesion: no group is in two splits.

    The largest groups are dealt out first, each to the split that lacks most of what it holds. Raises DataError for fewer than
    three groups, and where a split gets no lesion.
    """
    groups, lesions = np.asarray(groups), np.asarray(lesions, bool)
    numbers = np.unique(groups)
    if len(numbers) < len(SHARES):
        raise DataError(
            f"There are {len(numbers)} groups (images that look nearly alike share one), too few for train, val and test.",
            hint="bring images of more patients or videos; where other patients' images look much the same, raise `alike`.",
        )
    held = np.array([[(groups == one)[lesions == kind].sum() for kind in (True, False)] for one in numbers])
    shuffled = np.random.default_rng(seed).permutation(len(numbers))
    order = shuffled[np.argsort(-held[shuffled].sum(1), kind="stable")]
    wanted = np.outer(list(SHARES.values()), held.sum(0)).astype(float)
    lacking, dealt = wanted.copy(), {}
    for place in order:
        split = int(np.argmax((lacking / wanted.clip(min=1)) @ held[place]))
        lacking[split] -= held[place]
        dealt[numbers[place]] = list(SHARES)[split]
    splits = [dealt[number] for number in groups]
    without = [
        split
        for split in SHARES
        if not any(lesion for lesion, one in zip(lesions, splits, strict=True) if one == split)
    ]
    if without:
        raise DataError(
            f"No mask of {' and '.join(without)} would have foreground: {lesions.sum()} of {len(lesions)} masks have some.",
            hint=f"check that `group` names patients ({len(numbers)} groups), try another seed, or bring more images with "
            "something to find.",
        )
    return splits


def _pictures(folder: Path) -> list[Path]:
    """The image files of a folder by name; hidden ones and other kinds of files are passed over."""
    if not folder.is_dir():
        raise DataError("The folder is not there.", where=folder, hint="name the folder that holds the files.")
    known = Image.registered_extensions()
    files = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in known and path.name[0] != "."]
    if not files:
        told = f" ({others})" if (others := _passed_over(folder)) else ""
        hint = "put all images into this one folder, as PNG, JPEG, TIFF, BMP or WebP files (export DICOM and arrays first)."
        raise DataError(f"There is no image in the folder{told}.", where=folder, hint=hint)
    return files


def _passed_over(folder: Path) -> str:
    """What of a folder is not read, in a few words: files of other kinds, and folders; empty where there is nothing."""
    known, others = Image.registered_extensions(), Counter()
    for path in folder.iterdir():
        if path.name[0] != "." and (path.is_dir() or path.suffix.lower() not in known):
            others["folders" if path.is_dir() else path.suffix.lower() or "files without an ending"] += 1
    shown = ", ".join(f"{count} {kind}" for kind, count in sorted(others.items()))
    return f"passed over in {folder.name}: {shown}" if others else ""


def _read_all(samples: Sequence[Sample]) -> list[bool]:
    """Whether each mask has foreground. Raises DataError that names every file that cannot be used."""
    lesions, broken = [], []
    for sample in tqdm(samples, desc="reading", unit="image", delay=2):
        try:
            image, mask = read_image(sample.image), read_mask(sample.mask)
            lesions.append(bool(mask.any()))
            (height, width), (mask_height, mask_width) = image.shape[:2], mask.shape
            if abs(width * mask_height / (height * mask_width) - 1) > MAX_ASPECT:
                broken.append(f"{sample.mask.name}: {mask_width} x {mask_height}, its image {width} x {height}")
        except DataError as error:
            broken.append(f"{Path(error.where).name}: {error.what}")
    if broken:
        shown = "\n".join(f"    {line}" for line in broken[:10]) + f"\n    and {len(broken) - 10} more" * (
            len(broken) > 10
        )
        raise DataError(
            f"Files that cannot be used ({len(broken)}):\n{shown}",
            hint="mend or remove them; masks are black and white, with their image's proportions.",
        )
    return lesions


def _groups(names: Sequence[str], group: Grouping) -> list[str]:
    """The group of each image. Raises DataError for an expression that does not fit them all, and for one group of all."""
    if group is None:
        return list(names)
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


def _together(samples: Sequence[Sample], named: Sequence[str], alike: float) -> tuple[list[int], list[tuple[str, str]]]:
    """The number of each image's group when near-duplicates join theirs, and those that joined two."""
    places = {sample.id: place for place, sample in enumerate(samples)}
    similar = near_duplicates(list(samples), list(samples), alike)
    links = [(places[row.a], places[row.b]) for row in similar.itertuples() if row.a < row.b]
    first: dict[str, int] = {}
    same = [(first.setdefault(name, place), place) for place, name in enumerate(named)]
    rows, columns = np.array(links + same).T
    graph = coo_array((np.ones(len(rows)), (rows, columns)), shape=(len(samples), len(samples)))
    joined = [(samples[one].id, samples[other].id) for one, other in links if named[one] != named[other]]
    return connected_components(graph, directed=False)[1].tolist(), joined


def _write(
    root: Path, samples: Sequence[Sample], named: Sequence[str], splits: Sequence[str], noun: str, modality: str | None
) -> None:
    for part in ("images", "masks", "anns"):
        (root / part).mkdir(parents=True)
    entries: dict[str, list[dict]] = {split: [] for split in SHARES}
    for sample, group, split in zip(tqdm(samples, desc="writing", unit="image", delay=2), named, splits, strict=True):
        mask = read_mask(sample.mask)
        image = Image.fromarray(read_image(sample.image)).resize(mask.shape[::-1], Image.Resampling.BILINEAR)
        files = {"img_name": sample.image.name, "mask_name": f"{sample.id}.png"}
        shutil.copyfile(sample.image, root / "images" / files["img_name"])
        Image.fromarray(mask).save(root / "masks" / files["mask_name"])
        prompts = ladder(np.asarray(image), mask, noun, modality=modality) | {"p1": noun}
        entries[split].append(files | {"prompts": prompts, "group": group})
    for split, rows in entries.items():
        (root / "anns" / f"{split}.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")


def _unpaired(what: str, names: Sequence[str], where: Path, hint: str) -> DataError:
    shown = ", ".join(names[:_SHOWN]) + f" and {len(names) - _SHOWN} more" * (len(names) > _SHOWN)
    return DataError(f"{what} ({len(names)}): {shown}.", where=where, hint=f"{hint}.")
