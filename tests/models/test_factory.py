import inspect
import itertools
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.helpers import keep
from vlsm_helpers.errors import SettingsError, TrainingError
from vlsm_helpers.io.checkpoints import load_checkpoint, save_checkpoint
from vlsm_helpers.models import factory
from vlsm_helpers.settings.profiles import CLIPSEG_WEIGHTS, PROFILES


@pytest.fixture
def clipseg_run(tiny_weights, tmp_path):
    """A CLIPSeg on a copy of the weights, and a checkpoint of it."""
    weights = shutil.copytree(tiny_weights / "clipseg", tmp_path / "weights")
    member = factory.build("clipseg", weights=weights).eval()
    return member, keep(member, tmp_path / "best.safetensors")


def test_frozen_weights_are_taken_from_where_they_were_taken_before(clipseg_run):
    member, path = clipseg_run
    assert not any(name.startswith("clip.") for name in load_checkpoint(path)[0])
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(factory.load(path)[0](images, "polyp"), member(images, "polyp"))


def test_other_weights_in_that_place_are_refused(clipseg_run, tmp_path):
    _, path = clipseg_run
    tensors = load_file(tmp_path / "weights" / "model.safetensors")
    tensors["clip.text_model.final_layer_norm.bias"][0] += 1e-3
    save_file(tensors, tmp_path / "weights" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(TrainingError, match="not those that this run was trained on"):
        factory.load(path)


def test_a_checkpoint_that_does_not_hold_the_whole_decoder_is_refused(clipseg_run, tmp_path):
    _, path = clipseg_run
    own, facts = load_checkpoint(path)
    own.pop("decoder.film_mul.bias")
    save_checkpoint(tmp_path / "b.safetensors", own, facts)
    with pytest.raises(TrainingError, match="decoder.film_mul.bias"):
        factory.load(tmp_path / "b.safetensors")


def test_an_unknown_member_is_told_the_nearest():
    with pytest.raises(SettingsError, match="did you mean unet_d"):
        factory.build("unet-d")


def test_an_option_that_a_member_does_not_have_is_refused():
    with pytest.raises(SettingsError, match="clipseg has no option 'width'") as failure:
        factory.build("clipseg", width=0.5)
    assert failure.value.hint == "it has weights, train, image_size."


def test_profile_options_are_options_of_that_member_and_no_others(tiny_weights):
    assert factory.profile_options("unet_d", PROFILES["tiny"]) == {"width": 0.125}
    assert factory.profile_options("clipseg", PROFILES["full"]) == {"weights": CLIPSEG_WEIGHTS}
    assert factory.profile_options("mine", PROFILES["full"]) == {}
    for name, profile in itertools.product(factory.MEMBERS, PROFILES.values()):
        assert (
            factory.profile_options(name, profile).keys() <= inspect.signature(factory.MEMBERS[name]).parameters.keys()
        )
