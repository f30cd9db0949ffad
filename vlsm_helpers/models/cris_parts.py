"""The parts of CRIS that train on top of CLIP: neck, transformer decoder and text-to-pixel projector.

Read from github.com/DerrickWang005/CRIS.pytorch (MIT); figure 2 of the paper (Wang et al., CVPR 2022) shows the same parts
from left to right. Maps are (B, C, H, W); at 416 px v3, v4 and v5 have sides of 52, 26 and 13. Words are (B, L, C), one
vector per token; the sentence is (B, J), one vector in the joint space of image and text.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

PIXEL_KERNEL = 3  # pixels a side of the kernel that the projector makes from the sentence


class Geometry(NamedTuple):
    """Widths of CRIS; the defaults are the published ones.

    `pyramid`: channels of v3, v4, v5; `words`: width of a token and of the decoder; `sentence`: width of the joint space;
    `neck`: channels of the fused maps at strides 8, 16 and 32, the middle one equal to `words`.
    """

    pyramid: tuple[int, int, int] = (512, 1024, 1024)
    words: int = 512
    sentence: int = 1024
    neck: tuple[int, int, int] = (256, 512, 1024)
    layers: int = 3
    heads: int = 8
    feedforward: int = 2048
    dropout: float = 0.1


class Head(nn.Module):
    """All of CRIS but its encoders: pyramid, words and sentence in, logits at a quarter of the image's side out.

    `deepest` makes v5 from what the image encoder gives at stride 32. `sentence_norm`: the norm of the sentence in the neck;
    the published one is BatchNorm1d.
    """

    def __init__(self, geometry: Geometry, deepest: nn.Module, sentence_norm: type[nn.Module] = nn.LayerNorm):
        super().__init__()
        self.deepest = deepest
        self.neck = Neck(geometry, sentence_norm)
        self.decoder = TextDecoder(geometry)
        self.projector = Projector(geometry)

    def forward(self, features: tuple[Tensor, ...], words: Tensor, padding: Tensor, sentence: Tensor) -> Tensor:
        """Logits (B, 1, H/4, W/4). `padding`: (B, L), True where `words` (B, L, C) has no token."""
        v3, v4, *stride32 = features
        fused = self.neck(v3, v4, self.deepest(*stride32), sentence)
        decoded = self.decoder(fused, words, padding)
        return self.projector(decoded, sentence)


class PooledResidual(nn.Module):
    """v5 (B, J, h, w): CLIP's attention pool, whose map CRIS keeps, plus a new shortcut around it."""

    def __init__(self, channels: int, joint: int):
        super().__init__()
        self.shortcut = nn.Sequential(nn.Conv2d(channels, joint, 1, bias=False), nn.BatchNorm2d(joint))

    def forward(self, before: Tensor, pooled: Tensor) -> Tensor:
        """`before`: the pool's input (B, C, h, w), without positions; `pooled`: its output (B, J, h, w)."""
        return functional.relu(pooled + self.shortcut(before))


class Neck(nn.Module):
    """A feature pyramid network that fuses the sentence with v5, goes up to stride 16, and gathers all levels there."""

    def __init__(self, geometry: Geometry, sentence_norm: type[nn.Module]):
        super().__init__()
        (v3, v4, v5), (fine, middle, deep) = geometry.pyramid, geometry.neck
        self.sentence = nn.Sequential(
            nn.Linear(geometry.sentence, deep, bias=False), sentence_norm(deep), nn.ReLU(inplace=True)
        )
        self.v5, self.norm5 = conv(v5, deep, 1), nn.Sequential(nn.BatchNorm2d(deep), nn.ReLU(inplace=True))
        self.v4, self.join4 = conv(v4, middle, 3), conv(middle + deep, middle, 1)
        self.v3, self.join3 = conv(v3, fine, 3), conv(fine + middle, middle, 1)
        self.gather5, self.gather4, self.gather3 = (conv(width, middle, 3) for width in (deep, middle, middle))
        self.gather = conv(3 * middle, middle, 1)
        self.locate = nn.Sequential(conv(middle + 2, middle, 3), conv(middle, middle, 3))

    def forward(self, v3: Tensor, v4: Tensor, v5: Tensor, sentence: Tensor) -> Tensor:
        """A map (B, middle, H/16, W/16)."""
        text = self.sentence(sentence)[..., None, None]
        f5 = self.norm5(self.v5(v5) * text)
        f4 = self.join4(torch.cat([self.v4(v4), enlarge(f5)], dim=1))
        f3 = self.join3(torch.cat([functional.avg_pool2d(self.v3(v3), 2), f4], dim=1))
        levels = [self.gather3(f3), self.gather4(f4), enlarge(self.gather5(f5))]
        fused = self.gather(torch.cat(levels, dim=1))
        return self.locate(torch.cat([fused, coordinates(fused)], dim=1))


