"""UNet-D, the low-complexity CNN of VLSM-Ensemble (Dietlmeier et al., MIDL 2025), as a segmenter.

It computes what the authors' `modeling_UNet_D` does: skips are taken after pooling, so there is none at full resolution;
the two convolutions of an encoder level have no activation between them; a decoder level applies one convolution twice.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from vlsm_helpers.models.segmenter import Features, ImageOnlySegmenter, resize

ENCODER_CHANNELS = (64, 128, 256, 512)
BOTTLENECK_CHANNELS = 1240
DECODER_CHANNELS = (546, 182, 91, 45)
PUBLISHED_DROPOUT = 0.1
STRIDE = 2 ** len(ENCODER_CHANNELS)  # the network halves each side four times, so sides must be multiples of 16


class UNetD(ImageOnlySegmenter):
    """UNet-D with every channel count multiplied by `width`: 11,833,593 parameters at 1, 186 thousand at 1/8.

    `dropout`: the fraction of values dropped after each encoder level, by default the published 0.1 from width 1 on and 0
    below, because a narrow network has few channels.
    """

    def __init__(self, width: float = 1.0, dropout: float | None = None):
        super().__init__()
        dropout = (PUBLISHED_DROPOUT if width >= 1 else 0.0) if dropout is None else dropout
        self.config = {"name": "unet_d", "width": width, "dropout": dropout}
        encoder = [scaled(channels, width) for channels in ENCODER_CHANNELS]
        decoder = [scaled(channels, width) for channels in DECODER_CHANNELS]
        bottleneck = scaled(BOTTLENECK_CHANNELS, width)
        skips = [*encoder[-2::-1], 0]  # deepest first; the last level has none
        inputs = [bottleneck] + [up + skip for up, skip in zip(decoder, skips, strict=True)]
        self.encoder = nn.ModuleList(
            EncoderLevel(before, after, dropout) for before, after in zip([3, *encoder], encoder, strict=False)
        )
        self.widen = nn.Conv2d(encoder[-1], bottleneck, 1)
        self.attention = EfficientChannelAttention(bottleneck)
        self.decoder = nn.ModuleList(
            DecoderLevel(before, after) for before, after in zip(inputs, decoder, strict=False)
        )
        self.head = nn.Conv2d(decoder[-1], 1, 1)

    def decode(self, features: Features, text: Tensor, images: Tensor, size: tuple[int, int]) -> Tensor:
        return resize(self.logits(images), size)

    def logits(self, images: Tensor) -> Tensor:
        """Logits (B, 1, H, W) from images (B, 3, H, W) of any size."""
        maps = self.down(images)
        return self.up(maps[-1], maps, images.shape[-2:])

    def down(self, images: Tensor) -> list[Tensor]:
        """The feature maps (B, C, H/2, W/2) ... of the four levels; sides are padded to multiples of 16 by repeating edges."""
        height, width = images.shape[-2:]
        maps = [functional.pad(images, (0, -width % STRIDE, 0, -height % STRIDE), mode="replicate")]
        for level in self.encoder:
            maps.append(level(maps[-1]))
        return maps[1:]

    def up(self, deepest: Tensor, skips: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        """Logits (B, 1, *size) from the input of the bottleneck and the feature maps of all levels."""
        maps = self.attention(self.widen(deepest))
        for level, skip in zip(self.decoder, [*skips[-2::-1], None], strict=True):
            maps = level(maps)
            if skip is not None:
                maps = torch.cat([maps, skip], dim=1)
        return self.head(maps)[..., : size[0], : size[1]]


class ConditionedUNetD(UNetD):
    """UNet-D with a map of `channels` concatenated in front of its bottleneck's input: the CNN of the ensembles A, B and C."""

    def __init__(self, channels: int, width: float = 1.0):
        super().__init__(width)
        self.widen = nn.Conv2d(channels + self.widen.in_channels, self.widen.out_channels, 1)

    def logits(self, images: Tensor, condition: Tensor) -> Tensor:
        """Logits (B, 1, H, W) from images (B, 3, H, W) and a map (B, channels, h, w), resized to the bottleneck."""
        maps = self.down(images)
        condition = resize(condition, maps[-1].shape[-2:])
        return self.up(torch.cat([condition, maps[-1]], dim=1), maps, images.shape[-2:])


class EncoderLevel(nn.Module):
    """Two 3x3 convolutions, batch norm, ReLU, dropout, then a 2x2 max-pool: (B, C, H, W) -> (B, C', H/2, W/2)."""

    def __init__(self, before: int, after: int, dropout: float):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, padding=1)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1)
        self.norm = nn.BatchNorm2d(after)
        self.dropout = nn.Dropout(dropout)

    def forward(self, maps: Tensor) -> Tensor:
        maps = self.dropout(functional.relu(self.norm(self.conv2(self.conv1(maps)))))
        return functional.max_pool2d(maps, 2)


class DecoderLevel(nn.Module):
    """A 2x2 transposed convolution, then one 3x3 convolution applied twice: (B, C, H, W) -> (B, C', 2H, 2W)."""

    def __init__(self, before: int, after: int):
        super().__init__()
        self.up = nn.ConvTranspose2d(before, after, 2, stride=2)
        self.conv = nn.Conv2d(after, after, 3, padding=1)
        self.norm = nn.BatchNorm2d(after)

    def forward(self, maps: Tensor) -> Tensor:
        return functional.relu(self.norm(self.conv(self.conv(self.up(maps)))))


class EfficientChannelAttention(nn.Module):
    """ECA (Wang et al., CVPR 2020): scales each channel by a weight in (0, 1), computed from its average and its neighbours'.

    The kernel grows with the number of channels, |log2(C) / 2 + 1/2| made odd: 5 for 1240.
    """

    def __init__(self, channels: int):
        super().__init__()
        kernel = int(abs(math.log2(channels) / 2 + 0.5))
        kernel += 1 - kernel % 2
        self.conv = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        averages = maps.mean(dim=(2, 3)).unsqueeze(1)  # (B, 1, C)
        weights = torch.sigmoid(self.conv(averages)).squeeze(1)
        return maps * weights[..., None, None]


def scaled(channels: int, width: float) -> int:
    """`channels` times `width`, at least 1."""
    return max(1, round(channels * width))


def receptive_field(levels: int = len(ENCODER_CHANNELS)) -> int:
    """Side, in pixels of the image, of UNet-D's receptive field after `levels` encoder levels."""
    field, step = 1, 1
    for _ in range(levels):
        field += 2 * 2 * step  # two 3x3 convolutions
        field += step  # the 2x2 pooling
        step *= 2
    return field
