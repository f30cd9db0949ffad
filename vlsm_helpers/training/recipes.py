"""Recipes: how a member is trained, as data."""

import math
from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True)
class Recipe:
    """Every number that a training needs; `fit()` knows no others."""

    name: str
    learning_rate: float
    weight_decay: float
    batch_size: int
    epochs: int  # at most
    patience: int  # epochs without a better `monitor` before it stops
    monitor: Literal["val_dice", "val_bce"]  # the column of metrics.csv that decides which epoch is best
    clip: float  # the gradient's norm is cut to this
    schedule: Literal["cosine", "constant"]
    augment: bool
    return_to_best: bool = False  # whether an epoch that is not better is undone (its weights, not its optimizer)
    encoder_rate: float = 1.0  # the learning rate of encoders that train, as a share of `learning_rate`
    epochs_a_view: int = 1  # features of frozen encoders are kept in no more views than are drawn this often

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger `monitor` is better."""
        return self.monitor == "val_dice"

    def views(self, most: int) -> int:
        """In how many views of an image, from 1 to `most`, its features are kept: a short training would not draw all enough to
        win back the time that each costs once."""
        return max(1, min(most, self.epochs // self.epochs_a_view))

    def learning_rate_at(self, progress: float) -> float:
        """The learning rate when `progress`, in [0, 1], of all epochs is done: 5 % warm-up, then half a cosine."""
        if self.schedule == "constant":
            return self.learning_rate
        warm_up = min(1.0, (progress + 1e-3) / 0.05)
        return self.learning_rate * warm_up * (0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2)


# What the authors' train.py does, read from its source: no augmentation, a scheduler that is never stepped, and the
# best checkpoint loaded again after every epoch.
PUBLISHED = Recipe(
    "published",
    learning_rate=1e-5,
    weight_decay=1e-3,
    batch_size=10,
    epochs=1000,
    patience=20,
    monitor="val_bce",
    clip=1.0,
    schedule="constant",
    augment=False,
    return_to_best=True,
)

CNN = Recipe(
    "ours",
    learning_rate=2e-3,
    weight_decay=1e-2,
    batch_size=8,
    epochs=50,
    patience=25,
    monitor="val_dice",
    clip=1.0,
    schedule="cosine",
    augment=True,
)

# A CNN whose encoder knows ImageNet: gentler, in the range in which such encoders are usually finetuned. Not tuned here.
CNN_PRETRAINED = replace(CNN, name="ours_gently", learning_rate=3e-4)

# A light CNN whose encoder, made for CPUs, starts from ImageNet: it still trains at a high rate.
CNN_IMAGENET = replace(CNN, name="ours_imagenet", learning_rate=1e-3)

# A decoder on cached features: an epoch is cheap, so there are many. A view costs once what an epoch without a cache costs;
# where each is drawn six times, a training is four times as fast as without (benchmarks/bench.md, caches). Fewer views cost
# CLIPSeg next to nothing on Kvasir-SEG and some points on the endoscopy phantoms: in ten epochs one reaches 55.2 %, four 58.3 %.
DECODER_ONLY = Recipe(
    "features",
    learning_rate=1e-3,
    weight_decay=1e-2,
    batch_size=16,
    epochs=40,
    patience=20,
    monitor="val_dice",
    clip=1.0,
    schedule="cosine",
    augment=True,
    epochs_a_view=6,
)

# Encoders that train, too, at the decoder's rate: the shipped miniatures have little to forget and much to learn, and
# low-rank updates begin at nothing. Never stopped early: much of what they learn comes when the schedule has nearly ended.
FULL = replace(DECODER_ONLY, name="finetune", epochs=60, patience=1000)

# All of the published encoders: a hundred times slower than the decoder, so that they do not forget what they know.
FULL_LOW_LR = replace(FULL, name="finetune_gently", epochs=40, encoder_rate=0.01)

# CRIS with CLIP, rates and epochs as its authors set them: CLIP's encoders at a tenth of what is new. Their own code has the
# tenth from the second epoch on, and drops all rates to a tenth after epoch 35 where the cosine here falls throughout.
FULL_TENTH = replace(FULL, name="finetune_tenth", learning_rate=1e-4, encoder_rate=0.1, epochs=50)

# CRIS with EfficientNet-Lite0: as the light CNN, which starts from the same weights.
FULL_LIGHT = replace(FULL, name="finetune_light", learning_rate=CNN_IMAGENET.learning_rate, batch_size=8, epochs=20)

RECIPES = {
    recipe.name: recipe
    for recipe in (
        *(CNN, CNN_PRETRAINED, CNN_IMAGENET, PUBLISHED),
        *(DECODER_ONLY, FULL, FULL_LOW_LR, FULL_TENTH, FULL_LIGHT),
    )
}
