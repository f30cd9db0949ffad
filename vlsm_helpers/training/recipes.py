"""Recipes: how a member is trained, as data."""

import math
from dataclasses import dataclass, fields, replace
from numbers import Integral
from typing import Literal

from vlsm_helpers.errors import SettingsError, unknown


@dataclass(frozen=True)
class Recipe:
    """Every number that a training needs; `fit()` knows no others. Raises SettingsError for a number out of range."""

    name: str
    learning_rate: float
    weight_decay: float
    batch_size: int
    epochs: int  # at most
    patience: int  # epochs without a better `monitor` before it stops
    monitor: Literal["val_dice", "val_bce"]  # the column of metrics.csv that decides which epoch is best
    clip: float  # the gradient's norm is clipped to this
    schedule: Literal["cosine", "constant"]
    augment: bool
    return_to_best: bool = False  # whether an epoch that is not better is undone (its weights, not its optimizer)
    encoder_rate: float = 1.0  # the learning rate of encoders that train, as a share of `learning_rate`
    epochs_per_view: int = 1  # frozen features are cached in so few augmented views that each is drawn this often

    def __post_init__(self):
        for one in fields(self):
            value = getattr(self, one.name)
            if one.type is int and not (isinstance(value, Integral) and value >= 1):
                raise SettingsError(f"A recipe's {one.name} is {value!r}.", hint="give a whole number from 1 up.")
            if one.type is float and not (math.isfinite(value) and value >= 0):
                raise SettingsError(f"A recipe's {one.name} is {value!r}.", hint="give a number from 0 up.")
            if one.type in (int, float):  # NumPy's numbers would give other tables than Python's
                object.__setattr__(self, one.name, one.type(value))

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger `monitor` is better."""
        return self.monitor == "val_dice"

    def views(self, most: int) -> int:
        """The number of cached views per image, from 1 to `most`: a short training would not draw each often enough to win
        back the time that it costs once."""
        return max(1, min(most, self.epochs // self.epochs_per_view))

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
    "cnn",
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

# A CNN whose encoder was pretrained on ImageNet: a lower rate, usual for finetuning such encoders. Not tuned here.
CNN_PRETRAINED = replace(CNN, name="cnn_pretrained", learning_rate=3e-4)

# A light CNN whose encoder, made for CPUs, starts from ImageNet: it still trains at a high rate.
CNN_IMAGENET = replace(CNN, name="cnn_imagenet", learning_rate=1e-3)

# A decoder on cached features: an epoch is cheap, so there are many. A view costs once what an epoch without a cache costs;
# where each is drawn six times, training is four times as fast as without (benchmarks/bench.md, caches). Fewer views cost
# CLIPSeg next to nothing on Kvasir-SEG, and Dice on the endoscopy phantoms: in ten epochs one view reaches 55.2 %, four 58.3 %.
DECODER_ONLY = replace(
    CNN, name="decoder_only", learning_rate=1e-3, batch_size=16, epochs=40, patience=20, epochs_per_view=6
)

# Encoders train too, at the decoder's rate: the shipped miniatures have little to forget, and low-rank updates begin at
# zero. Never stopped early: much of the improvement comes when the schedule has nearly ended.
FULL = replace(DECODER_ONLY, name="full", epochs=60, patience=1000)

# All of the published encoders train, at a hundredth of the decoder's rate, so that they keep what pretraining gave them.
FULL_LOW_LR = replace(FULL, name="full_low_lr", epochs=40, encoder_rate=0.01)

# The names of version 0.1.0, which its files and commands hold.
OLD_NAMES = {
    "ours": "cnn",
    "ours_gently": "cnn_pretrained",
    "features": "decoder_only",
    "finetune": "full",
    "finetune_gently": "full_low_lr",
}

# CRIS with CLIP, rates and epochs as its authors set them: CLIP's encoders at a tenth of what is new. Their own code has the
# tenth from the second epoch on, and drops all rates to a tenth after epoch 35 where the cosine here falls throughout.
FULL_TENTH = replace(FULL, name="full_tenth", learning_rate=1e-4, encoder_rate=0.1, epochs=50)

# CRIS with EfficientNet-Lite0: as the light CNN, which starts from the same weights.
FULL_LIGHT = replace(FULL, name="full_light", learning_rate=CNN_IMAGENET.learning_rate, batch_size=8, epochs=20)

RECIPES = {
    recipe.name: recipe
    for recipe in (
        *(CNN, CNN_PRETRAINED, CNN_IMAGENET, PUBLISHED),
        *(DECODER_ONLY, FULL, FULL_LOW_LR, FULL_TENTH, FULL_LIGHT),
    )
}


def recipe_name(name: str) -> str:
    """The present name of a recipe; `name` may be the one of version 0.1.0."""
    return OLD_NAMES.get(name, name)


def find_recipe(name: str) -> Recipe:
    """The recipe `name`, old names included. Raises SettingsError, with the known names, for another one."""
    if recipe_name(name) not in RECIPES:
        raise unknown("recipe", name, RECIPES, error=SettingsError)
    return RECIPES[recipe_name(name)]
