"""Adapters: from hidden states of a vision-language encoder and a text embedding to a feature map for a CNN.

Each is the corrected form of the authors' code (VLSM-Ensemble, Dietlmeier et al., MIDL 2025): the class token is dropped,
so that no Linear layer mixes the tokens of one fixed image size, and each image is processed independently of its batch.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

ADAPTER_CHANNELS = 128
HEADS = 4


class Film(nn.Module):
    """Feature-wise linear modulation (Perez et al., AAAI 2018): the prompt scales and shifts every channel of every token."""

    def __init__(self, text_dim: int, channels: int):
        super().__init__()
        self.scale, self.shift = nn.Linear(text_dim, channels), nn.Linear(text_dim, channels)
        nn.init.ones_(self.scale.bias)  # at first all channels pass unchanged

    def forward(self, tokens: Tensor, text: Tensor) -> Tensor:
        """Tokens (B, N, channels) modulated by text embeddings (B, text_dim)."""
        return tokens * self.scale(text).unsqueeze(1) + self.shift(text).unsqueeze(1)


class Adapter(nn.Module):
    """The adapter of ensemble A: the first tapped hidden state, projected to `channels` and modulated by the prompt."""

    def __init__(self, vision_dim: int, text_dim: int, channels: int = ADAPTER_CHANNELS):
        super().__init__()
        self.reduce = nn.Linear(vision_dim, channels)
        self.film = Film(text_dim, channels)

    def forward(self, states: Sequence[Tensor], text: Tensor) -> Tensor:
        """A map (B, channels, h, w) from hidden states (B, 1 + h w, vision_dim), of which it uses the first, and text."""
        return tokens_to_map(self.film(self.reduce(states[0][:, 1:]), text))


class TransformerAdapter(nn.Module):
    """The adapter of ensemble B: each projected hidden state is added to the output of a transformer layer over those before."""

    def __init__(self, vision_dim: int, text_dim: int, taps: int, channels: int = ADAPTER_CHANNELS):
        super().__init__()
        self.reduces = nn.ModuleList(nn.Linear(vision_dim, channels) for _ in range(taps))
        self.film = Film(text_dim, channels)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(channels, HEADS, 16 * channels, batch_first=True) for _ in range(taps)
        )

    def forward(self, states: Sequence[Tensor], text: Tensor) -> Tensor:
        """A map (B, channels, h, w) from hidden states (B, 1 + h w, vision_dim), one per tap, and text (B, text_dim)."""
        reduced = [reduce(state[:, 1:]) for reduce, state in zip(self.reduces, states, strict=True)]
        tokens = self.blocks[0](self.film(reduced[0], text))
        for block, state in zip(self.blocks[1:], reduced[1:], strict=True):
            tokens = block(tokens + state)
        return tokens_to_map(tokens)


class MaskHead(nn.Module):
    """The mask-head branch of ensemble A: logits from the adapter's map, enlarged `patch` times."""

    def __init__(self, channels: int, patch: int):
        super().__init__()
        factor = math.isqrt(patch)
        if factor**2 != patch:
            what = f"a mask head enlarges in two equal steps: the pixels per patch must be a square number, not {patch}"
            raise ValueError(what)
        self.convolve = nn.Conv2d(channels, channels, 3, padding=1)
        self.enlarge = nn.ConvTranspose2d(channels, channels // 2, factor, stride=factor)
        self.draw = nn.ConvTranspose2d(channels // 2, 1, factor, stride=factor)

    def forward(self, maps: Tensor) -> Tensor:
        """Logits (B, 1, patch h, patch w) from a map (B, channels, h, w)."""
        return self.draw(torch.relu(self.enlarge(torch.relu(self.convolve(maps)))))


def tokens_to_map(tokens: Tensor) -> Tensor:
    """Patch tokens (B, h w, C) of a square image as a map (B, C, h, w)."""
    side = math.isqrt(tokens.shape[1])
    if side**2 != tokens.shape[1]:
        raise ValueError(f"{tokens.shape[1]} tokens are no square of patches: is the class token among them?")
    return tokens.transpose(1, 2).unflatten(2, (side, side))
