import pytest
import torch

from vlsm_helpers.checkpoints import save_checkpoint
from vlsm_helpers.errors import SettingsError
from vlsm_helpers.models import members


def test_a_member_is_made_again_from_its_configuration(tmp_path):
    torch.manual_seed(0)
    member = members.build("unet_d", width=1 / 32).eval()
    path = tmp_path / "best.safetensors"
    save_checkpoint(path, member.state_dict(), {"member": member.config, "image_size": 32})
    loaded, facts = members.load(path)
    images = torch.rand(2, 3, 32, 32)
    assert facts["image_size"] == 32
    assert not loaded.training
    assert torch.equal(loaded(images), member(images))


def test_an_unknown_member_is_told_the_nearest():
    with pytest.raises(SettingsError, match="did you mean unet_d"):
        members.build("unet-d")


def test_an_option_that_a_member_does_not_have_is_refused():
    with pytest.raises(SettingsError, match="clipseg has no option 'width'") as failure:
        members.build("clipseg", width=0.5)
    assert failure.value.mend == "it has weights, train, image_size."
