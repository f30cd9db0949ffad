"""Drawings of networks: boxes whose sizes are read off the network itself."""

from itertools import pairwise

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

from vlsm_helpers.models.unet_d import UNetD
from vlsm_helpers.plots import BLUE, GREEN, ORANGE, PURPLE, STYLE


def unet_d(network: UNetD, size: int) -> Figure:
    """UNet-D as a U: a box a level, as tall as its maps are and as wide as (the root of) their channels are many.

    The shapes are those that come out of the levels of `network` for an image of `size` pixels.
    """
    shapes = _shapes(network, size)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(9.5, 4.1))
        boxes, left = [], 0.0
        for number, (channels, side) in enumerate(shapes):
            width, height = 0.2 + channels**0.5 / 16, 0.45 + 2.6 * side / size
            colour = _colour(number, len(shapes))
            axes.add_patch(
                Rectangle((left, -height / 2), width, height, facecolor=colour, edgecolor="none", alpha=0.75)
            )
            role = {0: "image\n", len(shapes) - 1: "logits\n"}.get(number, "")
            label = f"{role}{channels}\n{side}²"
            axes.text(left + width / 2, -height / 2 - 0.08, label, ha="center", va="top", fontsize=8)
            boxes.append((left, left + width, height))
            left += width + 0.42
        for before, after in pairwise(boxes):
            _arrow(axes, (before[1], 0), (after[0], 0))
        _skips(axes, boxes)
        _legend(axes, left)
        axes.set(xlim=(-0.2, left), ylim=(-2.25, 2.2))
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
    """An encoder level's pooled maps go to the decoder level of that size: the first three, not the deepest."""
    middle = len(boxes) // 2
    for depth in range(1, 4):
        start, end = boxes[middle - 1 - depth], boxes[middle + depth]
        tops = [((box[0] + box[1]) / 2, box[2] / 2) for box in (start, end)]
        _arrow(axes, *tops, colour=ORANGE, bend=f"arc3,rad=-{0.27 + 0.02 * depth}")


def _arrow(axes, start, end, colour="#444444", bend="arc3,rad=0") -> None:
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=9, color=colour, connectionstyle=bend))


def _legend(axes: plt.Axes, right: float) -> None:
    words = [
        (BLUE, "encoder level: conv 3×3, conv 3×3, batch norm, ReLU, pool 2×2"),
        (PURPLE, "bottleneck: conv 1×1, channel attention (ECA)"),
        (GREEN, "decoder level: up 2×2, one conv 3×3 applied twice, batch norm, ReLU"),
        (ORANGE, "skip, taken after pooling: none at full resolution"),
    ]
    for row, (colour, text) in enumerate(words):
        axes.text(right / 2, -1.2 - 0.26 * row, f"■ {text}", color=colour, ha="center", va="top", fontsize=8)
