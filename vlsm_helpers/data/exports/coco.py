"""Masks as COCO JSON: one annotation per image and class, in run-length encoding (pycocotools).

The format: cocodataset.org/#format-data. Runs go down the columns, and `counts` is the library's compressed text.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from vlsm_helpers.data.exports import package
from vlsm_helpers.io import atomic


def write_coco(path: Path, masks: Iterable[tuple[str, Mapping[str, np.ndarray]]], classes: Sequence[str]) -> None:
    """Write masks, bool (H, W) by class, of images by their names; a class without foreground in an image has no annotation.

    Categories are numbered from 1 in the order of `classes`. Raises SettingsError where pycocotools is missing, or the file
    cannot be written.
    """
    package("coco")
    images, annotations = [], []
    for number, (name, by_class) in enumerate(masks, start=1):
        height, width = next(iter(by_class.values())).shape
        images.append({"id": number, "file_name": name, "height": height, "width": width})
        for category, text in enumerate(classes, start=1):
            if by_class[text].any():
                annotations.append(_annotation(by_class[text], len(annotations) + 1, number, category))
    categories = [{"id": number, "name": text} for number, text in enumerate(classes, start=1)]
    facts = {"images": images, "annotations": annotations, "categories": categories}
    atomic.write_text(path, atomic.as_json(facts), hint="free some space, or name another folder.")


def _annotation(mask: np.ndarray, number: int, image: int, category: int) -> dict:
    from pycocotools import mask as coco

    encoded = coco.encode(np.asfortranarray(mask, np.uint8))
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "segmentation": {"size": encoded["size"], "counts": encoded["counts"].decode("ascii")},
        "area": int(coco.area(encoded)),
        "bbox": coco.toBbox(encoded).tolist(),  # left, top, width, height
        "iscrowd": 0,
    }
