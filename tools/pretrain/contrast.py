"""The loss that trains a BiomedCLIP from images and captions: which caption is true of which image.

It is CLIP's (InfoNCE with a learned temperature), with three changes. Several captions may be true of an image, so each
true one has its share of the target. A memory keeps the embeddings of the last batches, which go on as further choices
(cross-batch memory, Wang et al., CVPR 2020): the loss chooses among hundreds while a step encodes dozens. And captions are
also compared with a local embedding, the patches weighted by how much they match the words for the finding (in the manner
of GLoRIA, Huang et al., ICCV 2021); where words say the place, those patches have to be there. No mask enters.

Beside it, every word of the captions has a vector, its anchor, to which the captions with that word and the images it is
true of are drawn: classification of caption words, which small data learn faster than contrasts of sentences (Joulin et
al., ECCV 2016; Mehta et al., CatLIP, 2024).
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from tools.pretrain.lexicon import Lexicon, agree

PLACES = 2.0  # weight of the loss of places
FIRST_SCALE, LARGEST_SCALE = 10.0, 100.0  # of the cosines


class Embeddings(NamedTuple):
    """Unit vectors of B images as a whole (B, D), of their patches (B, P, D), and of C captions (C, D)."""

    images: Tensor
    patches: Tensor
    text: Tensor


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
    """The loss of a CLIP model `clip` (open_clip, with a timm vision tower); its own parameters are left behind.

    `memory`: how many images and captions are remembered; `words`: the weight of the anchors' loss of an attribute.
    """

    def __init__(self, clip: nn.Module, lexicon: Lexicon, memory: int = 0, words: float = 1.0):
        super().__init__()
        self.clip, self.lexicon, self.words = clip, lexicon, words
        width, grid = clip.visual.head.proj.out_features, clip.visual.trunk.patch_embed.grid_size
        self.memory = Memory(memory, width, len(lexicon))
        self.regions = {key: torch.from_numpy(own) for key, own in lexicon.regions(grid[0]).items()}
        self.anchors = nn.Parameter(torch.randn(len(lexicon.words), width))
        self.local_scale, self.word_scale = (nn.Parameter(torch.tensor(FIRST_SCALE).log()) for _ in range(2))
        nn.init.constant_(clip.logit_scale, self.local_scale.item())

    def embed(self, pixels: Tensor, ids: Tensor) -> Embeddings:
        """Embeddings of images, normalised pixels (B, 3, H, W), and of captions, token ids (C, L)."""
        visual = self.clip.visual
        tokens = visual.trunk.forward_features(pixels)
        whole, patches = visual.trunk.forward_head(tokens), tokens[:, visual.trunk.num_prefix_tokens :]
        vectors = visual.head(whole), visual.head(patches), self.clip.encode_text(ids)
        return Embeddings(*(functional.normalize(one, dim=-1) for one in vectors))

    def forward(self, pixels: Tensor, ids: Tensor, shown: Tensor, said: Tensor) -> Tensor:
        """The loss, a scalar. `shown`: what is true of the images (B, words); `said`: what the captions say (C, words)."""
        images, patches, text = self.embed(pixels, ids)
        shares = self.attention(patches, shown)
        local = functional.normalize((shares.exp().unsqueeze(-1) * patches).sum(dim=1), dim=-1)
        truth = agree(shown, said).float()
        loss = self._among_remembered(images, text, shown, said, truth)
        loss = loss + contrastive_loss(self.local_scale.exp() * local @ text.T, truth)
        loss = loss + self.words * self._words(((images, shown), (local, shown), (text, said)))
        loss = loss - PLACES * shares.masked_fill(~self.named_patches(shown), -torch.inf).logsumexp(dim=1).mean()
        self.memory.store(images=images, text=text, shown=shown, said=said)
        return loss

    def attention(self, patches: Tensor, shown: Tensor) -> Tensor:
        """Logarithms (B, P) of each patch's share by its similarity to the words for the image's finding, and no others.

        Words for the place would be matched by the patches that are there, whatever they show.
        """
        columns = self.lexicon.columns("finding")
        words = functional.normalize(shown[:, columns] @ functional.normalize(self.anchors[columns], dim=-1), dim=-1)
        return (self.local_scale.exp() * (patches @ words.unsqueeze(-1)).squeeze(-1)).log_softmax(dim=1)

    def named_patches(self, shown: Tensor) -> Tensor:
        """bool (B, P): those that all true words for the place allow, of several ninths any; all where none is named."""
        allowed = torch.ones(len(shown), self.clip.visual.trunk.patch_embed.num_patches, dtype=torch.bool)
        for key, regions in self.regions.items():
            true = shown[:, self.lexicon.columns(key)]
            if key == "place":
                allowed &= (true @ regions.float() > 0) | ~true.any(dim=1, keepdim=True)
            else:
                allowed &= true @ (~regions).float() == 0
        return allowed

    def _among_remembered(self, images: Tensor, text: Tensor, shown: Tensor, said: Tensor, truth: Tensor) -> Tensor:
        """CLIP's loss: batch and memory are what each image and each caption chooses from."""
        old_images, old_text, old_shown, old_said = self.memory.read()
        scale = self.clip.logit_scale.exp()
        true_captions = torch.cat([truth, agree(shown, old_said).float()], dim=1)
        true_images = torch.cat([truth.T, agree(old_shown, said).float().T], dim=1)
        return share_loss(scale * images @ torch.cat([text, old_text]).T, true_captions) + share_loss(
            scale * text @ torch.cat([images, old_images]).T, true_images
        )

    def _words(self, pairs: tuple[tuple[Tensor, Tensor], ...]) -> Tensor:
        """How far vectors (N, D) are from the anchors of their words (N, words), the sum over the attributes."""
        anchors, losses = functional.normalize(self.anchors, dim=-1), []
        rows = [(self.word_scale.exp() * vectors @ anchors.T, words) for vectors, words in pairs]
        for columns in map(self.lexicon.columns, self.lexicon.vocabulary):
            losses.append(sum(share_loss(logits[:, columns], true[:, columns]) for logits, true in rows))
        return torch.stack(losses).sum()

    @torch.no_grad()
    def clamp_scales(self) -> None:
        """Keep the cosines' scales in CLIP's range."""
        for scale in (self.clip.logit_scale, self.local_scale, self.word_scale):
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
