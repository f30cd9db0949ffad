import json
import shutil

import pytest
import segmentation_models_pytorch as smp
import torch
from safetensors.torch import load_file, save_file

from tests.helpers import keep
from tools.random_checkpoints import write_resnet
from vlsm_helpers.errors import WeightsError
from vlsm_helpers.experiments.runs import fitting_recipe
from vlsm_helpers.models import factory, imagenet, pretrained
from vlsm_helpers.models.smp_unet import IMAGENET_MEAN, IMAGENET_STD, ImageNetUNet, SMPUNet
from vlsm_helpers.settings.profiles import PROFILES
from vlsm_helpers.training.recipes import CNN, CNN_IMAGENET, CNN_PRETRAINED

SMALL = "tu-mobilenetv3_small_050"


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return SMPUNet(SMALL).eval()


@pytest.fixture
def resnet(tmp_path):
    """A folder for VLSM_WEIGHTS with a ResNet-18, as the library publishes its encoders."""
    torch.manual_seed(1)
    write_resnet(tmp_path / "brought" / "resnet50", tiny=True)
    return tmp_path / "brought" / "resnet50"


def test_it_is_the_librarys_network_on_images_normalised_as_imagenet(small):
    images = torch.rand(2, 3, 64, 96)
    normalised = torch.stack([(images[:, k] - IMAGENET_MEAN[k]) / IMAGENET_STD[k] for k in range(3)], dim=1)
    same = smp.Unet(SMALL, encoder_weights=None).eval()
    same.load_state_dict(small.network.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(small(images), same(normalised))


def test_at_full_size_it_is_the_unet_of_the_benchmark():
    assert PROFILES["full"].smp_encoder == "resnet50"
    assert sum(p.numel() for p in SMPUNet().parameters()) == 32_521_105


def test_the_encoder_begins_with_the_weights_of_a_folder(resnet):
    segmenter = SMPUNet("resnet18", resnet)
    published = load_file(resnet / "model.safetensors")
    mine = segmenter.network.encoder.state_dict()
    assert set(published) - set(mine) == {"fc.weight", "fc.bias"}
    assert all(torch.equal(mine[name], published[name]) for name in mine)
    assert segmenter.started_from == str(resnet)


def test_brought_weights_stand_in_for_the_published_ones(resnet, monkeypatch):
    monkeypatch.setenv("VLSM_WEIGHTS", str(resnet.parent))
    segmenter = SMPUNet("resnet18", PROFILES["full"].smp_weights)
    published = load_file(resnet / "model.safetensors")
    assert torch.equal(segmenter.network.encoder.conv1.weight, published["conv1.weight"])
    assert segmenter.started_from == "smp-hub/resnet50.imagenet"


def test_a_checkpoint_needs_no_pretrained_weights_any_more(resnet, tmp_path):
    segmenter = SMPUNet("resnet18", resnet).eval()
    path = keep(segmenter, tmp_path / "best.safetensors")
    shutil.rmtree(resnet)
    images = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(factory.load(path)[0](images), segmenter(images))


def test_weights_of_another_network_are_refused(resnet):
    with pytest.raises(WeightsError, match="do not fit") as failure:
        SMPUNet("resnet34", resnet)
    assert str(resnet) in str(failure.value)


def test_weights_that_lack_a_tensor_or_a_file_are_refused(resnet):
    tensors = load_file(resnet / "model.safetensors")
    tensors.pop("layer1.0.conv1.weight")
    save_file(tensors, resnet / "model.safetensors")
    with pytest.raises(WeightsError, match="do not fit"):
        SMPUNet("resnet18", resnet)
    (resnet / "config.json").unlink()
    with pytest.raises(WeightsError, match=r"missing: config.json"):
        pretrained.find(resnet, pretrained.RESNET)


def test_a_pretrained_one_trains_with_a_lower_learning_rate(small, resnet):
    assert fitting_recipe(small) is CNN
    assert fitting_recipe(SMPUNet("resnet18", resnet)) is CNN_PRETRAINED
    assert CNN_PRETRAINED.learning_rate < CNN.learning_rate


# The light one that starts from ImageNet


@pytest.fixture(scope="module")
def light():
    torch.manual_seed(0)
    return ImageNetUNet().eval()


def test_the_light_one_is_an_fpn_around_the_pretrained_encoder(light):
    images = torch.rand(2, 3, 64, 96)
    tensors = imagenet.load_efficientnet_lite0()
    same = smp.FPN(
        "tu-tf_efficientnet_lite0", encoder_weights=None, decoder_pyramid_channels=128, decoder_segmentation_channels=64
    ).eval()
    same.load_state_dict(light.network.state_dict())
    encoder = {name: value for name, value in tensors.items() if not name.startswith(imagenet.HEAD)}
    same.encoder.model.load_state_dict(encoder, strict=False)  # as it should be already
    with torch.no_grad():
        torch.testing.assert_close(light(images), same(2 * images - 1))
    assert light.started_from == imagenet.origin()
    assert "Apache-2.0" in light.attribution


def test_a_checkpoint_of_the_light_one_needs_no_weights_any_more(light, tmp_path, monkeypatch):
    path = keep(light, tmp_path / "best.safetensors")
    monkeypatch.setattr(imagenet, "load_efficientnet_lite0", lambda *_: pytest.fail("it looked for weights"))
    loaded, _ = factory.load(path)
    images = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded(images), light(images))
    assert json.loads(json.dumps(light.config)) == light.config == loaded.config


def test_without_its_weights_the_light_one_starts_at_random_only_if_asked(monkeypatch):
    def none(*_):
        raise WeightsError("The weights are not on this machine.", hint=imagenet.DISTRIBUTION)

    monkeypatch.setattr(imagenet, "load_efficientnet_lite0", none)
    with pytest.raises(WeightsError):
        factory.build("unet_imagenet", **factory.profile_options("unet_imagenet", PROFILES["tiny"]))
    assert ImageNetUNet("none").started_from is None


def test_the_light_one_from_imagenet_has_a_recipe_of_its_own(light):
    assert fitting_recipe(light) is CNN_IMAGENET
    assert fitting_recipe(ImageNetUNet("none")) is CNN
