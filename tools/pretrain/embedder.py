"""A CLIP model with what it needs to read pictures and captions as they come."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tools.pretrain.contrast import Contrast
from vlsm_helpers.models.vision_language import Preprocessing


class Reader(NamedTuple):
    """The loss around the model, its tokenizer, and how it wants its images."""

    contrast: Contrast
    tokenizer: object
    context: int
    view: Preprocessing

    def pixels(self, images: np.ndarray) -> Tensor:
        """Images (B, H, W, 3), uint8 or float in [0, 1], as the vision tower reads them: float32 (B, 3, H, W)."""
        values = images.astype(np.float32) / (255 if images.dtype == np.uint8 else 1)
        mean, std = (np.array(numbers, np.float32) for numbers in (self.view.mean, self.view.std))
        return torch.from_numpy(np.ascontiguousarray(((values - mean) / std).transpose(0, 3, 1, 2)))

    def ids(self, captions: list[str]) -> Tensor:
        """Token ids (C, L) of captions, padded to the longest."""
        return self.tokenizer(captions, padding=True, truncation=True, max_length=self.context, return_tensors="pt")[
            "input_ids"
        ]

    def scores(self, images: np.ndarray, captions: list[str]) -> tuple[Tensor, Tensor]:
        """Logits (B, C) that a caption is true of an image, by the class token and by the patches."""
        return self.contrast.scores(*self.contrast.embed(self.pixels(images), self.ids(captions)))
