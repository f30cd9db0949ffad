import warnings

import pytest
import torch

from vlsm_helpers.errors import SettingsError
from vlsm_helpers.models.biomedclipseg import BiomedCLIPSeg
from vlsm_helpers.models.clipseg import CLIPSeg
from vlsm_helpers.models.segmenter import Segmenter
from vlsm_helpers.models.vision_language import average_prompts, check_taps


@pytest.fixture(scope="module", params=["clipseg", "biomedclipseg"])
def member(request, tiny_weights):
    """Each of the two members; their context has 24 tokens, start and end included."""
    if request.param == "clipseg":
        return CLIPSeg(tiny_weights / "clipseg").eval()
    return BiomedCLIPSeg(tiny_weights / "biomedclip").eval()


class Lengths(Segmenter):
    """Embeds a prompt as its length and its number of words."""

    def encode_text(self, prompts):
        return torch.tensor([[float(len(prompt)), float(len(prompt.split()))] for prompt in prompts])


def test_prompt_ensembling_is_the_mean_of_the_embeddings():
    assert average_prompts(Lengths(), ["a polyp", "polyp", "one"]).tolist() == [[5.0, pytest.approx(4 / 3)]]
    assert average_prompts(Lengths(), "a polyp").tolist() == [[7.0, 2.0]]  # one prompt, and not its letters


def test_no_prompts_have_no_mean():
    with pytest.raises(ValueError, match="no prompts to average"):
        average_prompts(Lengths(), [])


@pytest.mark.parametrize("taps", [(), (3, 2), (3, 3), (-1, 2), (3, 12)])
def test_other_taps_are_refused_with_the_range(taps):
    with pytest.raises(SettingsError, match="from 0 to 11"):
        check_taps(taps, 12)


# What users type


@pytest.mark.parametrize("prompt", ["", "   ", "息肉", "полип", "ورم", "\N{MICROSCOPE}", "xyzzy"])
def test_any_text_has_finite_logits_the_empty_one_and_unknown_letters_too(member, prompt):
    with torch.no_grad():
        text = member.encode_text([prompt, "polyp"])
        logits = member(torch.rand(1, 3, 64, 64), prompt)
    assert text.isfinite().all()
    assert not torch.allclose(text[0], text[1])
    assert logits.isfinite().all()


def test_frozen_features_may_be_trained_on(member):
    features = member.encode_images(torch.rand(1, 3, 128, 128))
    assert not any(feature.requires_grad or feature.is_inference() for feature in features)


def test_only_a_prompt_that_is_too_long_is_warned_of_with_the_number_of_tokens_cut_off(member):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fits = member.encode_text(["polyp " * 22])
    with pytest.warns(UserWarning, match="27 to 24 tokens.*last 3.*'polyp polyp"):
        cut = member.encode_text(["polyp " * 25])
    torch.testing.assert_close(cut, fits)
