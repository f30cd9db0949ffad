"""CRIS as MedVLSM's copy of it computes, its traps included (see `tests/models/test_published_cris.py`)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from vlsm_helpers.models.cris_encoders import CLIPEncoders
from vlsm_helpers.models.cris_parts import Head
from vlsm_helpers.models.open_clip_resnet import build_clip


class PublishedCRIS(nn.Module):
    """CRIS with CLIP's ResNet-50 (146.8 million parameters); with another `clip`, of that one's sizes.

    The norm of the sentence depends on the batch while it trains, and one image alone cannot be trained on. Logits have
    `size` pixels a side, whatever the image has. Ids of 0 are padding, whatever the attention mask says.
    """

    def __init__(self, clip: nn.Module | None = None, size: int = 416, **widths):
        super().__init__()
        self.clip, self.size = CLIPEncoders(clip or build_clip()), size
        geometry = self.clip.geometry()._replace(dropout=0.2, **widths)
        self.head = Head(geometry, self.clip.deepest(), sentence_norm=nn.BatchNorm1d)

    def forward_tokens(self, pixel_values: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits (B, 1, size, size); the sentence is the token with the largest id, CLIP's mark of the end."""
        words = self.clip.words(input_ids, attention_mask)
        end = words[torch.arange(len(words), device=words.device), input_ids.argmax(1)]
        padding = input_ids == 0
        logits = self.head(self.clip.pyramid(pixel_values), words, padding, self.clip.sentence(end))
        return functional.interpolate(logits, size=(self.size, self.size), mode="bicubic", align_corners=True)
