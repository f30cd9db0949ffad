"""CLIP with a ResNet (Radford et al., ICML 2021), as open_clip wires it."""

import json
from pathlib import Path

from torch import nn

from vlsm_helpers.io.tensors import fill, read_tensors
from vlsm_helpers.models.vision_language import CLIPParts, Preprocessing
from vlsm_helpers.settings.published import CLIP_RN50

RN50 = {  # open_clip's "RN50-quickgelu"; what it calls "RN50" has plain GELU, which OpenAI's weights were not trained with
    "embed_dim": 1024,
    "vision_cfg": {"image_size": 224, "layers": [3, 4, 6, 3], "width": 64, "patch_size": None},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12},
}


def build_clip(config: dict | None = None) -> nn.Module:
    """open_clip's CLIP with random weights and QuickGELU; `config`: its sizes, by default RN50."""
    import open_clip

    sizes = config or RN50
    return open_clip.CLIP(sizes["embed_dim"], sizes["vision_cfg"], sizes["text_cfg"], quick_gelu=True)


def build_clip_rn50(folder: Path) -> CLIPParts:
    """The CLIP of a folder in the published format, with its weights in float32.

    Raises WeightsError for tensors that are broken or do not fit, and what the libraries raise for configs.
    """
    from transformers import AutoTokenizer

    config = json.loads((folder / "open_clip_config.json").read_text(encoding="utf-8"))
    sizes, images = config["model_cfg"], config["preprocess_cfg"]
    clip, path = build_clip(sizes), CLIP_RN50.tensors_in(folder)
    fill(clip, read_tensors(path), path)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    preprocessing = Preprocessing(sizes["vision_cfg"]["image_size"], tuple(images["mean"]), tuple(images["std"]))
    return CLIPParts(clip, tokenizer, sizes["text_cfg"]["context_length"], preprocessing)
