"""EfficientNet-Lite0's ImageNet weights: from a folder, the hub's cache or the Python package, and only the published ones."""

import shutil

import matplotlib.cbook
import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from tests.models.test_pretrained import in_hub_cache
from tests.no_network import run_without_network
from vlsm_helpers.errors import WeightsError
from vlsm_helpers.models import imagenet

MILITARY_UNIFORM = 652  # of ImageNet's 1000 classes
WITHOUT_ANY = """
import sys
from vlsm_helpers.errors import WeightsError
from vlsm_helpers.models import imagenet
imagenet.PACKAGE = "no_such_package"
print(imagenet.at_hand(), len(requests))
try:
    imagenet.load_efficientnet_lite0()
except WeightsError as error:
    print(imagenet.DISTRIBUTION in error.hint, imagenet.HUB_ID in error.hint, "VLSM_WEIGHTS" in error.hint)
"""


@pytest.fixture(autouse=True)
def no_other_weights(tmp_path, monkeypatch):
    """Neither a hub's cache nor a folder of weights; the Python package, which `make test` installs, is there."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("VLSM_WEIGHTS", raising=False)


@pytest.fixture(scope="module")
def classifier():
    network = timm.create_model(imagenet.ARCHITECTURE).eval()
    missing, unexpected = network.load_state_dict(imagenet.load_efficientnet_lite0(), strict=False)
    assert all(name.endswith(imagenet.COUNTERS) for name in missing)
    assert not unexpected
    return network


@pytest.fixture
def published(tmp_path):
    """A folder as the hub has it, of random weights; a batch norm's counter is a tensor there."""
    torch.manual_seed(1)
    folder = tmp_path / "brought" / "efficientnet_lite0"
    folder.mkdir(parents=True)
    save_file(timm.create_model(imagenet.ARCHITECTURE).state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text("{}")
    return folder


def photograph():
    """Grace Hopper in uniform, (1, 3, 224, 224) in [0, 1]: a picture in the public domain that matplotlib brings."""
    image = Image.open(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)).convert("RGB")
    image = image.crop((0, 0, image.width, image.width)).resize((224, 224), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None] / 255


def test_the_packages_weights_classify_a_photograph(classifier):
    """They stand in the right places: any two tensors exchanged, and the class would be another."""
    pixels = (photograph() - imagenet.MEAN[0]) / imagenet.STD[0]
    with torch.no_grad():
        probabilities = classifier(pixels).softmax(1)[0]
    assert probabilities.argmax() == MILITARY_UNIFORM
    assert probabilities.max() > 0.25  # of 1000 classes


def test_every_batch_norms_statistics_are_those_of_what_it_gets(classifier):
    """In each of the 49 batch norms the photograph's activations lie where its running mean and variance say."""
    distances = []

    def compare(norm, inputs):
        standardised = (inputs[0].mean((0, 2, 3)) - norm.running_mean) / (norm.running_var + norm.eps).sqrt()
        distances.append(standardised.abs().median().item())

    norms = [module for module in classifier.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(compare) for norm in norms]
    with torch.no_grad():
        classifier((photograph() - imagenet.MEAN[0]) / imagenet.STD[0])
    for hook in hooks:
        hook.remove()
    assert len(distances) == 49
    assert max(distances) < 1  # standard deviations


def test_an_encoder_gets_all_its_tensors():
    tensors = imagenet.load_efficientnet_lite0()
    encoder = timm.create_model(imagenet.ARCHITECTURE, features_only=True)
    imagenet.load_encoder(encoder)
    state = {name: value for name, value in encoder.state_dict().items() if not name.endswith(imagenet.COUNTERS)}
    assert tensors.keys() - state.keys() == {name for name in tensors if name.startswith(imagenet.HEAD)}
    assert all(torch.equal(value, tensors[name]) for name, value in state.items())
    with pytest.raises(KeyError):
        imagenet.load_encoder(timm.create_model("mobilenetv3_small_050", features_only=True))


def test_a_file_that_was_tampered_with_is_not_opened(tmp_path, monkeypatch):
    tampered = tmp_path / "weights.pth"
    shutil.copyfile(imagenet.package_file(), tampered)
    with tampered.open("r+b") as file:
        file.seek(5_000_000)
        byte = file.read(1)
        file.seek(5_000_000)
        file.write(bytes([byte[0] ^ 1]))
    monkeypatch.setattr(imagenet, "package_file", lambda: tampered)
    monkeypatch.setattr(imagenet, "read_tensors", lambda path: pytest.fail("the file was opened"))
    with pytest.raises(WeightsError) as caught:
        imagenet.load_efficientnet_lite0()
    assert caught.value.where == tampered
    assert imagenet.DISTRIBUTION in caught.value.hint


def test_a_folder_of_ones_own_wins_over_the_package(published, monkeypatch):
    from_package = imagenet.load_efficientnet_lite0()
    assert imagenet.origin().startswith(imagenet.DISTRIBUTION)
    monkeypatch.setenv("VLSM_WEIGHTS", str(published.parent))
    assert imagenet.origin() == imagenet.HUB_ID
    brought, named = imagenet.load_efficientnet_lite0(), imagenet.load_efficientnet_lite0(published)
    assert brought.keys() == named.keys() == from_package.keys()
    assert torch.equal(brought["conv_stem.weight"], named["conv_stem.weight"])
    assert not torch.equal(brought["conv_stem.weight"], from_package["conv_stem.weight"])


def test_the_hubs_cache_is_used_where_it_has_them(published, tmp_path, monkeypatch):
    in_hub_cache(tmp_path / "cache", imagenet.HUB_ID, published)
    monkeypatch.setattr(imagenet, "PACKAGE", "no_such_package")
    assert imagenet.at_hand()
    assert len(imagenet.load_efficientnet_lite0()) == 247


def test_weights_of_another_network_are_refused(published):
    save_file(timm.create_model("mobilenetv3_small_050").state_dict(), published / "model.safetensors")
    with pytest.raises(WeightsError) as caught:
        imagenet.load_efficientnet_lite0(published)
    assert caught.value.where == published / "model.safetensors"


def test_without_any_the_error_names_every_way_to_get_them(tmp_path):
    variables = {"HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "0", "VLSM_WEIGHTS": ""}
    assert run_without_network(WITHOUT_ANY, **variables) == ["False 0", "True True True"]
