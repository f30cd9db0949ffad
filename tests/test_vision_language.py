import pytest
import torch

from vlsm_helpers.errors import SettingsError
from vlsm_helpers.models.segmenter import Segmenter
from vlsm_helpers.models.vision_language import average_prompts, check_taps


class Lengths(Segmenter):
    """Embeds a prompt as its length and its number of words."""

    def encode_text(self, prompts):
        return torch.tensor([[float(len(prompt)), float(len(prompt.split()))] for prompt in prompts])


def test_prompt_ensembling_is_the_mean_of_the_embeddings():
    assert average_prompts(Lengths(), ["a polyp", "polyp", "one"]).tolist() == [[5.0, pytest.approx(4 / 3)]]


def test_taps_are_ascending_blocks_of_the_encoder():
    assert check_taps([0, 3, 11], 12) == (0, 3, 11)


@pytest.mark.parametrize("taps", [(), (3, 2), (3, 3), (-1, 2), (3, 12)])
def test_other_taps_are_refused_with_the_range(taps):
    with pytest.raises(SettingsError, match="from 0 to 11"):
        check_taps(taps, 12)
