"""The files of a feature cache: what one frozen encoder computes of every image of a dataset in every view."""

import copy
import math
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
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
from vlsm_helpers.io import atomic
from vlsm_helpers.io.ahead import ahead
from vlsm_helpers.io.progress import in_words, tqdm
from vlsm_helpers.models.segmenter import Segmenter
from vlsm_helpers.training.acceleration import loader_workers

PIXELS, FEATURES = ("images", "masks"), "features"  # names of the files
BATCH = 16


class Views(data.Dataset):
    """Every image of a dataset in every view, one image's views in a row."""

    def __init__(self, source: SegmentationDataset, views: int):
        self.source, self.count = source, views
        self._datasets = [_in_view(source, view) for view in range(views)]

    def __len__(self) -> int:
        return len(self.source) * self.count

    def __getitem__(self, row: int) -> dict:
        index, view = divmod(row, self.count)
        return self._datasets[view][index]

    def __str__(self) -> str:
        """How many views of how many images; of how many samples where several share an image, one per class, say."""
        samples = self.source.samples
        kind = "images" if len({one.image for one in samples}) == len(samples) else "samples"
        return f"{len(self):,} views of {len(samples):,} {kind}"

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


class Entry(NamedTuple):
    """What one file holds of an image in a view."""

    dtype: np.dtype
    shape: tuple[int, ...]


@dataclass(frozen=True)
class FeatureFiles:
    """The folder in `root` for the features that `source` computes of `views`; `key`: a hash of all that they follow from."""

    root: Path
    key: str
    source: Segmenter
    views: Views

    @property
    def folder(self) -> Path:
        """The folder, there or not."""
        return self.root / self.key[:20]

    @property
    def complete(self) -> bool:
        """Whether every file is there, as long as its stamp says."""
        return atomic.is_complete(self.folder, self.key)

    @cached_property
    def layout(self) -> dict[str, Entry]:
        """The files by name. Features stay float32: as float16 they moved logits by 2e-3."""
        size, pixels = self.views.source.size, np.dtype(np.uint8)
        with torch.no_grad():
            features = self.source.encode_images(torch.zeros(1, 3, size, size, device=settings.device()))
        files = dict(zip(PIXELS, (Entry(pixels, (size, size, 3)), Entry(pixels, (size, size))), strict=True))
        for number, one in enumerate(features):
            files[f"{FEATURES}{number:02}"] = Entry(one.cpu().numpy().dtype, tuple(one.shape[1:]))
        return files

    def bytes_per_view(self) -> int:
        """The size of one image in one view."""
        return sum(math.prod(shape) * dtype.itemsize for dtype, shape in self.layout.values())

    def fill(self) -> None:
        """Print size and time and write the files, unless they are complete. Raises SettingsError where it cannot."""
        if self.complete:
            return
        views = len(self.views)
        megabytes, time = views * self.bytes_per_view() / 1e6, in_words(views * self._seconds_per_view())
        print(f"caching the features of {self.views}: {megabytes:,.1f} MB, {time}")
        atomic.write(self.folder, self.key, self._write)

    def _seconds_per_view(self) -> float:
        """How long the encoder takes for one image, once it is warm."""
        image = torch.zeros(1, 3, self.views.source.size, self.views.source.size, device=settings.device())
        with torch.no_grad():
            started = perf_counter()
            self.source.encode_images(image)[-1].sum().item()  # a GPU answers when it is done
            return perf_counter() - started

    def _write(self, folder: Path) -> None:
        lead = (len(self.views.source), self.views.count)
        with ExitStack() as stack, tqdm(total=len(self.views), desc="features", unit="image", delay=2) as bar:
            files = [
                stack.enter_context(atomic.array_file(folder / f"{name}.npy", dtype, lead + shape))
                for name, (dtype, shape) in self.layout.items()
            ]

            def write(arrays: tuple[Tensor, ...]) -> int:
                for file, values in zip(files, arrays, strict=True):
                    file.write(values.cpu().contiguous().numpy())
                return len(arrays[0])

            for written in ahead(write, self._batches(), depth=1):  # the encoder computes while a batch is written
                bar.update(written)

    def _batches(self) -> Iterator[tuple[Tensor, ...]]:
        """Pixels, masks and features of a batch; the features on the device, where a GPU may still be computing them."""
        device = settings.device()
        loading = {"num_workers": loader_workers(device), "pin_memory": device == "cuda"}
        for batch in data.DataLoader(self.views, BATCH, **loading):
            with torch.no_grad():
                features = self.source.encode_images(batch["image"].to(device, non_blocking=True))
            images = (255 * batch["image"]).round().to(torch.uint8).permute(0, 2, 3, 1)
            yield images, batch["mask"][:, 0].to(torch.uint8), *features
