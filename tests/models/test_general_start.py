import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from tools.pretrain import clipseg
from tools.pretrain.general_start import LIKE_CLIP, cosine_to, start_from
from vlsm_helpers.models.clipseg import CLIPSeg


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fresh")
    clipseg.write_fresh(folder, seed=0)
    return CLIPSeg(folder).eval()


def vit(depth: int, width: int = 128) -> VisionTransformer:
    return VisionTransformer(img_size=128, patch_size=16, embed_dim=width, depth=depth, num_heads=4, **LIKE_CLIP).eval()


def test_the_copy_sees_what_the_original_sees(teacher):
    """Blocks that the original lacks pass on what they are given."""
    trunk, pixels = vit(depth=8), torch.randn(2, 3, 128, 128)
    start_from(trunk, teacher.clip.vision_model)
    with torch.no_grad():
        expected = teacher.tap(pixels, [0, 3, 5])
        states = trunk.forward_intermediates(
            pixels, indices=[0, 3, 5, 7], return_prefix_tokens=True, output_fmt="NLC", intermediates_only=True
        )
    own = [torch.cat([prefix, tokens], dim=1) for tokens, prefix in states]
    for one, other in zip(own[:3], expected, strict=True):
        torch.testing.assert_close(one, other, atol=5e-3, rtol=5e-3)  # the libraries' norms differ in their epsilon
    torch.testing.assert_close(own[3], own[2])


def test_blocks_that_begin_as_the_identity_still_learn(teacher):
    trunk = vit(depth=7)
    start_from(trunk, teacher.clip.vision_model)
    trunk.forward_features(torch.randn(1, 3, 128, 128)).square().mean().backward()
    assert trunk.blocks[6].mlp.fc2.weight.grad.abs().max() > 0


def test_a_tower_of_another_width_is_refused(teacher):
    with pytest.raises(RuntimeError, match="cls_token is .1, 1, 64."):
        start_from(vit(depth=6, width=64), teacher.clip.vision_model)


def test_the_cosine_tells_a_copy_from_a_tower_of_its_own(teacher):
    trunk = vit(depth=8)
    assert max(map(abs, cosine_to(trunk, teacher.clip.vision_model).values())) < 0.2  # drawn independently
    start_from(trunk, teacher.clip.vision_model)
    cosines = cosine_to(trunk, teacher.clip.vision_model)
    assert len(cosines) == 1 + 4 * 6  # the patches, and four matrices per block
    assert min(cosines.values()) > 0.9999
    with torch.no_grad():
        trunk.blocks[2].mlp.fc1.weight.neg_()
    assert cosine_to(trunk, teacher.clip.vision_model)["blocks.2.mlp.fc1.weight"] < -0.9999
