"""The hybrid ensembles A, B and C of VLSM-Ensemble (Dietlmeier et al., MIDL 2025): a vision-language segmenter and a CNN.

All take the same three steps: the segmenter computes logits; an adapter passes its encoders' features to the bottleneck of
a UNet-D, which computes logits of its own; a 1x1 convolution fuses the two. Both branches train together. The networks are
those that the paper describes; `published.networks` has those that the authors' code computes.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from vlsm_helpers.models.adapter import ADAPTER_CHANNELS, HEADS, Adapter, MaskHead, TransformerAdapter
from vlsm_helpers.models.biomedclipseg import BiomedCLIPSeg
from vlsm_helpers.models.clipseg import CLIPSeg
from vlsm_helpers.models.segmenter import Features, Segmenter, resize
from vlsm_helpers.models.unet_d import ConditionedUNetD, scaled
from vlsm_helpers.settings.published import BIOMEDCLIP_WEIGHTS, CLIPSEG_WEIGHTS


class Fusion(nn.Conv2d):
    """The paper's fusion: a 1x1 convolution over the logits of `members`, one learned weight each, initialised as their mean."""

    def __init__(self, members: int):
        super().__init__(members, 1, 1)
        nn.init.constant_(self.weight, 1 / members)
        nn.init.zeros_(self.bias)

    def forward(self, *logits: Tensor) -> Tensor:
        """Logits (B, 1, H, W) from those of each member, of the same shape."""
        return super().forward(torch.cat(logits, dim=1))


class HybridEnsemble(Segmenter):
    """A vision-language segmenter `vlsm` and a second branch on its encoders' features, whose logits `fuse` combines.

    The frozen encoders run once per image and once per prompt, for both branches. A subclass adds the parts of the second
    branch and defines `second_branch`.
    """

    fuse: Fusion

    def __init__(self, vlsm: BiomedCLIPSeg | CLIPSeg):
        super().__init__()
        self.vlsm = vlsm
        self.vision_dim, self.text_dim = vlsm.decoder.reduces[0].in_features, vlsm.decoder.film_mul.in_features

    def encoders(self) -> tuple[nn.Module, ...]:
        return self.vlsm.encoders()

    def feature_sources(self) -> tuple[Segmenter, ...]:
        return (self.vlsm,)

    def encode_images(self, images: Tensor) -> Features:
        return self.vlsm.encode_images(images)

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        return self.vlsm.encode_text(prompts)

    def decode(self, features: Features, text: Tensor, images: Tensor, size: tuple[int, int]) -> Tensor:
        vlsm = self.vlsm.decode(features, text, images, size)
        return self.fuse(vlsm, self.second_branch(vlsm, features, text, images))

    def second_branch(self, vlsm: Tensor, features: Features, text: Tensor, images: Tensor) -> Tensor:
        """Logits that are fused with those of the vision-language branch, `vlsm`, and have their shape (B, 1, *size)."""
        raise NotImplementedError


class EnsembleA(HybridEnsemble):
    """BiomedCLIPSeg and UNet-D, with a mask head on the adapter's map as a third branch (BiomedCLIPSeg-A in the paper).

    `weights`, `mlp_dim` and `train` are BiomedCLIPSeg's; `width` multiplies the channels of UNet-D and of the adapter.
    """

    name, has_cnn = "ensemble_a", True

    def __init__(
        self, weights: str | Path = BIOMEDCLIP_WEIGHTS, mlp_dim: int = 2048, width: float = 1.0, train: str = "decoder"
    ):
        super().__init__(BiomedCLIPSeg(weights, mlp_dim=mlp_dim, train=train))
        source = self.vlsm.config["weights"]
        self.config = {"name": self.name, "weights": source, "mlp_dim": mlp_dim, "width": width, "train": train}
        channels = adapter_channels(width)
        self.adapter = Adapter(self.vision_dim, self.text_dim, channels)
        self.head = MaskHead(channels, self.vlsm.clip.visual.trunk.patch_embed.patch_size[0])
        self.fuse = Fusion(2)
        if self.has_cnn:
            self.cnn, self.fuse_cnn = ConditionedUNetD(channels, width), Fusion(2)

    def second_branch(self, vlsm: Tensor, features: Features, text: Tensor, images: Tensor) -> Tensor:
        maps, size = self.adapter(features, text), vlsm.shape[-2:]
        mask = resize(self.head(maps), size)
        return self.fuse_cnn(mask, resize(self.cnn.logits(images, maps), size)) if self.has_cnn else mask


