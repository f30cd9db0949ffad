"""Decoders for the light CNN: seconds of a training step and parameters. `python -m benchmarks.light_cnn`; see light_cnn.md."""

import argparse
from functools import partial

import pandas as pd
import segmentation_models_pytorch as smp
import torch
from torch import nn

from benchmarks.timing import interleaved, rows
from vlsm_helpers.experiments.table import markdown
from vlsm_helpers.models.imagenet import ARCHITECTURE
from vlsm_helpers.models.unet_d import UNetD
from vlsm_helpers.settings.profiles import PROFILES
from vlsm_helpers.training.loop import segmentation_loss

ENCODER = f"tu-{ARCHITECTURE}"
BATCH = 8
FROZEN_STAGES = 2  # of the encoder's seven, with the stem: half of its stride-4 work


class UNetDPixels(UNetD):
    """UNet-D called with images alone, like the library's networks."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images)


def unet(*channels: int) -> nn.Module:
    return smp.Unet(ENCODER, encoder_weights=None, decoder_channels=channels)


def separable_unet(*channels: int) -> nn.Module:
    """The U-Net with each 3 x 3 convolution of its decoder in two: depthwise, then 1 x 1."""
    network = unet(*channels)
    for block in list(network.decoder.modules()):
        for name, layer in list(block.named_children()):
            if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3):
                width, out = layer.in_channels, layer.out_channels
                depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
                setattr(block, name, nn.Sequential(depthwise, nn.Conv2d(width, out, 1, bias=False)))
    return network


def fpn(pyramid: int, head: int, frozen: int = 0) -> nn.Module:
    network = smp.FPN(
        ENCODER, encoder_weights=None, decoder_pyramid_channels=pyramid, decoder_segmentation_channels=head
    )
    encoder = network.encoder.model
    lower = [encoder.conv_stem, encoder.bn1, *encoder.blocks[:frozen]] if frozen else []
    for module in lower:
        module.requires_grad_(False)
    return network


DECODERS = {
    "UNet-D of the tiny profile": lambda: UNetDPixels(PROFILES["tiny"].unet_width),
    "U-Net, 256 to 16 channels": partial(unet, 256, 128, 64, 32, 16),
    "U-Net, 128 to 8": partial(unet, 128, 64, 32, 16, 8),
    "U-Net, 64 to 4": partial(unet, 64, 32, 16, 8, 4),
    "U-Net, 128 to 16, depthwise": partial(separable_unet, 128, 64, 32, 16, 16),
    "FPN, 256 / 128": partial(fpn, 256, 128),
    "FPN, 128 / 64": partial(fpn, 128, 64),
    "FPN, 64 / 32": partial(fpn, 64, 32),
    "FPN, 64 / 32, two stages frozen": partial(fpn, 64, 32, FROZEN_STAGES),
}


def step(network: nn.Module, images: torch.Tensor, optimizer: torch.optim.Optimizer, loss: nn.Module) -> None:
    """One training step towards empty masks."""
    loss(network(images), torch.zeros_like(images[:, :1])).backward()
    optimizer.step()
    optimizer.zero_grad()


def measured(size: int, rounds: int, layout: torch.memory_format) -> pd.DataFrame:
    """A row a decoder: see `timing.rows`, with the millions of parameters."""
    images, loss = torch.rand(BATCH, 3, size, size).contiguous(memory_format=layout), segmentation_loss()
    networks = {name: make().to(memory_format=layout).train() for name, make in DECODERS.items()}
    ways = {
        name: partial(step, network, images, torch.optim.AdamW(network.parameters(), lr=1e-3), loss)
        for name, network in networks.items()
    }
    table = pd.DataFrame(rows(f"{layout}".removeprefix("torch."), interleaved(ways, rounds)))
    counts = [sum(value.numel() for value in network.parameters()) / 1e6 for network in networks.values()]
    return table.assign(times_unet_d=1 / table["times"], million_parameters=counts).drop(columns=["times", "wanted"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=PROFILES["tiny"].image_size, help="pixels a side")
    parser.add_argument("--rounds", type=int, default=5, help="steps of each network that count")
    given = parser.parse_args()
    for layout in (torch.contiguous_format, torch.channels_last):
        print(markdown(measured(given.size, given.rounds, layout).round(3)))
