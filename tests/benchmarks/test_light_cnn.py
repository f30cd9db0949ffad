import pytest
import torch

from benchmarks import light_cnn


def test_every_decoder_takes_a_step_and_has_a_row(monkeypatch):
    names = ("U-Net, 64 to 4", "U-Net, 128 to 16, depthwise", "FPN, 64 / 32, two stages frozen")
    monkeypatch.setattr(light_cnn, "DECODERS", {name: light_cnn.DECODERS[name] for name in names})
    table = light_cnn.measured(64, 1, torch.channels_last)
    assert list(table["way"]) == list(names)
    assert (table["seconds"] > 0).all()
    assert table["times_unet_d"][0] == pytest.approx(1)


def test_frozen_stages_get_no_gradient_and_a_depthwise_decoder_is_smaller():
    frozen = [p for p in light_cnn.fpn(64, 32, 2).parameters() if not p.requires_grad]
    stem = 3 * 32 * 9 + 2 * 32
    assert sum(p.numel() for p in frozen) > stem
    channels = (64, 32, 16, 16, 16)
    whole, split = (
        sum(p.numel() for p in make(*channels).parameters()) for make in (light_cnn.unet, light_cnn.separable_unet)
    )
    assert split < whole
