"""What every member promises, whatever its network: one test per promise over all of MEMBERS at the tiny profile."""

import copy

import pytest
import torch

from tests.helpers import keep
from vlsm_helpers.models import factory
from vlsm_helpers.models.hybrid import Fusion
from vlsm_helpers.models.segmenter import trainable_parameters

PROMPTS = ["polyp", "a large dark lesion on the left", "", "息肉"]
IMAGE_ONLY = {"unet_d", "smp_unet", "unet_imagenet"}
CLIP = "cris with CLIP"  # the published encoders; at the tiny profile CRIS has lighter ones
BUILDS = [*factory.MEMBERS, CLIP]


@pytest.fixture(scope="module")
def build(tiny_weights):
    """Builds a member at the tiny profile; of CRIS only the decoder trains unless told otherwise."""

    def build(name, **options):
        torch.manual_seed(0)
        clip = {"weights": tiny_weights / "clip_rn50", "image_encoder": "clip_rn50", "image_size": 64}
        own = {CLIP: clip | {"train": "decoder"}, "cris": {"train": "decoder"}}.get(name, {})
        return factory.build("cris" if name == CLIP else name, "tiny", **(own | options))

    return build


@pytest.fixture(scope="module", params=BUILDS)
def member(request, build):
    """A member with frozen encoders, if it has any, in evaluation mode; the tests leave it as it is."""
    return request.param, build(request.param).eval()


def without_symmetry(segmenter):
    """A copy whose fusion weights are no means, so that no branch's gradient is lost in a symmetry."""
    segmenter = copy.deepcopy(segmenter)
    for module in segmenter.modules():
        if isinstance(module, Fusion):
            torch.nn.init.normal_(module.weight, 0.5, 0.2)
    return segmenter.train()


def names_with_gradient(segmenter):
    return {name for name, parameter in segmenter.named_parameters() if parameter.grad is not None}


def names_that_train(segmenter):
    return {name for name, parameter in segmenter.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("size", [(128, 128), (50, 75), (1, 1), (33, 140)])
def test_logits_are_finite_and_have_the_size_of_the_images(member, size):
    with torch.no_grad():
        logits = member[1](torch.rand(2, 3, *size), "polyp")
    assert logits.shape == (2, 1, *size)
    assert logits.isfinite().all()


def test_a_prediction_does_not_depend_on_the_rest_of_its_batch(member):
    images = torch.rand(4, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        together = member[1](images, PROMPTS)
        alone = torch.cat([member[1](image[None], prompt) for image, prompt in zip(images, PROMPTS, strict=True)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)  # a batch effect is 100 times as large


def test_the_image_matters_and_the_prompt_where_there_is_a_text_encoder(member):
    name, segmenter = member
    images = torch.rand(1, 3, 128, 128)
    with torch.no_grad():
        first = segmenter(images, "polyp")
        assert not torch.allclose(first, segmenter(images.flip(-1), "polyp"), atol=1e-6)
        assert torch.equal(first, segmenter(images, "a blue square")) is (name in IMAGE_ONLY)


def test_features_and_embeddings_that_are_given_replace_the_encoders(member):
    name, segmenter = member
    images, runs = torch.rand(2, 3, 128, 128), []
    with torch.no_grad():
        features, text = segmenter.encode_images(images), segmenter.encode_text(PROMPTS[:2])
        assert len(text) == 2
        expected = segmenter(images, PROMPTS[:2])
        hooks = [
            part.register_forward_hook(lambda part, *_: runs.append(part))
            for encoder in segmenter.encoders()
            for part in encoder.modules()
        ]
        torch.testing.assert_close(segmenter(images, features=features, text=text), expected)
    for hook in hooks:
        hook.remove()
    projection = segmenter.clip.text_projection if name == "cris" else None  # of words, in decode
    assert [part for part in runs if part is not projection] == []


def test_gradients_reach_all_that_trains_and_nothing_else(member):
    segmenter = without_symmetry(member[1])
    segmenter(torch.rand(2, 3, 128, 128), ["polyp", "lesion"]).square().mean().backward()
    frozen = {id(parameter) for encoder in segmenter.encoders() for parameter in encoder.parameters()}
    assert names_with_gradient(segmenter) == names_that_train(segmenter)
    assert names_that_train(segmenter) == {name for name, one in segmenter.named_parameters() if id(one) not in frozen}
    assert trainable_parameters(segmenter) == sum(p.numel() for p in segmenter.parameters() if p.grad is not None)
    assert not any(part.training for encoder in segmenter.encoders() for part in encoder.modules())


@pytest.mark.parametrize("name", [name for name in BUILDS if name not in IMAGE_ONLY])
def test_encoders_may_train_too(build, name):
    segmenter = without_symmetry(build(name, train="encoders"))
    segmenter(torch.rand(2, 3, 128, 128), ["polyp", "lesion"]).square().mean().backward()
    assert names_with_gradient(segmenter) == names_that_train(segmenter)
    assert any(one.grad is not None for encoder in segmenter.encoders() for one in encoder.parameters())
    assert any(part.training for encoder in segmenter.encoders() for part in encoder.modules())


def test_a_checkpoint_restores_the_member(member, tmp_path):
    _, segmenter = member
    loaded, found = factory.load(keep(segmenter, tmp_path / "best.safetensors"))
    images = torch.rand(1, 3, 64, 64)
    assert (loaded.config, found["image_size"], loaded.training) == (segmenter.config, 32, False)
    with torch.no_grad():
        assert torch.equal(loaded(images, "polyp"), segmenter(images, "polyp"))
