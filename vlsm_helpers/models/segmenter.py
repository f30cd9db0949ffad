"""The one call that everything shares: `segmenter(images, prompts) -> logits`."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

Features = tuple[Tensor, ...]  # what frozen encoders compute once; empty for a CNN


class Segmenter(nn.Module):
    """A network that can predict, train and be fused; its call is composed of three parts.

    `encode_images` and `encode_text` are what a frozen encoder computes once and a cache keeps; `decode` is what trains.
    Resizing, normalising and tokenising belong to the member. A member defines the three parts, never the call, and
    `config`: the JSON-able arguments from which `members.build` makes the same network again, its `name` among them.
    """

    config: dict
    started_from: str | None = None  # whose weights what trains began with, where `config` does not say it
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
        """Logits (B, 1, H, W) at the images' size.

        `images`: float (B, 3, H, W) in [0, 1]; `prompts`: one for all, or one an image (a CNN ignores them). `features`
        of these images and `text` (B, ...) of these prompts, where they were computed before, are not computed again.
        Raises ValueError for images of another shape or type and for a list of prompts of another length.
        """
        check_images(images)
        prompts = as_prompts(prompts, len(images))
        text = self.encode_text(prompts) if text is None else text
        features = self.encode_images(images) if features is None else features
        return self.decode(features, text, images, images.shape[-2:])

    def encoders(self) -> tuple[nn.Module, ...]:
        """The pretrained modules that `encode_images` and `encode_text` run; a CNN has none."""
        return ()

    def feature_source(self) -> "Segmenter":
        """The segmenter whose encoders compute the features: an ensemble around one names it, so that both share a cache."""
        return self

    def encoding(self) -> dict:
        """The JSON-able facts, besides the encoders' weights, that features follow from: taps, size, statistics."""
        return {}

    @property
    def trains_encoders(self) -> bool:
        """Whether any parameter of the encoders asks for a gradient."""
        return any(parameter.requires_grad for module in self.encoders() for parameter in module.parameters())

    def encode_images(self, images: Tensor) -> Features:
        """What the member's image encoder says of images (B, 3, H, W)."""
        raise NotImplementedError

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """Embeddings of B prompts: (B, D), or one vector for each of L tokens, (B, L, D)."""
        raise NotImplementedError

    def decode(self, features: Features, text: Tensor, images: Tensor, size: tuple[int, int]) -> Tensor:
        """Logits (B, 1, *size) from features, text embeddings and the pixels (B, 3, H, W) of the same view."""
        raise NotImplementedError


def check_images(images: Tensor) -> None:
    """Raise ValueError unless `images` is float (B, 3, H, W)."""
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise ValueError(f"images must be float (B, 3, H, W) in [0, 1], not {images.dtype} {tuple(images.shape)}")


def as_prompts(prompts: str | Sequence[str], batch: int) -> list[str]:
    """One prompt an image. Raises ValueError when a list has another length than the batch."""
    if isinstance(prompts, str):
        return [prompts] * batch
    if len(prompts) != batch:
        raise ValueError(f"{len(prompts)} prompts for {batch} images: give one for all, or one an image")
    return list(prompts)


def resize(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Maps or logits (B, C, h, w) at another size (height, width), by bilinear interpolation; the same ones if they have it."""
    if maps.shape[-2:] == tuple(size):
        return maps
    return functional.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)


def trainable_parameters(module: nn.Module) -> int:
    """The number of parameters that ask for a gradient (whether one arrives is a test's business)."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def empty_text(prompts: Sequence[str], like: nn.Module) -> Tensor:
    """The text embedding (B, 0) of a member that does not read, on the device of the module `like`."""
    return torch.empty(len(prompts), 0, device=next(like.parameters()).device)
