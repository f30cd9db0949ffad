"""Finding images and masks in what each dataset's authors publish, under the names that the MedVLSM benchmark uses."""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from vlsm_helpers.data.annotations.classes import slug_of
from vlsm_helpers.data.annotations.runs import decode_rle
from vlsm_helpers.data.images import read_image, read_mask
from vlsm_helpers.errors import DataError

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp"}
PLAIN = (("images", "masks"), ("image", "mask"))  # the folders of re-hosted copies
BKAI = (("train", "train_gt"), *PLAIN)
BKAI_CLASSES = ("neoplastic polyp", "non-neoplastic polyp")  # red and green in its masks


@dataclass(frozen=True)
class Published:
    """A dataset as its authors publish it, by the benchmark's names without extension.

    `images`: name -> file; `masks`: name -> function that reads the mask, bool (H, W), and raises DataError.
    """

    images: dict[str, Path]
    masks: dict[str, Callable[[], np.ndarray]]


def find(name: str, root: Path, where: Path | None = None) -> Published:
    """The images and masks of the public dataset `name` below `root`, its authors' unpacked archive or a re-hosted copy of it.

    Raises DataError, naming `where` (the archive; by default `root`), if `root` does not look like that archive.
    """
    published = _FINDERS[name](root)
    where = where or root
    if published is None or not published.images or not published.masks:
        lacking = "images and masks" if published is None else "images" if not published.images else "masks"
        hint = f"give the authors' archive, or the folder it unpacks to: it should hold {LAYOUTS[name]}, at any depth."
        raise DataError(f"The {lacking} of {name} were not found.", where=where, hint=hint)
    return published


def _bright(path: Path) -> np.ndarray:
    """Grey masks whose edges JPEG or anti-aliasing has blurred: the brighter half is foreground; 1 where nothing is above it."""
    values = read_image(path).max(axis=2)
    return values == 1 if values.max() <= 1 else values > 127


def _kvasir_mask(path: Path) -> np.ndarray:
    mask = _bright(path)
    if mask[0, 0] and mask[:2, :2].sum() == 1:  # 143 masks of the release have this lone white corner pixel
        mask[0, 0] = False
    return mask


def _coloured(path: Path) -> np.ndarray:
    """Red (neoplastic) and green (non-neoplastic) on black are both a polyp; JPEG has blurred the edges."""
    return read_image(path).max(axis=2) > 127


def _of_bkai_class(path: Path, noun: str) -> np.ndarray:
    """The pixels of one class: where red (neoplastic) is above green, or the other way round. Each polyp pixel has one class."""
    values = read_image(path)
    return (values.max(axis=2) > 127) & (values[..., :2].argmax(axis=2) == BKAI_CLASSES.index(noun))


def _in_folders(read: Callable[[Path], np.ndarray], *names: tuple[str, str]) -> Callable[[Path], Published | None]:
    """Finds images and masks in the first folder that has two sub-folders of such names, whatever their case."""

    def finder(root: Path) -> Published | None:
        for folder in [root, *(path for path in _below(root) if path.is_dir())]:
            within = {path.name.casefold(): path for path in folder.iterdir() if path.is_dir()}
            for images, masks in names:
                if images.casefold() in within and masks.casefold() in within:
                    images, masks = within[images.casefold()], within[masks.casefold()]
                    return Published(
                        _files(images), {name: partial(read, path) for name, path in _files(masks).items()}
                    )
        return None

    return finder


def _bkai_classes(root: Path) -> Published | None:
    """Two masks for each image, named as CheXlocalize's findings are: a0_neoplastic_polyp, a0_non-neoplastic_polyp."""
    published = _in_folders(lambda path: path, *BKAI)(root)
    if published is None:
        return None
    masks = {
        f"{name}_{slug_of(noun)}": partial(_of_bkai_class, path(), noun)
        for name, path in published.masks.items()
        for noun in BKAI_CLASSES
    }
    return Published(published.images, masks)


