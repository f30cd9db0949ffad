"""CRIS (Wang et al., CVPR 2022, arXiv 2111.15174): CLIP's two encoders, aligned with each other pixel by pixel.

    image  -> image encoder -> v3, v4, v5 (strides 8, 16, 32) --+
                                                                +-> neck -> decoder -> projector -> logits (stride 4)
    prompt -> text encoder  -> sentence ------------------------+            |            |
                            -> words --------------------------------------- + ---------- sentence

The neck fuses the sentence with the deepest map and merges all three at stride 16; in the decoder every pixel attends to
all pixels and to the words; the projector convolves the enlarged map with a kernel made from the sentence. `cris_parts`
has these three, `cris_encoders` the encoders.

Where the published code lets a prediction depend on anything but its image and its prompt, this class does not: the
sentence has a layer norm in place of batch norm, padding follows from the attention mask and not from the id 0, frozen
encoders keep their batch statistics, and logits have the image's size. `published.cris` keeps what was published.
"""

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from vlsm_helpers.errors import SettingsError
from vlsm_helpers.models import imagenet
from vlsm_helpers.models.cris_encoders import CLIPEncoders, MiniatureEncoders
from vlsm_helpers.models.cris_parts import Head
from vlsm_helpers.models.pretrained import load_clip_rn50, load_clipseg, resolve_source, revision_of
from vlsm_helpers.models.segmenter import Features, resize
from vlsm_helpers.models.smp_unet import NO_WEIGHTS
from vlsm_helpers.models.vision_language import Preprocessing, VisionLanguageSegmenter
from vlsm_helpers.settings.published import CLIP_RN50, CLIP_RN50_WEIGHTS, CLIPSEG

TRAIN = ("decoder", "encoders")
CLIP, EFFICIENTNET = "clip_rn50", "efficientnet_lite0"
IMAGE_ENCODERS = (CLIP, EFFICIENTNET)
PUBLISHED_SIZE = 416
STRIDE = 32


class CRIS(VisionLanguageSegmenter):
    """CRIS from a folder or a hub id; the published one is 416 px, 146.8 million parameters.

    `image_encoder`: "clip_rn50", whose weights and text encoder are those of the CLIP `weights`; or "efficientnet_lite0",
    with `image_weights` (a folder, a hub id, or "none" for random ones), beside the text encoder of the CLIPSeg `weights`.
    `train`: what receives gradients: "decoder" (all but the encoders: neck, decoder, projector, and with CLIP the shortcut
    around its attention pool) or, as published, "encoders" (all of it).
    `image_size`: pixels a side that the encoder sees, a multiple of 32; by default 416, or with EfficientNet-Lite0 the size
    of the CLIPSeg.
    Raises WeightsError for weights that cannot be loaded, and SettingsError for an unknown `train` or `image_encoder` and
    for another size.
    """

    def __init__(
        self,
        weights: str | Path = CLIP_RN50_WEIGHTS,
        image_encoder: str = CLIP,
        image_weights: str | Path = imagenet.HUB_ID,
        train: str = "encoders",
        image_size: int | None = None,
    ):
        _check(train, image_encoder, image_size)
        if image_encoder == CLIP:
            clip, tokenizer, context_length, preprocessing = load_clip_rn50(weights)
            encoders = CLIPEncoders(clip)
            preprocessing = preprocessing._replace(size=image_size or PUBLISHED_SIZE)
        else:
            clipseg, tokenizer, view = load_clipseg(weights)
            encoders = MiniatureEncoders(clipseg.clip)
            if image_weights != NO_WEIGHTS:
                imagenet.load_encoder(encoders.visual, image_weights)
            context_length = clipseg.config.text_config.max_position_embeddings
            preprocessing = Preprocessing(image_size or view.size, imagenet.MEAN, imagenet.STD)
        head = Head(encoders.geometry(), encoders.deepest())
        super().__init__(encoders, head, tokenizer, context_length, preprocessing)
        self.config = {
            "name": "cris",
            "weights": resolve_source(weights),
            "image_encoder": image_encoder,
            "image_weights": NO_WEIGHTS,
            "train": train,
            "image_size": image_size,
        }
        if image_encoder == EFFICIENTNET and image_weights != NO_WEIGHTS:
            self.started_from, self.attribution = imagenet.origin(image_weights), imagenet.ATTRIBUTION
            if train == "decoder":  # else a checkpoint holds them
                self.config["image_weights"] = resolve_source(image_weights)
        self.weights_revision = revision_of(weights, CLIP_RN50 if image_encoder == CLIP else CLIPSEG)
        self.clip.requires_grad_(train == "encoders")
        self.train()

    def encoding(self) -> dict:
        """Size and statistics; all else follows from the encoders' weights."""
        statistics = [self.mean.flatten().tolist(), self.std.flatten().tolist()]
        return {"image_size": self.image_size, "statistics": statistics}

    def encode_images(self, images: Tensor) -> Features:
        """The pyramid (B, C, h, w) at strides 8, 16 and 32; with CLIP the last twice, before and after its attention pool."""
        with self._encoder_gradients():
            return self.clip.pyramid(self.preprocess(images))

    def embed(self, ids: Tensor, mask: Tensor) -> Tensor:
        """One vector per token (B, context_length, C) of ids (B, L) with their mask; zeros after the end token."""
        words = self.clip.words(ids, mask) * mask[..., None]
        return functional.pad(words, (0, 0, 0, self.context_length - ids.shape[1]))

    def decode(self, features: Features, text: Tensor, images: Tensor, size: tuple[int, int]) -> Tensor:
        """Logits (B, 1, *size) from a pyramid and words (B, L, C); the pixels are not looked at."""
        padding = ~text.any(dim=-1)
        end = (~padding).sum(dim=1) - 1
        sentence = self.clip.sentence(text[torch.arange(len(text), device=text.device), end])
        return resize(self.decoder(features, text, padding, sentence), size)


def _check(train: str, image_encoder: str, image_size: int | None) -> None:
    if train not in TRAIN:
        raise SettingsError(f"CRIS cannot train {train!r}.", hint=f"train one of {', '.join(TRAIN)}.")
    if image_encoder not in IMAGE_ENCODERS:
        what = f"CRIS has no image encoder {image_encoder!r}."
        raise SettingsError(what, hint=f"use one of {', '.join(IMAGE_ENCODERS)}.")
    if image_size is not None and (image_size < STRIDE or image_size % STRIDE):
        what = f"CRIS cannot encode images of {image_size} pixels a side."
        raise SettingsError(what, hint=f"give a multiple of {STRIDE}.")
