"""A weighted fusion with given weights, stored as a few numbers in a JSON file and applied to any prediction store.

`WeightedMean` searches its weights; here they are settings, by the members' names, so that their order does not matter.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from numbers import Real
from pathlib import Path

import pandas as pd
from torch import Tensor

from vlsm_helpers.errors import CourseError, SettingsError
from vlsm_helpers.evaluation.predictions import PredictionStore
from vlsm_helpers.evaluation.scoring import check_scores, save_scores, score_mask, summarise
from vlsm_helpers.fusion.learned import COOLEST, HOTTEST
from vlsm_helpers.fusion.search import WeightedMean
from vlsm_helpers.io import atomic

MEANS = ("probabilities", "logits")  # what is averaged
SUM_TOLERANCE = 1e-6


@dataclass(frozen=True)
class WeightedFusion:
    """A weighted mean of the members' probabilities or logits.

    `weights`: by member, at least 0, with the sum 1; `mean_of`: what is averaged; `temperature`: from 0.05 to 20, divides all
    logits first; `threshold`: between 0 and 1, above which a probability is foreground. Raises SettingsError for other values.
    """

    weights: dict[str, float]
    mean_of: str = "probabilities"
    temperature: float = 1.0
    threshold: float = 0.5

    def __post_init__(self):
        _check(self)
        plain = {name: float(weight) for name, weight in self.weights.items()}  # NumPy's numbers are no JSON
        object.__setattr__(self, "weights", plain)
        for name in ("temperature", "threshold"):
            object.__setattr__(self, name, float(getattr(self, name)))

    @classmethod
    def equal(cls, names: Sequence[str]) -> "WeightedFusion":
        """The plain mean of the members `names`."""
        return cls(dict.fromkeys(names, 1 / len(names)))

    @classmethod
    def load(cls, path: Path) -> "WeightedFusion":
        """The fusion that `save` wrote. Raises SettingsError, with the path, for a file without valid settings."""
        try:
            return cls(**json.loads(Path(path).read_text(encoding="utf-8")))
        except CourseError as error:
            raise SettingsError(error.what, where=path, hint=error.hint) from error
        except (OSError, ValueError, TypeError) as error:
            hint = "give a JSON file that FusionExplorer exported or WeightedFusion.save wrote."
            raise SettingsError(f"This file holds no weighted fusion ({error}).", where=path, hint=hint) from error

    def save(self, path: Path) -> None:
        """Write the fusion as JSON. Raises SettingsError if the file cannot be written."""
        text = json.dumps(asdict(self), indent=2) + "\n"
        atomic.write_text(Path(path), text, hint="free some space, or name a file in another folder.")

    def moved(self, name: str, weight: float) -> "WeightedFusion":
        """The fusion with `weight`, in [0, 1], for the member `name`; the others share the rest in proportion to their weights.

        If those are all 0, they share it equally. A single member keeps the weight 1.
        """
        others = {other: value for other, value in self.weights.items() if other != name}
        if not others:
            return self
        total = sum(others.values())
        shares = {other: value / total if total > 0 else 1 / len(others) for other, value in others.items()}
        scaled = {other: (1 - weight) * share for other, share in shares.items()} | {name: weight}
        return replace(self, weights={other: scaled[other] for other in self.weights})

    def __call__(self, logits: Tensor) -> Tensor:
        """Probabilities (B, S, S) from logits (M, B, S, S) of the members, in the order of `weights`."""
        rule = WeightedMean(self.mean_of == "logits", tuple(self.weights.values()))
        return rule(logits / self.temperature)

    def probabilities(
        self, store: PredictionStore, size: int | tuple[int, int], images: Sequence[int] | None = None
    ) -> Tensor:
        """Probabilities float32 (n, *size) of the images `images` of a store, all by default.

        Raises DataError, with the nearest name, for a weight of a member that the store lacks. Members without a weight are
        ignored.
        """
        return self(store.of(list(self.weights)).logits(size, images))

    def score(self, store: PredictionStore) -> pd.DataFrame:
        """One row per image, as from `evaluation.evaluate`: members are resized to the original size of the mask, then fused.

        Raises DataError as `probabilities` does, and for an image that is missing from the dataset.
        """
        members = store.of(list(self.weights))
        rows = []
        for number, mask in enumerate(store.true_masks()):
            prediction = self.probabilities(members, mask.shape, [number])[0] > self.threshold
            rows.append({"id": store.ids[number]} | score_mask(prediction.numpy(), mask))
        return pd.DataFrame(rows)


def evaluate_fusion(weights: Path, predictions: Sequence[Path]) -> pd.DataFrame:
    """Score the fusion in the file `weights` on the members' predictions in these folders; the table of `evaluation.summarise`.

    The rows of each image are written next to the file, with the suffix .csv, in place of older ones of the same dataset
    and split. Raises SettingsError for a file without a fusion, and DataError for predictions that do not belong together or
    lack a member, and where that table holds anything but such scores: it is left as it is.
    """
    weights = Path(weights)
    fusion, scores = WeightedFusion.load(weights), weights.with_suffix(".csv")
    check_scores(scores)
    store = PredictionStore.open(predictions)
    table = fusion.score(store)
    save_scores(scores, table.assign(dataset=store.dataset, split=store.split))
    return summarise(table, model=weights.stem, split=store.split).assign(dataset=store.dataset)


def _check(fusion: WeightedFusion) -> None:
    weights = fusion.weights
    if not isinstance(weights, dict) or not weights or not all(isinstance(name, str) for name in weights):
        what = f"The weights must be numbers by member, not {weights!r}."
        raise SettingsError(what, hint='write them as {"unet_d": 0.4, "clipseg": 0.6}.')
    for name, weight in weights.items():
        if not _is_number(weight) or weight < 0:
            raise SettingsError(f"The weight of {name!r} is {weight!r}.", hint="give numbers that are 0 or more.")
    total = sum(weights.values())
    if abs(total - 1) > SUM_TOLERANCE:
        scale = f"divide each by {total:g}" if total > 0 else "give one of them more than 0"
        raise SettingsError(f"The weights sum to {total:g}, not to 1.", hint=f"{scale}.")
    if fusion.mean_of not in MEANS:
        raise SettingsError(f"There is no mean of {fusion.mean_of!r}.", hint=f"average one of {', '.join(MEANS)}.")
    if not _is_number(fusion.temperature) or not COOLEST <= fusion.temperature <= HOTTEST:
        what = f"The temperature is {fusion.temperature!r}."
        raise SettingsError(what, hint=f"give a number from {COOLEST:g} to {HOTTEST:g}.")
    if not _is_number(fusion.threshold) or not 0 < fusion.threshold < 1:
        raise SettingsError(f"The threshold is {fusion.threshold!r}.", hint="give a number between 0 and 1.")


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
