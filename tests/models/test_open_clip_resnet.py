import open_clip
import torch

from vlsm_helpers.models.open_clip_resnet import RN50
from vlsm_helpers.models.published.cris import PublishedCRIS

TINY_CLIP = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 96, "layers": [1, 1, 1, 1], "width": 12, "patch_size": None, "head_width": 16},
    "text_cfg": {"context_length": 24, "vocab_size": 800, "width": 64, "heads": 1, "layers": 2},
}


END = 799  # the largest id, which marks the end of a sentence


def tokens(*sentences, length=24, padding=0):
    """Ids and mask of sentences, each a list of ids, with the marks of beginning and end."""
    ids = torch.full((len(sentences), length), padding)
    mask = torch.zeros_like(ids)
    for row, sentence in enumerate(sentences):
        ids[row, : len(sentence) + 2] = torch.tensor([END - 1, *sentence, END])
        mask[row, : len(sentence) + 2] = 1
    return ids, mask


def test_plain_gelu_is_another_network():
    """open_clip's name "RN50" stands for it, even with OpenAI's weights: ours is "RN50-quickgelu", name by name."""
    theirs = open_clip.get_model_config("RN50-quickgelu")
    assert theirs.pop("quick_gelu")
    assert theirs == RN50
    quick = open_clip.CLIP(**TINY_CLIP, quick_gelu=True).eval()
    plain = open_clip.CLIP(**TINY_CLIP, quick_gelu=False).eval()
    plain.load_state_dict(quick.state_dict())
    ids, _ = tokens([5, 6])
    with torch.no_grad():
        assert not torch.allclose(quick.encode_text(ids), plain.encode_text(ids), atol=1e-3)
        ours = PublishedCRIS(quick, size=96).clip
        torch.testing.assert_close(ours.sentence(ours.words(ids, None)[:, 3]), quick.encode_text(ids))
