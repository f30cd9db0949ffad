"""BiomedCLIPSeg (Poudel et al., MIDL 2024): BiomedCLIP's two encoders and a CLIPSeg decoder on top."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from vlsm_helpers.errors import SettingsError
from vlsm_helpers.models.biomedclip import tapped_states
from vlsm_helpers.models.clipseg import CLIPSeg
from vlsm_helpers.models.pretrained import load_biomedclip, resolve_source, revision_of
from vlsm_helpers.models.segmenter import Features
from vlsm_helpers.models.vision_language import VisionLanguageSegmenter, check_taps
from vlsm_helpers.settings.published import BIOMEDCLIP, BIOMEDCLIP_WEIGHTS

TRAIN = ("decoder", "encoders")
PUBLISHED_TAPS = (4, 7, 10)  # CLIPSeg's 3, 6, 9 plus one, from a list that does not begin with the embeddings


class BiomedCLIPSeg(VisionLanguageSegmenter):
    """BiomedCLIP from a folder or a hub id, 224 px, and a decoder (1.13 million parameters).

    `taps`: the vision blocks, counted from 0 and ascending, whose outputs the decoder receives; by default
    those at a quarter, a half and three quarters of the depth (3, 6, 9 of 12, as in CLIPSeg), PUBLISHED_TAPS in the authors'
    code. `reduce_dim` and `mlp_dim`: widths of the decoder's blocks and of their MLPs. The decoder is randomly initialised;
    `warm_start` copies a CLIPSeg's.
    `train`: what receives gradients: "decoder", as published, or "encoders" (the decoder and those parts of both
    encoders that its logits depend on).
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
        return tapped_states(self.clip, pixels, taps)

    def embed(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.clip.encode_text(ids)  # the text tower computes the mask itself, from the padding id

    def _used_parts(self) -> list[nn.Module | nn.Parameter]:
        """The encoders' parts that the logits depend on: not the image embedding, nor blocks after the last tap."""
        trunk = self.clip.visual.trunk
        blocks = trunk.blocks[: self.taps[-1] + 1]
        return [trunk.patch_embed, trunk.cls_token, trunk.pos_embed, trunk.norm_pre, *blocks, self.clip.text]


def warm_start(segmenter: BiomedCLIPSeg, teacher: CLIPSeg) -> None:
    """Initialise the decoder with the weights of `teacher`'s. Raises SettingsError if their shapes differ."""
    try:
        segmenter.decoder.load_state_dict(teacher.decoder.state_dict())
        segmenter.started_from = teacher.config["weights"]
    except RuntimeError as error:
        raise SettingsError(
            f"The decoders differ: {error}",
            hint="make the BiomedCLIPSeg with the CLIPSeg's reduce_dim and decoder_intermediate_size (mlp_dim here), or "
            "keep its randomly initialised decoder (--no-warm-start).",
        ) from error


def reset_decoder(decoder: nn.Module) -> None:
    """Initialise a CLIPSeg decoder as torch does by default: the library's standard deviation of 1 gives logits of +-1000."""
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
