"""The miniature BiomedCLIP's vision tower starts from the miniature CLIPSeg's, which knows drawn things and no medicine.

As large models do not begin with noise but with what was learned of everyday pictures: contrastive learning from noise
stands still for longer than a laptop has. `cosine_to` measures how far it has moved since.
"""

import torch
from torch import Tensor, nn

# What timm must be told, so that its ViT is wired like CLIP's: a norm before the blocks, a patch embedding without bias.
LIKE_CLIP = {"pre_norm": True, "act_layer": "quick_gelu"}


@torch.no_grad()
def start_from(trunk: nn.Module, vision: nn.Module) -> None:
    """Copy the CLIPSeg vision tower `vision` (transformers) into the ViT `trunk` (timm, LIKE_CLIP, as wide).

    Blocks that only `trunk` has, the last ones, begin as the identity. Raises RuntimeError for towers of other widths.
    """
    given, own = trunk.state_dict(), _named_as_in_timm(vision)
    for name, value in own.items():
        if given[name].shape != value.shape:
            raise RuntimeError(f"{name} is {tuple(given[name].shape)} here and {tuple(value.shape)} there")
    trunk.load_state_dict(given | own)
    for block in trunk.blocks[len(vision.encoder.layers) :]:
        for last in (block.attn.proj, block.mlp.fc2):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)


@torch.no_grad()
def cosine_to(trunk: nn.Module, vision: nn.Module) -> dict[str, float]:
    """Cosine similarities of the weight matrices that `trunk` and `vision` share, by their names in timm's ViT.

    Norms and biases are left out: they are near 1 and 0 in any tower.
    """
    own = trunk.state_dict()
    return {
        name: torch.cosine_similarity(own[name].flatten(), value.flatten(), dim=0).item()
        for name, value in _named_as_in_timm(vision).items()
        if name.endswith("weight") and "norm" not in name
    }


def _named_as_in_timm(vision: nn.Module) -> dict[str, Tensor]:
    """The tensors of a CLIPSeg vision tower by the names of timm's ViT."""
    theirs = vision.state_dict()
    own = {
        "cls_token": theirs["embeddings.class_embedding"].view(1, 1, -1),
        "pos_embed": theirs["embeddings.position_embedding.weight"].unsqueeze(0),
        "patch_embed.proj.weight": theirs["embeddings.patch_embedding.weight"],
        "norm_pre.weight": theirs["pre_layrnorm.weight"],
        "norm_pre.bias": theirs["pre_layrnorm.bias"],
    }
    for number in range(len(vision.encoder.layers)):
        own |= _block(theirs, f"encoder.layers.{number}.", f"blocks.{number}.")
    return own


def _block(theirs: dict[str, Tensor], there: str, here: str) -> dict[str, Tensor]:
    own = {}
    for kind in ("weight", "bias"):
        parts = [theirs[f"{there}self_attn.{part}_proj.{kind}"] for part in "qkv"]
        own[f"{here}attn.qkv.{kind}"] = torch.cat(parts)
        for name, their_name in {
            "norm1": "layer_norm1",
            "attn.proj": "self_attn.out_proj",
            "norm2": "layer_norm2",
            "mlp.fc1": "mlp.fc1",
            "mlp.fc2": "mlp.fc2",
        }.items():
            own[f"{here}{name}.{kind}"] = theirs[f"{there}{their_name}.{kind}"]
    return own
