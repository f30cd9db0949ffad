import pytest
import torch
from torch.nn import functional
from transformers import CLIPSegForImageSegmentation

from vlsm_helpers.errors import SettingsError
from vlsm_helpers.models.clipseg import CLIPSeg
from vlsm_helpers.models.segmenter import trainable_parameters
from vlsm_helpers.models.vision_language import average_prompts

PROMPTS = ["a pink bump", "", "息肉 é"]


@pytest.fixture(scope="module")
def folder(tiny_weights):
    return tiny_weights / "clipseg"


@pytest.fixture(scope="module")
def clipseg(folder):
    return CLIPSeg(folder).eval()


@pytest.fixture(scope="module")
def library(folder):
    return CLIPSegForImageSegmentation.from_pretrained(folder).eval()


@pytest.mark.parametrize("size", [128, 96])
def test_logits_are_the_librarys(folder, library, size):
    segmenter = CLIPSeg(folder, image_size=size).eval()
    images = torch.rand(3, 3, size, size)
    tokens = segmenter.tokenizer(PROMPTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = library(**tokens, pixel_values=segmenter.preprocess(images)).logits
        logits = segmenter(images, PROMPTS)
    assert expected.std() > 1e-3
    torch.testing.assert_close(logits[:, 0], expected, atol=1e-5, rtol=0)


def test_images_are_resized_and_normalised_with_the_checkpoints_statistics(clipseg):
    images = torch.rand(2, 3, 200, 150)
    pixels = clipseg.preprocess(images)
    assert pixels.shape == (2, 3, 128, 128)
    resized = functional.interpolate(images, size=(128, 128), mode="bilinear", antialias=True)
    red = (resized[:, 0] - 0.485) / 0.229  # ImageNet's
    torch.testing.assert_close(pixels[:, 0], red)


def test_a_tap_is_what_comes_out_of_that_block(clipseg, library):
    """Tap i is the library's hidden_states[i + 1]: its list begins with the embeddings."""
    images = torch.rand(2, 3, 128, 128)
    with torch.no_grad():
        states = library.clip.vision_model(clipseg.preprocess(images), output_hidden_states=True).hidden_states
        features = clipseg.encode_images(images)
    assert clipseg.taps == (3, 6, 9)
    assert [feature.shape for feature in features] == [(2, 65, 48)] * 3
    for tap, feature in zip(clipseg.taps, features, strict=True):
        torch.testing.assert_close(feature, states[tap + 1], atol=1e-5, rtol=0)


def test_blocks_after_the_last_tap_are_not_run(clipseg):
    ran = []
    blocks = clipseg.clip.vision_model.encoder.layers
    hooks = [block.register_forward_hook(lambda *_, n=n: ran.append(n)) for n, block in enumerate(blocks)]
    clipseg.encode_images(torch.rand(1, 3, 128, 128))
    for hook in hooks:
        hook.remove()
    assert ran == list(range(10))


def test_embeddings_are_not_normalised_and_each_distinct_prompt_is_embedded_once(clipseg):
    batches = []
    hook = clipseg.clip.text_model.register_forward_pre_hook(
        lambda _, args, kwargs: batches.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    text = clipseg.encode_text(["polyp", "lesion", "polyp", "polyp"])
    hook.remove()
    assert batches == [2]
    assert text.shape == (4, 32)
    assert torch.equal(text[0], text[2])
    assert not torch.allclose(text[0], text[1])
    assert (text.norm(dim=1) - 1).abs().min() > 0.01


def test_the_mean_of_several_prompts_serves_as_one(clipseg):
    prompts = ["polyp", "a polyp", "a pink bump"]
    mean = average_prompts(clipseg, prompts)
    assert mean.shape == (1, 32)
    torch.testing.assert_close(mean[0], clipseg.encode_text(prompts).mean(0))
    images = torch.rand(2, 3, 128, 128)
    logits = clipseg.decode(clipseg.encode_images(images), mean.expand(2, -1), images, (128, 128))
    assert logits.shape == (2, 1, 128, 128)


def test_what_each_mode_trains(folder):
    segmenter = CLIPSeg(folder, train="encoders")
    blocks = segmenter.clip.vision_model.encoder.layers
    assert all(parameter.requires_grad for parameter in blocks[9].parameters())
    assert not any(parameter.requires_grad for parameter in blocks[10].parameters())
    assert segmenter.clip.text_projection.weight.requires_grad
    assert not segmenter.clip.visual_projection.weight.requires_grad
    assert trainable_parameters(CLIPSeg(folder)) == sum(p.numel() for p in segmenter.decoder.parameters())


def test_the_librarys_own_forward_trains_nothing_but_the_decoder(library, clipseg):
    """The reason for calling its parts one by one: if this fails, the library has changed."""
    library.requires_grad_(True).zero_grad()
    tokens = clipseg.tokenizer(["polyp"], return_tensors="pt")
    library(**tokens, pixel_values=torch.rand(1, 3, 128, 128)).logits.mean().backward()
    assert all(parameter.grad is None for parameter in library.clip.parameters())
    library.zero_grad()


def test_low_rank_updates_change_nothing_at_first_and_train_few_parameters(folder, clipseg):
    segmenter = CLIPSeg(folder, train="lora").eval()
    images = torch.rand(1, 3, 128, 128)
    with torch.no_grad():
        torch.testing.assert_close(segmenter(images, "polyp"), clipseg(images, "polyp"))
    trained = trainable_parameters(segmenter.clip)
    assert 0 < trained < 0.2 * sum(parameter.numel() for parameter in segmenter.clip.parameters())


def test_an_unknown_mode_is_refused(folder):
    with pytest.raises(SettingsError, match="decoder, encoders, lora"):
        CLIPSeg(folder, train="everything")
