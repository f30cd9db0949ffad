"""The hybrid ensembles A, B and C of VLSM-Ensemble (Dietlmeier et al., MIDL 2025): a text-driven segmenter and a CNN in one net.

The same three steps each time: the segmenter gives its logits; an adapter hands what its encoder saw, and the prompt, to the
bottleneck of a UNet-D, which gives logits of its own; a 1x1 convolution fuses the two. All of it trains together. The wiring
is what the paper means; what the authors' code computes is in `published.py`.
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
    """The paper's fusion: a 1x1 convolution over the logits of `members`, in one learned weight each; at first their mean."""

    def __init__(self, members: int):
        super().__init__(members, 1, 1)
        nn.init.constant_(self.weight, 1 / members)
        nn.init.zeros_(self.bias)

    def forward(self, *logits: Tensor) -> Tensor:
        """Logits (B, 1, H, W) from each member's."""
        return super().forward(torch.cat(logits, dim=1))


class HybridEnsemble(Segmenter):
    """A segmenter `vlsm` whose frozen encoders serve all parts: they run once an image and once a prompt."""

    def __init__(self, vlsm: BiomedCLIPSeg | CLIPSeg):
        super().__init__()
        self.vlsm = vlsm
        self.vision_dim, self.text_dim = vlsm.decoder.reduces[0].in_features, vlsm.decoder.film_mul.in_features

    def encoders(self) -> tuple[nn.Module, ...]:
        """The segmenter's."""
        return self.vlsm.encoders()

    def feature_source(self) -> Segmenter:
        """The segmenter."""
        return self.vlsm

    def encoding(self) -> dict:
        """The segmenter's taps, size and statistics."""
        return self.vlsm.encoding()

    def encode_images(self, images: Tensor) -> Features:
        """The segmenter's hidden states (B, 1 + tokens, D), one a tap."""
        return self.vlsm.encode_images(images)

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """The segmenter's embeddings (B, D)."""
        return self.vlsm.encode_text(prompts)


class EnsembleAWithoutCNN(HybridEnsemble):
    """The control for ensemble A: the same network without the CNN, so BiomedCLIPSeg fused with a mask head on the adapter.

    `weights`, `mlp_dim` and `train` are BiomedCLIPSeg's; `width` multiplies the channels of the adapter.
    """

    def __init__(
        self, weights: str | Path = BIOMEDCLIP_WEIGHTS, mlp_dim: int = 2048, width: float = 1.0, train: str = "decoder"
    ):
        super().__init__(BiomedCLIPSeg(weights, mlp_dim=mlp_dim, train=train))
        name = self.vlsm.config["weights"]
        self.config = {"name": "ensemble_a_no_cnn", "weights": name, "mlp_dim": mlp_dim, "width": width, "train": train}
        channels = adapter_channels(width)
        self.adapter = Adapter(self.vision_dim, self.text_dim, channels)
        self.head = MaskHead(channels, self.vlsm.clip.visual.trunk.patch_embed.patch_size[0])
        self.fuse = Fusion(2)

    def decode(self, features: Features, text: Tensor, images: Tensor, size: tuple[int, int]) -> Tensor:
        """Logits (B, 1, *size); the pixels are not looked at."""
        head = resize(self.head(self.adapter(features, text)), size)
        return self.fuse(self.vlsm.decode(features, text, images, size), head)


class EnsembleA(EnsembleAWithoutCNN):
    """BiomedCLIPSeg and UNet-D, with a mask head on the adapter as a third voice (the authors call it BiomedCLIPSeg-A).

    `weights`, `mlp_dim` and `train` are BiomedCLIPSeg's; `width` multiplies the channels of UNet-D and of the adapter.
    """

    def __init__(
        self, weights: str | Path = BIOMEDCLIP_WEIGHTS, mlp_dim: int = 2048, width: float = 1.0, train: str = "decoder"
    ):
        super().__init__(weights, mlp_dim, width, train)
        self.config["name"] = "ensemble_a"
        self.cnn = ConditionedUNetD(adapter_channels(width), width)
        self.fuse_cnn = Fusion(2)

    def decode(self, features: Features, text: Tensor, images: Tensor, size: tuple[int, int]) -> Tensor:
        """Logits (B, 1, *size) from hidden states, text embeddings and the pixels (B, 3, H, W) in [0, 1] of the same view."""
        maps = self.adapter(features, text)
        cnn = self.fuse_cnn(resize(self.head(maps), size), resize(self.cnn.draw(images, maps), size))
        return self.fuse(self.vlsm.decode(features, text, images, size), cnn)


class EnsembleB(HybridEnsemble):
    """CLIPSeg and UNet-D, joined by an adapter of transformer layers over all tapped states ("CLIPSeg-B").

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

    def decode(self, features: Features, text: Tensor, images: Tensor, size: tuple[int, int]) -> Tensor:
        """Logits (B, 1, *size) from hidden states, text embeddings and the pixels (B, 3, H, W) in [0, 1] of the same view."""
        vlsm = self.vlsm.decode(features, text, images, size)
        cnn = resize(self.cnn.draw(images, self.adapter(features, text)), size)
        return self.fuse(vlsm, self.fuse_cnn(vlsm, cnn))


class EnsembleC(Segmenter):
    """A and B side by side, their logits fused once more. Each keeps its own encoders, tokenizer, size and CNN.

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
        """BiomedCLIP and CLIP."""
        return self.a.encoders() + self.b.encoders()

    def encoding(self) -> dict:
        """A's and B's."""
        return {"a": self.a.encoding(), "b": self.b.encoding()}

    def encode_images(self, images: Tensor) -> Features:
        """The hidden states of A, then those of B."""
        return self.a.encode_images(images) + self.b.encode_images(images)

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """A's embeddings and B's, side by side: (B, D + D')."""
        return torch.cat([self.a.encode_text(prompts), self.b.encode_text(prompts)], dim=1)

    def decode(self, features: Features, text: Tensor, images: Tensor, size: tuple[int, int]) -> Tensor:
        """Logits (B, 1, *size) from what both encoded and the pixels (B, 3, H, W) in [0, 1] of the same view."""
        taps = len(self.a.vlsm.taps)
        text_a, text_b = text.split([self.a.text_dim, self.b.text_dim], dim=1)
        logits_a = self.a.decode(features[:taps], text_a, images, size)
        return self.fuse(logits_a, self.b.decode(features[taps:], text_b, images, size))


def adapter_channels(width: float) -> int:
    """128 times `width`, rounded to a multiple of the attention's heads."""
    return HEADS * scaled(ADAPTER_CHANNELS // HEADS, width)
