import pytest
import torch
from torch import nn

from vlsm_helpers.models.segmenter import Segmenter, as_prompts, resize, trainable_parameters


class Brightness(Segmenter):
    """A user's member: bright pixels are foreground, and the prompt's length is added."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def encode_images(self, images):
        return (images.mean(dim=1, keepdim=True),)

    def encode_text(self, prompts):
        return torch.tensor([[float(len(prompt))] for prompt in prompts])

    def decode(self, features, text, images, size):
        return self.scale * features[0] + text[:, :, None, None]


def test_the_call_is_composed_of_the_three_parts():
    images = torch.zeros(2, 3, 4, 4)
    logits = Brightness()(images, ["a", "four"])
    assert logits.shape == (2, 1, 4, 4)
    assert logits[0].unique().item() == 1
    assert logits[1].unique().item() == 4


def test_one_prompt_serves_all_images():
    assert Brightness()(torch.zeros(3, 3, 2, 2), "ab").unique().item() == 2


@pytest.mark.parametrize(
    ("shape", "kind"),
    [((3, 4, 4), "float32"), ((1, 1, 4, 4), "float32"), ((1, 4, 4, 3), "float32"), ((1, 3, 4, 4), "uint8")],
)
def test_images_of_another_shape_or_type_are_refused(shape, kind):
    with pytest.raises(ValueError, match=f"images must be float.*{kind}"):
        Brightness()(torch.zeros(shape, dtype=getattr(torch, kind)), "")


def test_a_list_of_another_length_is_refused():
    with pytest.raises(ValueError, match="2 prompts for 3 images"):
        as_prompts(["a", "b"], 3)


def test_frozen_parameters_are_not_counted():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    model[0].requires_grad_(False)
    assert trainable_parameters(model) == 4


@pytest.mark.parametrize("shape", [(4, 6), (2, 4, 6), (2, 3, 4, 6)])
def test_maps_of_any_number_of_dimensions_are_resized_alike(shape):
    maps = torch.rand(shape)
    planes = torch.stack([resize(plane, (8, 3)) for plane in maps.reshape(-1, 4, 6)])
    torch.testing.assert_close(resize(maps, (8, 3)), planes.view(*shape[:-2], 8, 3))
    assert resize(maps, (4, 6)) is maps
