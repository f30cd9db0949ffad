"""CLIPSeg (Lüddecke and Ecker, CVPR 2022): CLIP's two encoders and a small transformer decoder, conditioned on the prompt.

The network is the library's `CLIPSegForImageSegmentation`. Its parts are called one by one, because its own forward runs
both encoders under `no_grad`, so that only the decoder ever receives a gradient.
"""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from vlsm_helpers.errors import SettingsError
from vlsm_helpers.models.pretrained import load_clipseg, resolve_source, revision_of
from vlsm_helpers.models.segmenter import Features
from vlsm_helpers.models.vision_language import VisionLanguageSegmenter, check_taps
from vlsm_helpers.settings.published import CLIPSEG, CLIPSEG_WEIGHTS

TRAIN = ("decoder", "encoders", "lora")
LORA_RANK = 8


class CLIPSeg(VisionLanguageSegmenter):
    """CLIPSeg from a folder or a hub id; the published one is 352 px, taps (3, 6, 9), 150.7 million parameters.

    `train`: what receives gradients: "decoder" (1.1 million), "encoders" (the decoder and those parts of both encoders
    that its logits depend on), or "lora" (the decoder and low-rank updates of the encoders' queries and values).
    `image_size`: side in pixels of the encoder's input, at least one patch; by default that of its preprocessor.
    Raises WeightsError for weights that cannot be loaded and SettingsError for an unknown `train`.
    """

    def __init__(self, weights: str | Path = CLIPSEG_WEIGHTS, train: str = "decoder", image_size: int | None = None):
        if train not in TRAIN:
            raise SettingsError(f"CLIPSeg cannot train {train!r}.", hint=f"train one of {', '.join(TRAIN)}.")
        model, tokenizer, preprocessing = load_clipseg(weights)
        preprocessing = preprocessing._replace(size=image_size or preprocessing.size)
        context_length = model.config.text_config.max_position_embeddings
        super().__init__(model.clip, model.decoder, tokenizer, context_length, preprocessing)
        self.config = {"name": "clipseg", "weights": resolve_source(weights), "train": train, "image_size": image_size}
        self.weights_revision = revision_of(weights, CLIPSEG)
        self.taps = check_taps(list(model.extract_layers), model.config.vision_config.num_hidden_layers)
        self.clip.requires_grad_(False)
        if train == "encoders":
            for module in self._used_parts():
                module.requires_grad_(True)
        elif train == "lora":
            _add_lora(self.clip, self.taps[-1])
        self.train()

    def tap(self, pixels: Tensor, taps: Sequence[int]) -> Features:
        return tapped_states(self.clip, pixels, taps)

    def embed(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.clip.get_text_features(ids, attention_mask=mask).pooler_output

    def _used_parts(self) -> list[nn.Module]:
        """The encoders' modules that the logits depend on: not the image embedding, nor blocks after the last tap."""
        vision = self.clip.vision_model
        blocks = vision.encoder.layers[: self.taps[-1] + 1]
        return [vision.embeddings, vision.pre_layrnorm, *blocks, self.clip.text_model, self.clip.text_projection]


def tapped_states(clip: nn.Module, pixels: Tensor, taps: Sequence[int]) -> Features:
    """Hidden states (B, 1 + tokens, D) after the vision blocks `taps`, before the final norm; later blocks are not run.

    Tap i is the library's `hidden_states[i + 1]`, whose list begins with the embeddings.
    """
    vision = clip.vision_model
    hidden = vision.pre_layrnorm(vision.embeddings(pixels, interpolate_pos_encoding=True))
    tapped = {}
    for number, block in enumerate(vision.encoder.layers[: max(taps) + 1]):
        hidden = tapped[number] = block(hidden, None)
    return tuple(tapped[number] for number in taps)


def _add_lora(clip: nn.Module, last_tap: int) -> None:
    """Freeze `clip` and add low-rank updates (Hu et al., ICLR 2022) to the queries and values of the blocks that run."""
    from peft import LoraConfig, inject_adapter_in_model  # seconds to import, and only this mode needs it

    names = [
        name
        for name, module in clip.named_modules()
        if name.endswith(("q_proj", "v_proj"))
        and isinstance(module, nn.Linear)
        and not (name.startswith("vision_model.") and int(name.split(".")[3]) > last_tap)
    ]
    inject_adapter_in_model(LoraConfig(r=LORA_RANK, lora_alpha=2 * LORA_RANK, target_modules=names), clip)
