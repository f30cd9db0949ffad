"""The model behind the fusion explorer: a weighted fusion, and its Dice on a validation split, updated at once."""

import itertools
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import logit
from torch import Tensor

from vlsm_helpers.data.images import read_image
from vlsm_helpers.errors import DataError
from vlsm_helpers.evaluation.predictions import PredictionStore
from vlsm_helpers.fusion.rule import check
from vlsm_helpers.fusion.search import LARGEST_LOGIT, simplex
from vlsm_helpers.fusion.simple import BestSingle
from vlsm_helpers.fusion.weighted import WeightedFusion
from vlsm_helpers.metrics.overlap import dice_from_counts, mask_dice

LARGEST_SIDE = 176  # pixels at which Dice is counted: three members of 100 images take 37 MB
STEPS = 10  # per weight in the Dice map: 66 points of three members, 1001 of five
CACHED = 64  # maps and images


class Scale(NamedTuple):
    """The settings of a fusion besides its weights."""

    mean_of: str
    temperature: float
    threshold: float


class FusedDice:
    """Dice of weighted fusions on N images, counted at the size of `logits` (M, N, S, S) and `masks`, bool (N, S, S).

    A pixel that all members put on the same side of the threshold stays there for all weights ("settled"), so it is counted
    once per threshold and temperature. Only the other ("open") pixels are fused: few, unless the members are uninformative.
    """

    def __init__(self, logits: Tensor, masks: Tensor):
        truth = masks.flatten(1).numpy()
        order = truth.argsort(axis=1, kind="stable")  # of an image's pixels: background, then foreground
        ordered = np.take_along_axis(logits.flatten(2).numpy(), order[None], axis=2)
        self._true = truth.sum(axis=1)
        starts = np.arange(len(truth)) * truth.shape[1]
        self._edges = np.append(np.stack([starts, starts + truth.shape[1] - self._true], axis=1), truth.size)
        self._logits = ordered.reshape(len(logits), -1)
        self._lowest, self._highest = self._logits.min(axis=0), self._logits.max(axis=0)
        self._open = lru_cache(1)(self._settle)

    def __call__(self, scale: Scale, points: Sequence[Sequence[float]]) -> np.ndarray:
        """Dice (P, N), in [0, 1], of P points of M weights each, which sum to one."""
        settled, edges, values, cut = self._open(scale)
        weights = np.asarray(points, np.float32)
        predicted = np.empty((len(weights), len(settled)), np.int64)
        for number, (start, stop) in enumerate(itertools.pairwise(edges)):
            above = weights @ values[:, start:stop] > cut
            bits = np.packbits(above, axis=1)  # counting bits is much faster than summing bool
            predicted[:, number] = np.bitwise_count(bits).sum(axis=1)
        predicted += settled
        wrong, shared = predicted[:, ::2], predicted[:, 1::2]
        counts = (torch.from_numpy(one).double() for one in (self._true, wrong + shared, shared))
        return dice_from_counts(*counts).numpy()

    def _settle(self, scale: Scale) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
        """The number of settled foreground predictions in each image's background and foreground (2N,); the edges (2N + 1,) of
        the open pixels; their values (M, open) on the scale that is averaged; and the threshold on that scale."""
        cut = float(logit(scale.threshold))
        above = self._lowest > scale.temperature * cut
        open_ = np.flatnonzero((self._highest > scale.temperature * cut) ^ above)
        settled = np.array([np.count_nonzero(above[slice(*ends)]) for ends in itertools.pairwise(self._edges)])
        scaled = self._logits[:, open_] / np.float32(scale.temperature)
        edges = np.searchsorted(open_, self._edges)
        if scale.mean_of == "logits":
            return settled, edges, scaled.clip(-LARGEST_LOGIT, LARGEST_LOGIT), cut
        return settled, edges, torch.sigmoid(torch.from_numpy(scaled)).numpy(), scale.threshold


