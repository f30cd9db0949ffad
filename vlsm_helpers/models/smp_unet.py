"""The U-Net of segmentation_models_pytorch as a segmenter: the strong convolutional baseline for the vision-language members."""

from collections.abc import Sequence
from pathlib import Path

import segmentation_models_pytorch as smp
import torch
from torch import Tensor
from torch.nn import functional

from vlsm_helpers.models.pretrained import load_encoder, resolve_source
from vlsm_helpers.models.segmenter import Features, Segmenter, empty_text, resize

STRIDE = 32  # every encoder of the library halves a side five times
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class SMPUNet(Segmenter):
    """A U-Net (Ronneberger et al., MICCAI 2015) around `encoder`, any name that the library knows; all of it trains.

    With resnet50 it is the U-Net of MedVLSM's table, 32,521,105 parameters. `weights`: the source of the encoder's
    pretrained weights, a folder or a hub id (see `pretrained.find`); without it the encoder is randomly initialised. `config`
    does not contain it, because a checkpoint stores the whole network. Raises WeightsError.
    """

    def __init__(self, encoder: str = "resnet50", weights: str | Path | None = None):
        super().__init__()
        self.config = {"name": "smp_unet", "encoder": encoder}
        self.network = smp.Unet(encoder, encoder_weights=None)
        if weights:
            load_encoder(self.network.encoder, weights)
            self.started_from = resolve_source(weights)
        for name, values in {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}.items():
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    def encode_images(self, images: Tensor) -> Features:
        """Nothing: all of it trains, so there is no frozen part to compute once."""
        return ()

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """Embeddings (B, 0): a CNN has no text input."""
        return empty_text(prompts, self)

    def decode(self, features: Features, text: Tensor, images: Tensor, size: tuple[int, int]) -> Tensor:
        """Logits (B, 1, *size) from images (B, 3, H, W) in [0, 1]; sides are padded to multiples of 32."""
        height, width = images.shape[-2:]
        pixels = (images - self.mean) / self.std
        padded = functional.pad(pixels, (0, -width % STRIDE, 0, -height % STRIDE), mode="replicate")
        return resize(self.network(padded)[..., :height, :width], size)
