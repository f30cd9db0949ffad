"""The networks as the authors' code computes them, at full size and with its bugs, for people who have checkpoints of it.

`forward_tokens(pixel_values, input_ids, attention_mask)` gives logits (B, 1, H, W) from normalised pixels (B, 3, H, W)
and token ids (B, L). Source: github.com/juliadietlmeier/VLSM-Ensemble. Encoders always run without gradients there.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from vlsm_helpers.models import biomedclip, clipseg
from vlsm_helpers.models.adapter import ADAPTER_CHANNELS, HEADS, Film, MaskHead, tokens_to_map
from vlsm_helpers.models.biomedclipseg import PUBLISHED_TAPS, reset_decoder
from vlsm_helpers.models.unet_d import ConditionedUNetD, UNetD

CLIPSEG_TAPS = (3, 6, 9)
LAST_BLOCK = 11
VISION_DIM, TEXT_DIM, PATCH = 768, 512, 16


class PublishedUNetD(UNetD):
    """UNet-D, with the call of the authors' networks."""

    def forward_tokens(self, pixel_values: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits (B, 1, H, W); a CNN has no text input."""
        return self.logits(pixel_values)


class PublishedBiomedCLIPSeg(nn.Module):
    """BiomedCLIP's encoders, tapped one block too high, and a CLIPSeg decoder (C's has a single transposed convolution)."""

    def __init__(self, complex_enlargement: bool = True):
        super().__init__()
        self.clip = biomedclip.build_published()
        self.decoder = _decoder(complex_enlargement)

    @torch.no_grad()
    def encode(self, pixel_values: Tensor, input_ids: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Hidden states (B, 1 + tokens, 768) after blocks 4, 7, 10 and text embeddings (B, 512)."""
        return biomedclip.tapped_states(self.clip, pixel_values, PUBLISHED_TAPS), self.clip.encode_text(input_ids)

    def forward_tokens(self, pixel_values: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits (B, 1, H, W)."""
        return self.decoder(*self.encode(pixel_values, input_ids)).logits.unsqueeze(1)


class PublishedCLIPSeg(nn.Module):
    """CLIPSeg as in the library, with the last hidden state of its vision tower as well."""

    def __init__(self):
        super().__init__()
        from transformers import CLIPSegModel

        self.clip, self.decoder = CLIPSegModel(_clipseg_config(True)), _decoder(True)

    @torch.no_grad()
    def encode(
        self, pixel_values: Tensor, input_ids: Tensor, mask: Tensor
    ) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
        """Hidden states (B, 1 + tokens, 768) after blocks 3, 6, 9, that after the last block, text embeddings (B, 512)."""
        *states, last = clipseg.tapped_states(self.clip, pixel_values, (*CLIPSEG_TAPS, LAST_BLOCK))
        return tuple(states), last, self.clip.get_text_features(input_ids, attention_mask=mask).pooler_output


class TokenMixingAdapter(nn.Module):
    """A's adapter: a Linear over tokens mixes the class token into the others, and ties the network to one image size."""

    def __init__(self, tokens: int):
        super().__init__()
        self.reduce = nn.Linear(VISION_DIM, ADAPTER_CHANNELS)
        self.film = Film(TEXT_DIM, ADAPTER_CHANNELS)
        self.mix = nn.Linear(tokens + 1, tokens)

    def forward(self, state: Tensor, text: Tensor) -> Tensor:
        """A map (B, 128, h, w) from one hidden state (B, 1 + h w, 768)."""
        return tokens_to_map(self.mix(self.film(self.reduce(state), text).transpose(1, 2)).transpose(1, 2))


class NeighbourAdapter(nn.Module):
    """B's adapter. It iterates over the batch where it should over the tapped states, and attends across the batch.

    Features of samples 0, 1 and 2 are summed for every sample, and a batch of one runs one of the three layers: a
    prediction depends on the other images of its batch.
    """

    def __init__(
        self, tokens: int, vision_dim: int = VISION_DIM, text_dim: int = TEXT_DIM, channels: int = ADAPTER_CHANNELS
    ):
        super().__init__()
        self.reduces = nn.ModuleList(nn.Linear(vision_dim, channels) for _ in CLIPSEG_TAPS)
        self.film = Film(text_dim, channels)
        self.blocks = nn.ModuleList(nn.TransformerEncoderLayer(channels, HEADS, 16 * channels) for _ in CLIPSEG_TAPS)
        self.mix = nn.Linear(tokens + 1, tokens)

    def forward(self, last: Tensor, text: Tensor) -> Tensor:
        """A map (B, 128, h, w) from the last hidden state (B, 1 + h w, 768)."""
        tokens = None
        for sample, reduce, block in zip(last, self.reduces, self.blocks, strict=False):  # stops at the batch's size
            reduced = reduce(sample).unsqueeze(0)
            tokens = block(self.film(reduced, text) if tokens is None else tokens + reduced)
        return tokens_to_map(self.mix(tokens.transpose(1, 2)).transpose(1, 2))


class DoublyConditionedUNetD(ConditionedUNetD):
    """C's UNet-D: the adapter's map is concatenated before and after its own channels in the bottleneck."""

    def __init__(self):
        super().__init__(2 * ADAPTER_CHANNELS)

    def logits(self, images: Tensor, condition: Tensor) -> Tensor:
        """Logits (B, 1, H, W)."""
        maps = self.down(images)
        return self.up(torch.cat([condition, maps[-1], condition], dim=1), maps, images.shape[-2:])


class PublishedA(PublishedBiomedCLIPSeg):
    """Ensemble A at 224 px; as C's first branch with another decoder and another `cnn`."""

    def __init__(self, complex_enlargement: bool = True, cnn: ConditionedUNetD | None = None):
        super().__init__(complex_enlargement)
        self.adapter = TokenMixingAdapter((224 // PATCH) ** 2)
        self.head = MaskHead(ADAPTER_CHANNELS, PATCH)
        self.cnn = cnn or ConditionedUNetD(ADAPTER_CHANNELS)
        self.fuse_cnn, self.fuse = nn.Conv2d(2, 1, 1), nn.Conv2d(2, 1, 1)

    def forward_tokens(self, pixel_values: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits (B, 1, 224, 224)."""
        states, text = self.encode(pixel_values, input_ids)
        vlsm = self.decoder(states, text).logits.unsqueeze(1)
        vlsm = functional.interpolate(vlsm, size=pixel_values.shape[-2:], mode="bilinear", align_corners=True)
        maps = self.adapter(states[0], text)
        cnn = self.fuse_cnn(torch.cat([self.head(maps), self.cnn.logits(pixel_values, maps)], dim=1))
        return self.fuse(torch.cat([vlsm, cnn], dim=1))


class PublishedB(PublishedCLIPSeg):
    """Ensemble B at `size` pixels, 352 published; as C's second branch at 224 with another `cnn`."""

    def __init__(self, size: int = 352, cnn: ConditionedUNetD | None = None):
        super().__init__()
        self.adapter = NeighbourAdapter((size // PATCH) ** 2)
        self.cnn = cnn or ConditionedUNetD(ADAPTER_CHANNELS)
        self.fuse_cnn, self.fuse = nn.Conv2d(2, 1, 1), nn.Conv2d(2, 1, 1)

    def forward_tokens(self, pixel_values: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits (B, 1, size, size)."""
        states, last, text = self.encode(pixel_values, input_ids, attention_mask)
        vlsm = self.decoder(states, text).logits.unsqueeze(1)
        cnn = self.cnn.logits(pixel_values, self.adapter(last, text))
        cnn = self.fuse_cnn(torch.cat([vlsm, cnn], dim=1))
        return self.fuse(torch.cat([vlsm, cnn], dim=1))


class PublishedC(nn.Module):
    """Ensemble C at 224 px: both branches receive the same pixels and the same token ids, and A's last convolution fuses them."""

    def __init__(self):
        super().__init__()
        self.a = PublishedA(complex_enlargement=False, cnn=DoublyConditionedUNetD())
        self.b = PublishedB(size=224, cnn=DoublyConditionedUNetD())

    def forward_tokens(self, pixel_values: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits (B, 1, 224, 224)."""
        branches = [branch.forward_tokens(pixel_values, input_ids, attention_mask) for branch in (self.a, self.b)]
        return self.a.fuse(torch.cat(branches, dim=1))


def _clipseg_config(complex_enlargement: bool):
    from transformers import CLIPSegConfig

    vision = {"patch_size": PATCH} if complex_enlargement else {}
    return CLIPSegConfig(
        vision_config=vision, attn_implementation="sdpa", use_complex_transposed_convolution=complex_enlargement
    )


def _decoder(complex_enlargement: bool) -> nn.Module:
    """CLIPSeg's decoder: in three convolutions to 16 pixels a patch, or, C's, in one to the class's default of 32."""
    from transformers.models.clipseg.modeling_clipseg import CLIPSegDecoder

    decoder = CLIPSegDecoder(_clipseg_config(complex_enlargement))
    reset_decoder(decoder)
    return decoder
