"""Frozen features: what an encoder that does not train computes of an image, kept in memory-mapped files.

A cache is a folder with the pixels, the masks and the features of every image in every view. Its name is a hash of all
that they depend on, so that a cache of anything else is never read; its stamp, written last, holds each file's length, so
that an incomplete cache is noticed and written again. Any of these folders may be deleted at any time.
"""

import copy
import hashlib
import json
import math
import os
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils import data

from vlsm_helpers import settings
from vlsm_helpers.data.dataset import SegmentationDataset
from vlsm_helpers.data.prompts import names_side
from vlsm_helpers.data.transforms import build_transforms
from vlsm_helpers.errors import SettingsError
from vlsm_helpers.io import atomic
from vlsm_helpers.io.progress import in_words, tqdm
from vlsm_helpers.models.segmenter import Segmenter
from vlsm_helpers.models.state import fingerprint, frozen_state

FORMAT = 1  # counts up when the files' meaning changes, so that older ones are not read
VIEWS = 4  # of an augmented image: on 400 images of Kvasir-SEG, one overfitted, and eight were no better
LIMIT, DEFAULT_LIMIT = "VLSM_FEATURES_GB", 4.0
BATCH = 16


class Entry(NamedTuple):
    """What one file holds of an image in a view."""

    dtype: np.dtype
    shape: tuple[int, ...]


def has_frozen_encoders(segmenter: Segmenter) -> bool:
    """Whether it has encoders and none of their parameters trains, so that what they compute can be kept."""
    return bool(segmenter.encoders()) and not segmenter.trains_encoders


def cache_features(
    segmenter: Segmenter, dataset: SegmentationDataset, views: int = VIEWS
) -> "CachedDataset | SegmentationDataset":
    """`dataset` with the features that `segmenter` computes of it, read from disk, where the first call writes them.

    An augmented dataset is kept in `views` views, of which training draws one; any other has one view. Size and time are
    printed before anything is computed. The limit is VLSM_FEATURES_GB, 4 by default, and what the disk has free. Where
    `views` exceed it, a machine without a GPU keeps as many as fit, because there the encoders cost most of the time. Where
    nothing fits, and on a GPU, `dataset` itself is returned with a warning: its features are computed in every epoch.
    Raises SettingsError for a segmenter without frozen encoders, and where the cache cannot be written, and ValueError for
    less than one view.
    """
    if views < 1:
        raise ValueError(f"an image has at least one view, not {views}")
    _require_frozen_encoders(segmenter)
    segmenter.to(settings.device()).eval()
    root = settings.writable(settings.cache_folder() / "features")
    identity = _identity(segmenter)
    store = _Views(dataset, views if dataset.augment else 1)
    key = _key(identity, store)
    if not atomic.is_complete(root / key[:20], key):
        layout = _layout(segmenter, dataset.size)
        gigabytes = len(dataset) * sum(math.prod(shape) * dtype.itemsize for dtype, shape in layout.values()) / 1e9
        kept = _fitting_views(store.views, gigabytes, len(dataset), root)
        if kept == 0:
            return dataset
        if kept < store.views:
            store = _Views(dataset, kept)
            key = _key(identity, store)
    if not atomic.is_complete(root / key[:20], key):
        time = in_words(len(store) * _seconds_per_image(segmenter, dataset.size))
        size = f"{kept * gigabytes * 1000:,.1f} MB"
        print(f"caching the features of {len(store):,} views of {len(dataset):,} images: {size}, {time}")
        atomic.write(root / key[:20], key, partial(_fill, segmenter, store, layout))
    return CachedDataset(store, root / key[:20], identity)


