"""CRIS's encoders: an image pyramid at strides 8, 16 and 32, and a text encoder that gives one vector per token.

`CLIPEncoders` are CLIP's ResNet-50 and text encoder, as published. `MiniatureEncoders` put EfficientNet-Lite0 and the text
encoder of the shipped miniature CLIPSeg in their place.
"""

from torch import Tensor, nn
from torch.nn import functional

from vlsm_helpers.models import imagenet
from vlsm_helpers.models.cris_parts import Geometry, PooledResidual


class CLIPEncoders(nn.Module):
    """CLIP with a ResNet (Radford et al., ICML 2021) as open_clip wires it, its attention pool without the mean token."""

    def __init__(self, clip: nn.Module):
        super().__init__()
        self.visual = clip.visual
        self.token_embedding, self.positional_embedding = clip.token_embedding, clip.positional_embedding
        self.transformer, self.ln_final, self.text_projection = clip.transformer, clip.ln_final, clip.text_projection
        self.register_buffer("causal", clip.attn_mask, persistent=False)
        self.output_channels = clip.visual.attnpool.c_proj.out_features

    def pyramid(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """v3, v4, the attention pool's input (B, 2048, h, w) and its output (B, 1024, h, w), of normalised pixels."""
        stages = self.visual.forward_intermediates(pixels, indices=[2, 3, 4], intermediates_only=True)
        v3, v4, before = stages["image_intermediates"]
        return v3, v4, before, attend(self.visual.attnpool, before)

    def words(self, ids: Tensor, mask: Tensor) -> Tensor:
        """One vector (B, L, 512) per token of ids (B, L); causal attention, so `mask` changes none that it keeps."""
        length = ids.shape[1]
        tokens = self.token_embedding(ids) + self.positional_embedding[:length]
        return self.ln_final(self.transformer(tokens, attn_mask=self.causal[:length, :length]))

    def sentence(self, end: Tensor) -> Tensor:
        """The sentence (B, 1024) in the joint space, of the vectors (B, 512) of the end tokens."""
        return end @ self.text_projection

    def geometry(self) -> Geometry:
        """The published widths, where CLIP has those."""
        width, joint = self.text_projection.shape
        deep = self.visual.attnpool.c_proj.in_features
        return Geometry((deep // 4, deep // 2, joint), width, joint, (width // 2, width, joint), feedforward=4 * width)

    def deepest(self) -> nn.Module:
        """What makes v5 of the last two of the pyramid; it trains from random weights."""
        return PooledResidual(self.visual.attnpool.c_proj.in_features, self.output_channels)


class MiniatureEncoders(nn.Module):
    """EfficientNet-Lite0 (2.96 million parameters in its stages) and a CLIPSeg's text encoder."""

    def __init__(self, clip: nn.Module):
        import timm  # with torchvision 2 seconds, which the other members need not wait for

        super().__init__()
        self.visual = timm.create_model(imagenet.ARCHITECTURE, features_only=True, out_indices=(2, 3, 4))
        self.text_model, self.text_projection = clip.text_model, clip.text_projection

    def pyramid(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """v3, v4 and v5 (B, C, h, w), of normalised pixels."""
        return tuple(self.visual(pixels))

    def words(self, ids: Tensor, mask: Tensor) -> Tensor:
        """One vector (B, L, C) per token of ids (B, L) with their attention mask."""
        return self.text_model(input_ids=ids, attention_mask=mask).last_hidden_state

    def sentence(self, end: Tensor) -> Tensor:
        """The sentence (B, J) in the joint space, of the vectors (B, C) of the end tokens; its length is 1.

        The miniature's own are about 40 long, so that each step of training would change the projector's kernel beyond bounds.
        """
        return functional.normalize(self.text_projection(end), dim=-1)

    def geometry(self) -> Geometry:
        """The wiring's widths at this size."""
        width, joint = self.text_projection.in_features, self.text_projection.out_features
        channels = tuple(self.visual.feature_info.channels())
        return Geometry(channels, width, joint, (width // 2, width, width), layers=2, heads=4, feedforward=2 * width)

    def deepest(self) -> nn.Module:
        """v5 is the last of the pyramid."""
        return nn.Identity()


def attend(pool: nn.Module, maps: Tensor) -> Tensor:
    """CLIP's attention pool, every position a query: a map (B, J, h, w) from maps (B, C, h, w).

    The mean token is left out, and its row of the positions with it; the others are resized from their square grid.
    """
    batch, channels, height, width = maps.shape
    grid = pool.positional_embedding[1:]
    side = int(len(grid) ** 0.5)
    grid = grid.T.reshape(1, channels, side, side)
    grid = functional.interpolate(grid, size=(height, width), mode="bicubic", align_corners=False)
    tokens = (maps + grid).flatten(2).transpose(1, 2)
    split = (batch, height * width, pool.num_heads, channels // pool.num_heads)
    query, key, value = (
        project(tokens).view(split).transpose(1, 2) for project in (pool.q_proj, pool.k_proj, pool.v_proj)
    )
    attended = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
    return pool.c_proj(attended).transpose(1, 2).unflatten(2, (height, width))
