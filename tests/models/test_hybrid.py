import copy
from dataclasses import replace

import pytest
import torch

from vlsm_helpers.data.dataset import SegmentationDataset
from vlsm_helpers.data.samples import load_split
from vlsm_helpers.models import factory
from vlsm_helpers.models.biomedclipseg import BiomedCLIPSeg
from vlsm_helpers.models.hybrid import EnsembleB, Fusion, adapter_channels
from vlsm_helpers.training.feature_cache import cache_features
from vlsm_helpers.training.loop import fit
from vlsm_helpers.training.recipes import DECODER_ONLY

NAMES = ("ensemble_a", "ensemble_a_no_cnn", "ensemble_b", "ensemble_c")


@pytest.fixture(scope="module", params=NAMES)
def ensemble(request):
    """At the tiny profile, with the shipped miniatures."""
    torch.manual_seed(0)
    return factory.build(request.param, "tiny").eval()


def test_fusion_begins_with_the_mean():
    first, second = torch.randn(2, 1, 4, 4), torch.randn(2, 1, 4, 4)
    with torch.no_grad():
        torch.testing.assert_close(Fusion(2)(first, second), (first + second) / 2)


def test_no_encoder_runs_twice_and_no_block_above_the_last_tap(ensemble):
    images, runs = torch.rand(2, 3, 128, 128), []
    vlsms = [module for module in ensemble.modules() if hasattr(module, "taps")]
    for vlsm in vlsms:
        vision = (
            vlsm.clip.visual.trunk.blocks if isinstance(vlsm, BiomedCLIPSeg) else vlsm.clip.vision_model.encoder.layers
        )
        for block in vision:
            block.register_forward_hook(lambda *_: runs.append(1))
    with torch.no_grad():
        ensemble(images, "polyp")
        assert len(runs) == sum(vlsm.taps[-1] + 1 for vlsm in vlsms)
        features, text = ensemble.encode_images(images), ensemble.encode_text(["polyp"] * 2)
        runs.clear()
        ensemble(images, features=features, text=text)
    assert runs == []


def test_it_trains_from_cached_features_and_is_restored_from_its_checkpoint(ensemble, toy, tmp_path):
    ensemble = copy.deepcopy(ensemble)
    training, validation = (
        SegmentationDataset(load_split("toy", split), 64, prompt="p1") for split in ("train", "val")
    )
    live = validation[0]
    view = cache_features(ensemble, validation)
    with torch.no_grad():
        expected = ensemble(live["image"][None], live["prompt"])
        row = view[0]
        features = tuple(feature[None] for feature in row["features"])
        torch.testing.assert_close(
            ensemble(row["image"][None], row["prompt"], features=features), expected, atol=1e-4, rtol=0
        )
    history = fit(
        ensemble,
        cache_features(ensemble, training),
        view,
        tmp_path / "run",
        replace(DECODER_ONLY, epochs=2, batch_size=4),
    )
    assert len(history) == 2
    loaded, _ = factory.load(tmp_path / "run" / "best.safetensors")
    assert loaded.config == ensemble.config


def test_b_has_the_image_size_of_its_clipseg():
    ensemble = EnsembleB("tiny", width=0.125, image_size=64).eval()
    assert ensemble.encode_images(torch.rand(1, 3, 128, 128))[0].shape[1] == 1 + 4 * 4
    with torch.no_grad():
        assert ensemble(torch.rand(1, 3, 128, 128), "polyp").shape == (1, 1, 128, 128)


def test_the_adapters_width_follows_the_cnns_and_fits_the_attentions_heads():
    assert [adapter_channels(width) for width in (1, 0.5, 0.125, 0.01)] == [128, 64, 16, 4]
