"""Decoded pixels: images and masks read, made square and kept in memory-mapped files, so that an epoch decodes nothing."""

import hashlib
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from vlsm_helpers.data.images import read_image, read_mask
from vlsm_helpers.data.samples import Sample
from vlsm_helpers.errors import DataError
from vlsm_helpers.io import atomic
from vlsm_helpers.io.progress import tqdm
from vlsm_helpers.settings import cache_folder, writable

FORMAT = 2  # counts up when the way pixels are made square changes, so that older files are not read


def squares(samples: Sequence[Sample], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (N, size, size, 3) and masks uint8 (N, size, size) of 0 and 1, memory-mapped and read-only.

    They are made once for these very files (names, sizes and times of change) and kept in the cache folder, written
    whole or not at all. Raises DataError that names every file that could not be read.
    """
    key = _key(samples, size)
    folder = writable(cache_folder() / "pixels") / key[:20]
    if not atomic.is_complete(folder, key):
        atomic.write(folder, key, partial(_fill, samples, size))
    return np.load(folder / "images.npy", mmap_mode="r"), np.load(folder / "masks.npy", mmap_mode="r")


def square_image(image: np.ndarray, size: int) -> np.ndarray:
    """An image uint8 (H, W, 3) resized to (size, size, 3), antialiased; the aspect ratio is not kept."""
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))


def square_mask(mask: np.ndarray, size: int) -> np.ndarray:
    """A mask bool (H, W) resized to uint8 (size, size): 1 where at least half of what a pixel covers is foreground."""
    covered = Image.fromarray(mask.astype(np.uint8) * 255).resize((size, size), Image.Resampling.BILINEAR)
    return (np.asarray(covered) >= 128).astype(np.uint8)


def _key(samples: Sequence[Sample], size: int) -> str:
    def mark(path: Path) -> tuple:
        status = path.stat()
        return str(path), status.st_size, status.st_mtime_ns

    marks = [(sample.id, mark(sample.image), mark(sample.mask)) for sample in samples]
    return hashlib.sha256(json.dumps([FORMAT, size, marks]).encode()).hexdigest()


def _fill(samples: Sequence[Sample], size: int, folder: Path) -> None:
    pixels, shape, broken = np.dtype(np.uint8), (len(samples), size, size), []
    with (
        atomic.array_file(folder / "images.npy", pixels, (*shape, 3)) as images,
        atomic.array_file(folder / "masks.npy", pixels, shape) as masks,
    ):
        for sample in tqdm(samples, desc=f"decoding to {size} px", unit="image", delay=2):
            try:
                images.write(square_image(read_image(sample.image), size).tobytes())
                masks.write(square_mask(read_mask(sample.mask), size).tobytes())
            except DataError as error:
                broken.append(error)
    if len(broken) == 1:
        raise broken[0]
    if broken:  # images and masks have the same names: their whole paths are told
        shown = "\n".join(f"  {error.where}: {error.what}" for error in broken[:10])
        what = f"{len(broken)} files cannot be used, the first ones:\n{shown}"
        raise DataError(what, hint="`vlsm data check` lists all.")
