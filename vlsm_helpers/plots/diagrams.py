"""Diagrams of networks, whose boxes and sizes come from the network itself."""

from collections.abc import Sequence
from itertools import pairwise

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

from vlsm_helpers.models.clipseg import CLIPSeg
from vlsm_helpers.models.hybrid import EnsembleA
from vlsm_helpers.models.unet_d import UNetD
from vlsm_helpers.plots.base import BLUE, GREEN, ORANGE, PURPLE, styled

BOX_WIDTH = 1.6


@styled
def unet_d_diagram(network: UNetD, size: int) -> Figure:
    """UNet-D: one box per level, whose height is the side of its feature maps, and whose width grows with their channels.

    The shapes are those that the levels of `network` output for an image of `size` pixels.
    """
    shapes = _shapes(network, size)
    figure, axes = plt.subplots(figsize=(9.5, 4.1))
    boxes, left = [], 0.0
    for number, (channels, side) in enumerate(shapes):
        width, height = 0.2 + channels**0.5 / 16, 0.45 + 2.6 * side / size
        colour = _colour(number, len(shapes))
        axes.add_patch(Rectangle((left, -height / 2), width, height, facecolor=colour, edgecolor="none", alpha=0.75))
        role = {0: "image\n", len(shapes) - 1: "logits\n"}.get(number, "")
        label = f"{role}{channels}\n{side}²"
        axes.text(left + width / 2, -height / 2 - 0.08, label, ha="center", va="top", fontsize=8)
        boxes.append((left, left + width, height))
        left += width + 0.42
    for before, after in pairwise(boxes):
        _arrow(axes, (before[1], 0), (after[0], 0))
    _skips(axes, boxes)
    _legend(axes, left)
    axes.set(xlim=(-0.2, left), ylim=(-2.5, 2.2))
    axes.axis("off")
    figure.tight_layout(pad=0.3)
    return figure


def _shapes(network: UNetD, size: int) -> list[tuple[int, int]]:
    """(channels, side) of the image, the encoder's levels, the bottleneck, the decoder's levels and the logits."""
    shapes = [(3, size)]
    stages = [*network.encoder, network.attention, *network.decoder, network.head]
    hooks = [
        stage.register_forward_hook(lambda module, inputs, output: shapes.append((output.shape[1], output.shape[-1])))
        for stage in stages
    ]
    device = next(network.parameters()).device
    was_training = network.training
    with torch.no_grad():
        network.eval()(torch.zeros(1, 3, size, size, device=device))
    network.train(was_training)
    for hook in hooks:
        hook.remove()
    return shapes


def _colour(number: int, count: int) -> str:
    if number in (0, count - 1):
        return "#888888"
    middle = count // 2
    return PURPLE if number == middle else BLUE if number < middle else GREEN


def _skips(axes: plt.Axes, boxes: list[tuple[float, float, float]]) -> None:
    """Arrows from the first three encoder levels, whose maps are taken after pooling, to the decoder levels of that size."""
    middle = len(boxes) // 2
    for depth in range(1, 4):
        start, end = boxes[middle - 1 - depth], boxes[middle + depth]
        tops = [((box[0] + box[1]) / 2, box[2] / 2) for box in (start, end)]
        _arrow(axes, *tops, colour=ORANGE, bend=f"arc3,rad=-{0.27 + 0.02 * depth}")


def _arrow(axes, start, end, colour="#444444", bend="arc3,rad=0") -> None:
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=9, color=colour, connectionstyle=bend))


def _legend(axes: plt.Axes, right: float) -> None:
    entries = [
        (BLUE, "encoder level: conv 3×3, conv 3×3, batch norm, ReLU, pool 2×2"),
        (PURPLE, "bottleneck: conv 1×1, channel attention (ECA)"),
        (GREEN, "decoder level: up 2×2, one conv 3×3 applied twice, batch norm, ReLU"),
        (ORANGE, "skip, taken after pooling: none at full resolution"),
        ("#666666", "below each box: channels, side² (of a decoder level before a skip's channels are appended)"),
    ]
    for row, (colour, text) in enumerate(entries):
        axes.text(right / 2, -1.2 - 0.26 * row, f"■ {text}", color=colour, ha="center", va="top", fontsize=8)


@styled
def clipseg_diagram(network: CLIPSeg) -> Figure:
    """CLIPSeg: the image branch above, the text branch below, which meet in the decoder, with the sizes of `network`."""
    vision, text = network.clip.vision_model.config, network.clip.text_model.config
    size, side = network.image_size, network.image_size // vision.patch_size
    embedded, reduced = network.decoder.film_mul.in_features, network.decoder.film_mul.out_features
    image_boxes = [
        ("image", f"{size} × {size}"),
        ("tokens", f"{side} × {side} patches,\n1 class token"),
        ("vision encoder", f"{network.taps[-1] + 1} blocks,\nwidth {vision.hidden_size}"),
        ("decoder", f"{len(network.taps)} blocks,\nwidth {reduced}"),
        ("logits", f"{size} × {size}"),
    ]
    text_boxes = [
        ("prompt", "any text"),
        ("tokens", f"at most {network.context_length}"),
        ("text encoder", f"{text.num_hidden_layers} blocks,\nwidth {text.hidden_size}"),
        ("embedding", f"{embedded} values"),
    ]
    figure, axes = plt.subplots(figsize=(9.5, 3.2))
    above = [_box(axes, 2.1 * column, 2, BLUE, *entry) for column, entry in enumerate(image_boxes)]
    below = [_box(axes, 2.1 * column, 0, GREEN, *entry) for column, entry in enumerate(text_boxes)]
    for row in (above, below):
        for before, after in pairwise(row):
            _arrow(axes, (before + BOX_WIDTH, 2.5 if row is above else 0.5), (after, 2.5 if row is above else 0.5))
    _meeting(axes, above[3], network.taps)
    axes.set(xlim=(-0.1, above[-1] + BOX_WIDTH + 0.1), ylim=(-0.1, 3.6))
    axes.axis("off")
    figure.tight_layout(pad=0.3)
    return figure


