"""Trained on one dataset, tested on another: `python -m benchmarks.domain_shift [TRAINED_ON:TESTED_ON ...]`.

Writes domain_shift.csv.gz (Dice of each test image) and .md to vlsm_helpers/measured: members, ensembles and late fusion in
and out of domain. The runs are those of hybrid_ensembles.py, which are trained if they are missing; weights and threshold of
late fusion are fitted on validation images of the training dataset.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from benchmarks.hybrid_ensembles import ENSEMBLES, MEMBERS, trained
from benchmarks.late_fusion import fit, judge, predicted
from benchmarks.rows import SEEDS, draw_of, keep, mean_in_words, of_test
from vlsm_helpers.evaluation.predictions import PredictionStore
from vlsm_helpers.experiments.reference import MEASURED
from vlsm_helpers.experiments.runs import evaluate_run
from vlsm_helpers.fusion import WeightedMean
from vlsm_helpers.metrics.statistics import scores_by_seed

KEYS = ["trained_on", "dataset", "model", "seed"]
PAIRS = ("kvasir_polyp:clinicdb_polyp", "clinicdb_polyp:kvasir_polyp")
LATE_FUSION = "late fusion"
ENTRANTS = (*MEMBERS, *ENSEMBLES, LATE_FUSION)


def measure(trained_on: str, dataset: str, label: str, seed: int) -> pd.DataFrame:
    """One row per test image of `dataset`: trained_on, dataset, model, seed, id, dice."""
    own, tested = draw_of(trained_on, seed), draw_of(dataset, seed)
    if label == LATE_FUSION:
        runs = {name: trained(trained_on, name, seed) for name in MEMBERS}
        val, test = (
            PredictionStore([predicted(run, name, split, member) for member, run in runs.items()])
            for name, split in ((own, "val"), (tested, "test"))
        )
        rule = WeightedMean(of_logits=True)
        dice = judge(fit([rule], val), test)[rule.name]
        rows = dice.rename("dice").rename_axis("id").reset_index()
    else:
        run = trained(trained_on, label, seed)
        evaluate_run(run, "test", tested)
        rows = of_test(run, tested)[["id", "dice"]]
    return rows.assign(trained_on=trained_on, dataset=dataset, model=label, seed=seed).round(4)


def table(rows: pd.DataFrame) -> str:
    """Markdown: for each pair of datasets and each model, Dice in % with a 95 % interval over seeds and images."""
    lines = ["| trained on | tested on | model | Dice, % | seeds |", "|---|---|---|---|---|"]
    for (trained_on, dataset, model), part in rows.groupby(["trained_on", "dataset", "model"], sort=False):
        grid = scores_by_seed(part)
        lines.append(f"| {trained_on} | {dataset} | {model} | {mean_in_words(grid)} | {len(grid)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure each pair in and out of domain; both files are written after every model and keep the rows of other models."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("pairs", nargs="*", default=PAIRS)
    parser.add_argument("--models", nargs="*", default=list(ENTRANTS), choices=list(ENTRANTS))
    parser.add_argument("--seeds", nargs="*", type=int, default=list(SEEDS))
    parser.add_argument("--out", type=Path, default=MEASURED / "domain_shift.csv.gz")
    given = parser.parse_args(arguments)
    for trained_on, _, target in (pair.partition(":") for pair in given.pairs):
        for dataset in (trained_on, target):
            for seed in given.seeds:
                for label in given.models:
                    keep(measure(trained_on, dataset, label, seed), given.out, KEYS, table)


if __name__ == "__main__":
    main()
