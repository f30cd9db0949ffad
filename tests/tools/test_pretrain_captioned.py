"""Captioned phantoms in batches, and the loss that is trained on them."""

import inspect

import numpy as np
import pytest
import torch

from tools.pretrain import captioned, contrast
from tools.pretrain.captions import MODALITIES, describe, is_true, mirrored, vocabulary
from tools.pretrain.probe import PLACES, place_accuracy, retrieval
from tools.pretrain.reader import Reader
from vlsm_helpers.data.phantoms import PRETRAINING_SEEDS, render, seeds
from vlsm_helpers.models.pretrained import load_biomedclip

FEW = 4  # phantoms of each modality: 16 in all


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache folder that the tests of this module draw into once."""
    return tmp_path_factory.mktemp("pretraining")


@pytest.fixture(scope="module")
def corpora(cache):
    return [captioned.corpus(name, captioned.training_seeds(FEW), cache) for name in MODALITIES]


@pytest.fixture
def reader(tiny_weights, corpora):
    torch.manual_seed(0)
    clip, tokenizer, context, view = load_biomedclip(tiny_weights / "biomedclip")
    words = vocabulary([description for own in corpora for description in own.descriptions])
    return Reader(contrast.Contrast(clip, words), tokenizer, context, view)


def loss_of(reader, dealt):
    pixels, ids = reader.pixels(dealt.images), reader.ids(dealt.captions)
    return reader.contrast(pixels, ids, torch.from_numpy(dealt.truth()), dealt.claims, dealt.descriptions)


def test_pretraining_never_draws_what_the_course_shows():
    training, held_out = captioned.training_seeds(10**7), captioned.HELD_OUT
    ours = {training[0], training[-1], held_out[0], held_out[-1]}
    assert all(seed in PRETRAINING_SEEDS for seed in ours)
    assert set(held_out).isdisjoint(training)
    for name in MODALITIES:
        for split in ("train", "val", "test"):
            assert not {*seeds(name, split)} & {*training}
            assert not {*seeds(name, split)} & {*held_out}


def test_a_corpus_has_the_phantoms_and_parts_of_them_and_no_masks(corpora):
    for own in corpora:
        assert own.images.shape == (FEW * captioned.VIEWS, 128, 128, 3)
        assert len(own.descriptions) == len(own.images)
        seed = captioned.training_seeds(FEW)[1]
        phantom = render(own.name, seed, captioned.LEVELS[seed % len(captioned.LEVELS)])
        np.testing.assert_array_equal(own.images[captioned.VIEWS], phantom.image)
        said = describe(own.name, phantom.image, phantom.mask, phantom.noun, phantom.kind)
        assert own.descriptions[captioned.VIEWS] == said
        assert set(own.__dataclass_fields__) == {"name", "images", "descriptions", "spoken"}


def test_a_corpus_is_drawn_once(corpora, cache, monkeypatch):
    monkeypatch.setattr(captioned, "render", None)
    again = captioned.corpus(corpora[0].name, captioned.training_seeds(FEW), cache)
    np.testing.assert_array_equal(again.images, corpora[0].images)
    assert again.descriptions == corpora[0].descriptions


def test_parts_show_most_of_the_finding_or_none_of_it():
    mask = np.zeros((128, 128), bool)
    mask[10:40, 80:110] = True
    image = np.where(mask[..., None], np.uint8(200), np.uint8(50)) * np.ones((1, 1, 3), np.uint8)
    rng, empty, parts_seen = np.random.default_rng(0), 0, 0
    for _ in range(60):
        whole, *parts = captioned.views(rng, image, mask)
        assert whole[0] is image
        for part, inside in parts:
            assert part.shape == (128, 128, 3)
            assert inside.shape == (128, 128)
            parts_seen += 1
            empty += not inside.any()
            if inside.any():
                assert inside.sum() >= captioned.MOST * mask.sum()  # enlarged, never shrunk
                assert np.median(part[inside]) == 200  # the mask was cut like the picture
            else:
                assert part.max() < 200
    assert parts_seen == 60 * (captioned.VIEWS - 1)
    assert 0.1 < empty / parts_seen < 0.3


def test_a_batch_is_of_one_modality_and_knows_what_is_true_of_what(corpora):
    rng = np.random.default_rng(0)
    for which, own in enumerate(corpora):
        dealt = captioned.batch(rng, corpora, which, 8)
        truth = dealt.truth()
        assert {said["modality"] for said in dealt.descriptions} == {MODALITIES[own.name]}
        assert truth.shape == (8, 8 + 8 + 2)
        assert truth[np.arange(8), np.arange(8)].all()  # a picture's own caption
        assert not truth[np.arange(8), np.arange(8, 16)].any()  # the same altered
        assert len(dealt.captions) == len(dealt.claims) == truth.shape[1]
        for row, column in np.ndindex(*truth.shape):
            assert truth[row, column] == is_true(dealt.claims[column], dealt.descriptions[row])


def test_a_flipped_picture_goes_with_flipped_words(corpora):
    own, flipped = corpora[0], 0
    dealt = captioned.batch(np.random.default_rng(1), corpora, 0, 32)
    for image, said in zip(dealt.images, dealt.descriptions, strict=True):
        straight = [row for row in range(len(own.images)) if np.array_equal(own.images[row], image)]
        turned = [row for row in range(len(own.images)) if np.array_equal(own.images[row, :, ::-1], image)]
        assert len(straight) == 0 or len(turned) == 0
        fitting = [own.descriptions[row] for row in straight] + [mirrored(own.descriptions[row]) for row in turned]
        assert fitting  # more than one where a phantom has no part and stands in whole
        assert all(description == said for description in fitting)
        flipped += bool(turned)
    assert 5 < flipped < 27


def test_jitter_stays_in_range_and_small(corpora):
    images = corpora[0].images[:6]
    changed = captioned.jittered(np.random.default_rng(0), images)
    assert changed.dtype == np.float32
    assert 0 <= changed.min() <= changed.max() <= 1
    assert 0 < np.abs(changed - images / 255).mean() < 0.08


def test_true_captions_share_the_target():
    truth = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    assert contrast.share_loss(torch.where(truth > 0, 50.0, -50.0), truth) == pytest.approx(0, abs=1e-5)
    assert contrast.share_loss(torch.tensor([[50.0, -50.0, -50.0]]), truth[:1]) > 10
    blind = contrast.share_loss(torch.zeros(1, 3), truth[:1])
    assert blind.item() == pytest.approx(np.log(3) - np.log(2), abs=1e-5)


def test_rows_that_ask_nothing_are_left_out():
    logits = torch.randn(2, 3, requires_grad=True)
    loss = contrast.share_loss(logits, torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]))
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


def test_the_loss_is_given_captions_and_no_mask():
    """A batch carries words about pictures, and the loss takes what a batch carries."""
    assert set(captioned.Batch.__dataclass_fields__) == {"images", "descriptions", "claims", "captions"}
    taken = set(inspect.signature(contrast.Contrast.forward).parameters)
    assert taken == {"self", "pixels", "ids", "truth", "claims", "descriptions"}


def test_the_class_token_scores_as_the_published_model_does(reader, corpora):
    dealt = captioned.batch(np.random.default_rng(0), corpora, 0, 4)
    clip = reader.contrast.clip.eval()
    with torch.no_grad():
        images = clip.encode_image(reader.pixels(dealt.images), normalize=True)
        text = clip.encode_text(reader.ids(dealt.captions), normalize=True)
        whole, patches = reader.scores(dealt.images, dealt.captions)
    torch.testing.assert_close(whole, clip.logit_scale.exp() * images @ text.T, atol=1e-4, rtol=1e-4)
    assert patches.shape == whole.shape
    assert not torch.allclose(patches, whole)


def test_the_loss_reaches_every_parameter_of_both_towers_and_falls_on_one_batch(reader, corpora):
    dealt = captioned.batch(np.random.default_rng(0), corpora, 0, 4)
    reader.contrast.eval()
    optimizer = torch.optim.AdamW(reader.contrast.parameters(), lr=2e-3)
    losses = []
    for _ in range(8):
        loss = loss_of(reader, dealt)
        optimizer.zero_grad()
        loss.backward()
        losses.append(loss.item())
        silent = {name for name, tensor in reader.contrast.clip.named_parameters() if tensor.grad is None}
        optimizer.step()
    assert losses[-1] < 0.9 * losses[0]
    assert not silent


def test_the_scales_stay_in_range(reader):
    with torch.no_grad():
        reader.contrast.clip.logit_scale.fill_(9.0)
        reader.contrast.patch_scale.fill_(-3.0)
    reader.contrast.clamp_scales()
    assert reader.contrast.clip.logit_scale.exp().item() == pytest.approx(contrast.LARGEST_SCALE, rel=1e-4)
    assert reader.contrast.patch_scale.item() == 0


def test_every_word_of_the_vocabulary_has_an_anchor(reader):
    found = {key: len(anchors) for key, anchors in reader.contrast.anchors.items()}
    assert found == {key: len(words) for key, words in reader.contrast.vocabulary.items()}


class Knowing:
    """A reader that scores a caption by whether it names the place that a picture's first pixel stands for."""

    def scores(self, images, captions):
        named = torch.tensor(
            [[float(f"in {PLACES[image[0, 0, 0]]} of" in caption) for caption in captions] for image in images]
        )
        return named, -named


def test_place_accuracy_counts_the_right_ninths():
    places = ["top left", "bottom right", "center", "center"]
    images = np.zeros((4 * captioned.VIEWS, 4, 4, 3), np.uint8)
    descriptions = [{"finding": ("polyp",)}] * len(images)
    for row, place in enumerate(places):
        images[row * captioned.VIEWS] = PLACES.index(place)
        descriptions[row * captioned.VIEWS] = {"finding": ("polyp",), "place": (place,)}
    accuracy = place_accuracy(Knowing(), captioned.Corpus("phantom_endoscopy", images, descriptions, {}))
    assert accuracy == {"class": 1.0, "patch": 0.0, "usual": 0.5}


def test_retrieval_lies_between_nothing_and_everything_and_repeats(reader, corpora):
    reader.contrast.eval()
    first, second = retrieval(reader, corpora[0]), retrieval(reader, corpora[0])
    assert first == second
    assert set(first) == {"class", "patch", "chance"}
    assert all(0 <= share <= 1 for share in first.values())
    assert first["chance"] > 0