@styled
def ensemble_a_diagram(network: EnsembleA) -> Figure:
    """Ensemble A: BiomedCLIPSeg, the adapter and the CNN, and the two fusion layers, with the sizes of `network`."""
    vlsm, size = network.vlsm, network.vlsm.image_size
    channels, bottleneck = network.adapter.reduce.out_features, network.cnn.widen
    side = size // vlsm.clip.visual.trunk.patch_embed.patch_size[0]
    rows = {
        4: [
            ("image", f"{size} × {size}"),
            ("image encoder", "BiomedCLIP's,\nfrozen"),
            ("decoder", "as in chapter 2"),
            ("logits", "of the vision-\nlanguage branch"),
        ],
        2: [
            ("prompt", "any text"),
            ("text encoder", "BiomedCLIP's,\nfrozen"),
            ("adapter", f"a map, {side} × {side},\n{channels} channels"),
            ("mask head", "logits of\nthe adapter"),
        ],
        0: [
            ("the same image", "not resized"),
            ("UNet-D encoder", "as in chapter 3"),
            ("bottleneck", f"{channels} + {bottleneck.in_channels - channels}\nchannels"),
            ("UNet-D decoder", "logits of\nthe CNN"),
        ],
    }
    colours = {4: BLUE, 2: GREEN, 0: PURPLE}
    figure, axes = plt.subplots(figsize=(10.5, 4.6))
    for height, row in rows.items():
        for column, entry in enumerate(row):
            _box(axes, 2.2 * column, height, colours[height], *entry)
            if column and (height, column) != (2, 2):
                _arrow(axes, (2.2 * column - 0.6, height + 0.5), (2.2 * column, height + 0.5))
    _box(axes, 8.8, 1, ORANGE, "fusion", f"1 × 1 conv,\n{_count(network.fuse_cnn)} parameters")
    _box(axes, 8.8, 3, ORANGE, "fusion", f"1 × 1 conv,\n{_count(network.fuse)} parameters")
    for start, end in (
        ((8.2, 2.4), (8.8, 1.7)),
        ((8.2, 0.6), (8.8, 1.3)),
        ((8.2, 4.4), (8.8, 3.7)),
        ((9.6, 2), (9.6, 3)),
    ):
        _arrow(axes, start, end)
    _arrow(axes, (3.6, 4), (4.5, 3), colour=BLUE)
    axes.text(
        3.75, 3.45, f"first tap: after\nblock {vlsm.taps[0]}, from 0", ha="right", va="center", color=BLUE, fontsize=8
    )
    _arrow(axes, (3.8, 2.5), (4.4, 2.5), colour=GREEN)
    _arrow(axes, (3.8, 2.8), (4.9, 4), colour=GREEN)
    axes.text(4.66, 3.5, "FiLM", color=GREEN, fontsize=8)
    axes.text(4.1, 2.42, "FiLM", color=GREEN, fontsize=8, ha="center", va="top")
    _arrow(axes, (5.2, 2), (5.2, 1), colour=GREEN)
    axes.text(5.3, 1.45, "resized, concatenated with the CNN's map", color=GREEN, fontsize=8, va="center")
    _arrow(axes, (3.0, 0), (7.4, 0), colour=ORANGE, bend="arc3,rad=0.16")
    axes.text(5.2, -0.52, "three skips", color=ORANGE, fontsize=8, ha="center", va="top")
    axes.set(xlim=(-0.1, 10.5), ylim=(-0.8, 5.1))
    axes.axis("off")
    figure.tight_layout(pad=0.3)
    return figure


def _count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _box(axes: plt.Axes, left: float, bottom: float, colour: str, name: str, details: str) -> float:
    """Draw a box of BOX_WIDTH by 1 with its name above its details; returns its left edge."""
    axes.add_patch(Rectangle((left, bottom), BOX_WIDTH, 1, facecolor=colour, edgecolor="none", alpha=0.2))
    middle = left + BOX_WIDTH / 2
    axes.text(middle, bottom + 0.93, name, ha="center", va="top", weight="bold")
    axes.text(middle, bottom + 0.34, details, ha="center", va="center", fontsize=8)
    return left


def _meeting(axes: plt.Axes, left: float, taps: Sequence[int]) -> None:
    """The two inputs of the decoder at `left`: the taps of the vision encoder, and the embedding through FiLM."""
    middle = left + BOX_WIDTH / 2
    label = f"taps\n{', '.join(map(str, taps))}"  # above the arrow from the vision encoder to the decoder
    axes.text(left - 0.25, 2.6, label, ha="center", va="bottom", color=BLUE, fontsize=8)
    _arrow(axes, (middle, 1), (middle, 2), colour=ORANGE)
    axes.text(middle + 0.1, 1.5, "FiLM: scales and shifts", va="center", color=ORANGE, fontsize=8)
