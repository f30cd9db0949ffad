"""What the frozen patch features of a tower know of masks: the Dice that a fresh decoder reaches on them, by modality."""

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor

from vlsm_helpers.data.phantoms import render, seeds
from vlsm_helpers.metrics.overlap import overlap
from vlsm_helpers.models.vision_language import VisionLanguageSegmenter
from vlsm_helpers.training.loop import segmentation_loss

IMAGES, VALIDATION, STEPS, BATCH, RATE = 150, 60, 300, 16, 2e-3


def dense_probe(segmenter: VisionLanguageSegmenter, name: str, prompt: str, seed: int = 0, steps: int = STEPS) -> float:
    """Mean Dice on validation images of a new decoder, trained for `steps` on the frozen taps of `segmenter`.

    On phantoms of the dataset `name` as the course has them, IMAGES of train and VALIDATION of val, with one prompt for all.
    The segmenter's own decoder is overwritten.
    """
    torch.manual_seed(seed)
    for module in segmenter.decoder.modules():
        if hasattr(module, "reset_parameters"):  # norms, too, which would bring something of an earlier training along
            module.reset_parameters()
    (images, masks), (held_images, held_masks) = _phantoms(name, "train", IMAGES), _phantoms(name, "val", VALIDATION)
    with torch.no_grad():
        text = segmenter.encode_text([prompt])
        features, held = _tapped(segmenter, images), _tapped(segmenter, held_images)
    segmenter.decoder.requires_grad_(True).train()
    _train_decoder(segmenter, features, text, images, masks, np.random.default_rng(seed), steps)
    segmenter.decoder.eval()
    with torch.no_grad():
        logits = segmenter.decode(held, text.expand(len(held_images), -1), held_images, held_masks.shape[-2:])
    return float(overlap(logits > 0, held_masks > 0)[0].mean())


@cache
def _phantoms(name: str, split: str, count: int) -> tuple[Tensor, Tensor]:
    phantoms = [render(name, seed) for seed in seeds(name, split)[:count]]
    images = np.stack([phantom.image for phantom in phantoms]).transpose(0, 3, 1, 2)
    masks = np.stack([phantom.mask for phantom in phantoms])[:, None]
    return torch.from_numpy(images.astype(np.float32) / 255), torch.from_numpy(masks.astype(np.float32))


def _tapped(segmenter: VisionLanguageSegmenter, images: Tensor) -> tuple[Tensor, ...]:
    parts = [segmenter.encode_images(images[first : first + 50]) for first in range(0, len(images), 50)]
    return tuple(torch.cat(taps) for taps in zip(*parts, strict=True))


def _train_decoder(
    segmenter: VisionLanguageSegmenter,
    features: Sequence[Tensor],
    text: Tensor,
    images: Tensor,
    masks: Tensor,
    rng: np.random.Generator,
    steps: int,
) -> None:
    loss = segmentation_loss()
    optimizer = torch.optim.AdamW(segmenter.decoder.parameters(), lr=RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=RATE, total_steps=steps)
    for _ in range(steps):
        rows = torch.from_numpy(rng.choice(len(images), BATCH, replace=False))
        chosen = tuple(states[rows] for states in features)
        logits = segmenter.decode(chosen, text.expand(BATCH, -1), images[rows], masks.shape[-2:])
        optimizer.zero_grad()
        loss(logits, masks[rows]).backward()
        optimizer.step()
        schedule.step()
