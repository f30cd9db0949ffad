"""Intermediate activations of a CLIPSeg decoder."""

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from vlsm_helpers.models.adapter import tokens_to_map
from vlsm_helpers.models.segmenter import Features
from vlsm_helpers.models.vision_language import VisionLanguageSegmenter


def token_maps(tokens: Tensor) -> Tensor:
    """Tokens (B, 1 + G * G, C), the class token first, as maps (B, G, G, C) without the class token."""
    return tokens_to_map(tokens[:, 1:]).permute(0, 2, 3, 1)


def decoder_stages(segmenter: VisionLanguageSegmenter, features: Features, text: Tensor) -> dict[str, Tensor]:
    """Token maps (P, G, G, C) of the decoder for P prompts and one image, by the name of the stage.

    `features`: of that image, (1, 1 + G * G, D) each; `text`: embeddings (P, D) of the prompts. The decoder must apply
    FiLM before its first block, as the published ones do.
    """
    decoder = segmenter.decoder
    stages: dict[str, Tensor] = {}

    def record(module: nn.Module, name: str) -> RemovableHandle:
        return module.register_forward_hook(lambda _, inputs, output: stages.update({name: token_maps(output)}))

    first, *_ = decoder.layers
    hooks = [
        record(decoder.reduces[0], "before FiLM"),
        first.register_forward_pre_hook(lambda _, inputs: stages.update({"after FiLM": token_maps(inputs[0])})),
        *(record(block, f"after block {number}") for number, block in enumerate(decoder.layers, start=1)),
    ]
    try:
        with torch.no_grad():
            decoder(tuple(feature.expand(len(text), -1, -1) for feature in features), text)
    finally:
        for hook in hooks:
            hook.remove()
    return stages
