import pytest
import torch

from vlsm_helpers.errors import TrainingError
from vlsm_helpers.models.biomedclipseg import BiomedCLIPSeg
from vlsm_helpers.models.clipseg import CLIPSeg
from vlsm_helpers.models.state import (
    encoder_hash,
    fingerprint,
    frozen_state,
    load_trainable_state_dict,
    trainable_state_dict,
)
from vlsm_helpers.models.unet_d import UNetD


def test_a_cnn_has_nothing_frozen():
    assert frozen_state(UNetD(width=1 / 32)) == {}


def test_the_encoders_of_a_vision_language_segmenter_are_frozen_except_what_trains(tiny_weights):
    for segmenter in (CLIPSeg(tiny_weights / "clipseg"), BiomedCLIPSeg(tiny_weights / "biomedclip")):
        assert set(frozen_state(segmenter)) == {name for name, _ in segmenter.named_parameters() if name[:5] == "clip."}
    frozen = set(frozen_state(CLIPSeg(tiny_weights / "clipseg", train="encoders")))
    assert "clip.visual_projection.weight" in frozen
    assert not any(name.startswith("clip.text_model.") for name in frozen)


@pytest.mark.parametrize(
    "other",
    [
        {"a": torch.tensor([1.0, 2.0]), "c": torch.tensor(3.0)},
        {"a": torch.tensor([1.0, 2.5]), "b": torch.tensor(3.0)},
        {"a": torch.tensor([[1.0, 2.0]]), "b": torch.tensor(3.0)},
        {"a": torch.tensor([1.0, 2.0]).double(), "b": torch.tensor(3.0)},
        {"a": torch.tensor([1.0, 2.0])},
    ],
    ids=["name", "value", "shape", "type", "one less"],
)
def test_fingerprints_differ_where_tensors_do(other):
    tensors = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor(3.0)}
    assert fingerprint(tensors) == fingerprint(dict(reversed(tensors.items())))
    assert fingerprint(tensors) != fingerprint(other)


def test_a_fingerprint_does_not_hang_on_how_values_lie_in_memory():
    values = torch.arange(24.0).reshape(1, 2, 3, 4)
    assert fingerprint({"a": values}) == fingerprint({"a": values.to(memory_format=torch.channels_last)})


def test_a_cnn_saves_all_of_itself():
    network = UNetD(width=1 / 32)
    assert trainable_state_dict(network).keys() == network.state_dict().keys()
    assert encoder_hash(network) is None


@pytest.mark.parametrize("train", ["decoder", "encoders", "lora"])
def test_frozen_and_trainable_state_make_up_the_whole(tiny_weights, train):
    if train == "lora":
        pytest.importorskip("peft")
    first, again = (CLIPSeg(tiny_weights / "clipseg", train=train).eval() for _ in range(2))
    own, frozen = trainable_state_dict(first), frozen_state(first)
    assert own.keys() | frozen.keys() == first.state_dict().keys()
    assert not own.keys() & frozen.keys()
    assert own.keys() >= {name for name, parameter in first.named_parameters() if parameter.requires_grad}
    with torch.no_grad():
        for value in own.values():
            value.add_(0.01)
    load_trainable_state_dict(again, own)
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(again(images, "polyp"), first(images, "polyp"))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda own: own.pop("film_mul.bias"), "decoder.film_mul.bias: None instead of .16,"),
        (lambda own: own.update(more=torch.zeros(2)), "more: .2,. instead of None"),
        (lambda own: own.update({"film_mul.bias": torch.zeros(3)}), ".3,. instead of .16,"),
    ],
    ids=["missing", "unexpected", "of another shape"],
)
def test_a_state_that_does_not_fit_is_refused(tiny_weights, spoil, message):
    segmenter = CLIPSeg(tiny_weights / "clipseg")
    own = {name.removeprefix("decoder."): value for name, value in trainable_state_dict(segmenter).items()}
    spoil(own)
    with pytest.raises(TrainingError, match=f"1 tensors differ .*{message}"):
        load_trainable_state_dict(
            segmenter, {name if name == "more" else f"decoder.{name}": value for name, value in own.items()}
        )