class CachedDataset(data.Dataset):
    """The items of a SegmentationDataset, each with "features", a tuple of float32 tensors; `cache_features` makes it.

    A tensor holds the tokens (T, D) or the map (C, h, w) of one image.

    View 0 of an image is what evaluation sees of it; view v is what the dataset itself would give in epoch v: pixels, mask
    and prompt of one draw. Which view an item has follows from the seed, the epoch set by `set_epoch` and its index alone.
    """

    def __init__(self, store: "_Views", folder: Path, identity: str):
        source = store.source
        self.samples, self.size, self.prompt, self.seed = source.samples, source.size, source.prompt, source.seed
        self.views, self.folder, self.epoch = store.views, folder, 0
        self._store, self._identity = store, identity
        files = {path.stem: np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))}
        self._images, self._masks = files.pop("images"), files.pop("masks")
        self._features = list(files.values())

    def __len__(self) -> int:
        return len(self.samples)

    def set_epoch(self, epoch: int) -> None:
        """Draw the views of this epoch."""
        self.epoch = epoch

    def view(self, index: int) -> int:
        """The number of the view that the item has in this epoch."""
        return int(np.random.default_rng([self.seed, self.epoch, index]).integers(self.views))

    def __getitem__(self, index: int) -> dict:
        view = self.view(index)
        return {
            "image": torch.from_numpy(np.array(self._images[index, view])).permute(2, 0, 1).float() / 255,
            "mask": torch.from_numpy(np.array(self._masks[index, view])).unsqueeze(0).float(),
            "prompt": self._store.prompt(index, view),
            "id": self.samples[index].id,
            "features": tuple(torch.from_numpy(np.array(one[index, view])) for one in self._features),
        }

    def check(self, segmenter: Segmenter) -> None:
        """Raise SettingsError unless `segmenter` computes the very features that are kept here."""
        _require_frozen_encoders(segmenter)
        if _identity(segmenter) != self._identity:
            raise SettingsError(
                "The cached features come from other weights, taps or sizes than this segmenter's.",
                where=self.folder,
                hint="compute them with this segmenter: `cache_features(segmenter, dataset)`.",
            )


class PromptEmbeddings:
    """The embeddings of a frozen text encoder, each distinct prompt embedded once.

    Each is embedded alone: in a batch it would be padded, and its last digits would depend on the other prompts.
    """

    def __init__(self, segmenter: Segmenter):
        self.segmenter = segmenter
        self._known: dict[str, Tensor] = {}

    def __call__(self, prompts: Sequence[str]) -> Tensor:
        """Embeddings (B, D) of B prompts."""
        for prompt in prompts:
            if prompt not in self._known:
                self._known[prompt] = self.segmenter.encode_text([prompt])[0]
        return torch.stack([self._known[prompt] for prompt in prompts])


class _Views(data.Dataset):
    """Every image of a dataset in every view, one image's views in a row."""

    def __init__(self, source: SegmentationDataset, views: int):
        self.source, self.views = source, views
        self._datasets = [_in_view(source, view) for view in range(views)]

    def __len__(self) -> int:
        return len(self.source) * self.views

    def __getitem__(self, row: int) -> dict:
        index, view = divmod(row, self.views)
        return self._datasets[view][index]

    def prompt(self, index: int, view: int) -> str:
        """The prompt that goes with a view: it names no side where the view is mirrored."""
        return self._datasets[view].draw(index)[0]

    def draws(self) -> Iterator[tuple[bool, int | None]]:
        """All that augmentations follow from: for each view of each image, whether it may be mirrored, and its seed."""
        for dataset in self._datasets:
            for index in range(len(dataset)):
                prompt, seed = dataset.draw(index)
                yield (not names_side(prompt) if dataset.augment else False), seed


def _in_view(source: SegmentationDataset, view: int) -> SegmentationDataset:
    """The dataset, its pixels shared, as it stands in one view."""
    dataset = copy.copy(source)
    dataset.augment = source.augment and view > 0
    dataset.set_epoch(view)
    return dataset


def _require_frozen_encoders(segmenter: Segmenter) -> None:
    if not has_frozen_encoders(segmenter):
        what = "Its encoders train" if segmenter.encoders() else "It has no encoders"
        raise SettingsError(
            f"{what}, so there are no features to keep.",
            where=segmenter.config["name"],
            hint="give `fit` the dataset itself.",
        )


