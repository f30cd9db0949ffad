"""CRIS in the published wiring: its golden vectors, and its traps at a tiny size."""

import numpy as np
import open_clip
import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.models.published.test_networks import golden_inputs, published_state_dict
from tests.models.test_open_clip_resnet import END, TINY_CLIP, tokens
from vlsm_helpers.models.cris_parts import Geometry, Neck
from vlsm_helpers.models.published import checkpoints as published
from vlsm_helpers.models.published.checkpoints import load_published_state_dict
from vlsm_helpers.models.published.cris import PublishedCRIS

PROBED = {"v5": "deepest", "neck": "neck", "decoded": "decoder", "raw": ""}  # by the head's module that computes it


def probe(values):
    """256 values, taken as those of the vectors were."""
    flat = values.flatten()
    return flat[torch.arange(256) * 10_007 % len(flat)].numpy()


@pytest.fixture(scope="module")
def cris():
    """The network at full size with the vectors' weights."""
    model = published.build("cris")
    assert load_published_state_dict(model, published_state_dict("cris")) == (["backbone.logit_scale"], [])
    return model.eval()


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    return PublishedCRIS(open_clip.CLIP(**TINY_CLIP, quick_gelu=True), size=96, layers=1, heads=4).eval()


@pytest.mark.golden
def test_the_published_wiring_gives_the_published_logits_and_stages(cris):
    (pixel_values, input_ids, attention_mask), golden = golden_inputs("cris")
    found, hooks = {}, []
    for name, module in PROBED.items():
        keep = lambda module, inputs, output, name=name: found.__setitem__(name, output)  # noqa: E731
        hooks.append(cris.head.get_submodule(module).register_forward_hook(keep))
    hooks.append(cris.head.register_forward_pre_hook(lambda module, inputs: found.__setitem__("inputs", inputs)))
    with torch.no_grad():
        logits = cris.forward_tokens(pixel_values, input_ids, attention_mask).numpy()
    for hook in hooks:
        hook.remove()
    stride = int(golden["stride"])
    assert logits.std() > 1
    np.testing.assert_allclose(logits[..., ::stride, ::stride], golden["logits"], atol=1e-3, rtol=0)
    pyramid, found["words"], _, found["state"] = found.pop("inputs")
    found["v3"], found["v4"] = pyramid[:2]
    assert {f"probe_{name}" for name in found} == {name for name in golden if name.startswith("probe_")}
    for name, values in found.items():
        tolerance = 1e-3 if name == "raw" else 5e-5
        np.testing.assert_allclose(probe(values), golden[f"probe_{name}"], atol=tolerance, rtol=0, err_msg=name)


@pytest.mark.golden
def test_in_double_precision_an_image_alone_gives_what_it_gave_in_company(cris):
    """Only this precision shows CLIP's mean token among the keys of the pool, or its positions resized bilinearly."""
    inputs, golden = golden_inputs("cris")
    pixel_values, *text = (part[1:2] for part in inputs)
    with torch.no_grad():
        logits = cris.double().forward_tokens(pixel_values.double(), *text)
    cris.float()
    stride = int(golden["stride64"])
    assert logits.dtype == torch.float64
    np.testing.assert_allclose(logits[..., ::stride, ::stride], golden["logits64"][1:2], atol=2e-5, rtol=0)


@pytest.mark.golden
def test_every_parameter_but_the_logit_scale_receives_a_gradient(cris):
    (pixel_values, *text), _ = golden_inputs("cris")
    cris.forward_tokens(
        functional.interpolate(pixel_values[:1], (64, 64)), *(part[:1] for part in text)
    ).sum().backward()
    parameters = dict(cris.named_parameters())
    assert not [name for name, value in parameters.items() if value.grad is None]
    assert sum(value.numel() for value in parameters.values()) == 146_849_122 - 1
    grid = parameters["clip.visual.attnpool.positional_embedding"].grad
    assert not grid[0].any()  # the mean token's
    assert grid[1:].any(1).all()
    cris.zero_grad()


def forward(model, ids, mask, size=96, images=None):
    images = torch.rand(len(ids), 3, size, size) if images is None else images
    with torch.no_grad():
        return model.forward_tokens(images, ids, mask)


@pytest.mark.parametrize("norm", [nn.BatchNorm1d, nn.LayerNorm])
def test_trap_1_one_prompt_for_all_images_erases_the_sentence(norm):
    """Training mode leaves ReLU(bias) = 0 of it; evaluation mode then amplifies whatever differs from it."""
    torch.manual_seed(0)
    geometry = Geometry((8, 8, 8), words=8, sentence=16, neck=(4, 8, 8))
    sentence = Neck(geometry, norm).sentence.train()
    one, other = torch.randn(2, 16)
    for _ in range(100):
        trained = sentence(one.expand(8, -1))
    sentence.eval()
    unseen = sentence(other[None]).max().item()
    if norm is nn.BatchNorm1d:
        assert trained.max() < 1e-3
        assert unseen > 50
    else:
        assert trained.max() > 0.1
        assert unseen < 10


def test_trap_2_one_image_cannot_be_trained_on(tiny):
    ids, mask = tokens([5, 6])
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        forward(tiny.train(), ids, mask)


