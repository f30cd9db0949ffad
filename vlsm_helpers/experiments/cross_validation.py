"""Grouped cross-validation of an ensemble: for a small dataset, whose own test split is too small to tell members apart.

In each round one fold is test, the next one val, the others train (`data.folds`): members are trained and fused as
`train_ensemble` does it, and over all rounds every image is tested once, by networks that saw neither it nor its group.
Intervals resample groups. They treat the rounds' tests as independent, although their training images overlap, so they are
somewhat too narrow (Bengio and Grandvalet, JMLR 2004: no unbiased estimator of that variance exists).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from vlsm_helpers.data.folds import CLUSTER, Fold, group_of
from vlsm_helpers.data.samples import SPLITS, Sample, load_split
from vlsm_helpers.evaluation.scoring import LESION_ONLY
from vlsm_helpers.experiments import table as paper_table
from vlsm_helpers.experiments.late_ensemble import Ensemble, train_ensemble
from vlsm_helpers.experiments.members import LATE_FUSION
from vlsm_helpers.fusion.simple import BestSingle
from vlsm_helpers.fusion.weighted import WeightedFusion
from vlsm_helpers.metrics.statistics import Interval, bootstrap_mean, paired_difference

BEST_MEMBER = "best member"  # of a round, chosen on its validation images
ALL = "all"  # the rounds together


@dataclass(frozen=True)
class CrossValidation:
    """The ensembles of all rounds, the first one's test fold first; `cross_validate` makes it."""

    ensembles: tuple[Ensemble, ...]

    @cached_property
    def scores(self) -> pd.DataFrame:
        """One row per image and model: fold (from 1), model, id, group, dice, foreground. Models are the members, their late
        fusion, and the best member: the one that a round's validation images choose, with its threshold."""
        return pd.concat(
            [_of_round(number, one) for number, one in enumerate(self.ensembles, start=1)], ignore_index=True
        )

    def table(self) -> pd.DataFrame:
        """One row per fold and model, and of `all` folds: fold, model, metric, value, low, high, n.

        Dice is a fraction; `low` to `high` is a 95 % interval that resamples groups of images, and `n` counts the images. A
        dataset with empty masks has further rows of all folds, over images with a lesion.
        """
        rows = []
        for (fold, model), part in self.scores.groupby(["fold", "model"], sort=False):
            rows.append({"fold": str(fold), "model": model, "metric": "dice"} | _summary(part))
        for model, part in self.scores.groupby("model", sort=False):
            rows.append({"fold": ALL, "model": model, "metric": "dice"} | _summary(part))
            if (part["foreground"] == 0).any():
                lesions = part[part["foreground"] > 0]
                rows.append({"fold": ALL, "model": model, "metric": "dice" + LESION_ONLY} | _summary(lesions))
        return pd.DataFrame(rows)

    def readable(self) -> pd.DataFrame:
        """The table as text, for people: one row per fold, then of all; one column per model; Dice in %."""
        found = self.table()
        found["row"] = "fold " + found["fold"] + found["metric"].str.removeprefix("dice")
        found.loc[found["fold"] == ALL, "row"] = ALL + " folds" + found["metric"].str.removeprefix("dice")
        found["images"] = found["n"]
        found["shown"] = (100 * found["value"]).map("{:.1f}".format)
        whole = found["fold"] == ALL
        ends = [(100 * found[end]).map("{:.1f}".format) for end in ("low", "high")]
        found.loc[whole, "shown"] += " (" + ends[0] + " to " + ends[1] + ")"
        shown = found.pivot(index=["row", "images"], columns="model", values="shown")
        order = found[["row", "images"]].drop_duplicates().apply(tuple, axis=1)
        return shown.loc[list(order), list(found["model"].unique())].reset_index().rename_axis(columns=None)

    def gain(self) -> Interval:
        """The mean of late fusion minus the best member, in percentage points, paired by image; groups are resampled."""
        by_model = {model: part for model, part in self.scores.groupby("model")}
        fused, best = (by_model[model].set_index("id") for model in (LATE_FUSION, BEST_MEMBER))
        return paired_difference(
            100 * fused["dice"], 100 * best.loc[fused.index, "dice"], clusters=fused["group"].astype(str)
        )

    @property
    def grouping(self) -> str:
        """What was kept in one fold, in words."""
        samples = _samples(self.ensembles[0])
        groups = {group_of(sample) for sample in samples}
        if len(groups) == len(samples):
            kept = "each image is a group of its own: one patient may be in several folds, and scores may be too high"
        else:
            kept = f"{len(groups)} groups, none in two folds"
        if not all(CLUSTER in sample.attributes for sample in samples):
            kept += "; near-duplicates were not looked for (`vlsm data check` lists them)"
        return kept

    def in_words(self) -> str:
        """The result in Markdown: the table, what was kept together, and what fusing gained."""
        mean, low, high, _ = self.gain()
        interval = f" (95 % CI {low:+.1f} to {high:+.1f})" if low == low else ""  # NaN for a single group
        return (
            f"{len(self.ensembles)}-fold cross-validation, Dice in % (95 % interval over groups of images); "
            f"{self.grouping}.\n\n{paper_table.markdown(self.readable())}\n"
            f"Late fusion minus the best member, which each round chooses on its validation images: {mean:+.1f} points{interval}."
        )


def cross_validate(dataset: str, folds: int, *, report: Callable[[str], None] = print, **options) -> CrossValidation:
    """Train and score an ensemble in each round; what is done already is kept, also where it was stopped.

    `options`: those of `train_ensemble`, for every round. Each round is stored as an ensemble of the dataset `DATASET@1of5`.
    Raises DataError where the images cannot be dealt to so many folds (see `data.folds.in_fold`), before anything is trained,
    and what `train_ensemble` raises.
    """
    rounds = [Fold(dataset, number, folds).name for number in range(1, folds + 1)]
    for name in rounds:
        load_split(name, "test", options.get("folder"))
    ensembles = []
    for number, name in enumerate(rounds, start=1):
        report(f"Round {number} of {folds}: fold {number} is tested.")
        ensembles.append(train_ensemble(name, **options))
    return CrossValidation(tuple(ensembles))


def _samples(ensemble: Ensemble) -> list[Sample]:
    return [sample for split in SPLITS for sample in ensemble.samples(split)]


def _of_round(number: int, ensemble: Ensemble) -> pd.DataFrame:
    """The rows of one round, see `CrossValidation.scores`."""
    rows = paper_table.scores(ensemble.plan)
    found = pd.concat([rows, _best_member(ensemble).assign(model=BEST_MEMBER)])
    return found.assign(fold=number, group=found["id"].map(ensemble.test_groups))[
        ["fold", "model", "id", "group", "dice", "foreground"]
    ]


def _best_member(ensemble: Ensemble) -> pd.DataFrame:
    """The rows of the test images for the member, and its threshold, that the validation images choose."""
    val = ensemble.predictions("val")
    chosen = BestSingle().fit(val.validation(val.size))
    alone = WeightedFusion({val.names[chosen.member]: 1.0}, "logits", threshold=chosen.threshold)
    return alone.score(ensemble.predictions("test"))


def _summary(part: pd.DataFrame) -> dict:
    mean, low, high, _ = bootstrap_mean(part["dice"], clusters=part["group"].astype(str))
    return {"value": mean, "low": low, "high": high, "n": len(part)}