def _identity(segmenter: Segmenter) -> str:
    """A hash of all that features follow from on the segmenter's side."""
    source = segmenter.feature_source()
    facts = [type(source).__name__, fingerprint(frozen_state(source)), source.encoding()]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _key(identity: str, store: _Views) -> str:
    """A hash of all that a cache follows from."""
    source = store.source
    augmentations = [build_transforms(True, source.size, mirror=mirror).to_dict() for mirror in (True, False)]
    facts = [FORMAT, identity, source.size, store.views, list(store.draws())]
    digest = hashlib.sha256(json.dumps([*facts, augmentations if store.views > 1 else None]).encode())
    digest.update(np.ascontiguousarray(source.images))
    digest.update(np.ascontiguousarray(source.masks))
    return digest.hexdigest()


def _layout(segmenter: Segmenter, size: int) -> dict[str, Entry]:
    """The files of a cache, by name. Features stay float32: as float16 they moved logits by 2e-3."""
    with torch.no_grad():
        features = segmenter.encode_images(torch.zeros(1, 3, size, size, device=settings.device()))
    pixels = np.dtype(np.uint8)
    files = {"images": Entry(pixels, (size, size, 3)), "masks": Entry(pixels, (size, size))}
    for number, one in enumerate(features):
        files[f"features{number:02}"] = Entry(one.cpu().numpy().dtype, tuple(one.shape[1:]))
    return files


def _fitting_views(views: int, gigabytes: float, images: int, root: Path) -> int:
    """How many of `views` to keep, each of `gigabytes`: all; else, without a GPU, as many as fit; else 0, with a warning."""
    obstacle = _obstacle(views * gigabytes, root)
    if not obstacle:
        return views
    fewer = range(views - 1, 0, -1) if settings.device() == "cpu" else ()
    kept = next((count for count in fewer if not _obstacle(count * gigabytes, root)), 0)
    what = (
        f"{kept} of {views} views are cached, so that augmentation varies less"
        if kept
        else "they are computed on the fly, again in every epoch"
    )
    warnings.warn(
        f"The features of {views * images:,} views of {images:,} images would take {views * gigabytes:.2f} GB, "
        f"{obstacle}: {what}.",
        stacklevel=3,
    )
    return kept


def _seconds_per_image(segmenter: Segmenter, size: int) -> float:
    """How long the encoder takes for one image, once it is warm."""
    image = torch.zeros(1, 3, size, size, device=settings.device())
    with torch.no_grad():
        started = perf_counter()
        segmenter.encode_images(image)[-1].sum().item()  # a GPU answers when it is done
        return perf_counter() - started


def _obstacle(gigabytes: float, root: Path) -> str:
    """Why a cache of this size is not written; empty if it can be."""
    try:
        limit = float(os.environ.get(LIMIT) or DEFAULT_LIMIT)
    except ValueError:
        raise SettingsError(
            f"{LIMIT} is no number.", where=os.environ[LIMIT], hint=f"{LIMIT}=8, for example."
        ) from None
    if not gigabytes <= limit:  # written like this, a limit of nan allows nothing
        return f"more than the limit of {limit:g} GB (set {LIMIT}={math.ceil(gigabytes)} to allow it)"
    free = shutil.disk_usage(root).free / 1e9
    if gigabytes > 0.9 * free:
        return f"and {root} has {free:.2f} GB free (VLSM_CACHE may name a folder on another disk)"
    return ""


def _fill(segmenter: Segmenter, store: _Views, layout: dict[str, Entry], folder: Path) -> None:
    lead = (len(store.source), store.views)
    with ExitStack() as stack, tqdm(total=len(store), desc="features", unit="image", delay=2) as bar:
        files = [
            stack.enter_context(atomic.array_file(folder / f"{name}.npy", dtype, lead + shape))
            for name, (dtype, shape) in layout.items()
        ]
        for batch in data.DataLoader(store, BATCH):
            with torch.no_grad():
                features = segmenter.encode_images(batch["image"].to(settings.device()))
            images = (255 * batch["image"]).round().to(torch.uint8).permute(0, 2, 3, 1)
            masks = batch["mask"][:, 0].to(torch.uint8)
            for file, values in zip(files, (images, masks, *features), strict=True):
                file.write(values.cpu().numpy().tobytes())
            bar.update(len(images))
