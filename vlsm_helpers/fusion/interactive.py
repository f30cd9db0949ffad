"""A weighted fusion as somebody moves it: its settings, and what they give on a validation split at once. It knows no widget."""

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

LARGEST_SIDE = 176  # pixels that Dice is counted at: three members of 100 images take 37 MB
STEPS = 10  # of the simplex that is mapped: 66 points of three members, 1001 of five
KEPT = 64  # maps and images that are remembered


class Scale(NamedTuple):
    """What of a fusion is not its weights."""

    mean_of: str
    temperature: float
    threshold: float


class FusedDice:
    """Dice of weighted fusions on N images, counted at the size of `logits` (M, N, S, S) and `masks`, bool (N, S, S).

    A pixel that all members put on the same side of the threshold stays there whatever the weights are, so it is counted once
    for a threshold and a temperature. What is open is fused: a small part of the images, unless the members know nothing.
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
        """Dice (P, N), in [0, 1], of P points: M weights each, which sum to one."""
        settled, edges, values, cut = self._open(scale)
        weights = np.asarray(points, np.float32)
        marked = np.empty((len(weights), len(settled)), np.int64)
        for number, (start, stop) in enumerate(itertools.pairwise(edges)):
            above = weights @ values[:, start:stop] > cut
            bits = np.packbits(above, axis=1)  # whose bits are counted much faster than bool is summed
            marked[:, number] = np.bitwise_count(bits).sum(axis=1)
        marked += settled
        wrong, shared = marked[:, ::2], marked[:, 1::2]
        return dice_from_counts(
            *(torch.from_numpy(counts).double() for counts in (self._true, wrong + shared, shared))
        ).numpy()

    def _settle(self, scale: Scale) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
        """How many pixels of each image's background and foreground all members mark (2N,); between which edges (2N + 1,) the
        open ones lie; their values (M, open) on the scale that is averaged; and what the threshold is on it."""
        cut = float(logit(scale.threshold))
        above = self._lowest > scale.temperature * cut
        open_ = np.flatnonzero((self._highest > scale.temperature * cut) ^ above)
        settled = np.array([np.count_nonzero(above[slice(*ends)]) for ends in itertools.pairwise(self._edges)])
        cooled = self._logits[:, open_] / np.float32(scale.temperature)
        edges = np.searchsorted(open_, self._edges)
        if scale.mean_of == "logits":
            return settled, edges, cooled.clip(-LARGEST_LOGIT, LARGEST_LOGIT), cut
        return settled, edges, torch.sigmoid(torch.from_numpy(cooled)).numpy(), scale.threshold


class FusionModel:
    """The members of a validation split under one weighted fusion: `fusion`, which may be replaced, of the chosen `image`.

    Dice is counted at `size` pixels, and exact there; by default that is the largest network's size, at most 176. `single`:
    Dice (N,) of the member that is best on the split, `best_member`, at its best threshold. `points`, float (P, M), are the
    weights that are tried: all of the simplex in steps of 1/10.
    """

    def __init__(self, store: PredictionStore, size: int | None = None):
        """Start with equal weights, at the image that the best ones help most. Raises DataError for a test split, which may
        choose no weights, and for a split that nothing can be learned from (see `rule.check`)."""
        if store.split == "test":
            hint = "explore the val split, export the weights, and let `vlsm evaluate` judge them on the test split."
            raise DataError("Weights that are chosen on the test split are worth nothing there.", hint=hint)
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
        self._mapped = lru_cache(KEPT)(lambda scale: self._count(scale, self.points).mean(axis=1))
        self._alone = lru_cache(KEPT)(lambda scale: self._count(scale, np.eye(len(self.names))))
        self._logits = lru_cache(KEPT)(lambda image, side: store.logits(side, [image]))
        self._pixels = lru_cache(KEPT)(lambda image: read_image(store.samples()[image].image))
        self.fusion = WeightedFusion.equal(self.names)
        self.image = self.order()[0]

    def move(self, name: str, weight: float) -> None:
        """Give the member `name` this weight, in [0, 1]; the others share the rest as they did (see `WeightedFusion.moved`)."""
        self.fusion = self.fusion.moved(name, weight)

    def dice(self) -> np.ndarray:
        """Dice (N,), in [0, 1], of each image."""
        return self._count(self._scale(), [list(self.fusion.weights.values())])[0]

    def alone(self) -> np.ndarray:
        """Dice (M, N) of each member with all the weight."""
        return self._alone(self._scale())

    def dice_map(self) -> np.ndarray:
        """The mean Dice (P,) at each of `points`, at the present temperature, threshold and kind of mean."""
        return self._mapped(self._scale())

    def best(self) -> WeightedFusion:
        """The present fusion with the weights among `points` of the best mean Dice; of equals those nearest to equal ones."""
        found = self.dice_map()
        equals = self.points[found >= found.max() - 1e-12]
        weights = min(equals.tolist(), key=lambda point: sum(weight**2 for weight in point))
        return self._with(weights)

    def order(self) -> list[int]:
        """The images' numbers: first those whose Dice the best weights raise most over the best single member."""
        found = self._count(self._scale(), [list(self.best().weights.values())])[0]
        return np.argsort(self.single - found, kind="stable").tolist()

    def pixels(self) -> np.ndarray:
        """The chosen image, uint8 (H, W, 3). Raises DataError where it cannot be read."""
        return self._pixels(self.image)

    def truth(self) -> np.ndarray:
        """The chosen image's true mask, bool (H, W)."""
        return self._true_masks[self.image]

    def members(self, side: int) -> np.ndarray:
        """The members' probabilities float32 (M, side, side) of the chosen image, at the present temperature."""
        return torch.sigmoid(self._logits(self.image, side)[:, 0] / self.fusion.temperature).numpy()

    def marked(self, side: int) -> np.ndarray:
        """What the fusion marks of the chosen image, bool (side, side)."""
        return (self.fusion(self._logits(self.image, side))[0] > self.fusion.threshold).numpy()

    def export(self, path: Path) -> None:
        """Write the present fusion as JSON, for `vlsm evaluate`. Raises SettingsError where it cannot be written."""
        self.fusion.save(path)

    def _scale(self) -> Scale:
        return Scale(self.fusion.mean_of, self.fusion.temperature, self.fusion.threshold)

    def _with(self, weights: Sequence[float]) -> WeightedFusion:
        return WeightedFusion(dict(zip(self.names, weights, strict=True)), *self._scale())
