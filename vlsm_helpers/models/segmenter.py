"""The interface of all members: `segmenter(images, prompts) -> logits`."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

Features = tuple[Tensor, ...]  # of the image encoder; empty for a network without a frozen part


class Segmenter(nn.Module):
    """A network that can predict, train and be fused; its call has three parts.

    `encode_images` and `encode_text` compute what a cache can store if the encoders are frozen; `decode` is what trains.
    Resizing, normalising and tokenising belong to the member. A member defines the three parts, never the call, and
    `config`: the JSON-able arguments, its `name` among them, from which `factory.build` makes the same network again.
    """

    config: dict
    started_from: str | None = None  # source of the initial weights of what trains, unless `config` names it
    attribution: str | None = None  # credit and licence of those weights, for model cards
    weights_revision: str | None = None  # the hub's commit of its pretrained weights, where that is known

    def forward(
        self,
        images: Tensor,
        prompts: str | Sequence[str] = "",
        *,
        features: Features | None = None,
        text: Tensor | None = None,
    ) -> Tensor:
        """Logits (B, 1, H, W) at the size of the images.

        `images`: float (B, 3, H, W) in [0, 1]; `prompts`: one for all, or one per image (a CNN ignores them). `features`
        of these images and `text` (B, ...) of these prompts are used instead of being computed again.
        Raises ValueError for images of another shape or type, and for a list of prompts of another length.
        """
        check_images(images)
        prompts = as_prompts(prompts, len(images))
        text = self.encode_text(prompts) if text is None else text
        features = self.encode_images(images) if features is None else features
        return self.decode(features, text, images, images.shape[-2:])

    def encoders(self) -> tuple[nn.Module, ...]:
        """The pretrained modules that `encode_images` and `encode_text` run; none in a CNN."""
        return ()

    def feature_sources(self) -> "tuple[Segmenter, ...]":
        """The segmenters that compute the features, in the order of `encode_images`: an ensemble names those that it
        contains, so that they share a cache."""
        return (self,)

    def encoding(self) -> dict:
        """The JSON-able settings, besides the encoders' weights, that determine the features: taps, size, statistics."""
        return {}

    @property
    def trains_encoders(self) -> bool:
        """Whether any parameter of the encoders requires a gradient."""
        return any(parameter.requires_grad for module in self.encoders() for parameter in module.parameters())

    def encode_images(self, images: Tensor) -> Features:
        """Features of images (B, 3, H, W) in [0, 1]: tensors whose first dimension is B, such as hidden states of taps."""
        raise NotImplementedError

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """Embeddings of B prompts: (B, D), or one vector for each of L tokens, (B, L, D)."""
        raise NotImplementedError

    def decode(self, features: Features, text: Tensor, images: Tensor, size: tuple[int, int]) -> Tensor:
        """Logits (B, 1, *size) from features, text embeddings (B, D) and the images (B, 3, H, W) in [0, 1] that they are of."""
        raise NotImplementedError


class ImageOnlySegmenter(Segmenter):
    """A member without text input and without a frozen part, such as a CNN: only `decode` is left to define.

    There are no features to compute once, and the embeddings of prompts are (B, 0).
    """

    def encode_images(self, images: Tensor) -> Features:
        return ()

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        return torch.empty(len(prompts), 0, device=next(self.parameters()).device)


def check_images(images: Tensor) -> None:
    """Raise ValueError unless `images` is float (B, 3, H, W)."""
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise ValueError(f"images must be float (B, 3, H, W) in [0, 1], not {images.dtype} {tuple(images.shape)}")


def as_prompts(prompts: str | Sequence[str], batch: int) -> list[str]:
    """One prompt per image. Raises ValueError if a list has another length than the batch."""
    if isinstance(prompts, str):
        return [prompts] * batch
    if len(prompts) != batch:
        raise ValueError(f"{len(prompts)} prompts for {batch} images: give one for all, or one per image")
    return list(prompts)


def resize(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Maps or logits (..., h, w), of up to four dimensions, at another size (height, width), by bilinear interpolation.

    Maps that have that size are returned as they are.
    """
    if maps.shape[-2:] == tuple(size):
        return maps
    batch = maps[(None,) * (4 - maps.ndim)]
    resized = functional.interpolate(batch, size=tuple(size), mode="bilinear", align_corners=False)
    return resized.view(*maps.shape[:-2], *size)


def trainable_parameters(module: nn.Module) -> int:
    """The number of parameters that require a gradient."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
