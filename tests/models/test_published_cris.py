"""CRIS in the published wiring: its golden vectors, and its traps at a tiny size."""

import numpy as np
import open_clip
import pytest
import torch
from torch.nn import functional

from tests.models.test_published import golden_inputs, published_state_dict
from vlsm_helpers.models.published import checkpoints as published
from vlsm_helpers.models.published.checkpoints import load_published_state_dict
from vlsm_helpers.models.published.cris import PublishedCRIS

PROBED = {"v5": "deepest", "neck": "neck", "decoded": "decoder", "raw": ""}  # by the head's module that computes it
TINY_CLIP = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 96, "layers": [1, 1, 1, 1], "width": 12, "patch_size": None, "head_width": 16},
    "text_cfg": {"context_length": 24, "vocab_size": 800, "width": 64, "heads": 1, "layers": 2},
}
END = 799  # the largest id, which marks the end of a sentence


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


def tokens(*sentences, length=24, padding=0):
    """Ids and mask of sentences, each a list of ids, with the marks of beginning and end."""
    ids = torch.full((len(sentences), length), padding)
    mask = torch.zeros_like(ids)
    for row, sentence in enumerate(sentences):
        ids[row, : len(sentence) + 2] = torch.tensor([END - 1, *sentence, END])
        mask[row, : len(sentence) + 2] = 1
    return ids, mask


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