def by_class(name: str, entries: list[dict]) -> list[dict]:
    """The entries of a dataset whose images have a sample for each class: two for each of BKAI's; others as they are.

    Only p0 and p1 remain: the benchmark's other prompts, and its boxes, describe both classes together.
    """
    if name != "bkai_polyp_classes":
        return entries
    return [
        {
            "img_name": one["img_name"],
            "mask_name": f"{Path(one['mask_name']).stem}_{slug_of(noun)}.png",
            "prompts": {"p0": "", "p1": noun},
            "class": noun,
        }
        for one in entries
        for noun in BKAI_CLASSES
    ]


def _busi(root: Path) -> Published:
    """'benign (1).png' is 1_benign; its masks 'benign (1)_mask.png', 'benign (1)_mask_1.png', ... are one."""
    images, masks = {}, defaultdict(list)
    for path in _below(root):
        if match := re.fullmatch(r"(benign|malignant|normal) \((\d+)\)(_mask(?:_\d+)?)?\.png", path.name.lower()):
            kind, number, mask = match.groups()
            if mask:
                masks[f"{number}_{kind}"].append(path)
            else:
                images[f"{number}_{kind}"] = path
    return Published(images, {name: partial(_merged, paths) for name, paths in masks.items()})


def _chexlocalize(root: Path) -> Published:
    """patient64541/study1/view1_frontal.jpg is patient64541_study1_view1_frontal; a mask's name ends in its finding."""
    images, masks = {}, {}
    for path in _below(root):
        if re.fullmatch(r"gt_segmentations_(val|test)\.json", path.name):
            for image, findings in json.loads(path.read_text()).items():
                for finding, rle in findings.items():
                    where = f"{path}: {image}, {finding}"
                    masks[f"{image}_{finding.lower().replace(' ', '_')}"] = partial(decode_rle, rle, where)
        elif path.suffix == ".jpg" and re.search(r"patient\d+/study\d+/[^/]+$", path.as_posix()):
            images["_".join([*path.parts[-3:-1], path.stem])] = path
    return Published(images, masks)


def _isic(root: Path) -> Published:
    files = {path.stem: path for path in _below(root) if re.fullmatch(r"ISIC_\d+(\.jpg|_Segmentation\.png)", path.name)}
    images = {name: path for name, path in files.items() if path.suffix == ".jpg"}
    return Published(images, {name: partial(read_mask, path) for name, path in files.items() if name not in images})


_FINDERS = {
    "kvasir_polyp": _in_folders(_kvasir_mask, *PLAIN),
    "clinicdb_polyp": _in_folders(_bright, ("Original", "Ground Truth"), *PLAIN),
    "bkai_polyp": _in_folders(_coloured, *BKAI),
    "bkai_polyp_classes": _bkai_classes,
    "busi": _busi,
    "chexlocalize": _chexlocalize,
    "isic": _isic,
}

LAYOUTS = {
    "kvasir_polyp": "images/ and masks/",
    "clinicdb_polyp": "'Original'/ and 'Ground Truth'/",
    "bkai_polyp": "train/ and train_gt/",
    "bkai_polyp_classes": "train/ and train_gt/",
    "busi": "'benign (1).png', 'benign (1)_mask.png' and so on",
    "chexlocalize": "patient*/study*/*.jpg and gt_segmentations_{val,test}.json",
    "isic": "ISIC_*.jpg and ISIC_*_Segmentation.png",
}


def _merged(paths: list[Path]) -> np.ndarray:
    return np.logical_or.reduce([read_mask(path) for path in paths])


def _files(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in _below(folder) if path.suffix.lower() in IMAGE_SUFFIXES}


def _below(folder: Path) -> Iterator[Path]:
    """Everything below `folder` but hidden files and what macOS adds to its archives."""
    for path in sorted(folder.rglob("*")):
        if path.name[0] != "." and "__MACOSX" not in path.parts:
            yield path
