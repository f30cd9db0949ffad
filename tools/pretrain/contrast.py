"""The loss that trains a BiomedCLIP from images and captions: which caption is true of which image.

It is CLIP's (InfoNCE with a learned temperature), with three changes. Several captions may be true of an image, so each
true one has its share of the target. A memory keeps the embeddings of the last batches, which go on as further choices
(cross-batch memory, Wang et al., CVPR 2020): the loss chooses among hundreds while a step encodes dozens. And each
question is asked of the class token, as the published model answers it, and of the patches most similar to the caption
(in the manner of GLoRIA, Huang et al., ICCV 2021), so that the patches learn where things are. No mask enters.

Beside it, every word of the captions has a vector, its anchor, to which the captions with that word and the images it is
true of are drawn: classification of caption words, which small data learn faster than contrasts of sentences (Joulin et
al., ECCV 2016; Mehta et al., CatLIP, 2024). And where words say the place, the patches most similar to the caption have to
be there.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from tools.pretrain.lexicon import Lexicon, agree

WORDS = 3.0  # weight of the anchors' loss, a mean of a dozen attributes, beside the contrastive ones
PLACES = 2.0  # likewise of the loss of places
SHARPNESS = 10.0  # how much the most similar patches count for more than the rest
FIRST_SCALE, LARGEST_SCALE = 10.0, 100.0  # of the cosines


class Memory(nn.Module):
    """The unit vectors of the last `size` images and captions, with their rows of the lexicon; it has no gradient."""

    def __init__(self, size: int, width: int, words: int):
        super().__init__()
        self.register_buffer("filled", torch.tensor(0))
        for name, columns in (("images", width), ("text", width), ("shown", words), ("said", words)):
            self.register_buffer(name, torch.zeros(size, columns))

    def read(self) -> tuple[Tensor, ...]:
        """(images, text, shown, said) of those in memory, (M, ...) each."""
        return tuple(getattr(self, name)[: int(self.filled)] for name in ("images", "text", "shown", "said"))

    @torch.no_grad()
    def store(self, **new: Tensor) -> None:
        """Put the `new` rows of all four before the old ones, of which the last are forgotten."""
        for name, rows in new.items():  # a new tensor, because the loss still needs the old one for its gradient
            kept = getattr(self, name)
            setattr(self, name, torch.cat([rows, kept])[: len(kept)])
        self.filled.fill_(min(len(kept), int(self.filled) + len(rows)))


class Contrast(nn.Module):
    """The loss of a CLIP model `clip` (open_clip, with a timm vision tower); its own parameters are left behind."""

    def __init__(self, clip: nn.Module, lexicon: Lexicon, memory: int = 0):
        super().__init__()
        self.clip, self.lexicon = clip, lexicon
        width = clip.visual.head.proj.out_features
        self.memory = Memory(memory, width, len(lexicon))
        self.anchors = nn.Parameter(torch.randn(len(lexicon.words), width))
        self.patch_scale, self.word_scale, self.patch_word_scale = (
            nn.Parameter(torch.tensor(FIRST_SCALE).log()) for _ in range(3)
        )
        nn.init.constant_(clip.logit_scale, self.patch_scale.item())
        self.regions = {
            key: torch.from_numpy(own)
            for key, own in lexicon.regions(clip.visual.trunk.patch_embed.grid_size[0]).items()
        }

    def embed(self, pixels: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Unit vectors of the images' tokens (B, 1 + patches, D), the class token first, and of the captions (C, D).

        `pixels`: normalised, (B, 3, H, W); `ids`: token ids (C, L).
        """
        visual = self.clip.visual
        tokens = functional.normalize(visual.head(visual.trunk.forward_features(pixels)), dim=-1)
        return tokens, functional.normalize(self.clip.encode_text(ids), dim=-1)

    def forward(self, pixels: Tensor, ids: Tensor, shown: Tensor, said: Tensor) -> Tensor:
        """The loss, a scalar. `shown`: what is true of the images (B, words); `said`: what the captions say (C, words)."""
        tokens, text = self.embed(pixels, ids)
        whole, best = _cosines(tokens, text)
        truth = agree(shown, said).float()
        loss = self._among_remembered(tokens[:, 0], text, whole, shown, said, truth)
        loss = loss + contrastive_loss(self.patch_scale.exp() * best, truth)
        loss = loss + WORDS * self._words(tokens, text, shown, said)
        if (
            tokens.shape[1] - 1 == self.clip.visual.trunk.patch_embed.num_patches
        ):  # none is masked: it is known which is where
            loss = loss + PLACES * self._places(tokens[:, 1:], text, shown)
        self.memory.store(images=tokens[:, 0], text=text, shown=shown, said=said)
        return loss

    def _among_remembered(
        self, images: Tensor, text: Tensor, whole: Tensor, shown: Tensor, said: Tensor, truth: Tensor
    ):
        """CLIP's loss of the class tokens: batch and memory are what each image and each caption chooses from."""
        old_images, old_text, old_shown, old_said = self.memory.read()
        scale = self.clip.logit_scale.exp()
        captions = torch.cat([whole, images @ old_text.T], dim=1)
        pictures = torch.cat([whole.T, text @ old_images.T], dim=1)
        true_captions = torch.cat([truth, agree(shown, old_said).float()], dim=1)
        true_pictures = torch.cat([truth.T, agree(old_shown, said).float().T], dim=1)
        return share_loss(scale * captions, true_captions) + share_loss(scale * pictures, true_pictures)

    def _words(self, tokens: Tensor, text: Tensor, shown: Tensor, said: Tensor) -> Tensor:
        """How far captions, class tokens and patches are from the anchors of their words, the mean of all attributes."""
        anchors, losses = functional.normalize(self.anchors, dim=-1), []
        whole, best = _cosines(tokens, anchors)
        rows = (
            (self.word_scale.exp() * whole, shown),
            (self.patch_word_scale.exp() * best, shown),
            (self.word_scale.exp() * text @ anchors.T, said),
        )
        for columns in map(self.lexicon.columns, self.lexicon.vocabulary):
            losses.append(sum(share_loss(logits[:, columns], true[:, columns]) for logits, true in rows))
        return torch.stack(losses).mean()

    def _places(self, patches: Tensor, text: Tensor, shown: Tensor) -> Tensor:
        """Minus the log of the share of an image's patches most similar to its caption that are where words say it is."""
        named = self.named_patches(shown)
        share = (self.patch_scale.exp() * (patches @ text.unsqueeze(-1)).squeeze(-1)).log_softmax(dim=1)
        return -share.masked_fill(~named, -torch.inf).logsumexp(dim=1).mean()

    def named_patches(self, shown: Tensor) -> Tensor:
        """bool (B, patches): those that all true words for the place allow, of several ninths any; all where none is named."""
        allowed = torch.ones(len(shown), self.clip.visual.trunk.patch_embed.num_patches, dtype=torch.bool)
        for key, regions in self.regions.items():
            true = shown[:, self.lexicon.columns(key)]
            if key == "place":
                allowed &= (true @ regions.float() > 0) | ~true.any(dim=1, keepdim=True)
            else:
                allowed &= true @ (~regions).float() == 0
        return allowed

    @torch.no_grad()
    def clamp_scales(self) -> None:
        """Keep the cosines' scales in CLIP's range."""
        for scale in (self.clip.logit_scale, self.patch_scale, self.word_scale, self.patch_word_scale):
            scale.clamp_(0, torch.tensor(LARGEST_SCALE).log().item())


def contrastive_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """CLIP's loss of logits (B, C): for each caption its images among all, and for each image its captions."""
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
