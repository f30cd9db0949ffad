"""What `vlsm segment --with` may name."""

import numpy as np
import pytest
import torch

import vlsm_helpers as vlsm
from tests.helpers import keep
from vlsm_helpers.cli.sources import is_zero_shot, predictor_from
from vlsm_helpers.errors import SettingsError
from vlsm_helpers.models import pretrained

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)


def run_of(member, folder):
    """A run's best checkpoint, as `fit` saves it."""
    folder.mkdir(parents=True)
    return keep(member, folder / "best.safetensors").parent


@pytest.fixture(autouse=True)
def tiny(monkeypatch, own_runs):
    monkeypatch.setenv("VLSM_PROFILE", "tiny")


@torch.no_grad()
def test_clipseg_without_training_by_its_name_and_by_its_folder():
    member = vlsm.build("clipseg", "tiny").eval()
    folder = pretrained.find("tiny", pretrained.CLIPSEG)
    for source in ("clipseg", str(folder)):
        found = predictor_from(source, prompted=True)
        assert found.size == member.image_size
        square = torch.from_numpy(vlsm_square(found.size)).permute(2, 0, 1)[None].float() / 255
        expected = member(square, "a polyp").sigmoid()[0, 0]
        probability = found(vlsm_square(found.size), "a polyp").probability
        np.testing.assert_allclose(probability, expected, atol=1e-6)


def vlsm_square(size):
    return np.random.default_rng(1).integers(0, 256, (size, size, 3), dtype=np.uint8)


def test_a_run_by_its_folder_and_by_its_name(tmp_path):
    torch.manual_seed(0)
    folder = run_of(vlsm.build("unet_d", width=1 / 32), tmp_path / "runs" / "mine")
    by_folder, by_name = (predictor_from(source, prompted=False) for source in (str(folder), "mine"))
    np.testing.assert_array_equal(by_folder(IMAGE).probability, by_name(IMAGE).probability)
    assert by_name.size == 32


def test_a_model_that_takes_text_needs_a_prompt(tmp_path):
    run_of(vlsm.build("clipseg", "tiny"), tmp_path / "runs" / "mine")
    for source in ("clipseg", "mine"):
        with pytest.raises(SettingsError, match="prompt") as failure:
            predictor_from(source, prompted=False)
        assert failure.value.where == source


@pytest.mark.parametrize("source", ["nowhere", "unet_d", "./no/folder", "a/b/c"])
def test_what_is_no_model_is_told(source):
    assert not is_zero_shot(source)
    with pytest.raises(SettingsError, match="no predictor") as failure:
        predictor_from(source, prompted=True)
    assert (failure.value.where, "vlsm train unet_d" in failure.value.hint) == (source, source == "unet_d")


def test_an_id_on_the_hub_is_one():
    assert is_zero_shot("CIDAS/clipseg-rd64-refined")
    assert is_zero_shot("CIDAS/clipseg-rd64-refined@main")
