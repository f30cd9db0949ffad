import pytest
import torch

from vlsm_helpers.models.activations import decoder_stages, token_maps
from vlsm_helpers.models.clipseg import CLIPSeg


@pytest.fixture(scope="module")
def clipseg(tiny_weights):
    return CLIPSeg(tiny_weights / "clipseg").eval()


@pytest.fixture(scope="module")
def inputs(clipseg):
    """Features of an image and embeddings of two prompts."""
    torch.manual_seed(0)
    with torch.no_grad():
        return clipseg.encode_images(torch.rand(1, 3, 128, 128)), clipseg.encode_text(["a pink bump", "a blue square"])


def test_tokens_lie_where_their_patches_do():
    tokens = torch.arange(10.0).view(1, 10, 1)  # the class token, then nine patches row by row
    assert token_maps(tokens)[0, :, :, 0].tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]


def test_the_stages_are_the_decoders(clipseg, inputs):
    stages = decoder_stages(clipseg, *inputs)
    assert list(stages) == ["before FiLM", "after FiLM", "after block 1", "after block 2", "after block 3"]
    assert {tuple(maps.shape) for maps in stages.values()} == {(2, 8, 8, 16)}
    scale, shift = (layer(inputs[1])[:, None, None] for layer in (clipseg.decoder.film_mul, clipseg.decoder.film_add))
    torch.testing.assert_close(stages["after FiLM"], scale * stages["before FiLM"] + shift)
    last = stages["after block 3"].permute(0, 3, 1, 2)
    logits = clipseg.decoder(tuple(feature.expand(2, -1, -1) for feature in inputs[0]), inputs[1]).logits
    torch.testing.assert_close(clipseg.decoder.transposed_convolution(last)[:, 0], logits)


def test_prompts_differ_only_after_film(clipseg, inputs):
    stages = decoder_stages(clipseg, *inputs)
    assert torch.equal(*stages["before FiLM"])
    assert not torch.allclose(*stages["after FiLM"])


def test_no_hook_is_left_behind(clipseg, inputs):
    decoder_stages(clipseg, *inputs)
    with pytest.raises(RuntimeError):
        decoder_stages(clipseg, inputs[0], inputs[1][:, :3])
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in clipseg.decoder.modules())
