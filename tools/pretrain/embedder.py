"""A CLIP model with what it needs to embed images and captions as they come."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from vlsm_helpers.models.pretrained import load_biomedclip
from vlsm_helpers.models.vision_language import Preprocessing

AT_ONCE = 64  # images or captions


class Embedder(NamedTuple):
    """The model (open_clip), its tokenizer, its context length, and how it wants its images: what `load_biomedclip` gives."""

    clip: nn.Module
    tokenizer: object
    context: int
    view: Preprocessing

    def pixels(self, images: np.ndarray) -> Tensor:
        """Images (B, H, W, 3), uint8 or float in [0, 1], as the vision tower takes them: float32 (B, 3, H, W)."""
        values = images.astype(np.float32) / (255 if images.dtype == np.uint8 else 1)
        mean, std = (np.array(numbers, np.float32) for numbers in (self.view.mean, self.view.std))
        return torch.from_numpy(np.ascontiguousarray(((values - mean) / std).transpose(0, 3, 1, 2)))

    def ids(self, captions: list[str]) -> Tensor:
        """Token ids (C, L) of captions, padded to the longest."""
        return self.tokenizer(captions, padding=True, truncation=True, max_length=self.context, return_tensors="pt")[
            "input_ids"
        ]

    @torch.no_grad()
    def images(self, images: np.ndarray) -> Tensor:
        """Unit vectors (N, D) of images uint8 (N, H, W, 3)."""
        parts = [images[first : first + AT_ONCE] for first in range(0, len(images), AT_ONCE)]
        return torch.cat([functional.normalize(self.clip.encode_image(self.pixels(part)), dim=-1) for part in parts])

    @torch.no_grad()
    def text(self, captions: list[str]) -> Tensor:
        """Unit vectors (N, D) of captions."""
        parts = [captions[first : first + AT_ONCE] for first in range(0, len(captions), AT_ONCE)]
        return torch.cat([functional.normalize(self.clip.encode_text(self.ids(part)), dim=-1) for part in parts])


def embedder_of(folder: Path | str) -> Embedder:
    """The BiomedCLIP in `folder`, in evaluation mode. Raises WeightsError where there is none."""
    clip, *rest = load_biomedclip(folder)
    return Embedder(clip.eval(), *rest)
