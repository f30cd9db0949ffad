"""CVAT's XML for images, version 1.1: polygons, boxes, ellipses, and masks as run lengths along the rows of their box.

Format: https://docs.cvat.ai/docs/other/xml_format. Coordinates are pixels; a rotation is in degrees, clockwise as seen.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from defusedxml import DefusedXmlException, ElementTree

from vlsm_helpers.data.annotations.regions import (
    EXPORT,
    AnnotatedImage,
    Region,
    Size,
    in_window,
    numbers,
    polygons,
    refuse_outside,
)
from vlsm_helpers.data.annotations.runs import fill
from vlsm_helpers.errors import DataError

NO_AREA = ("polyline", "points", "skeleton", "cuboid")
FOR_IMAGES = "export the task in the format 'CVAT for images 1.1'."
ELLIPSE_POINTS = 360


def read(path: Path) -> list[AnnotatedImage]:
    """The images of a file; one without shapes is explicitly empty. Tags, which are of the whole image, are passed over.

    Raises DataError, naming file and image, for what is not this XML, for entities and DTDs (which can expand without end), for
    the format for videos, and for shapes that enclose no area.
    """
    try:
        root = ElementTree.parse(path, forbid_dtd=True).getroot()
    except DefusedXmlException:
        what = "The XML file defines entities or a DTD, which CVAT does not write."
        raise DataError(what, where=path, hint=EXPORT) from None
    except (ElementTree.ParseError, OSError, ValueError) as error:
        raise DataError(f"The file is not XML ({error}).", where=path, hint=EXPORT) from None
    if root.tag != "annotations":
        raise DataError(f"The XML file holds {root.tag!r}, not CVAT's annotations.", where=path, hint=FOR_IMAGES)
    if root.find("track") is not None:
        raise DataError("The XML file is CVAT's format for videos.", where=path, hint=FOR_IMAGES)
    return [_image(element, path) for element in root.iter("image")]


def _image(element, path: Path) -> AnnotatedImage:
    where = f"{path}: {element.get('name', 'an image without a name')}"
    width, height = (int(_number(element, key, where)) for key in ("width", "height"))
    regions = [
        _region(shape, f"{where}, shape {number}") for number, shape in enumerate(element, 1) if shape.tag != "tag"
    ]
    return AnnotatedImage(_text(element, "name", where), path, where, (height, width), tuple(regions))


def _region(shape, where: str) -> Region:
    label = _text(shape, "label", where)
    if shape.tag not in _DRAWERS:
        kind = (
            f"a {shape.tag}, which encloses no area" if shape.tag in NO_AREA else f"of an unknown kind, {shape.tag!r}"
        )
        hint = f"draw it as one of {', '.join(_DRAWERS)}, or delete it."
        raise DataError(f"The shape of {label!r} is {kind}.", where=where, hint=hint)
    return Region(label, _DRAWERS[shape.tag](shape, where))


def _polygon(shape, where: str) -> Callable[[Size], np.ndarray]:
    points = [part for pair in _text(shape, "points", where).split(";") for part in pair.split(",")]
    return partial(polygons, [numbers(points, where)], where=where)


def _box(shape, where: str) -> Callable[[Size], np.ndarray]:
    left, top, right, bottom = (_number(shape, key, where) for key in ("xtl", "ytl", "xbr", "ybr"))
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    return partial(polygons, [_turned(corners, shape, where).ravel()], where=where)


def _ellipse(shape, where: str) -> Callable[[Size], np.ndarray]:
    x, y, across, down = (_number(shape, key, where) for key in ("cx", "cy", "rx", "ry"))
    angles = np.linspace(0, 2 * np.pi, ELLIPSE_POINTS, endpoint=False)
    points = np.stack([x + across * np.cos(angles), y + down * np.sin(angles)], axis=1)
    return partial(polygons, [_turned(points, shape, where).ravel()], where=where)


def _mask(shape, where: str) -> Callable[[Size], np.ndarray]:
    left, top, width, height = (int(_number(shape, key, where)) for key in ("left", "top", "width", "height"))
    runs = numbers(_text(shape, "rle", where).split(","), where)

    def draw(size: Size) -> np.ndarray:
        refuse_outside(np.array([[left, top], [left + width, top + height]]), size, where)
        return in_window(fill(runs, (height, width), where), left, top, size)

    return draw


_DRAWERS = {"polygon": _polygon, "box": _box, "ellipse": _ellipse, "mask": _mask}


def _turned(points: np.ndarray, shape, where: str) -> np.ndarray:
    """The points (N, 2) turned about their middle by the shape's rotation."""
    angle = np.deg2rad(_number(shape, "rotation", where)) if shape.get("rotation") else 0.0
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return (points - middle) @ turn + middle


def _text(element, key: str, where: str) -> str:
    if not (value := element.get(key)):
        raise DataError(f"The attribute {key!r} of <{element.tag}> is missing.", where=where, hint=EXPORT)
    return value


def _number(element, key: str, where: str) -> float:
    return float(numbers([_text(element, key, where)], where)[0])
