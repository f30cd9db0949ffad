"""BiomedCLIPSeg (Poudel et al., MIDL 2024): BiomedCLIP's two encoders and a CLIPSeg decoder on top."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from vlsm_helpers.errors import SettingsError
from vlsm_helpers.models.biomedclip import tap
from vlsm_helpers.models.clipseg import CLIPSeg
from vlsm_helpers.models.pretrained import load_biomedclip, resolve_source, revision_of
from vlsm_helpers.models.segmenter import Features
from vlsm_helpers.models.vision_language import VisionLanguageSegmenter, check_taps
from vlsm_helpers.settings.published import BIOMEDCLIP, BIOMEDCLIP_WEIGHTS

TRAIN = ("decoder", "encoders")
PUBLISHED_TAPS = (4, 7, 10)  # CLIPSeg's 3, 6, 9, read from a list without the embeddings as if it held them


class BiomedCLIPSeg(VisionLanguageSegmenter):
    """BiomedCLIP from a folder or a hub id, 224 px, and a decoder (1.13 million parameters).

    `taps`: the vision blocks, counted from 0 and ascending, that the decoder reads; by default those a quarter, a half
    and three quarters of the way up (3, 6, 9 of 12, as in CLIPSeg), PUBLISHED_TAPS in the authors' code. `reduce_dim` and
    `mlp_dim`: the decoder's widths, in a block and within its MLP. Its weights are random; `warm_start` takes a CLIPSeg's.
    `train`: what receives gradients: "decoder", as published, or "encoders" (the decoder and all of both encoders that its
    logits depend on).
    Raises WeightsError for weights that cannot be loaded, and SettingsError for taps that the encoder does not have and for
    an unknown `train`.
    """

    def __init__(
        self,
        weights: str | Path = BIOMEDCLIP_WEIGHTS,
        taps: Sequence[int] | None = None,
        reduce_dim: int = 64,
        mlp_dim: int = 2048,
        train: str = "decoder",
    ):
        if train not in TRAIN:
            raise SettingsError(f"BiomedCLIPSeg cannot train {train!r}.", hint=f"train one of {', '.join(TRAIN)}.")
        clip, tokenizer, context_length, preprocessing = load_biomedclip(weights)
        depth = len(clip.visual.trunk.blocks)
        taps = check_taps(taps or [depth * quarter // 4 for quarter in (1, 2, 3)], depth)
        decoder = _fresh_decoder(clip, taps, reduce_dim, mlp_dim)
        super().__init__(clip, decoder, tokenizer, context_length, preprocessing)
        self.config = {
            "name": "biomedclipseg",
            "weights": resolve_source(weights),
            "taps": list(taps),
            "reduce_dim": reduce_dim,
            "mlp_dim": mlp_dim,
            "train": train,
        }
        self.weights_revision = revision_of(weights, BIOMEDCLIP)
        self.taps = taps
        self.clip.requires_grad_(False)
        if train == "encoders":
            for part in self._used_parts():
                part.requires_grad_(True)
        self.train()

    def tap(self, pixels: Tensor, taps: Sequence[int]) -> Features:
        """Hidden states (B, 1 + tokens, D) after the blocks `taps`, before the final norm."""
        return tap(self.clip, pixels, taps)

    def embed(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Embeddings (B, 512) of token ids (B, L); the text tower makes the mask itself, from the padding's id."""
        return self.clip.encode_text(ids)

    def _used_parts(self) -> list[nn.Module | nn.Parameter]:
        """What of the encoders the logits depend on: BiomedCLIP's own image embedding and later blocks do not count."""
        trunk = self.clip.visual.trunk
        blocks = trunk.blocks[: self.taps[-1] + 1]
        return [trunk.patch_embed, trunk.cls_token, trunk.pos_embed, trunk.norm_pre, *blocks, self.clip.text]


def warm_start(segmenter: BiomedCLIPSeg, teacher: CLIPSeg) -> None:
    """Start the decoder from `teacher`'s. Raises SettingsError where the two have other shapes."""
    try:
        segmenter.decoder.load_state_dict(teacher.decoder.state_dict())
        segmenter.started_from = teacher.config["weights"]
    except RuntimeError as error:
        raise SettingsError(
            f"The decoders differ: {error}",
            hint="make the BiomedCLIPSeg with the CLIPSeg's reduce_dim and decoder_intermediate_size (mlp_dim here), or "
            "leave its decoder as it was drawn (--no-warm-start).",
        ) from error


def reset_decoder(decoder: nn.Module) -> None:
    """Draw a CLIPSeg decoder's weights anew, as torch does: the library's standard deviation of 1 gives logits of +-1000."""
    for module in decoder.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            module.reset_parameters()


def _fresh_decoder(clip: nn.Module, taps: Sequence[int], reduce_dim: int, mlp_dim: int) -> nn.Module:
    from transformers import CLIPSegConfig
    from transformers.models.clipseg.modeling_clipseg import CLIPSegDecoder

    trunk = clip.visual.trunk
    projection = clip.visual.head.proj.out_features
    vision = {"hidden_size": trunk.embed_dim, "patch_size": trunk.patch_embed.patch_size[0]}
    vision |= {"num_attention_heads": trunk.blocks[0].attn.num_heads}  # the library checks it against the width
    config = CLIPSegConfig(
        vision_config=vision,
        projection_dim=projection,
        extract_layers=list(taps),
        reduce_dim=reduce_dim,
        decoder_intermediate_size=mlp_dim,
        attn_implementation="sdpa",
        use_complex_transposed_convolution=True,
    )
    decoder = CLIPSegDecoder(config)
    reset_decoder(decoder)
    return decoder
