import pytest
import torch

from vlsm_helpers.models.biomedclipseg import BiomedCLIPSeg
from vlsm_helpers.models.clipseg import CLIPSeg
from vlsm_helpers.models.frozen import fingerprint, frozen_state
from vlsm_helpers.models.unet_d import UNetD


def test_a_cnn_has_nothing_frozen():
    assert frozen_state(UNetD(width=1 / 32)) == {}


def test_of_a_vision_language_segmenter_the_encoders_are_frozen_but_for_what_trains(tiny_weights):
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
