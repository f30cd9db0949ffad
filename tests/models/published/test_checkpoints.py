import pytest
import torch
from safetensors.torch import save_file

from tests.models.published.test_networks import published_state_dict
from vlsm_helpers.errors import SettingsError
from vlsm_helpers.models.biomedclipseg import BiomedCLIPSeg
from vlsm_helpers.models.published import checkpoints as published
from vlsm_helpers.models.published.checkpoints import load_published_state_dict
from vlsm_helpers.models.unet_d import UNetD


def test_an_unknown_network_is_refused():
    with pytest.raises(SettingsError, match="no published network 'ensemble_d'"):
        published.build("ensemble_d")


def test_a_network_is_saved_and_loaded_as_safetensors(tmp_path):
    model = published.build("unet_d").eval()
    published.save_published(model, tmp_path / "unet_d.safetensors")
    again = published.load_published(tmp_path / "unet_d.safetensors")
    images = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(again(images), model(images))
    save_file({"weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(SettingsError, match="without a name"):
        published.load_published(tmp_path / "other.safetensors")


def test_old_buffers_are_accepted_and_called_unused():
    state_dict = published_state_dict("unet_d") | {"clip.embeddings.position_ids": torch.arange(3)}
    assert "clip.embeddings.position_ids" in load_published_state_dict(UNetD(), state_dict).unused


def test_names_of_nobody_are_returned_as_unplaced():
    state_dict = published_state_dict("unet_d") | {"teacher.weight": torch.zeros(1)}
    assert load_published_state_dict(UNetD(), state_dict).unplaced == ["teacher.weight"]


def test_a_missing_entry_is_an_error_that_names_it():
    state_dict = published_state_dict("unet_d")
    del state_dict["outconv.bias"]
    with pytest.raises(RuntimeError, match="head.bias"):
        load_published_state_dict(UNetD(), state_dict)


def test_integer_buffers_are_accepted():
    state_dict = published_state_dict("unet_d") | {"bn1.num_batches_tracked": torch.tensor(7)}
    model = UNetD()
    assert load_published_state_dict(model, state_dict).unplaced == []
    assert model.encoder[0].norm.num_batches_tracked == 7


def test_biomedclipsegs_names_are_told_apart(tiny_weights):
    model = BiomedCLIPSeg(tiny_weights / "biomedclip")
    before = {name: value + 1 for name, value in model.state_dict().items()}
    theirs = {("biomed" + name if name.startswith("clip") else name): value for name, value in before.items()}
    old = "biomedclip.text.transformer.embeddings.position_ids"
    placement = load_published_state_dict(model, theirs | {old: torch.arange(32), "teacher.weight": torch.zeros(1)})
    assert placement == ([old], ["teacher.weight"])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
