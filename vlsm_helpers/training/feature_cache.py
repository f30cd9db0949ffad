"""Frozen features: what an encoder that does not train computes of an image, kept in memory-mapped files.

A cache is a folder with the pixels, the masks and one encoder's features of every image in every view. Its name is a hash
of all that they depend on, so that a cache of anything else is never read; its stamp, written last, holds each file's
length, so that an incomplete cache is noticed and written again. Members with the same encoder share a folder; ensemble C
reads those of both its encoders. Any of these folders may be deleted at any time.
"""

import hashlib
import json
import math
import os
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils import data

from vlsm_helpers import settings
from vlsm_helpers.data.dataset import SegmentationDataset
from vlsm_helpers.data.transforms import build_transforms
from vlsm_helpers.errors import SettingsError
from vlsm_helpers.models.segmenter import Segmenter
from vlsm_helpers.models.state import fingerprint, frozen_state
from vlsm_helpers.training.feature_files import FEATURES, PIXELS, FeatureFiles, Views

FORMAT = 1  # counts up when the files' meaning changes, so that older ones are not read
VIEWS = 4  # of an augmented image: on 400 images of Kvasir-SEG, one overfitted, and eight were no better
LIMIT, DEFAULT_LIMIT = "VLSM_FEATURES_GB", 4.0


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
    sources, identities = segmenter.feature_sources(), _identities(segmenter)
    store = Views(dataset, views if dataset.augment else 1)
    files = [
        FeatureFiles(root, _key(one, store), source, store) for one, source in zip(identities, sources, strict=True)
    ]
    if not all(one.complete for one in files):
        gigabytes = len(dataset) * sum(one.bytes_per_view() for one in files) / 1e9
        kept = _fitting_views(store, gigabytes, root)
        if kept == 0:
            return dataset
        if kept < store.count:
            return cache_features(segmenter, dataset, kept)
        for one in files:
            one.fill()
    return CachedDataset(store, [one.folder for one in files], identities)


class CachedDataset(data.Dataset):
    """The items of a SegmentationDataset, each with "features", a tuple of float32 tensors; `cache_features` makes it.

    A tensor holds the tokens (T, D) or the map (C, h, w) of one image.

    View 0 of an image is what evaluation sees of it; view v is what the dataset itself would give in epoch v: pixels, mask
    and prompt of one draw. Which view an item has follows from the seed, the epoch set by `set_epoch` and its index alone.
    """

    def __init__(self, store: "Views", folders: Sequence[Path], identities: Sequence[str]):
        source = store.source
        self.samples, self.size, self.prompt, self.seed = source.samples, source.size, source.prompt, source.seed
        self.views, self.folders, self.epoch = store.count, list(folders), 0
        self._store, self._identities = store, list(identities)
        self._images, self._masks = (np.load(folders[0] / f"{name}.npy", mmap_mode="r") for name in PIXELS)
        features = [path for folder in folders for path in sorted(folder.glob(f"{FEATURES}*.npy"))]
        self._features = [np.load(path, mmap_mode="r") for path in features]

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
        if _identities(segmenter) != self._identities:
            what = "The cached features come from other weights, taps or sizes than this segmenter's."
            hint = "compute them with this segmenter: `cache_features(segmenter, dataset)`."
            raise SettingsError(what, where=self.folders[0], hint=hint)


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


def _require_frozen_encoders(segmenter: Segmenter) -> None:
    if not has_frozen_encoders(segmenter):
        what = "Its encoders train" if segmenter.encoders() else "It has no encoders"
        what = f"{what}, so there are no features to keep."
        raise SettingsError(what, where=segmenter.config["name"], hint="give `fit` the dataset itself.")


def _identities(segmenter: Segmenter) -> list[str]:
    """For each source of its features, a hash of all that they follow from on the segmenter's side."""
    facts = [
        [type(source).__name__, fingerprint(frozen_state(source)), source.encoding()]
        for source in segmenter.feature_sources()
    ]
    return [hashlib.sha256(json.dumps(one).encode()).hexdigest() for one in facts]


def _key(identity: str, store: Views) -> str:
    """A hash of all that a cache follows from."""
    source = store.source
    augmentations = [build_transforms(True, source.size, mirror=mirror).to_dict() for mirror in (True, False)]
    facts = [FORMAT, identity, source.size, store.count, list(store.draws())]
    digest = hashlib.sha256(json.dumps([*facts, augmentations if store.count > 1 else None]).encode())
    digest.update(np.ascontiguousarray(source.images))
    digest.update(np.ascontiguousarray(source.masks))
    return digest.hexdigest()


def _fitting_views(store: Views, gigabytes: float, root: Path) -> int:
    """How many views to keep, each of `gigabytes`: all; else, without a GPU, as many as fit; else 0, with a warning."""
    views = store.count
    obstacle = _obstacle(views * gigabytes, root)
    if not obstacle:
        return views
    fewer = range(views - 1, 0, -1) if settings.device() == "cpu" else ()
    kept = next((count for count in fewer if not _obstacle(count * gigabytes, root)), 0)
    what = "they are computed on the fly, again in every epoch"
    if kept:
        what = f"{kept} of {views} views are cached, so that augmentation varies less"
    warnings.warn(
        f"The features of {store} would take {views * gigabytes:.2f} GB, {obstacle}: {what}.",
        stacklevel=3,
    )
    return kept


def _obstacle(gigabytes: float, root: Path) -> str:
    """Why a cache of this size is not written; empty if it can be."""
    try:
        limit = float(os.environ.get(LIMIT) or DEFAULT_LIMIT)
    except ValueError:
        what = f"{LIMIT} is no number."
        raise SettingsError(what, where=os.environ[LIMIT], hint=f"{LIMIT}=8, for example.") from None
    if not gigabytes <= limit:  # written like this, a limit of nan allows nothing
        return f"more than the limit of {limit:g} GB (set {LIMIT}={math.ceil(gigabytes)} to allow it)"
    free = shutil.disk_usage(root).free / 1e9
    if gigabytes > 0.9 * free:
        return f"and {root} has {free:.2f} GB free (VLSM_CACHE may name a folder on another disk)"
    return ""
