import pytest

from vlsm_helpers import plots
from vlsm_helpers.models.clipseg import CLIPSeg
from vlsm_helpers.models.hybrid import EnsembleA
from vlsm_helpers.models.unet_d import UNetD


@pytest.mark.parametrize(("width", "size", "bottleneck"), [(0.125, 128, "155\n8²"), (0.25, 64, "310\n4²")])
def test_the_diagram_shows_the_shapes_of_the_network(width, size, bottleneck):
    network = UNetD(width)
    figure = plots.unet_d_diagram(network, size)
    labels = [text.get_text() for text in figure.axes[0].texts]
    assert bottleneck in labels
    assert f"image\n3\n{size}²" in labels
    assert f"logits\n1\n{size}²" in labels


def test_a_diagram_leaves_the_network_as_it_was():
    network = UNetD(1 / 32).train()
    statistics = network.encoder[0].norm.running_mean.clone()
    plots.unet_d_diagram(network, 32)
    assert network.training
    assert (network.encoder[0].norm.running_mean == statistics).all()
    assert not network.head._forward_hooks


def test_the_diagram_of_clipseg_shows_the_networks_sizes(tiny_weights):
    figure = plots.clipseg_diagram(CLIPSeg(tiny_weights / "clipseg", image_size=96))
    labels = [text.get_text() for text in figure.axes[0].texts]
    for words in ("96 × 96", "6 × 6 patches,\n1 class token", "10 blocks,\nwidth 48", "at most 24", "taps\n3, 6, 9"):
        assert words in labels


def test_the_diagram_of_ensemble_a_shows_the_networks_sizes():
    network = EnsembleA("tiny", width=0.125)
    figure = plots.ensemble_a_diagram(network)
    labels = [text.get_text() for text in figure.axes[0].texts]
    for words in (
        "128 × 128",
        "a map, 8 × 8,\n16 channels",
        "16 + 64\nchannels",
        "first tap: after\nblock 2, from 0",
        "1 × 1 conv,\n3 parameters",
    ):
        assert words in labels
