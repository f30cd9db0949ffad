import copy
from dataclasses import replace

import pytest
import torch

from vlsm_helpers.data.dataset import SegmentationDataset
from vlsm_helpers.data.samples import load_split
from vlsm_helpers.models import factory
from vlsm_helpers.models.biomedclipseg import BiomedCLIPSeg
from vlsm_helpers.models.hybrid import EnsembleB, Fusion, adapter_channels
from vlsm_helpers.models.segmenter import trainable_parameters
from vlsm_helpers.settings.profiles import PROFILES
from vlsm_helpers.training.feature_cache import cache_features
from vlsm_helpers.training.loop import fit
from vlsm_helpers.training.recipes import DECODER_ONLY

NAMES = ("ensemble_a", "ensemble_a_no_cnn", "ensemble_b", "ensemble_c")
PROMPTS = ["polyp", "a large dark lesion on the left", "", "bump"]


@pytest.fixture(scope="module", params=NAMES)
def ensemble(request):
    """At the tiny profile, with the shipped miniatures."""
    torch.manual_seed(0)
    return factory.build(request.param, "tiny").eval()


def other_fusions(ensemble):
    """The same with fusion weights that are no means, so that no part's part is lost in a zero or a symmetry."""
    ensemble = copy.deepcopy(ensemble)
    for module in ensemble.modules():
        if isinstance(module, Fusion):
            torch.nn.init.normal_(module.weight, 0.5, 0.2)
    return ensemble


def test_fusion_begins_with_the_mean():
    first, second = torch.randn(2, 1, 4, 4), torch.randn(2, 1, 4, 4)
    with torch.no_grad():
        torch.testing.assert_close(Fusion(2)(first, second), (first + second) / 2)


@pytest.mark.parametrize("size", [(128, 128), (50, 70)])
def test_logits_have_the_images_size_whatever_it_is(ensemble, size):
    with torch.no_grad():
        assert ensemble(torch.rand(2, 3, *size), "polyp").shape == (2, 1, *size)


def test_a_prediction_does_not_depend_on_its_neighbours(ensemble):
    images = torch.rand(4, 3, 128, 128)
    with torch.no_grad():
        together = ensemble(images, PROMPTS)
        alone = torch.cat([ensemble(image[None], prompt) for image, prompt in zip(images, PROMPTS, strict=True)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_the_prompt_and_the_image_matter(ensemble):
    images = torch.rand(1, 3, 128, 128)
    with torch.no_grad():
        first = ensemble(images, "polyp")
        assert not torch.allclose(first, ensemble(images, "a blue square"), atol=1e-4)
        assert not torch.allclose(first, ensemble(images.flip(-1), "polyp"), atol=1e-4)


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


def test_gradients_reach_all_that_trains_and_nothing_of_the_encoders(ensemble):
    ensemble = other_fusions(ensemble).train()
    ensemble(torch.rand(2, 3, 128, 128), ["polyp", "lesion"]).square().mean().backward()
    reached = {name for name, parameter in ensemble.named_parameters() if parameter.grad is not None}
    assert reached == {name for name, parameter in ensemble.named_parameters() if parameter.requires_grad}
    assert reached == {name for name, _ in ensemble.named_parameters() if "clip." not in name}
    assert not any(part.training for encoder in ensemble.encoders() for part in encoder.modules())


@pytest.mark.parametrize("name", NAMES)
def test_encoders_may_train_too(name):
    options = factory.profile_options(name, PROFILES["tiny"])
    ensemble = factory.build(name, **options, train="encoders").train()
    ensemble(torch.rand(2, 3, 128, 128), ["polyp", "lesion"]).square().mean().backward()
    assert trainable_parameters(ensemble) == sum(p.numel() for p in ensemble.parameters() if p.grad is not None)
    assert any(p.grad is not None for encoder in ensemble.encoders() for p in encoder.parameters())


def test_a_member_is_made_again_from_its_configuration(ensemble):
    again = factory.build(**ensemble.config).eval()
    again.load_state_dict(ensemble.state_dict())
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(again(images, "polyp"), ensemble(images, "polyp"))


def test_it_trains_from_cached_features_and_comes_back_from_its_checkpoint(ensemble, toy, tmp_path):
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


def test_b_takes_clipsegs_sizes():
    ensemble = EnsembleB("tiny", width=0.125, image_size=64).eval()
    assert ensemble.encode_images(torch.rand(1, 3, 128, 128))[0].shape[1] == 1 + 4 * 4
    with torch.no_grad():
        assert ensemble(torch.rand(1, 3, 128, 128), "polyp").shape == (1, 1, 128, 128)


def test_the_adapters_width_follows_the_cnns_and_fits_the_attentions_heads():
    assert [adapter_channels(width) for width in (1, 0.5, 0.125, 0.01)] == [128, 64, 16, 4]
