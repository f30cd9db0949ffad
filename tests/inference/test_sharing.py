"""What members share is encoded once, and changes nothing."""

import pytest
import torch

import vlsm_helpers as vlsm
from vlsm_helpers.inference.sharing import Encodings

PROMPTS = ["polyp", "instrument"]


@pytest.fixture(scope="module")
def members():
    torch.manual_seed(0)
    names = ("clipseg", "ensemble_b", "ensemble_c", "unet_d")
    return {name: vlsm.build(name, "tiny").eval() for name in names}


@pytest.fixture
def counted(members, monkeypatch):
    """How often the image encoders and the text encoders of the members ran."""
    counts = {"images": 0, "texts": 0}

    def count(module, method, what):
        original = getattr(module, method)

        def counting(*arguments, **options):
            counts[what] += 1
            return original(*arguments, **options)

        monkeypatch.setattr(module, method, counting)

    for module in (members["clipseg"], members["ensemble_b"].vlsm, members["ensemble_c"].b.vlsm):
        count(module, "tap", "images")
        count(module, "embed", "texts")
    return counts


IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_equal_frozen_encoders_run_once_and_texts_once_per_prompt(members, counted):
    encodings = Encodings(members, PROMPTS)
    first = encodings.logits(IMAGES)
    encodings.logits(IMAGES.flip(0))
    # two batches; two prompts, once for CLIPSeg and B, and once for C, whose texts are those of two encoders
    assert counted == {"images": 2, "texts": 4}
    for text in PROMPTS:
        for logits, member in zip(first[text], members.values(), strict=True):
            torch.testing.assert_close(logits, member(IMAGES, text), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_encoders_that_differ_or_train_are_not_shared(members, counted):
    clip = members["ensemble_b"].vlsm.clip
    weight = next(clip.parameters())
    kept = weight.detach().clone()
    weight.add_(1)
    Encodings(members, PROMPTS).logits(IMAGES)
    assert counted["images"] == 2  # CLIPSeg and C share theirs; B's is another one
    weight.copy_(kept)
    weight.requires_grad_(True)
    try:
        Encodings(members, PROMPTS).logits(IMAGES)
    finally:
        weight.requires_grad_(False)
    assert counted["images"] == 4  # B's trains now


@torch.no_grad()
def test_a_cnn_runs_once_for_all_prompts_and_any_callable_may_be_a_member():
    asked = []

    def network(images, prompts):
        asked.append(list(prompts))
        return images[:, :1]

    cnn = vlsm.build("unet_d", "tiny", width=1 / 32).eval()
    ran = []
    cnn.register_forward_hook(lambda *_: ran.append(1))
    found = Encodings({"cnn": cnn, "mine": network}, PROMPTS).logits(IMAGES)
    assert len(ran) == 1
    assert asked == [["polyp"], ["polyp"], ["instrument"], ["instrument"]]  # one image at a time
    assert torch.equal(found["polyp"][0], found["instrument"][0])
    assert torch.equal(found["polyp"][1], IMAGES[:, :1])
