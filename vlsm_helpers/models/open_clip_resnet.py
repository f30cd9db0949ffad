"""CLIP with a ResNet (Radford et al., ICML 2021), as open_clip wires it."""

from torch import nn

RN50 = {  # open_clip's "RN50-quickgelu"; what it calls "RN50" has plain GELU, which OpenAI's weights were not trained with
    "embed_dim": 1024,
    "vision_cfg": {"image_size": 224, "layers": [3, 4, 6, 3], "width": 64, "patch_size": None},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12},
}


def build_clip(config: dict | None = None) -> nn.Module:
    """open_clip's CLIP with random weights and QuickGELU, of `config`'s sizes (see RN50, the default)."""
    import open_clip

    sizes = config or RN50
    return open_clip.CLIP(sizes["embed_dim"], sizes["vision_cfg"], sizes["text_cfg"], quick_gelu=True)
