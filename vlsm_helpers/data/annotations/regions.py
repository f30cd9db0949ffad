"""What every annotation format comes down to: images by name, each with regions that have a class and can be drawn."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vlsm_helpers.data.annotations.runs import decode_rle
from vlsm_helpers.errors import DataError, optional

Size = tuple[int, int]  # height, width
OUTSIDE = 0.1  # of a side: points may lie so far beyond the image's border; what they enclose there is cut off
REDRAW = "open the image in the annotation tool, correct the region and export again."
EXPORT = "export the annotations again."


@dataclass(frozen=True)
class Region:
    """One annotated region: its class as the file calls it, and a function that draws it, (height, width) -> bool (H, W)."""

    label: str
    draw: Callable[[Size], np.ndarray]


@dataclass(frozen=True)
class AnnotatedImage:
    """An image's regions. `name`: of the image's file, as the annotation has it; `file`: the annotation's; `where`: for errors;
    `size`: (height, width) where the annotation says it."""

    name: str
    file: Path
    where: str
    size: Size | None = None
    regions: tuple[Region, ...] = field(default_factory=tuple)

    def masks(self, size: Size) -> dict[str, np.ndarray]:
        """The union of the regions of each class that occurs, bool (H, W) by class, for an image of `size` (height, width).

        Raises DataError, naming the annotation, where it was made for an image of another size.
        """
        if self.size is not None and self.size != size:
            (height, width), (own_height, own_width) = size, self.size
            what = f"The annotation is for an image of {own_width} x {own_height} pixels, the image has {width} x {height}."
            hint = "annotate the very files that you adopt, not resized or turned copies."
            raise DataError(what, where=self.where, hint=hint)
        found: dict[str, np.ndarray] = {}
        for region in self.regions:
            drawn = region.draw(size)
            found[region.label] = found[region.label] | drawn if region.label in found else drawn
        return found


def polygons(rings: Sequence[Sequence[float]], size: Size, where: str) -> np.ndarray:
    """The union of polygons x0, y0, x1, y1, ... in pixels, bool (H, W), with the borders that COCO's own API gives them.

    Raises DataError for fewer than three points, for coordinates that are no numbers, and for points that lie further outside
    the image than a tenth of its side.
    """
    api = optional("pycocotools.mask", "Drawing polygons", "annotations")
    checked = [_checked(ring, size, where) for ring in rings]
    united = api.merge(api.frPyObjects(checked, *size))
    return decode_rle({"size": united["size"], "counts": united["counts"].decode()}, where)


def refuse_outside(points: np.ndarray, size: Size, where: str) -> None:
    """Raise DataError for points (N, 2) of x and y that lie further outside the image than a tenth of its side."""
    limit = np.array(size[::-1])
    if ((points < -OUTSIDE * limit) | (points > (1 + OUTSIDE) * limit)).any():
        far = points[np.abs(points / limit - 0.5).max(axis=1).argmax()]
        what = f"A point ({far[0]:g}, {far[1]:g}) lies far outside the image of {size[1]} x {size[0]} pixels."
        raise DataError(what, where=where, hint=f"check that the annotation belongs to this image; {REDRAW}")


def numbers(values: object, where: str, hint: str = EXPORT) -> np.ndarray:
    """A list of finite numbers, or of pairs of them, as float64 (N,). Raises DataError for anything else."""
    try:
        found = np.asarray(values, dtype=np.float64).ravel()
    except (ValueError, TypeError, OverflowError):
        found = np.array([np.nan])
    if not np.isfinite(found).all():
        raise DataError("Its coordinates are not a list of numbers.", where=where, hint=hint)
    return found


def in_window(patch: np.ndarray, left: int, top: int, size: Size) -> np.ndarray:
    """A mask, bool (H, W), with `patch` at the column `left` and the row `top`; what lies outside the image is cut off."""
    mask = np.zeros(size, bool)
    first_row, first_column = max(-top, 0), max(-left, 0)
    shown = patch[first_row : max(size[0] - top, 0), first_column : max(size[1] - left, 0)]
    row, column = max(top, 0), max(left, 0)
    mask[row : row + shown.shape[0], column : column + shown.shape[1]] = shown
    return mask


def load_json(path: Path, keys: Sequence[str]) -> dict:
    """The object in a JSON file. Raises DataError for a file that is not JSON or lacks one of the keys."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"The file is not JSON ({error}).", where=path, hint=EXPORT) from None
    if not isinstance(content, dict) or (missing := [key for key in keys if key not in content]):
        lacking = ", ".join(missing) if isinstance(content, dict) else "an object"
        raise DataError(f"The annotation file lacks {lacking}.", where=path, hint=EXPORT)
    return content


def entry(holder: object, key: str, kind: type | tuple[type, ...], where: str | Path):
    """What the entry `key` of a dictionary holds. Raises DataError, naming the key, where it is missing or of another kind."""
    value = holder.get(key) if isinstance(holder, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise DataError(f"Its entry {key!r} is missing or of the wrong kind.", where=where, hint=EXPORT)
    return value


def _checked(ring: Sequence[float], size: Size, where: str) -> list[float]:
    flat = numbers(ring, where, REDRAW)
    if len(flat) < 6 or len(flat) % 2:
        what = f"A polygon has {len(flat) / 2:g} points; it needs three, each with x and y."
        raise DataError(what, where=where, hint=REDRAW)
    refuse_outside(flat.reshape(-1, 2), size, where)
    return flat.tolist()
