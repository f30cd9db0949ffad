"""Reading an image as RGB with 8 bits: one brightness scale per dataset, never one guessed from a single file."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from vlsm_helpers.data.decode import decode
from vlsm_helpers.data.frames import Frame
from vlsm_helpers.data.masks import read_mask
from vlsm_helpers.data.raster import Raster, from_image
from vlsm_helpers.errors import DataError
from vlsm_helpers.io.progress import tqdm

__all__ = ["bit_depth", "read_image", "read_mask", "to_rgb"]


def read_image(path: Path, depth: int | None = None) -> np.ndarray:
    """RGB image, uint8 (H, W, 3), upright as its EXIF orientation says.

    `depth` is the number of bits that the images of this dataset use (see `bit_depth`): values up to 2**depth - 1 are scaled to
    0 to 255. Without it, files with 8 bits per channel are read as they are and others by their full range (of 16 bits at most).

    Raises DataError, naming the file, if it is missing, broken, too large, has several pages or numbers without an agreed
    brightness, exceeds `depth`, or, without `depth`, has 16 bits per channel and uses less than half of their range: whether
    it is dark or has 12 bits cannot be told from one file.
    """
    return as_rgb(decode(path), path, depth)


def to_rgb(image: Image.Image, where: Path | str, depth: int | None = None) -> np.ndarray:
    """The pixels of a Pillow image as `read_image` gives them. Raises DataError, naming `where`, as `read_image` does."""
    return as_rgb(from_image(image, where), where, depth)


def bit_depth(images: Sequence[Path | Frame]) -> int:
    """The bits that images of one source use: 8, or, where files have more, the smallest that holds their largest value.

    Files with 8 bits per channel are not decoded; files that cannot be read are left out, for `read_image` tells of them. Raises
    DataError if files of 8 bits and files of 9 to 15 bits lie together, for they have no common brightness.
    """
    deep, shallow, largest = [], [], 0
    for image in tqdm(images, desc="finding the bit depth", unit="image", delay=2):
        path = image.source if isinstance(image, Frame) else image
        if not _may_be_deep(path):
            shallow.append(path)
            continue
        try:
            raster = image.decode() if isinstance(image, Frame) else decode(path)
            _refuse_unscaled(raster.values, path)
        except DataError:
            continue
        (shallow if raster.bits <= 8 else deep).append(path)
        if raster.bits <= 8:
            continue
        largest = max(largest, int(raster.values.max(initial=0)))
    if deep and shallow and 8 < largest.bit_length() < 16:
        what = f"{len(deep)} images have 16 bits per channel (such as {deep[0].name}), {len(shallow)} have 8 ({shallow[0].name})."
        raise DataError(what, where=deep[0].parent, hint="save all images of a dataset with the same number of bits.")
    return max(8, largest.bit_length())


def as_rgb(raster: Raster, where: Path | str, depth: int | None = None) -> np.ndarray:
    """Pixels uint8 (H, W, 3) of a decoded file, scaled as `read_image` says, and with its errors."""
    values = raster.values
    if raster.bits > 8:
        values = _scaled(values, raster.bits, where, depth)
    elif raster.bits < 8:
        values = (values.astype(np.uint16) * 255 // (2**raster.bits - 1)).astype(np.uint8)
    return np.repeat(values, 3, axis=2) if values.shape[2] == 1 else np.ascontiguousarray(values)


def _scaled(values: np.ndarray, bits: int, where: Path | str, depth: int | None) -> np.ndarray:
    _refuse_unscaled(values, where)
    largest = int(values.max(initial=0))
    if depth is None:
        depth = min(bits, 16)
        if 0 < largest < 2 ** (depth - 1):
            what = f"Its brightness is ambiguous: its largest value, {largest}, needs {largest.bit_length()} of {bits} bits."
            hint = "`vlsm data adopt` finds one scale for a folder of images; or save it with 8 bits per channel."
            raise DataError(what, where=where, hint=hint)
    if largest >= 2**depth:
        what = f"Its largest value, {largest}, exceeds the {depth} bits that the images of this dataset use."
        raise DataError(what, where=where, hint="export it as those images were exported.")
    top = 2**depth - 1
    return ((values.astype(np.uint64) * 255 + top // 2) // top).astype(np.uint8)


def _refuse_unscaled(values: np.ndarray, where: Path | str) -> None:
    if values.dtype.kind == "f" or values.min(initial=0) < 0 or values.max(initial=0) > 65535:
        what = f"Pixels of kind {values.dtype} from {values.min()} to {values.max()} have no agreed brightness."
        raise DataError(what, where=where, hint="save it with 8 or 16 bits per channel.")


def _may_be_deep(path: Path) -> bool:
    """Whether the file may have more than 8 bits per channel, judged by its first bytes."""
    try:
        with path.open("rb") as file:
            head = file.read(32)
    except OSError:
        return True  # decoding tells what is wrong
    return head[:3] != b"\xff\xd8\xff" and not (head[:4] == b"\x89PNG" and len(head) > 24 and head[24] <= 8)