class EnsembleAWithoutCNN(EnsembleA):
    """The ablation of ensemble A: the same network without the CNN, so BiomedCLIPSeg fused with the mask head."""

    name, has_cnn = "ensemble_a_no_cnn", False


class EnsembleB(HybridEnsemble):
    """CLIPSeg and UNet-D, joined by an adapter of transformer layers over all tapped states (CLIPSeg-B in the paper).

    `weights`, `image_size` and `train` are CLIPSeg's; `width` multiplies the channels of UNet-D and of the adapter.
    """

    def __init__(
        self,
        weights: str | Path = CLIPSEG_WEIGHTS,
        width: float = 1.0,
        train: str = "decoder",
        image_size: int | None = None,
    ):
        super().__init__(CLIPSeg(weights, train=train, image_size=image_size))
        self.config = self.vlsm.config | {"name": "ensemble_b", "width": width}
        channels = adapter_channels(width)
        self.adapter = TransformerAdapter(self.vision_dim, self.text_dim, len(self.vlsm.taps), channels)
        self.cnn = ConditionedUNetD(channels, width)
        self.fuse_cnn, self.fuse = Fusion(2), Fusion(2)

    def second_branch(self, vlsm: Tensor, features: Features, text: Tensor, images: Tensor) -> Tensor:
        cnn = self.cnn.logits(images, self.adapter(features, text))
        return self.fuse_cnn(vlsm, resize(cnn, vlsm.shape[-2:]))


class EnsembleC(Segmenter):
    """A and B, whose logits are fused once more. Each has its own encoders, tokenizer, image size and CNN.

    `weights` and `clipseg_weights`: of BiomedCLIP (A) and of CLIPSeg (B); the other options are theirs.
    """

    def __init__(
        self,
        weights: str | Path = BIOMEDCLIP_WEIGHTS,
        clipseg_weights: str | Path = CLIPSEG_WEIGHTS,
        mlp_dim: int = 2048,
        width: float = 1.0,
        train: str = "decoder",
    ):
        super().__init__()
        self.a = EnsembleA(weights, mlp_dim, width, train)
        self.b = EnsembleB(clipseg_weights, width, train)
        self.fuse = Fusion(2)
        self.config = self.a.config | {"name": "ensemble_c", "clipseg_weights": self.b.config["weights"]}

    def encoders(self) -> tuple[nn.Module, ...]:
        return self.a.encoders() + self.b.encoders()

    def feature_sources(self) -> tuple[Segmenter, ...]:
        return self.a.feature_sources() + self.b.feature_sources()

    def encode_images(self, images: Tensor) -> Features:
        """The hidden states of A, followed by those of B."""
        return self.a.encode_images(images) + self.b.encode_images(images)

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """The embeddings of A and B, concatenated: (B, D + D')."""
        return torch.cat([self.a.encode_text(prompts), self.b.encode_text(prompts)], dim=1)

    def decode(self, features: Features, text: Tensor, images: Tensor, size: tuple[int, int]) -> Tensor:
        count_a = len(self.a.vlsm.taps)
        features_a, features_b = features[:count_a], features[count_a:]
        text_a, text_b = text.split([self.a.text_dim, self.b.text_dim], dim=1)
        logits_a = self.a.decode(features_a, text_a, images, size)
        return self.fuse(logits_a, self.b.decode(features_b, text_b, images, size))


def adapter_channels(width: float) -> int:
    """128 times `width`, rounded to a multiple of the number of attention heads."""
    return HEADS * scaled(ADAPTER_CHANNELS // HEADS, width)
