"""What CLIPSeg and BiomedCLIPSeg share: a pretrained image encoder and text encoder, and a decoder that predicts the mask.

A tap is the number of a vision block, counted from 0: tap 3 is the output of the fourth block. It is entry 3 of timm's list
of hidden states and entry 4 of transformers', whose list begins with the embeddings.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from vlsm_helpers.errors import SettingsError
from vlsm_helpers.models.segmenter import Features, Segmenter, resize


class Preprocessing(NamedTuple):
    """The input that an image encoder was pretrained on: squares of `size` pixels, normalised by `mean` and `std` per channel."""

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class CLIPParts(NamedTuple):
    """A pretrained image-text model with what its inputs need."""

    clip: nn.Module  # in float32
    tokenizer: Callable
    context_length: int  # tokens of a prompt, start and end included
    preprocessing: Preprocessing


class VisionLanguageSegmenter(Segmenter):
    """A pretrained image-text model `clip`, and a CLIPSeg `decoder` of its tapped hidden states and the text embedding.

    A subclass defines `tap` and `embed`, which call the two encoders of its library. Encoders without a trainable parameter
    run without gradients and stay in evaluation mode, so that dropout does not change the features that a cache stores.
    """

    taps: tuple[int, ...]  # blocks whose outputs the decoder receives, ascending; a subclass sets them

    def __init__(
        self, clip: nn.Module, decoder: nn.Module, tokenizer, context_length: int, preprocessing: Preprocessing
    ):
        super().__init__()
        self.clip, self.decoder = clip, decoder
        self.tokenizer, self.context_length = tokenizer, context_length
        self.image_size = preprocessing.size
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(preprocessing.std).view(3, 1, 1), persistent=False)

    def tap(self, pixels: Tensor, taps: Sequence[int]) -> Features:
        """Hidden states (B, 1 + tokens, D), the class token first, after the blocks `taps`; later blocks are not run."""
        raise NotImplementedError

    def embed(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Projected embeddings (B, D), not L2-normalised, of token ids (B, L) with their attention mask."""
        raise NotImplementedError

    def encoders(self) -> tuple[nn.Module, ...]:
        return (self.clip,)

    def encoding(self) -> dict:
        statistics = [self.mean.flatten().tolist(), self.std.flatten().tolist()]
        return {"taps": list(self.taps), "image_size": self.image_size, "statistics": statistics}

    def train(self, mode: bool = True) -> "VisionLanguageSegmenter":
        """Set training mode, but leave frozen encoders in evaluation mode."""
        super().train(mode)
        self.clip.train(mode and self.trains_encoders)
        return self

    def preprocess(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] of any size, resized and normalised: (B, 3, image_size, image_size)."""
        size = (self.image_size, self.image_size)
        if images.shape[-2:] != size:
            images = functional.interpolate(images, size=size, mode="bilinear", antialias=True, align_corners=False)
        return (images - self.mean) / self.std

    def encode_images(self, images: Tensor) -> Features:
        """Hidden states (B, 1 + tokens, D), one per tap, of images (B, 3, H, W) in [0, 1]."""
        with self._encoder_gradients():
            return self.tap(self.preprocess(images), self.taps)

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """Embeddings (B, D), not L2-normalised; each distinct prompt is embedded once.

        Warns of a prompt that is longer than the context, with the number of tokens that are cut off.
        """
        distinct = list(dict.fromkeys(prompts))
        self._warn_of_cuts(distinct)
        tokens = self.tokenizer(
            distinct, padding=True, truncation=True, max_length=self.context_length, return_tensors="pt"
        ).to(self.mean.device)
        with self._encoder_gradients():
            embeddings = self.embed(tokens["input_ids"], tokens["attention_mask"])
        return embeddings[[distinct.index(prompt) for prompt in prompts]]

    def decode(self, features: Features, text: Tensor, images: Tensor, size: tuple[int, int]) -> Tensor:
        return resize(self.decoder(features, text).logits.unsqueeze(1), size)

    def _encoder_gradients(self) -> torch.set_grad_enabled:
        # Never inference_mode: a decoder that trains must be able to save frozen features for its backward pass.
        return torch.set_grad_enabled(torch.is_grad_enabled() and self.trains_encoders)

    def _warn_of_cuts(self, prompts: Sequence[str]) -> None:
        for prompt, ids in zip(prompts, self.tokenizer(list(prompts), verbose=False)["input_ids"], strict=True):
            if len(ids) > self.context_length:
                cut = len(ids) - self.context_length
                warnings.warn(
                    f"Prompt truncated from {len(ids)} to {self.context_length} tokens (start and end token included): "
                    f"its last {cut} are cut off. It begins {prompt[:40]!r}.",
                    stacklevel=3,
                )


def average_prompts(segmenter: Segmenter, prompts: str | Sequence[str]) -> Tensor:
    """Prompt ensembling: the mean (1, D) of several prompts' embeddings, for `decode` in place of one prompt's.

    Raises ValueError for an empty list, and for a segmenter that attends to single words, such as CRIS.
    """
    prompts = [prompts] if isinstance(prompts, str) else list(prompts)
    if not prompts:
        raise ValueError("there are no prompts to average: give at least one; the empty prompt will do")
    text = segmenter.encode_text(prompts)
    if text.ndim > 2:
        raise ValueError("the words of several prompts have no mean: average the logits of each prompt instead")
    return text.mean(dim=0, keepdim=True)


def check_taps(taps: Sequence[int], depth: int) -> tuple[int, ...]:
    """`taps` as a tuple. Raises SettingsError unless they are ascending numbers of an encoder's `depth` blocks."""
    if not taps or list(taps) != sorted(set(taps)) or taps[0] < 0 or taps[-1] >= depth:
        what = f"The vision encoder cannot be tapped after blocks {tuple(taps)}."
        raise SettingsError(what, hint=f"name blocks from 0 to {depth - 1}, in ascending order.")
    return tuple(taps)
