"""The torch Dataset of a split: square images, masks and prompts, augmented repeatably."""

from collections.abc import Sequence

import numpy as np
import torch
from torch.utils import data

from vlsm_helpers.data.pixel_cache import squares
from vlsm_helpers.data.prompts import names_side
from vlsm_helpers.data.samples import Sample
from vlsm_helpers.data.transforms import build_transforms, reseed


class SegmentationDataset(data.Dataset):
    """Items {"image": float32 (3, S, S) in [0, 1], "mask": float32 (1, S, S) of 0 and 1, "prompt": str, "id": str}.

    An item follows from `seed`, the epoch set by `set_epoch` and its index alone, however often and in which process it
    is asked for, so that a resumed run sees what an uninterrupted one sees. With `augment`, the transforms of training
    are applied and a prompt with several wordings is drawn; without, the first wording serves.

    >>> import vlsm_helpers as vlsm
    >>> images = vlsm.SegmentationDataset(vlsm.load_split("phantom_endoscopy", "val")[:4], size=64, prompt="p1")
    >>> item = images[0]
    >>> item["image"].shape, item["mask"].shape, item["prompt"]
    (torch.Size([3, 64, 64]), torch.Size([1, 64, 64]), 'polyp')
    """

    def __init__(
        self, samples: Sequence[Sample], size: int, *, prompt: str = "p1", augment: bool = False, seed: int = 0
    ):
        self.samples, self.size, self.prompt, self.augment, self.seed = list(samples), size, prompt, augment, seed
        self.epoch = 0
        self.images, self.masks = squares(self.samples, size)
        self._transforms = {mirror: build_transforms(augment, size, mirror=mirror) for mirror in (True, False)}

    def __len__(self) -> int:
        return len(self.samples)

    def set_epoch(self, epoch: int) -> None:
        """Draw the augmentations and wordings of this epoch."""
        self.epoch = epoch

    def draw(self, index: int) -> tuple[str, int | None]:
        """The prompt of an item and the seed of its augmentation; None where nothing is augmented."""
        sample = self.samples[index]
        if not self.augment:
            return sample.prompt(self.prompt), None
        generator = np.random.default_rng([self.seed, self.epoch, index])
        return sample.prompt(self.prompt, generator), int(generator.integers(2**31))

    def __getitem__(self, index: int) -> dict:
        sample, image, mask = self.samples[index], self.images[index], self.masks[index]
        prompt, augmentation = self.draw(index)
        if augmentation is not None:
            transform = self._transforms[not names_side(prompt)]
            reseed(transform, augmentation)
            changed = transform(image=np.asarray(image), mask=np.asarray(mask))
            image, mask = changed["image"], changed["mask"]
        return {
            "image": torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255,
            "mask": torch.from_numpy(np.array(mask)).unsqueeze(0).float(),
            "prompt": prompt,
            "id": sample.id,
        }
