"""Near-duplicates: thumbnails compared block by block, so that memory grows with the images, not with their pairs."""

from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

THUMBNAIL = 64  # pixels per side of the grey thumbnails that near-duplicates are found on
_BLOCK = 256  # thumbnails that are compared with all others at once
_CHUNK = 2048  # thumbnails of the others that are single precision at once


def thumbnail(image: np.ndarray) -> np.ndarray:
    """An image uint8 (H, W, 3) as a grey thumbnail: float32 (4096,) of mean 0 and length 1; zeros for an image of one grey."""
    small = Image.fromarray(image).convert("L").resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BILINEAR)
    values = np.asarray(small, np.float32).ravel()
    values = values - values.mean()
    length = np.linalg.norm(values)
    return values / length if length > 0 else values


def correlations(a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> Iterator[tuple[int, np.ndarray]]:
    """For blocks of `b`: the number of its first thumbnail, and its correlations with all of `a`, (block, len(a)), at most 1."""
    if not len(a) or not len(b):
        return
    stacked = np.stack(a)
    chunks = [stacked[first : first + _CHUNK] for first in range(0, len(a), _CHUNK)]
    for start in range(0, len(b), _BLOCK):
        block = np.stack(b[start : start + _BLOCK]).astype(np.float32)
        values = np.hstack([block @ chunk.astype(np.float32).T for chunk in chunks])
        yield start, values.clip(max=1)  # rounding may leave a copy's above 1


def join(
    thumbnails: Sequence[np.ndarray], groups: Sequence[str], alike: float
) -> tuple[list[int], list[tuple[int, int]]]:
    """The number of each image's group after groups with near-duplicates are joined, and pairs of images that joined two.

    Two images are near-duplicates if their thumbnails correlate by more than `alike`. Each image is in at most one of the
    pairs as the later one: with the first image of another group that it resembles.
    """
    first: dict[str, int] = {}
    links = np.array([(first.setdefault(name, place), place) for place, name in enumerate(groups)])
    numbers = links[:, 0].copy()
    labels, joined = numbers.copy(), []
    for start, block in correlations(thumbnails, thumbnails):
        rows, columns = np.nonzero(block > alike)
        rows = rows + start
        earlier = (columns < rows) & (numbers[columns] != numbers[rows])
        places, at = np.unique(rows[earlier], return_index=True)
        joined += list(zip(columns[earlier][at].tolist(), places.tolist(), strict=True))
        labels = _joined(labels, rows, columns)
    return labels.tolist(), joined


def _joined(labels: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    edges = np.ones(len(rows), np.float32), (labels[rows], labels[columns])
    return connected_components(coo_array(edges, shape=(len(labels),) * 2), directed=False)[1][labels]
