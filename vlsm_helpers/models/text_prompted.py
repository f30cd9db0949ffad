"""A bridge: any text-prompted segmenter of the transformers library behind the course's one call."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vlsm_helpers.errors import SettingsError
from vlsm_helpers.models.segmenter import as_prompts, check_images, resize

MAPS = ("semantic_seg", "logits")  # what SAM 3 and CLIPSeg call their per-pixel logits


class TextPrompted(nn.Module):
    """A model of transformers and its processor, for prediction and late fusion; it is not trained here.

    `processor` turns images and texts into the model's inputs; `options` are passed to it with every call (CLIPSeg's needs
    `padding=True`). The logits are the output's `semantic_seg` (SAM 3, one map for all instances, as its processor's
    `post_process_semantic_segmentation` reads it; its presence score is not applied) or `logits` (CLIPSeg).

    >>> from transformers import AutoProcessor, CLIPSegForImageSegmentation
    >>> from vlsm_helpers.models import pretrained
    >>> folder = pretrained.find("tiny", pretrained.CLIPSEG)
    >>> model = CLIPSegForImageSegmentation.from_pretrained(folder, dtype="float32")
    >>> member = TextPrompted(model, AutoProcessor.from_pretrained(folder), padding=True)
    >>> import torch
    >>> member(torch.rand(2, 3, 128, 128), "a red circle").shape
    torch.Size([2, 1, 128, 128])
    """

    def __init__(self, model: nn.Module, processor, **options):
        super().__init__()
        self.model, self.processor, self.options = model.eval(), processor, options

    def forward(self, images: Tensor, prompts: str | Sequence[str] = "") -> Tensor:
        """Logits (B, 1, H, W) at the images' size; images float (B, 3, H, W) in [0, 1], one prompt for all or one per image.

        The processor receives the images rounded to 8 bits. Raises ValueError for images of another shape or type and for
        a list of prompts of another length, and SettingsError where the model's output has no map of logits per image.
        """
        check_images(images)
        pixels = (255 * images).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        inputs = self.processor(
            images=list(pixels), text=as_prompts(prompts, len(images)), return_tensors="pt", **self.options
        ).to(images.device)
        return resize(self._maps(inputs), images.shape[-2:])

    def _maps(self, inputs) -> Tensor:
        """The model's maps (B, 1, h, w). The processor may add entries, such as original sizes, that the model does not take."""
        taken = {name: inputs[name] for name in ("pixel_values", "input_ids", "attention_mask") if name in inputs}
        output, batch = self.model(**taken), len(inputs["pixel_values"])
        maps = next((output[name] for name in MAPS if output.get(name) is not None), torch.empty(0))
        if maps.ndim == 3:
            maps = maps[:, None]
        if maps.ndim != 4 or maps.shape[:2] != (batch, 1):
            found = ", ".join(f"{name} {tuple(one.shape)}" for name, one in output.items() if isinstance(one, Tensor))
            what = f"{type(self.model).__name__} gives no map of logits per image; it gives {found}."
            hint = f"use a model whose output has one of {', '.join(MAPS)}, of shape (B, h, w) or (B, 1, h, w)."
            raise SettingsError(what, hint=hint)
        return maps
