"""COCO's JSON for detection and segmentation: polygons, and run-length codes as text or numbers.

Format: https://cocodataset.org/#format-data. A crowd (`iscrowd` 1) is a region of its class like any other; the boxes of an
annotation without `segmentation` are refused, because a box is no mask.
"""

from collections import defaultdict
from functools import partial
from pathlib import Path

import numpy as np

from vlsm_helpers.data.annotations.regions import AnnotatedImage, Region, Size, entry, load_json, polygons
from vlsm_helpers.data.annotations.runs import decode_rle
from vlsm_helpers.errors import DataError, some_of

KEYS = ("images", "annotations", "categories")


def read(path: Path) -> list[AnnotatedImage]:
    """The images of a file; one that is listed without annotations is explicitly empty.

    Raises DataError, naming file and annotation, for what is not COCO's JSON, for annotations of images or categories that the
    file does not list, and for annotations without a segmentation.
    """
    content = load_json(path, KEYS)
    parts = {key: entry(content, key, list, path) for key in KEYS}
    names = {entry(one, "id", int, path): str(entry(one, "name", str, path)) for one in parts["categories"]}
    images = {entry(one, "id", int, path): one for one in parts["images"]}
    regions = defaultdict(list)
    for number, one in enumerate(parts["annotations"]):
        where = f"{path}: annotation {one.get('id', number) if isinstance(one, dict) else number}"
        image, category = entry(one, "image_id", int, where), entry(one, "category_id", int, where)
        if category not in names:
            known = some_of([f"{key} ({name})" for key, name in names.items()])
            raise DataError(f"The category {category} is not listed.", where=where, hint=f"the file lists {known}.")
        if image not in images:
            what = f"The annotation is of an image, {image}, that the file does not list."
            raise DataError(what, where=where, hint="export the annotations together with their images.")
        regions[image].append(_region(one, names[category], where))
    return [_image(one, key, regions[key], path) for key, one in images.items()]


def _image(one: dict, key: int, regions: list[Region], path: Path) -> AnnotatedImage:
    name = entry(one, "file_name", str, f"{path}: image {key}")
    size = None
    if one.get("height") and one.get("width"):
        size = entry(one, "height", int, f"{path}: {name}"), entry(one, "width", int, f"{path}: {name}")
    return AnnotatedImage(name, path, f"{path}: {name}", size, tuple(regions))


def _region(one: dict, label: str, where: str) -> Region:
    segmentation = one.get("segmentation")
    if isinstance(segmentation, dict):
        return Region(label, partial(_decoded, segmentation, where))
    if isinstance(segmentation, list) and segmentation:
        return Region(label, partial(polygons, segmentation, where=where))
    what = f"The annotation of {label!r} has a box and no segmentation."
    raise DataError(what, where=where, hint="export masks or polygons: a box does not show the target's outline.")


def _decoded(code: dict, where: str, size: Size) -> np.ndarray:
    if code.get("size") != list(size):  # before it is decoded: a wrong size may be enormous
        what = f"Its run-length code is of size {code.get('size')}, the image has {list(size)} (height, width)."
        raise DataError(what, where=where, hint="annotate the very files that you adopt, not resized copies.")
    return decode_rle(code, where)
