"""Networks of segmentation_models_pytorch as segmenters: strong convolutional baselines beside the vision-language members."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from vlsm_helpers.models import imagenet
from vlsm_helpers.models.pretrained import load_encoder, resolve_source, revision_of
from vlsm_helpers.models.segmenter import Features, ImageOnlySegmenter, resize
from vlsm_helpers.settings.published import EFFICIENTNET, RESNET

STRIDE = 32  # every encoder of the library halves a side five times
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NO_WEIGHTS = "none"  # asks for random initialisation where pretrained weights are the default


class SMPSegmenter(ImageOnlySegmenter):
    """A `network` of the library, from normalised images to logits, all of which trains.

    `mean` and `std`: of the pixels, in [0, 1], that its encoder was pretrained on. A network of your own becomes a member:

    >>> import numpy as np
    >>> import segmentation_models_pytorch as smp
    >>> import vlsm_helpers as vlsm
    >>> from vlsm_helpers.fusion.weighted import WeightedFusion
    >>> mine = SMPSegmenter(smp.Linknet("resnet18", encoder_weights=None), IMAGENET_MEAN, IMAGENET_STD)
    >>> members = {"mine": mine, "clipseg": vlsm.build("clipseg", "tiny")}
    >>> predictor = vlsm.Predictor(members, WeightedFusion.equal(members), size=64, prompt="polyp")
    >>> predictor(np.zeros((30, 40, 3), np.uint8)).mask.shape
    (30, 40)
    """

    smallest = STRIDE  # pixels a side that the network can be given

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.network = network
        for name, values in {"mean": mean, "std": std}.items():
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    def decode(self, features: Features, text: Tensor, images: Tensor, size: tuple[int, int]) -> Tensor:
        """Logits (B, 1, *size) from images (B, 3, H, W) in [0, 1]; sides are padded to multiples of 32."""
        height, width = images.shape[-2:]
        more = [max(-side % STRIDE, self.smallest - side) for side in (height, width)]
        pixels = (images - self.mean) / self.std
        padded = functional.pad(pixels, (0, more[1], 0, more[0]), mode="replicate")
        return resize(self.network(padded)[..., :height, :width], size)


class SMPUNet(SMPSegmenter):
    """A U-Net (Ronneberger et al., MICCAI 2015) around `encoder`, any name that the library knows.

    With resnet50 it is the U-Net of MedVLSM's table, 32,521,105 parameters. `weights`: where the encoder's pretrained weights
    come from, a folder or a hub id (see `pretrained.find`); without any it is initialised at random. They are no part of
    `config`: a checkpoint holds the whole network. Raises WeightsError.
    """

    def __init__(self, encoder: str = "resnet50", weights: str | Path | None = None):
        import segmentation_models_pytorch as smp  # with timm and torchvision 2 seconds: only for those who build one

        super().__init__(smp.Unet(encoder, encoder_weights=None), IMAGENET_MEAN, IMAGENET_STD)
        self.config = {"name": "smp_unet", "encoder": encoder}
        if weights:
            load_encoder(self.network.encoder, weights)
            self.started_from = resolve_source(weights)
            self.weights_revision = revision_of(weights, RESNET)


class ImageNetUNet(SMPSegmenter):
    """A light CNN for CPUs: EfficientNet-Lite0 pretrained on ImageNet, and a narrow decoder; 3.4 million parameters.

    The decoder is semantic FPN (Kirillov et al., CVPR 2019): like a U-Net's it goes from coarse to fine over the encoder's
    stages, but adds them at `pyramid` channels where a U-Net concatenates, and ends at a quarter of the image's resolution
    with `head` channels. `weights`: where the encoder's come from (see `imagenet.load_efficientnet_lite0`), or "none" for
    random initialisation. A checkpoint holds the whole network, so its `config` says "none". Raises WeightsError.
    """

    attribution = imagenet.ATTRIBUTION
    smallest = 2 * STRIDE  # the decoder's group norms need more than one value of a channel at the coarsest stage

    def __init__(self, weights: str | Path = imagenet.HUB_ID, pyramid: int = 128, head: int = 64):
        import segmentation_models_pytorch as smp  # see SMPUNet

        network = smp.FPN(
            f"tu-{imagenet.ARCHITECTURE}",
            encoder_weights=None,
            decoder_pyramid_channels=pyramid,
            decoder_segmentation_channels=head,
        )
        super().__init__(network, imagenet.MEAN, imagenet.STD)
        self.config = {"name": "unet_imagenet", "weights": NO_WEIGHTS, "pyramid": pyramid, "head": head}
        if weights != NO_WEIGHTS:
            imagenet.load_encoder(network.encoder.model, weights)
            self.started_from = imagenet.origin(weights)
            self.weights_revision = revision_of(weights, EFFICIENTNET)
