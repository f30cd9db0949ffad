"""Ultralytics YOLO's segmentation labels: one text file per image, one polygon per line, class names in data.yaml.

Format: https://docs.ultralytics.com/datasets/segment/. A line is `class x0 y0 x1 y1 ...`, coordinates as fractions of the width
and the height. An empty file says that the image shows nothing. (Ultralytics takes a missing one as that, too; here it is
refused, because a file may be missing by mistake.)
"""

from functools import partial
from pathlib import Path

import numpy as np
import yaml

from vlsm_helpers.data.annotations.regions import AnnotatedImage, Region, Size, numbers, polygons
from vlsm_helpers.errors import DataError, some_of

CONFIG = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")


def find_config(folder: Path) -> Path | None:
    """The data.yaml of a dataset: in the folder of the labels or in one of the two above it."""
    places = [folder, *folder.resolve().parents[:2]]
    return next((place / name for place in places for name in CONFIG if (place / name).is_file()), None)


def is_labels(path: Path) -> bool:
    """Whether the first line of a text file is a class number and coordinates."""
    try:
        with path.open(encoding="utf-8") as file:
            words = file.readline(10_000).split()
        return len(words) > 4 and words[0].isdecimal() and all(np.isfinite([float(word) for word in words[1:]]))
    except (OSError, ValueError):
        return False


def read(folder: Path) -> list[AnnotatedImage]:
    """The images of a folder of label files, in its sub-folders, too.

    Raises DataError, naming file and line, for a data.yaml that is missing or without names, class numbers that it does not
    name, lines that are no polygons (boxes have four numbers), and coordinates that are no fractions.
    """
    config = find_config(folder)
    if config is None:
        hint = f"put {CONFIG[0]} there: `names: [polyp, instrument]`."
        raise DataError("There is no data.yaml that names the classes.", where=folder, hint=hint)
    names = _names(config)
    listed = [path for path in sorted(folder.rglob("*.txt")) if path.name[0] != "." and not _is_list(path, folder)]
    return [_image(path, names, config) for path in listed]


def _is_list(path: Path, folder: Path) -> bool:
    """Whether it is a list of images, as train.txt beside data.yaml, or the dataset's description."""
    beside = any((path.parent / name).is_file() for name in CONFIG)
    return beside and (path.stem in ("train", "val", "test") or path.stem.lower().startswith("readme"))


def _names(path: Path) -> dict[int, str]:
    hint = "write `names: [polyp, instrument]`, or numbers with names below `names:`."
    try:
        names = yaml.safe_load(path.read_text(encoding="utf-8"))["names"]
        found = dict(enumerate(names)) if isinstance(names, list) else {int(key): name for key, name in names.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError) as error:
        raise DataError(f"The file does not name the classes ({error}).", where=path, hint=hint) from None
    if not all(isinstance(name, str) and name for name in found.values()):
        raise DataError("A name below `names` is no text.", where=path, hint=hint)
    return found


def _image(path: Path, names: dict[int, str], config: Path) -> AnnotatedImage:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        hint = "export the labels again."
        raise DataError(f"The label file cannot be read ({error}).", where=path, hint=hint) from None
    regions = [
        _region(line.split(), f"{path}: line {n}", names, config) for n, line in enumerate(lines, 1) if line.strip()
    ]
    return AnnotatedImage(str(path.with_suffix("")), path, str(path), None, tuple(regions))


def _region(words: list[str], where: str, names: dict[int, str], config: Path) -> Region:
    if not words[0].isdecimal() or int(words[0]) not in names:
        known = some_of([f"{key} ({name})" for key, name in names.items()])
        raise DataError(f"There is no class {words[0]!r}.", where=where, hint=f"{config.name} names {known}.")
    hint = "export for segmentation: a line is the class number and at least three points, as fractions of width and height."
    points = numbers(words[1:], where, hint)
    if len(points) < 6 or len(points) % 2:
        kind = "a box" if len(points) == 4 else f"{len(points)} numbers"
        raise DataError(f"The line has {kind}, not a polygon.", where=where, hint=hint)
    if points.min() < -0.1 or points.max() > 1.1:
        what = f"A coordinate of {points[np.abs(points - 0.5).argmax()]:g} is no fraction."
        raise DataError(what, where=where, hint=hint)
    return Region(names[int(words[0])], partial(_drawn, points, where))


def _drawn(points: np.ndarray, where: str, size: Size) -> np.ndarray:
    return polygons([points * np.tile(size[::-1], len(points) // 2)], size, where)
