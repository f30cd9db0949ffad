"""Asking a segmenter about the same images in many words: they are encoded once, each prompt costs the decoder alone."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from vlsm_helpers.data.dataset import SegmentationDataset
from vlsm_helpers.data.images import read_mask
from vlsm_helpers.evaluation.scoring import score_image
from vlsm_helpers.metrics.overlap import dice_from_counts
from vlsm_helpers.models.segmenter import Features, Segmenter, as_prompts, resize

BATCH = 16


class PromptedImages:
    """N images with their masks, encoded by `segmenter`, which is put in evaluation mode.

    `images`: uint8 (N, S, S, 3); `masks`: N true masks, bool (H, W), at their original sizes; `ids`: N names, by default
    their numbers. The features stay in memory, on the CPU: 0.1 MB an image of the tiny CLIPSeg, 4.5 MB of the published
    one. Raises ValueError where the numbers of images, masks and ids differ.

    >>> import vlsm_helpers as vlsm
    >>> images = vlsm.SegmentationDataset(vlsm.load_split("phantom_endoscopy", "val")[:3], size=128)
    >>> prompted = vlsm.PromptedImages.of(vlsm.build("clipseg", "tiny"), images)
    >>> prompted.dice(prompted.logits("polyp")).shape
    (3,)
    """

    def __init__(
        self, segmenter: Segmenter, images: np.ndarray, masks: Sequence[np.ndarray], ids: Sequence[str] | None = None
    ):
        self.segmenter, self.images, self.masks = segmenter.eval(), images, list(masks)
        self.ids = [str(number) for number in range(len(images))] if ids is None else list(ids)
        if not len(images) == len(self.masks) == len(self.ids):
            raise ValueError(f"{len(images)} images, {len(self.masks)} masks and {len(self.ids)} ids do not fit")
        self._device = next(segmenter.parameters()).device
        self._features = self._encode()

    @classmethod
    def of(cls, segmenter: Segmenter, dataset: SegmentationDataset) -> "PromptedImages":
        """The images of a dataset, not augmented. Raises DataError for a mask that cannot be read."""
        masks = [read_mask(sample.mask) for sample in dataset.samples]
        return cls(segmenter, dataset.images, masks, [sample.id for sample in dataset.samples])

    def __len__(self) -> int:
        return len(self.images)

    def embed(self, prompts: str | Sequence[str]) -> Tensor:
        """Embeddings (N, D): of one prompt for all, or one per image. Raises ValueError for another number of prompts."""
        with torch.no_grad():
            return self.segmenter.encode_text(as_prompts(prompts, len(self)))

    def features(self, numbers: Sequence[int]) -> Features:
        """What the image encoder says of the images `numbers`, on the segmenter's device."""
        return tuple(feature[list(numbers)].to(self._device) for feature in self._features)

    def decode(self, text: Tensor, numbers: Sequence[int] | None = None) -> Tensor:
        """Logits float32 (n, S, S), on the CPU, of the images `numbers` (all of them by default).

        `text`: embeddings (n, D), one per image, or (1, D) for all, such as `average_prompts` gives.
        """
        numbers = list(range(len(self))) if numbers is None else list(numbers)
        text = text.expand(len(numbers), -1)
        parts = []
        for start in range(0, len(numbers), BATCH):
            some = numbers[start : start + BATCH]
            pixels = self._pixels(some)
            asked = text[start : start + BATCH]
            with torch.no_grad():
                logits = self.segmenter.decode(self.features(some), asked, pixels, pixels.shape[-2:])
            parts.append(logits[:, 0].float().cpu())
        return torch.cat(parts)

    def logits(self, prompts: str | Sequence[str]) -> Tensor:
        """Logits float32 (N, S, S), on the CPU: one prompt for all, or one per image."""
        return self.decode(self.embed(prompts))

    def dice(self, logits: Tensor, threshold: float = 0.5) -> np.ndarray:
        """Dice (N,) in [0, 1] of logits (N, S, S), at each mask's original size, cut at the probability `threshold`."""
        return self.dice_curves(logits, [threshold])[0]

    def dice_curves(self, logits: Tensor, thresholds: Sequence[float]) -> np.ndarray:
        """Dice (T, N) of logits (N, S, S) at T thresholds, as `dice` measures it."""
        pairs = zip(logits, self.masks, strict=True)
        return np.stack([dice_curve(one, mask, thresholds) for one, mask in pairs], axis=1)

    def marked(self, logits: Tensor, threshold: float = 0.5) -> np.ndarray:
        """The share (N,) of pixels whose probability is above `threshold`."""
        return (torch.sigmoid(logits) > threshold).float().mean(dim=(1, 2)).numpy()

    def score(self, logits: Tensor, threshold: float = 0.5) -> pd.DataFrame:
        """The table, one row per image, that `evaluation.evaluate` gives, from logits (N, S, S)."""
        triples = zip(self.ids, logits, self.masks, strict=True)
        return pd.DataFrame([{"id": name} | score_image(one, mask, threshold) for name, one, mask in triples])

    def _encode(self) -> Features:
        batches = []
        for start in range(0, len(self), BATCH):
            with torch.no_grad():
                features = self.segmenter.encode_images(self._pixels(range(start, min(start + BATCH, len(self)))))
            batches.append([feature.cpu() for feature in features])
        return tuple(torch.cat(parts) for parts in zip(*batches, strict=True))

    def _pixels(self, numbers: Sequence[int]) -> Tensor:
        """Images (n, 3, S, S) in [0, 1] on the segmenter's device."""
        pixels = torch.from_numpy(np.array(self.images[list(numbers)]))
        return pixels.to(self._device).permute(0, 3, 1, 2).float() / 255


def dice_curve(logits: Tensor, mask: np.ndarray, thresholds: Sequence[float]) -> np.ndarray:
    """Dice (T,) of logits (S, S) resized to `mask`, bool (H, W), and cut at T probabilities.

    What `metrics.overlap` gives, empty masks included, counted for all thresholds at once: a curve has many.
    """
    probability = torch.sigmoid(resize(logits, mask.shape))
    truth = torch.from_numpy(np.asarray(mask, bool))
    predictions = probability > torch.as_tensor(thresholds, dtype=probability.dtype).view(-1, 1, 1)
    shared = predictions[:, truth].sum(dim=1)
    return dice_from_counts(truth.sum(), predictions.sum(dim=(1, 2)), shared).numpy()
