"""Captioned phantoms in batches, and the loss that is trained on them."""

import inspect

import numpy as np
import pytest
import torch

from tools.pretrain import captioned, contrast
from tools.pretrain.captions import MODALITIES, describe, mirrored
from tools.pretrain.embedder import embedder_of
from tools.pretrain.lexicon import Lexicon, agree
from vlsm_helpers.data.phantoms import PRETRAINING_SEEDS, render, seeds

FEW = 4  # phantoms of each modality: 16 in all


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache folder that the tests of this module draw into once."""
    return tmp_path_factory.mktemp("pretraining")


@pytest.fixture(scope="module")
def corpora(cache):
    return [captioned.corpus(name, captioned.training_seeds(FEW), cache) for name in MODALITIES]


@pytest.fixture(scope="module")
def lexicon(corpora):
    return Lexicon([description for own in corpora for description in own.descriptions])


@pytest.fixture
def embedder(tiny_weights):
    return embedder_of(tiny_weights / "biomedclip")


@pytest.fixture
def loss(embedder, lexicon):
    torch.manual_seed(0)
    return contrast.Contrast(embedder.clip, lexicon, memory=8)


def loss_of(loss, embedder, dealt):
    pixels, ids = embedder.pixels(dealt.images), embedder.ids(dealt.captions)
    return loss(pixels, ids, torch.from_numpy(dealt.shown), torch.from_numpy(dealt.said))


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
        assert set(own.__dataclass_fields__) == {"name", "images", "descriptions"}


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


def test_a_batch_mixes_the_modalities_and_knows_what_is_true_of_what(corpora, lexicon):
    dealt = captioned.batch(np.random.default_rng(0), corpora, lexicon, 16)
    assert len(dealt.images) == len(dealt.captions) == len(dealt.shown) == len(dealt.said) == 16
    modality = dealt.shown[:, lexicon.columns("modality")]
    assert (modality.sum(axis=1) == 2).all()  # two names of each
    assert sorted(map(tuple, np.unique(modality, axis=0, return_counts=True)[1:])) == [(4, 4, 4, 4)]
    truth = agree(dealt.shown, dealt.said)
    assert truth.diagonal().all()  # an image's own caption
    assert not truth.all()


def test_a_flipped_picture_goes_with_flipped_words(corpora, lexicon):
    own, flipped = corpora[0], 0
    dealt = captioned.batch(np.random.default_rng(1), [own], lexicon, 32)
    for image, shown in zip(dealt.images, dealt.shown, strict=True):
        straight = [row for row in range(len(own.images)) if np.array_equal(own.images[row], image)]
        turned = [row for row in range(len(own.images)) if np.array_equal(own.images[row, :, ::-1], image)]
        assert len(straight) == 0 or len(turned) == 0
        fitting = [own.descriptions[row] for row in straight] + [mirrored(own.descriptions[row]) for row in turned]
        assert fitting  # more than one where a phantom has no part and stands in whole
        assert (lexicon.shown(fitting) == shown).all()
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
    """A batch carries words about images, and the loss takes what a batch carries."""
    assert set(captioned.Batch.__dataclass_fields__) == {"images", "captions", "shown", "said"}
    taken = set(inspect.signature(contrast.Contrast.forward).parameters)
    assert taken == {"self", "pixels", "ids", "shown", "said"}


def test_images_and_captions_are_embedded_as_the_published_model_does(loss, embedder, corpora, lexicon):
    dealt = captioned.batch(np.random.default_rng(0), corpora, lexicon, 4)
    with torch.no_grad():
        images, patches, text = loss.embed(embedder.pixels(dealt.images), embedder.ids(dealt.captions))
    assert patches.shape == (4, 64, images.shape[1])
    torch.testing.assert_close(images, embedder.images(dealt.images), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(text, embedder.text(dealt.captions), atol=1e-4, rtol=1e-4)


def test_the_loss_reaches_every_parameter_of_both_towers_and_falls_on_one_batch(loss, embedder, corpora, lexicon):
    dealt = captioned.batch(np.random.default_rng(0), corpora, lexicon, 4)
    optimizer = torch.optim.AdamW(loss.parameters(), lr=2e-3)
    losses = []
    for _ in range(8):
        value = loss_of(loss, embedder, dealt)
        optimizer.zero_grad()
        value.backward()
        losses.append(value.item())
        silent = {name for name, tensor in loss.named_parameters() if tensor.grad is None}
        optimizer.step()
    assert losses[-1] < 0.9 * losses[0]
    assert not silent


def test_the_memory_keeps_the_last_and_forgets_the_first():
    memory = contrast.Memory(3, width=2, words=1)
    assert [len(part) for part in memory.read()] == [0, 0, 0, 0]
    for number in (1.0, 2.0):
        rows = torch.full((2, 2), number, requires_grad=True)
        memory.store(images=rows, text=-rows, shown=rows[:, :1], said=rows[:, :1])
    images, text, shown, _ = memory.read()
    assert images[:, 0].tolist() == [2, 2, 1]
    assert torch.equal(text, -images)
    assert not shown.requires_grad


def test_what_is_remembered_is_a_choice_more(loss, embedder, corpora, lexicon):
    """Images and captions of an earlier batch are further wrong answers, so the same batch is harder."""
    rng = np.random.default_rng(0)
    first, other = (captioned.batch(rng, corpora, lexicon, 4) for _ in range(2))
    with torch.no_grad():
        alone = loss_of(loss, embedder, first)
        loss.memory.filled.zero_()
        loss_of(loss, embedder, other)
        after = loss_of(loss, embedder, first)
    assert int(loss.memory.filled) == 8
    assert after > alone


def test_words_for_a_place_name_the_patches_of_the_findings_centre(loss, lexicon, corpora):
    rng = np.random.default_rng(0)
    for _ in range(60):
        mask = np.zeros((128, 128), bool)
        top, left = rng.integers(112, size=2)
        mask[top : top + 16, left : left + 16] = True
        said = describe("phantom_endoscopy", np.full((128, 128, 3), 90, np.uint8), mask, "polyp", "flat")
        only_known = {key: words for key, words in said.items() if all((key, word) in lexicon.words for word in words)}
        named = loss.named_patches(torch.from_numpy(lexicon.shown([only_known])))[0].reshape(8, 8)
        assert named[(top + 8) // 16, (left + 8) // 16]
        assert named.sum() <= 32 or "place" not in only_known
    nothing = loss.named_patches(torch.from_numpy(lexicon.shown([{"finding": ("no polyp",)}])))
    assert nothing.all()


def test_attention_goes_to_the_patches_that_match_the_finding_and_no_other_word(loss, lexicon):
    polyp = {"finding": ("polyp",), "place": ("top left",)}
    shown = torch.from_numpy(lexicon.shown([polyp, polyp | {"place": ("bottom",)}]))
    anchor = torch.nn.functional.normalize(loss.anchors[lexicon.words.index(("finding", "polyp"))], dim=0)
    patches = torch.nn.functional.normalize(torch.randn(2, 64, len(anchor)), dim=-1)
    patches[:, 5] = anchor
    shares = loss.attention(patches, shown).exp()
    assert shares.sum(dim=1).tolist() == pytest.approx([1, 1])
    assert shares.argmax(dim=1).tolist() == [5, 5]
    torch.testing.assert_close(loss.attention(patches, shown), loss.attention(patches, shown.flip(0)))


def test_the_loss_falls_where_attention_is_where_words_say(loss, embedder, corpora, lexicon, monkeypatch):
    dealt = captioned.batch(np.random.default_rng(0), corpora[:1], lexicon, 4)
    named = loss.named_patches(torch.from_numpy(dealt.shown))
    assert not named.all()

    def attending(where):
        loss.memory.filled.zero_()
        monkeypatch.setattr(loss, "attention", lambda patches, shown: (where.float() + 1e-6).log().log_softmax(dim=1))
        monkeypatch.setattr(loss, "_words", lambda pairs: torch.tensor(0.0))
        monkeypatch.setattr(contrast, "contrastive_loss", lambda logits, truth: torch.tensor(0.0))
        with torch.no_grad():
            return loss_of(loss, embedder, dealt)

    some = named & (torch.arange(64) % 2 == 0)
    assert attending(named) == pytest.approx(attending(some).item(), abs=1e-3)  # anywhere within
    assert attending(torch.ones_like(named)) > attending(named) + 0.5


def test_the_scales_stay_in_range(loss):
    with torch.no_grad():
        loss.clip.logit_scale.fill_(9.0)
        loss.local_scale.fill_(-3.0)
    loss.clamp_scales()
    assert loss.clip.logit_scale.exp().item() == pytest.approx(contrast.LARGEST_SCALE, rel=1e-4)
    assert loss.local_scale.item() == 0


def test_every_word_has_an_anchor(loss, lexicon):
    assert len(loss.anchors) == len(lexicon.words) == sum(map(len, lexicon.vocabulary.values()))
