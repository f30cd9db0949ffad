import open_clip
import pytest
import torch

from vlsm_helpers.errors import SettingsError
from vlsm_helpers.models import factory
from vlsm_helpers.models.biomedclipseg import PUBLISHED_TAPS, BiomedCLIPSeg, warm_start
from vlsm_helpers.models.clipseg import CLIPSeg


@pytest.fixture(scope="module")
def folder(tiny_weights):
    return tiny_weights / "biomedclip"


@pytest.fixture(scope="module")
def biomedclipseg(folder):
    torch.manual_seed(0)
    return BiomedCLIPSeg(folder, reduce_dim=16, mlp_dim=64).eval()


def test_preprocessing_comes_from_the_checkpoint(biomedclipseg):
    assert biomedclipseg.image_size == 128
    torch.testing.assert_close(biomedclipseg.mean.flatten(), torch.tensor([0.48145466, 0.4578275, 0.40821073]))
    torch.testing.assert_close(biomedclipseg.std.flatten(), torch.tensor([0.26862954, 0.26130258, 0.27577711]))


@pytest.mark.parametrize("taps", [(3, 6, 9), PUBLISHED_TAPS])
def test_taps_are_what_comes_out_of_those_blocks_the_class_token_first(biomedclipseg, taps):
    images = torch.rand(2, 3, 128, 128)
    outputs = []
    trunk = biomedclipseg.clip.visual.trunk
    hooks = [block.register_forward_hook(lambda *args: outputs.append(args[-1])) for block in trunk.blocks]
    features = biomedclipseg.tap(biomedclipseg.preprocess(images), taps)
    for hook in hooks:
        hook.remove()
    assert len(outputs) == taps[-1] + 1  # the blocks above are not run
    for tap, feature in zip(taps, features, strict=True):
        assert feature.shape == (2, 65, 48)
        assert torch.equal(feature, outputs[tap])


def test_taps_are_a_quarter_a_half_and_three_quarters_up_unless_named(folder, biomedclipseg):
    assert biomedclipseg.taps == (3, 6, 9)
    assert BiomedCLIPSeg(folder, taps=PUBLISHED_TAPS).taps == (4, 7, 10)


def test_text_is_embedded_as_open_clip_does_but_not_normalised(folder, biomedclipseg):
    prompts = ["polyp", "a large dark lesion", "", "polyp"]
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(prompts)
    with torch.no_grad():
        expected = biomedclipseg.clip.encode_text(tokens)
    text = biomedclipseg.encode_text(prompts)
    torch.testing.assert_close(text, expected, atol=1e-5, rtol=0)
    assert (text.norm(dim=1) - 1).abs().min() > 0.01


def test_a_fresh_decoder_gives_modest_logits(biomedclipseg):
    with torch.no_grad():
        assert biomedclipseg(torch.rand(2, 3, 128, 128), "polyp").abs().max() < 5


def test_encoders_train_up_to_the_last_tap(folder):
    segmenter = BiomedCLIPSeg(folder, train="encoders")
    asking = {name for name, parameter in segmenter.named_parameters() if parameter.requires_grad}
    assert {"clip.text.proj.0.weight", "clip.visual.trunk.pos_embed", "decoder.film_mul.weight"} < asking
    assert "clip.visual.trunk.blocks.9.attn.qkv.weight" in asking
    assert "clip.visual.trunk.blocks.10.attn.qkv.weight" not in asking


def test_an_unknown_mode_is_refused(folder):
    with pytest.raises(SettingsError, match="cannot train 'lora'"):
        BiomedCLIPSeg(folder, train="lora")


def test_the_decoder_may_start_from_a_clipsegs(tiny_weights, folder):
    teacher = CLIPSeg(tiny_weights / "clipseg")
    segmenter = BiomedCLIPSeg(folder, reduce_dim=16, mlp_dim=64)
    assert segmenter.started_from is None
    warm_start(segmenter, teacher)
    assert segmenter.started_from == str(tiny_weights / "clipseg")
    for name, value in teacher.decoder.state_dict().items():
        assert torch.equal(segmenter.decoder.state_dict()[name], value)
    with pytest.raises(SettingsError, match="mlp_dim"):
        warm_start(BiomedCLIPSeg(folder), teacher)


def test_options_are_part_of_the_configuration(folder):
    first = BiomedCLIPSeg(folder, taps=[2, 4], reduce_dim=16, mlp_dim=64).eval()
    again = factory.build(**first.config)
    again.load_state_dict(first.state_dict())
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(again.eval()(images, "polyp"), first(images, "polyp"))
