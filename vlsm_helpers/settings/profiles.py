"""Profiles: the sizes, weights and budgets in which `tiny` and `full` differ, as data."""

from dataclasses import dataclass

from vlsm_helpers.settings.published import (
    BIOMEDCLIP_WEIGHTS,
    CLIP_RN50_WEIGHTS,
    CLIPSEG_WEIGHTS,
    RESNET_WEIGHTS,
    TINY_WEIGHTS,
)


@dataclass(frozen=True)
class Profile:
    """Sizes and budgets. `tiny` and `full` differ in these and in nothing else."""

    name: str
    image_size: int  # pixels of the square images that the Dataset gives
    unet_width: float  # UNet-D's channel counts are multiplied by this
    clipseg_weights: str  # a hub id, or the shipped miniature
    biomedclip_weights: str
    cris_weights: str
    cris_image_encoder: str
    decoder_mlp_dim: int  # width of the MLPs in BiomedCLIPSeg's decoder, as in the CLIPSeg of the same profile
    smp_encoder: str  # of the U-Net of segmentation_models_pytorch, by the library's name for it
    smp_weights: str | None  # a hub id; None: random ones, for nothing pretrained so small may be shipped
    fpn_channels: tuple[int, int]  # of unet_imagenet's decoder: of the pyramid, and of its head
    batch_size: int
    epochs: int  # of a notebook's training; early stopping may end it sooner
    max_train_images: int | None  # a notebook takes at most so many real training images


# What a notebook trains at `full` on a machine without a GPU: about what two cores do in an hour.
FULL_WITHOUT_GPU = {"epochs": 24, "max_train_images": 60}

PROFILES = {
    "tiny": Profile(
        "tiny",
        image_size=128,
        unet_width=0.125,
        clipseg_weights=TINY_WEIGHTS,
        biomedclip_weights=TINY_WEIGHTS,
        cris_weights=TINY_WEIGHTS,
        cris_image_encoder="efficientnet_lite0",
        decoder_mlp_dim=256,
        smp_encoder="tu-mobilenetv3_small_050",
        smp_weights=None,
        fpn_channels=(128, 64),
        batch_size=8,
        epochs=20,
        max_train_images=200,
    ),
    "full": Profile(
        "full",
        image_size=352,
        unet_width=1.0,
        clipseg_weights=CLIPSEG_WEIGHTS,
        biomedclip_weights=BIOMEDCLIP_WEIGHTS,
        cris_weights=CLIP_RN50_WEIGHTS,
        cris_image_encoder="clip_rn50",
        decoder_mlp_dim=2048,
        smp_encoder="resnet50",
        smp_weights=RESNET_WEIGHTS,
        fpn_channels=(256, 128),
        batch_size=10,
        epochs=100,
        max_train_images=None,
    ),
}