def test_trap_3_padding_is_the_id_0_and_the_attention_mask_is_ignored(tiny):
    images = torch.rand(1, 3, 96, 96)
    ids, mask = tokens([5, 6])
    logits = forward(tiny, ids, mask, images=images)
    assert torch.equal(forward(tiny, ids, torch.ones_like(mask), images=images), logits)
    shorter = forward(tiny, ids[:, :12], mask[:, :12], images=images)
    torch.testing.assert_close(shorter, logits, atol=1e-4, rtol=0)
    ends, mask = tokens([5, 6], padding=END)  # MedVLSM's own tokenizer pads so: nothing is masked
    assert not torch.allclose(forward(tiny, ends, mask, images=images), logits, atol=1e-2)


def test_trap_3_a_true_token_0_is_masked(tiny):
    ids, _ = tokens([5, 0, 6])
    words = tiny.clip.words(ids, None)
    end = words[:, 4]
    pyramid = tiny.clip.pyramid(torch.rand(1, 3, 96, 96))
    sentence = tiny.clip.sentence(end)
    with torch.no_grad():
        masked = tiny.head(pyramid, words, ids == 0, sentence)
        changed = words.clone()
        changed[:, 2] += 1
        assert torch.equal(tiny.head(pyramid, changed, ids == 0, sentence), masked)


def test_trap_4_the_size_of_the_logits_is_a_setting(tiny):
    ids, mask = tokens([5, 6])
    assert forward(tiny, ids, mask, size=64).shape == (1, 1, 96, 96)
    with pytest.raises(RuntimeError):
        forward(tiny, ids, mask, size=112)  # no multiple of 32


def test_trap_5_corners_are_aligned(tiny, monkeypatch):
    """Logits trained at every fourth pixel come back up to 3 % of the side away: 2.9 of 96 pixels here as of 416 there."""
    ids, mask = tokens([5, 6])
    monkeypatch.setattr(tiny.head, "forward", lambda *_: (4.0 * torch.arange(24)).expand(1, 1, 24, 24))
    shift = forward(tiny, ids, mask)[0, 0, 0] - torch.arange(96)
    assert shift[48].item() == pytest.approx(-1.5, abs=0.2)
    assert shift[-1].item() == pytest.approx(-3, abs=0.2)


def test_trap_6_the_sigmoid_comes_after_the_enlargement(tiny):
    """The original enlarges probabilities, which then leave [0, 1]; MedVLSM's copy enlarges logits."""
    noise = 4 * torch.randn(1, 1, 24, 24)
    enlarged = functional.interpolate(noise.sigmoid(), size=(96, 96), mode="bicubic", align_corners=True)
    assert enlarged.min() < 0 < 1 < enlarged.max()
    tiny.head.forward = lambda *_: noise
    probabilities = forward(tiny, *tokens([5, 6])).sigmoid()
    assert 0 <= probabilities.min() <= probabilities.max() <= 1


def test_trap_9_an_encoder_in_training_mode_moves_its_batch_statistics(tiny):
    tiny.requires_grad_(False)
    before = tiny.clip.visual.bn1.running_mean.clone()
    forward(tiny.train(), *tokens([5, 6], [7]))
    assert not torch.equal(tiny.clip.visual.bn1.running_mean, before)


def test_trap_10_neighbours_count_in_training_mode_alone(tiny):
    images, (ids, mask) = torch.rand(4, 3, 96, 96), tokens([5], [6], [7], [8])
    pair = [forward(tiny, part, mask[: len(part)], images=images[: len(part)])[:2] for part in (ids, ids[:2])]
    torch.testing.assert_close(pair[0], pair[1], atol=1e-4, rtol=0)
    for module in tiny.modules():
        if isinstance(module, nn.Dropout | nn.MultiheadAttention):
            module.p = module.dropout = 0.0
    tiny.train()
    pair = [forward(tiny, part, mask[: len(part)], images=images[: len(part)])[:2] for part in (ids, ids[:2])]
    assert (pair[0] - pair[1]).abs().max() > 0.1


def their_names(model):
    """A state dict of `model` under the published names."""
    ours = {name: name for name in model.state_dict()}
    back = {our: theirs for theirs, our in published._cris().items()}
    renamed = {name: published._renamed(name, back) for name in ours}
    return {renamed[name]: value for name, value in model.state_dict().items()}


@pytest.mark.parametrize("wrap", ["bare", "original", "medvlsm", "no counters"])
def test_trap_12_checkpoints_of_all_three_makers_are_placed(tiny, wrap):
    theirs = their_names(tiny) | {"backbone.logit_scale": torch.tensor(4.6)}
    assert "decoder.layers.0.multihead_attn.in_proj_weight" in theirs
    prefix = {"original": "module.", "medvlsm": "net."}.get(wrap, "")
    checkpoint = {prefix + name: value for name, value in theirs.items()}
    if wrap == "no counters":
        checkpoint = {name: value for name, value in checkpoint.items() if not name.endswith("num_batches_tracked")}
    elif prefix:
        checkpoint = {"epoch": 7, "best_iou": 0.5, "state_dict": checkpoint}
    fresh = PublishedCRIS(open_clip.CLIP(**TINY_CLIP, quick_gelu=True), size=96, layers=1, heads=4).eval()
    assert load_published_state_dict(fresh, checkpoint) == (["backbone.logit_scale"], [])
    images, (ids, mask) = torch.rand(1, 3, 96, 96), tokens([5, 6])
    assert torch.equal(forward(fresh, ids, mask, images=images), forward(tiny, ids, mask, images=images))


def test_trap_12_a_misnamed_entry_is_no_silent_random_start(tiny):
    theirs = their_names(tiny)
    theirs["backbone.visual.attnpool.conect.0.weight"] = theirs.pop("backbone.visual.attnpool.connect.0.weight")
    with pytest.raises(RuntimeError, match="shortcut"):
        load_published_state_dict(tiny, theirs)