class FusionModel:
    """The members of a validation split, the current weighted fusion of them, `fusion`, and the index of the chosen `image`.

    Both may be assigned. Dice is exact at `size` pixels, by default the largest network's size, at most 176. `single`: Dice
    (N,) of the best member of the split, `best_member`, at its best threshold. `points`, float (P, M): all weights of the
    simplex in steps of 1/10.
    """

    def __init__(self, store: PredictionStore, size: int | None = None):
        """Start with equal weights, at the image that gains most from the best ones.

        Raises DataError for a test split, on which no weights may be chosen, and for a split that no rule can be fit on (see
        `rule.check`).
        """
        if store.split == "test":
            hint = (
                "explore the val split, export the weights, and evaluate them on the test split with `vlsm evaluate`."
            )
            raise DataError("Weights may not be chosen on the test split.", hint=hint)
        self.store, self.names, self.ids = store, store.names, store.ids
        self.size = size or min(store.size, LARGEST_SIDE)
        validation = store.validation(self.size)
        check(validation)
        single = BestSingle().fit(validation)
        self.best_member = self.names[single.member]
        self.single = mask_dice(single.predict(validation.logits), validation.masks).numpy()
        self._count = FusedDice(validation.logits, validation.masks)
        self._true_masks = store.true_masks()
        self.points = np.array(list(simplex(len(self.names), STEPS))) / STEPS
        self._mapped = lru_cache(CACHED)(lambda scale: self._count(scale, self.points).mean(axis=1))
        self._member_dice = lru_cache(CACHED)(lambda scale: self._count(scale, np.eye(len(self.names))))
        self._logits = lru_cache(CACHED)(lambda image, side: store.logits(side, [image]))
        self._pixels = lru_cache(CACHED)(lambda image: read_image(store.samples()[image].image))
        self.fusion = WeightedFusion.equal(self.names)
        self.image = self.order()[0]

    def move(self, name: str, weight: float) -> None:
        """Give the member `name` this weight, in [0, 1]; the others share the rest in proportion (see `WeightedFusion.moved`)."""
        self.fusion = self.fusion.moved(name, weight)

    def dice(self) -> np.ndarray:
        """Dice (N,), in [0, 1], of each image."""
        return self._count(self._scale(), [list(self.fusion.weights.values())])[0]

    def member_dice(self) -> np.ndarray:
        """Dice (M, N) of each member alone."""
        return self._member_dice(self._scale())

    def dice_map(self) -> np.ndarray:
        """The mean Dice (P,) at each of `points`, at the current temperature, threshold and kind of mean."""
        return self._mapped(self._scale())

    def best(self) -> WeightedFusion:
        """The current fusion with the weights of `points` that have the best mean Dice; of ties the nearest to equal ones."""
        dice = self.dice_map()
        ties = self.points[dice >= dice.max() - 1e-12]
        weights = min(ties.tolist(), key=lambda point: sum(weight**2 for weight in point))
        return self._with(weights)

    def order(self) -> list[int]:
        """The indices of the images, by descending gain of the best weights over the best single member."""
        fused = self._count(self._scale(), [list(self.best().weights.values())])[0]
        return np.argsort(self.single - fused, kind="stable").tolist()

    def pixels(self) -> np.ndarray:
        """The chosen image, uint8 (H, W, 3). Raises DataError if it cannot be read."""
        return self._pixels(self.image)

    def ground_truth(self) -> np.ndarray:
        """The chosen image's true mask, bool (H, W)."""
        return self._true_masks[self.image]

    def member_probabilities(self, side: int) -> np.ndarray:
        """The members' probabilities float32 (M, side, side) of the chosen image, at the current temperature."""
        return torch.sigmoid(self._logits(self.image, side)[:, 0] / self.fusion.temperature).numpy()

    def prediction(self, side: int) -> np.ndarray:
        """The fused mask of the chosen image, bool (side, side)."""
        return (self.fusion(self._logits(self.image, side))[0] > self.fusion.threshold).numpy()

    def export(self, path: Path) -> None:
        """Write the current fusion as JSON, for `vlsm evaluate`. Raises SettingsError where it cannot be written."""
        self.fusion.save(path)

    def _scale(self) -> Scale:
        return Scale(self.fusion.mean_of, self.fusion.temperature, self.fusion.threshold)

    def _with(self, weights: Sequence[float]) -> WeightedFusion:
        return WeightedFusion(dict(zip(self.names, weights, strict=True)), *self._scale())