class TextDecoder(nn.Module):
    """Transformer layers in which every pixel attends to all pixels and then to the words; a last norm."""

    def __init__(self, geometry: Geometry):
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(geometry) for _ in range(geometry.layers))
        self.norm = nn.LayerNorm(geometry.words)

    def forward(self, fused: Tensor, words: Tensor, padding: Tensor) -> Tensor:
        """A map (B, C, h, w) from one of the same shape; `words` keep their values through all layers."""
        height, width = fused.shape[-2:]
        where = grid_positions(height, width, fused)
        order = positions(torch.arange(words.shape[1], device=words.device), words.shape[2]).to(words)
        pixels = fused.flatten(2).transpose(1, 2)
        for layer in self.layers:
            pixels = layer(pixels, words, padding, where, order)
        return self.norm(pixels).transpose(1, 2).unflatten(2, (height, width))


class DecoderLayer(nn.Module):
    """Self-attention of pixels, cross-attention to words, MLP; a norm before and a norm after each attention.

    Positions are added to queries and keys and never to values.
    """

    def __init__(self, geometry: Geometry):
        super().__init__()
        width, heads, dropout = geometry.words, geometry.heads, geometry.dropout
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.self_attention = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.cross_attention = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.self_norm, self.cross_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, geometry.feedforward),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.LayerNorm(geometry.feedforward),
            nn.Linear(geometry.feedforward, width),
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, pixels: Tensor, words: Tensor, padding: Tensor, where: Tensor, order: Tensor) -> Tensor:
        """Pixels (B, h w, C) updated from words (B, L, C); `where` (h w, C) and `order` (L, C) are their positions."""
        normed = self.norm1(pixels)
        placed = normed + where
        attended, _ = self.self_attention(placed, placed, normed, need_weights=False)
        pixels = pixels + self.dropout(self.self_norm(attended))
        queries, keys = self.norm2(pixels) + where, words + order
        attended, _ = self.cross_attention(queries, keys, words, key_padding_mask=padding, need_weights=False)
        pixels = pixels + self.dropout(self.cross_norm(attended))
        return pixels + self.dropout(self.mlp(self.norm3(pixels)))


class Projector(nn.Module):
    """Text-to-pixel: a convolution over the enlarged map whose kernel and bias are made from each image's own sentence."""

    def __init__(self, geometry: Geometry):
        super().__init__()
        width, half = geometry.words, geometry.words // 2
        self.pixels = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
            conv(width, width, 3),
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
            conv(width, half, 3),
            nn.Conv2d(half, half, 1),
        )
        self.kernel = nn.Linear(geometry.sentence, half * PIXEL_KERNEL**2 + 1)

    def forward(self, maps: Tensor, sentence: Tensor) -> Tensor:
        """Logits (B, 1, 4 h, 4 w) from a map (B, C, h, w)."""
        pixels, kernel = self.pixels(maps), self.kernel(sentence)
        return convolve_each(pixels, kernel[:, :-1].unflatten(1, (-1, PIXEL_KERNEL, PIXEL_KERNEL)), kernel[:, -1])


def convolve_each(pixels: Tensor, kernels: Tensor, bias: Tensor) -> Tensor:
    """Maps (B, 1, h, w): each of `pixels` (B, C, h, w) convolved with its own kernel (B, C, k, k) and bias (B,), padded.

    The published code takes a convolution of B groups. Here each pixel is multiplied with the kernel's k * k columns, which are
    then added up where they fall: the same sums, forward and backward about ten times as fast on a CPU.
    """
    size = kernels.shape[-1]
    columns = kernels.flip(2, 3).flatten(2).transpose(1, 2) @ pixels.flatten(2)
    return functional.fold(columns, pixels.shape[-2:], size, padding=size // 2) + bias[:, None, None, None]


def conv(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    """Convolution without bias, batch norm, ReLU; the side stays."""
    convolution = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def enlarge(maps: Tensor) -> Tensor:
    """Twice the side, bilinear."""
    return functional.interpolate(maps, scale_factor=2, mode="bilinear", align_corners=False)


def coordinates(maps: Tensor) -> Tensor:
    """x and y of each pixel (B, 2, h, w), from -1 to 1 with both ends (CoordConv, Liu et al., NeurIPS 2018)."""
    height, width = maps.shape[-2:]
    x = torch.linspace(-1, 1, width, device=maps.device).expand(height, width)
    y = torch.linspace(-1, 1, height, device=maps.device)[:, None].expand(height, width)
    return torch.stack([x, y]).to(maps.dtype).expand(len(maps), 2, height, width)


def positions(numbers: Tensor, width: int) -> Tensor:
    """Sinusoids (N, width), float32, of positions (N,): even channels sine, odd ones cosine (Vaswani et al., NeurIPS 2017)."""
    rates = 10_000 ** (-torch.arange(0, width, 2, device=numbers.device) / width)
    angles = numbers[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


def grid_positions(height: int, width: int, like: Tensor) -> Tensor:
    """Sinusoids (height * width, C) of a map (B, C, height, width): half of the channels for the column, half for the row."""
    half = like.shape[1] // 2
    columns = positions(torch.arange(width, device=like.device), half).expand(height, width, half)
    rows = positions(torch.arange(height, device=like.device), half)[:, None].expand(height, width, half)
    return torch.cat([columns, rows], dim=-1).flatten(0, 1).to(like.dtype)
