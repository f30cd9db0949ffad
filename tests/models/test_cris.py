"""CRIS in the default wiring, on tiny random encoders of both kinds."""

import pytest
import torch
from torch.nn import functional

from tests.helpers import keep
from vlsm_helpers.errors import SettingsError, TrainingError, WeightsError
from vlsm_helpers.models import factory, imagenet
from vlsm_helpers.models.cris import CRIS
from vlsm_helpers.models.cris_parts import Projector
from vlsm_helpers.models.state import trainable_state_dict
from vlsm_helpers.models.vision_language import average_prompts
from vlsm_helpers.training.loop import _parameter_groups

PROMPTS = ["a pink bump", "", "a large dark lesion on the left"]
KINDS = ["clip_rn50", "efficientnet_lite0"]


@pytest.fixture(scope="module")
def make(tiny_weights):
    """A CRIS of one kind, 64 px, EfficientNet-Lite0 with random weights."""

    def make(kind="clip_rn50", train="decoder", image_size=64):
        torch.manual_seed(0)
        folder = tiny_weights / ("clip_rn50" if kind == "clip_rn50" else "clipseg")
        return CRIS(folder, image_encoder=kind, image_weights="none", train=train, image_size=image_size)

    return make


@pytest.fixture(params=KINDS)
def cris(request, make):
    return make(request.param).eval()


def test_the_pyramid_has_the_strides_8_16_and_32(cris):
    features = cris.encode_images(torch.rand(2, 3, 50, 70))
    assert [feature.shape[-2:] for feature in features[:3]] == [(8, 8), (4, 4), (2, 2)]
    channels = cris.clip.geometry().pyramid
    assert tuple(feature.shape[1] for feature in features[:2]) == channels[:2]
    assert features[-1].shape[1] == channels[2]


def test_words_are_zero_after_the_end_token_and_nowhere_else(cris):
    text = cris.encode_text(PROMPTS)
    lengths = [len(ids) for ids in cris.tokenizer(PROMPTS)["input_ids"]]
    assert text.shape[:2] == (3, cris.context_length)
    assert text.any(-1).sum(1).tolist() == lengths
    assert all(text[row, :length].any(-1).all() for row, length in enumerate(lengths))


def test_the_prompt_and_its_order_of_words_change_the_logits(cris):
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        logits = [cris(image, prompt) for prompt in ("red polyp", "polyp red", "lesion")]
    assert not torch.allclose(logits[0], logits[1], atol=1e-4)
    assert not torch.allclose(logits[0], logits[2], atol=1e-4)


