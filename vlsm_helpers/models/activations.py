"""Intermediate activations of a CLIPSeg decoder."""

import torch
from torch import Tensor, nn

from vlsm_helpers.models.segmenter import Features
from vlsm_helpers.models.vision_language import VisionLanguageSegmenter


def token_maps(tokens: Tensor) -> Tensor:
    """Tokens (B, 1 + G * G, C), the class token first, as maps (B, G, G, C) without the class token.

    Raises ValueError unless the patch tokens fill a square.
    """
    side = round((tokens.shape[1] - 1) ** 0.5)
    if side * side + 1 != tokens.shape[1]:
        raise ValueError(f"{tokens.shape[1]} tokens are not a class token and a square of patches")
    return tokens[:, 1:].unflatten(1, (side, side))


def decoder_stages(segmenter: VisionLanguageSegmenter, features: Features, text: Tensor) -> dict[str, Tensor]:
    """Token maps (P, G, G, C) of the decoder for P prompts and one image, by the name of the stage.

    `features`: of that image, (1, 1 + G * G, D) each; `text`: embeddings (P, D) of the prompts. The decoder must apply
    FiLM before its first block, as the published ones do.
    """
    decoder = segmenter.decoder
    stages: dict[str, Tensor] = {}

    def recorder(name: str):
        def hook(module: nn.Module, inputs: tuple, output: Tensor) -> None:
            stages[name] = token_maps(output)

        return hook

    record_input = recorder("after FiLM")
    hooks = [
        decoder.reduces[0].register_forward_hook(recorder("before FiLM")),
        decoder.layers[0].register_forward_pre_hook(lambda module, inputs: record_input(module, (), inputs[0])),
    ]
    for number, block in enumerate(decoder.layers, start=1):
        hooks.append(block.register_forward_hook(recorder(f"after block {number}")))
    try:
        with torch.no_grad():
            decoder(tuple(feature.expand(len(text), -1, -1) for feature in features), text)
    finally:
        for hook in hooks:
            hook.remove()
    return stages
