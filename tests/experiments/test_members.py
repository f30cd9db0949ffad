"""Which members an ensemble joins, and the table has, with and without the light CNN's ImageNet weights."""

import json

import pytest

from vlsm_helpers.experiments.members import (
    CRIS,
    FUSED,
    LIGHT_CNN,
    MEMBERS,
    PROMPTED,
    at_hand,
    ensemble_members,
    left_out,
    members_for,
)
from vlsm_helpers.experiments.plan import paper_plan
from vlsm_helpers.models import imagenet
from vlsm_helpers.models.factory import build
from vlsm_helpers.models.vision_language import VisionLanguageSegmenter


@pytest.fixture
def without_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(imagenet, "PACKAGE", "no_such_package")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.delenv("VLSM_WEIGHTS", raising=False)


def test_the_light_cnn_is_joined_where_its_weights_are_at_hand():
    assert ensemble_members() == (*FUSED, LIGHT_CNN)
    assert LIGHT_CNN in paper_plan().members
    assert left_out(ensemble_members()) == ""


def test_without_its_weights_the_rest_is_joined_and_the_way_to_get_them_is_told(without_weights):
    assert ensemble_members() == FUSED
    assert set(MEMBERS) - set(paper_plan().members) == {LIGHT_CNN, CRIS}
    assert imagenet.DISTRIBUTION in left_out(ensemble_members())
    assert at_hand(("clipseg", "unet_d")) == ("clipseg", "unet_d")


@pytest.mark.parametrize(("profile", "there"), [("tiny", False), ("full", True)])
def test_cris_needs_imagenet_weights_where_its_image_encoder_is_the_light_one(monkeypatch, profile, there):
    monkeypatch.setenv("VLSM_PROFILE", profile)
    monkeypatch.setattr(imagenet, "at_hand", lambda: False)
    assert ("cris" in at_hand(MEMBERS)) == there
    monkeypatch.setattr(imagenet, "at_hand", lambda: True)
    assert at_hand(MEMBERS) == MEMBERS


def test_members_of_images_with_several_classes_have_a_text_input(toy):
    assert members_for("toy") == ensemble_members()
    for path in (toy / "anns").glob("*.json"):
        entries = json.loads(path.read_text())
        path.write_text(json.dumps([one | {"class": name} for one in entries for name in ("polyp", "tool")]))
    assert members_for("toy") == PROMPTED
    assert all(isinstance(build(name, "tiny"), VisionLanguageSegmenter) for name in PROMPTED)
    assert not any(isinstance(build(name, "tiny"), VisionLanguageSegmenter) for name in set(FUSED) - set(PROMPTED))
    assert "classes" in left_out(PROMPTED)