def test_the_shortcut_around_clips_pool_trains_with_the_decoder(make):
    """Trap 9: CLIP has no weights for it, so a frozen one would stay random."""
    segmenter = make("clip_rn50", "decoder")
    assert all(parameter.requires_grad for parameter in segmenter.decoder.deepest.shortcut.parameters())
    assert not any("shortcut" in name for name, _ in segmenter.clip.named_parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_a_frozen_encoder_keeps_its_batch_statistics(make, kind):
    """Trap 9: MedVLSM's frozen encoder goes on moving its running means."""
    segmenter = make(kind).train()
    before = {name: value.clone() for name, value in segmenter.clip.named_buffers()}
    for _ in range(2):
        segmenter(torch.rand(2, 3, 64, 64), "polyp")
    assert all(torch.equal(value, before[name]) for name, value in segmenter.clip.named_buffers())
    assert make(kind, "encoders").train().clip.training


@pytest.mark.parametrize("kind", KINDS)
def test_one_image_is_enough_to_train_on(make, kind):
    """Trap 2: batch norm of the sentence refuses a batch of one."""
    segmenter = make(kind).train()
    segmenter(torch.rand(1, 3, 64, 64), "polyp").mean().backward()
    assert segmenter.decoder.neck.sentence[0].weight.grad.abs().sum() > 0


def test_one_prompt_for_all_images_leaves_something_of_the_sentence(make):
    """Trap 1: batch norm over equal sentences leaves nothing of them."""
    segmenter = make().train()
    sentences = segmenter.clip.sentence(segmenter.encode_text(["polyp"] * 4)[:, 2])
    assert segmenter.decoder.neck.sentence(sentences).std() > 0.1


def test_padding_follows_from_the_mask_alone(cris):
    """Trap 3: neither the id of the padding, nor how much of it there is, nor the true token 0 changes anything."""
    tokens = cris.tokenizer(["polyp !; red", "a large dark round lesion"], padding=True, return_tensors="pt")
    ids, mask = tokens["input_ids"], tokens["attention_mask"]
    assert 0 in ids[0]  # "!" before other punctuation is the token 0
    with torch.no_grad():
        text = cris.embed(ids, mask)
        assert text[0].any(-1).sum() == mask[0].sum() < ids.shape[1]
        for padding in (0, 5):
            torch.testing.assert_close(
                cris.embed(ids.masked_fill(mask == 0, padding), mask), text, atol=1e-5, rtol=1e-5
            )
        more = [functional.pad(part, (0, 5)) for part in (ids, mask)]
        torch.testing.assert_close(cris.embed(*more), text, atol=1e-5, rtol=1e-5)
        image = torch.rand(1, 3, 64, 64)
        features = cris.encode_images(image)
        logits = cris.decode(features, text[:1], image, (64, 64))
        longer = cris.decode(features, functional.pad(text[:1], (0, 0, 0, 9)), image, (64, 64))
    torch.testing.assert_close(longer, logits, atol=1e-5, rtol=1e-5)


def test_an_outline_lies_where_the_network_puts_it(make, monkeypatch):
    """Trap 5: with corners aligned, a pixel of the enlarged logits stands up to 3 pixels of 416 from where it belongs."""
    segmenter = make()
    centres = 4 * torch.arange(16) + 1.5  # of logits at stride 4, in pixels of the image
    monkeypatch.setattr(segmenter.decoder, "forward", lambda *_: centres.expand(1, 1, 16, 16))
    logits = segmenter(torch.rand(1, 3, 64, 64), "polyp")[0, 0, 0]
    torch.testing.assert_close(logits[2:-2], torch.arange(64.0)[2:-2], atol=1e-4, rtol=0)


def test_features_are_the_same_after_they_were_decoded(cris):
    """Trap 16: activations in place change nothing that a cache keeps."""
    images = torch.rand(1, 3, 64, 64)
    features, text = cris.encode_images(images), cris.encode_text(["polyp"])
    before = [feature.clone() for feature in features]
    cris.train()(images, features=features, text=text).mean().backward()
    assert all(torch.equal(feature, kept) for feature, kept in zip(features, before, strict=True))


@pytest.mark.parametrize("precision", [torch.float64, torch.bfloat16])
def test_the_whole_network_takes_another_precision(cris, make, precision):
    """Trap 7: the published layer norm fails after `.double()` and `.bfloat16()`."""
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = cris(images, "polyp")
        logits = cris.to(precision)(images.to(precision), "polyp")
    assert logits.dtype == precision
    assert (logits.float() - expected).abs().max() < 0.2 * expected.std()


def test_the_encoders_learning_rate_is_a_share_of_the_others(make):
    """Trap 8: from the first epoch on, and of all parameters of the encoders, their positions among them."""
    segmenter = make(train="encoders")
    rest, encoders = _parameter_groups(segmenter, 0.1)
    assert (rest["share"], encoders["share"]) == (1.0, 0.1)
    shared = {id(parameter) for parameter in encoders["params"]}
    assert id(segmenter.clip.visual.attnpool.positional_embedding) in shared
    assert id(segmenter.clip.positional_embedding) in shared
    assert len(shared) == len(list(segmenter.clip.parameters()))


def test_frozen_random_weights_are_not_replaced_by_others(make, tmp_path):
    path = keep(make("efficientnet_lite0"), tmp_path / "best.safetensors")
    with pytest.raises(TrainingError, match="not those that this run was trained on"):
        factory.load(path)


def test_the_tiny_profiles_cris_starts_from_imagenet(tmp_path):
    if not imagenet.at_hand():
        pytest.skip("needs the extra `imagenet`")
    segmenter = CRIS("tiny", image_encoder="efficientnet_lite0", train="decoder").eval()
    assert segmenter.started_from
    assert segmenter.image_size == 128
    assert 3e6 < sum(parameter.numel() for parameter in segmenter.parameters()) < 6e6
    weights = imagenet.load_efficientnet_lite0()
    assert torch.equal(segmenter.clip.visual.conv_stem.weight, weights["conv_stem.weight"])
    assert not any(name.startswith("clip.visual.conv") for name in trainable_state_dict(segmenter))
    again, _ = factory.load(keep(segmenter, tmp_path / "best.safetensors"))
    images = torch.rand(1, 3, 128, 128)
    with torch.no_grad():
        assert torch.equal(again(images, "polyp"), segmenter(images, "polyp"))


def test_the_mean_of_several_prompts_words_is_refused(make):
    with pytest.raises(ValueError, match="words"):
        average_prompts(make(), ["polyp", "a pink bump"])


@pytest.mark.parametrize(
    "options", [{"train": "everything"}, {"image_encoder": "vit"}, {"image_size": 112}, {"image_size": 0}]
)
def test_settings_that_there_are_not_are_refused(tiny_weights, options):
    with pytest.raises(SettingsError):
        CRIS(tiny_weights / "clip_rn50", **options)


def test_weights_of_another_network_are_refused(tiny_weights):
    with pytest.raises(WeightsError):
        CRIS(tiny_weights / "biomedclip")


def test_the_projectors_kernel_comes_from_the_sentence_of_its_image(make):
    geometry = make().clip.geometry()
    projector = Projector(geometry).eval()
    maps, sentences = torch.randn(1, geometry.words, 2, 2).expand(2, -1, -1, -1), torch.randn(2, geometry.sentence)
    logits = projector(maps, sentences)
    assert logits.shape == (2, 1, 8, 8)
    assert not torch.allclose(logits[0], logits[1])
