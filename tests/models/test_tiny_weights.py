"""The miniatures that the package ships, and the tiny geometry that they share with UNet-D and the ensembles."""

import math

import pytest
import torch
from safetensors import safe_open
from torch import nn

from tests.no_network import run_without_network
from vlsm_helpers.models import pretrained
from vlsm_helpers.models.biomedclipseg import BiomedCLIPSeg, warm_start
from vlsm_helpers.models.clipseg import CLIPSeg
from vlsm_helpers.models.unet_d import UNetD
from vlsm_helpers.settings.profiles import PROFILES

TINY = PROFILES["tiny"]
KINDS = [pretrained.CLIPSEG, pretrained.BIOMEDCLIP]
LOGITS = f"""
import torch
from vlsm_helpers.models.biomedclipseg import BiomedCLIPSeg
from vlsm_helpers.models.clipseg import CLIPSeg
for member in (CLIPSeg("tiny"), BiomedCLIPSeg("tiny", mlp_dim={TINY.decoder_mlp_dim})):
    print(tuple(member(torch.rand(1, 3, 128, 128), "polyp").shape), len(requests), "requests")
"""


def clipseg():
    return CLIPSeg(TINY.clipseg_weights)


def biomedclipseg():
    return BiomedCLIPSeg(TINY.biomedclip_weights, mlp_dim=TINY.decoder_mlp_dim)


@pytest.fixture(params=["untrained", "shipped"])
def place(request, tiny_weights, monkeypatch):
    """The miniatures, and before them random ones of the same geometry: it had to fit before any was trained."""
    if request.param == "untrained":
        monkeypatch.setattr(pretrained, "SHIPPED", tiny_weights)


@pytest.mark.parametrize("make", [clipseg, biomedclipseg])
def test_token_grid_bottleneck_mask_head_and_decoder_agree(place, make):
    """The ensembles' wiring: the adapter's map joins UNet-D's bottleneck; its mask head and the decoder fill the image."""
    member, unet = make().eval(), UNetD(TINY.unet_width).eval()
    images = torch.rand(2, 3, TINY.image_size, TINY.image_size)
    with torch.no_grad():
        features, text = member.encode_images(images), member.encode_text(["polyp", "lesion"])
        bottleneck = nn.Sequential(*unet.encoder)(images)
        patches = features[0][:, 1:]  # without the class token
        side = math.isqrt(patches.shape[1])
        maps = nn.Linear(patches.shape[-1], 128)(patches).transpose(1, 2).unflatten(2, (side, side))
        joined = torch.cat([maps, bottleneck], dim=1)
        head = nn.Sequential(nn.ConvTranspose2d(128, 64, 4, stride=4), nn.ConvTranspose2d(64, 1, 4, stride=4))(maps)
        decoded = member.decoder(features, text).logits
        logits = nn.Conv2d(3, 1, 1)(torch.cat([decoded.unsqueeze(1), head, unet(images)], dim=1))
    assert joined.shape == (2, 128 + bottleneck.shape[1], 8, 8)
    assert logits.shape == (2, 1, TINY.image_size, TINY.image_size)
    assert {feature.shape[1] for feature in features} == {1 + side * side}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_miniature_is_small_in_half_precision_and_without_pickles(kind):
    folder = pretrained.find("tiny", kind)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sum(file.stat().st_size for file in files) < 8e6
    assert {file.suffix for file in files} <= {".json", ".txt", ".safetensors", ".md"}
    with safe_open(kind.tensors_in(folder), framework="pt") as tensors:
        kinds = {tensors.get_slice(name).get_dtype() for name in tensors.keys()}  # noqa: SIM118 - it has no other way
    assert kinds - {"I64"} == {"F16"}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_miniature_has_a_card(kind):
    card = (pretrained.find("tiny", kind) / "README.md").read_text(encoding="utf-8").lower()
    for word in ("not for clinical use", "data", "seed", "minutes", "hardware", "scores", "apache-2.0"):
        assert word in card, f"the card does not say: {word}"


def test_the_miniatures_load_as_the_published_ones_do_without_a_network():
    printed = run_without_network(LOGITS, HF_HUB_OFFLINE="1", VLSM_WEIGHTS="")
    assert printed == ["(1, 1, 128, 128) 0 requests"] * 2


def test_the_miniatures_decoders_have_one_shape():
    teacher, pupil = clipseg(), biomedclipseg()
    warm_start(pupil, teacher)
    assert torch.equal(pupil.decoder.film_mul.weight, teacher.decoder.film_mul.weight)
