"""A dataset of one's own: a folder of images and one of masks in the course's layout, split so that nothing leaks."""

import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from tqdm import tqdm

from vlsm_helpers import stamped
from vlsm_helpers.data import registry
from vlsm_helpers.data.checks import MAX_ASPECT, Report, check, near_duplicates
from vlsm_helpers.data.images import read_image, read_mask
from vlsm_helpers.data.prompts import ladder
from vlsm_helpers.data.samples import Sample
from vlsm_helpers.errors import DataError, SettingsError
from vlsm_helpers.settings import data_folder, writable

SHARES = {"train": 0.6, "val": 0.2, "test": 0.2}  # of the images, of those with a lesion and of those without
_MASK_WORD = re.compile(r"[ _.-]*(masks?|seg|segmentation|labels?|gt|groundtruth)([ _-]?\d+)?$", re.IGNORECASE)
ALIKE = 0.98  # images whose thumbnails correlate more are put into one group; `check` tells of more than 0.95
_SHOWN = 5  # file names in a message

Grouping = str | Callable[[str], str] | None


@dataclass(frozen=True)
class Adopted:
    """What `adopt` made: where it lies, how many groups it has, near-duplicates that joined one, and what `check` found."""

    folder: Path
    groups: int
    joined: list[tuple[str, str]]
    report: Report

    def __str__(self) -> str:
        names = ", ".join(f"{one} and {other}" for one, other in self.joined[:_SHOWN])
        more = f" and {len(self.joined) - _SHOWN} pairs more" * (len(self.joined) > _SHOWN)
        lines = [str(self.report), "", f"{self.groups} groups, none of them in two splits"]
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
        raise SettingsError(f"Images cannot be alike by {alike}.", mend="give a correlation such as 0.99, or 1.")
    target = writable(folder or data_folder()) / name
    if not re.fullmatch(r"[A-Za-z0-9][\w-]*", name):
        raise DataError(f"A dataset cannot be called {name!r}.", mend="use letters, digits, - and _.")
    if name in registry.DATASETS or target.exists():
        raise DataError(f"There is a dataset {name!r} already.", where=target, mend="choose another name.")
    found = pairs(Path(images), Path(masks))
    samples = [Sample(image.stem, image, mask, {}) for image, mask in found]
    lesions = _read_all(samples)
    named = [_group_of(sample.id, group) for sample in samples]
    numbers, joined = _together(samples, named, alike)
    splits = split_groups(numbers, lesions, seed)
    with stamped.new_folder(target) as fresh:
        _write(fresh, samples, named, splits, noun, modality)
    return Adopted(target, len(set(numbers)), joined, check(name, folder=target.parent))


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
        mend = "add a mask for each (all black where there is nothing), or take them out"
        raise _unpaired("Images without a mask", lonely, images, mend)
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
            mend="bring images of more patients or videos; where other patients' images look much the same, raise `alike`.",
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
            mend="try another seed, or bring more images with something to find, of more groups.",
        )
    return splits


def _pictures(folder: Path) -> list[Path]:
    """The image files of a folder by name; hidden ones and other kinds of files are passed over."""
    if not folder.is_dir():
        raise DataError("The folder is not there.", where=folder, mend="name the folder that holds the files.")
    known = Image.registered_extensions()
    files = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in known and path.name[0] != "."]
    if not files:
        raise DataError(
            "There is no image in the folder.", where=folder, mend="use PNG, JPEG, TIFF, BMP or WebP files."
        )
    return files


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
            mend="mend or remove them; masks are black and white, as wide as their image.",
        )
    return lesions


def _group_of(name: str, group: Grouping) -> str:
    if group is None:
        return name
    if callable(group):
        return str(group(name))
    mend = r"write an expression such as ^(patient\d+)_, whose first bracket is the group."
    try:
        match = re.search(group, name)
    except re.error as error:
        raise DataError(f"The group {group!r} is no regular expression ({error}).", mend=mend) from None
    found = match and (match[1] if match.re.groups else match[0])
    if not found:
        raise DataError(f"The group {group!r} does not fit the image {name!r}.", mend=mend)
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


def _unpaired(what: str, names: Sequence[str], where: Path, mend: str) -> DataError:
    shown = ", ".join(names[:_SHOWN]) + f" and {len(names) - _SHOWN} more" * (len(names) > _SHOWN)
    return DataError(f"{what} ({len(names)}): {shown}.", where=where, mend=f"{mend}.")
