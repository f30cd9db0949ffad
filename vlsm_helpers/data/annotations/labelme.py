"""LabelMe's JSON, one file per image: polygons, rectangles, circles and painted masks, drawn as LabelMe's own export does.

Format: `labelme/label_file.py` and `labelme/utils/shape.py` of https://github.com/wkentaro/labelme. Points are x, y in pixels.
"""

import base64
import io
from functools import partial
from pathlib import Path, PureWindowsPath

import numpy as np
from PIL import Image, ImageDraw

from vlsm_helpers.data.annotations.regions import (
    EXPORT,
    REDRAW,
    AnnotatedImage,
    Region,
    Size,
    entry,
    in_window,
    load_json,
    numbers,
    refuse_outside,
)
from vlsm_helpers.errors import DataError

KEYS = ("shapes", "imagePath", "imageHeight", "imageWidth")
POINTS = {"polygon": 3, "oriented_rectangle": 4, "rectangle": 2, "circle": 2, "mask": 2}  # the fewest that a shape has


def read(path: Path) -> list[AnnotatedImage]:
    """The images of a folder with one JSON file per image, or of one file; an image with no shapes is explicitly empty.

    Raises DataError, naming the file, for what is not LabelMe's JSON, and for shapes that enclose nothing (lines, points).
    """
    files = sorted(path.rglob("*.json")) if path.is_dir() else [path]
    return [_image(file) for file in files if file.name[0] != "."]


def _image(path: Path) -> AnnotatedImage:
    content = load_json(path, KEYS)
    name = PureWindowsPath(entry(content, "imagePath", str, path)).name  # written on Windows or elsewhere
    size = entry(content, "imageHeight", int, path), entry(content, "imageWidth", int, path)
    shapes = entry(content, "shapes", list, path)
    regions = [_region(shape, f"{path}: shape {number}") for number, shape in enumerate(shapes, start=1)]
    return AnnotatedImage(str(path.parent / name), path, str(path), size, tuple(regions))


def _region(shape: dict, where: str) -> Region:
    label = entry(shape, "label", str, where)
    kind = shape.get("shape_type") or "polygon"
    if kind not in POINTS:
        what = f"The shape of {label!r} is a {kind}, which encloses no area."
        raise DataError(what, where=where, hint=f"draw it as one of {', '.join(POINTS)}, or delete it.")
    flat = numbers(entry(shape, "points", list, where), where, REDRAW)
    points = flat[: len(flat) // 2 * 2].reshape(-1, 2)
    if len(flat) % 2 or len(points) < POINTS[kind] or (kind in ("rectangle", "circle", "mask") and len(points) != 2):
        what = f"The {kind} of {label!r} has {len(points)} points; it needs {POINTS[kind]}."
        raise DataError(what, where=where, hint=REDRAW)
    if kind == "mask":
        return Region(label, partial(_painted, entry(shape, "mask", str, where), points, where))
    return Region(label, partial(_drawn, kind, points, where))


def _drawn(kind: str, points: np.ndarray, where: str, size: Size) -> np.ndarray:
    refuse_outside(points, size, where)
    picture = Image.new("1", size[::-1])
    draw = ImageDraw.Draw(picture)
    if kind == "circle":  # its centre and a point on it
        (x, y), radius = points[0], float(np.hypot(*(points[1] - points[0])))
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=1, fill=1)
    elif kind == "rectangle":  # two opposite corners, in any order
        draw.rectangle((*points.min(axis=0), *points.max(axis=0)), outline=1, fill=1)
    else:
        draw.polygon([tuple(point) for point in points], outline=1, fill=1)
    return np.array(picture)


def _painted(text: str, points: np.ndarray, where: str, size: Size) -> np.ndarray:
    """A mask stored as a PNG of its box, whose first point is the top left pixel."""
    refuse_outside(points, size, where)
    try:
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True))) as picture:
            patch = np.asarray(picture.convert("L")) > 0
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"Its painted mask is no PNG ({error}).", where=where, hint=EXPORT) from None
    left, top = np.round(points.min(axis=0)).astype(int)
    return in_window(patch, int(left), int(top), size)
