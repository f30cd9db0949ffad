"""The loss that trains a BiomedCLIP from pictures and captions: which caption is true of which picture.

It is CLIP's, with two changes. Several captions of a batch may be true of a picture, so each true one has its share of
the target. And every question is asked twice: of the class token, as the published model answers it, and of the
patches, each caption of those that answer it best (in the manner of GLoRIA, Huang et al. 2021), so that the patches
learn where things are. No mask enters.

The published towers start from pretrained ones; these start from noise, where a contrastive loss stands still for long.
So every word has a vector, its anchor, to which the captions with that word and the pictures it is true of both go.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from tools.pretrain.captions import Claim, Description

SHARPNESS = 10.0  # how much the best patches count for more than the rest
FIRST_SCALE, LARGEST_SCALE = 10.0, 100.0  # of the cosines


class Contrast(nn.Module):
    """The loss of a CLIP model `clip` (open_clip, with a timm vision tower); its own parameters are left behind.

    `vocabulary`: by attribute, all words of captions.
    """

    def __init__(self, clip: nn.Module, vocabulary: Description):
        super().__init__()
        self.clip = clip
        self.vocabulary = vocabulary
        self.anchors = nn.ParameterDict(
            {key: torch.randn(len(words), clip.visual.head.proj.out_features) for key, words in vocabulary.items()}
        )
        self.patch_scale, self.word_scale, self.patch_word_scale = (
            nn.Parameter(torch.tensor(FIRST_SCALE).log()) for _ in range(3)
        )
        nn.init.constant_(clip.logit_scale, self.patch_scale.item())

    def embed(self, pixels: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Unit vectors of the pictures' tokens (B, 1 + patches, D), the class token first, and of the captions (C, D).

        `pixels`: normalised, (B, 3, H, W); `ids`: token ids (C, L).
        """
        visual = self.clip.visual
        tokens = functional.normalize(visual.head(visual.trunk.forward_features(pixels)), dim=-1)
        return tokens, functional.normalize(self.clip.encode_text(ids), dim=-1)

    def scores(self, tokens: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, C) that caption c is true of picture b, by the class token and by the patches."""
        whole, best = _cosines(tokens, text)
        return self.clip.logit_scale.exp() * whole, self.patch_scale.exp() * best

    def forward(
        self, pixels: Tensor, ids: Tensor, truth: Tensor, claims: list[Claim], descriptions: list[Description]
    ) -> Tensor:
        """The loss, a scalar; `truth`: (B, C) of 0 and 1; `claims`: what the captions say; `descriptions`: the pictures'."""
        tokens, text = self.embed(pixels, ids)
        whole, patches = self.scores(tokens, text)
        return (
            contrastive_loss(whole, truth)
            + contrastive_loss(patches, truth)
            + self._words(tokens, text, claims, descriptions)
        )

    def _words(self, tokens: Tensor, text: Tensor, claims: list[Claim], descriptions: list[Description]) -> Tensor:
        """How far captions, class tokens and patches are from the anchors of their words, the mean of all attributes."""
        losses = []
        said = [{key: (word,) for key, word in claim.items()} for claim in claims]
        for key, anchors in self.anchors.items():
            anchors = functional.normalize(anchors, dim=-1)
            whole, best = _cosines(tokens, anchors)
            true = _targets(descriptions, key, self.vocabulary[key])
            losses.append(
                share_loss(self.word_scale.exp() * whole, true)
                + share_loss(self.patch_word_scale.exp() * best, true)
                + share_loss(self.word_scale.exp() * text @ anchors.T, _targets(said, key, self.vocabulary[key]))
            )
        return torch.stack(losses).mean()

    @torch.no_grad()
    def clamp_scales(self) -> None:
        """Keep the cosines' scales in CLIP's range."""
        for scale in (self.clip.logit_scale, self.patch_scale, self.word_scale, self.patch_word_scale):
            scale.clamp_(0, torch.tensor(LARGEST_SCALE).log().item())


def contrastive_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """CLIP's loss of logits (B, C): for each caption its pictures among all, and for each picture its captions."""
    return share_loss(logits.T, truth.T) + share_loss(logits, truth)


def share_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Cross-entropy of rows (N, M) whose true entries have equal shares of the target, above the least it can be.

    Rows with nothing true, or nothing false, ask nothing and are left out; 0 where no row is left.
    """
    number = truth.sum(dim=1)
    asks = (number > 0) & (number < truth.shape[1])
    if not asks.any():
        return logits.sum() * 0
    logits, truth, number = logits[asks], truth[asks], number[asks]
    return (-(truth * logits.log_softmax(dim=1)).sum(dim=1) / number - number.log()).mean()


def _cosines(tokens: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines (B, C) of unit `vectors` (C, D) with the class tokens, and with the patches most like each of them."""
    cosines = tokens @ vectors.T  # (B, 1 + patches, C)
    patches = cosines[:, 1:]
    return cosines[:, 0], ((SHARPNESS * patches).softmax(dim=1) * patches).sum(dim=1)


def _targets(descriptions: list[Description], key: str, words: tuple[str, ...]) -> Tensor:
    """Which `words` of an attribute are said, float (N, words) of 0 and 1; words that training never met are passed over."""
    return torch.tensor([[float(word in said.get(key, ())) for word in words] for said in descriptions])
