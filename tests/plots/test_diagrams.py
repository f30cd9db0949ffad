import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pytest

from vlsm_helpers.models.clipseg import CLIPSeg
from vlsm_helpers.models.hybrid import EnsembleA
from vlsm_helpers.models.unet_d import UNetD
from vlsm_helpers.plots import diagrams


@pytest.mark.parametrize(("width", "size", "bottleneck"), [(0.125, 128, "155\n8²"), (0.25, 64, "310\n4²")])
def test_the_drawing_says_the_networks_own_shapes(width, size, bottleneck):
    network = UNetD(width)
    figure = diagrams.unet_d(network, size)
    labels = [text.get_text() for text in figure.axes[0].texts]
    assert bottleneck in labels
    assert f"image\n3\n{size}²" in labels
    assert f"logits\n1\n{size}²" in labels
    plt.close(figure)


def test_drawing_leaves_the_network_as_it_was():
    network = UNetD(1 / 32).train()
    statistics = network.encoder[0].norm.running_mean.clone()
    plt.close(diagrams.unet_d(network, 32))
    assert network.training
    assert (network.encoder[0].norm.running_mean == statistics).all()
    assert not network.head._forward_hooks


def test_the_drawing_of_clipseg_says_the_networks_own_sizes(tiny_weights):
    figure = diagrams.clipseg(CLIPSeg(tiny_weights / "clipseg", image_size=96))
    labels = [text.get_text() for text in figure.axes[0].texts]
    for words in ("96 × 96", "6 × 6 patches,\n1 class token", "10 blocks,\nwidth 48", "at most 24", "taps 3, 6, 9"):
        assert words in labels
    plt.close(figure)


def test_the_drawing_of_ensemble_a_says_the_networks_own_sizes():
    network = EnsembleA("tiny", width=0.125)
    figure = diagrams.ensemble_a(network)
    labels = [text.get_text() for text in figure.axes[0].texts]
    for words in (
        "128 × 128",
        "a map, 8 × 8,\n16 channels",
        "16 + 64\nchannels",
        "first tap\n(block 2)",
        "1 × 1, 3 numbers",
    ):
        assert words in labels
    plt.close(figure)
