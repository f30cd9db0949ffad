"""Dice over the number of labels: `python -m benchmarks.learning_curve [DATASET ...]`.

Writes learning_curve.csv.gz (Dice of each test image) and .md to vlsm_helpers/measured: BiomedCLIPSeg, CLIPSeg, UNet-D and their
late fusion, trained on 10, 25, 50 and 100 % of the 200 images of the tiny profile, each share contained in the next. All use
the epochs of hybrid_ensembles.py, so fewer images also mean fewer steps. Validation and test images are always complete.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from benchmarks.hybrid_ensembles import CNN_EPOCHS, MEMBERS, WITHOUT_CNN, trained
from benchmarks.late_fusion import fit, judge, predicted
from benchmarks.rows import SEEDS, draw_of, keep, mean_in_words
from vlsm_helpers.evaluation.predictions import PredictionStore
from vlsm_helpers.experiments.reference import MEASURED
from vlsm_helpers.experiments.runs import train_member
from vlsm_helpers.fusion import BestSingle, WeightedMean
from vlsm_helpers.metrics.statistics import scores_by_seed

KEYS = ["dataset", "images", "seed"]
DATASETS = ("phantom_ultrasound", "kvasir_polyp")
ALL, SHARES = 200, (0.1, 0.25, 0.5, 1.0)
LATE_FUSION = "late fusion"


def run_of(dataset: str, label: str, seed: int, images: int) -> Path:
    """The run of a member on the first `images` of its draw."""
    if images == ALL:
        return trained(dataset, label, seed)
    name = draw_of(dataset, seed)
    return train_member(
        MEMBERS[label],
        name,
        run=f"curve-{name}-{MEMBERS[label]}-{images}-seed{seed}",
        seed=seed,
        limit=images,
        epochs=None if label in WITHOUT_CNN else CNN_EPOCHS,
    )


def measure(dataset: str, images: int, seed: int) -> pd.DataFrame:
    """One row per test image and model: dataset, images, seed, model, id, dice."""
    name = draw_of(dataset, seed)
    runs = {label: run_of(dataset, label, seed, images) for label in MEMBERS}
    val, test = (
        PredictionStore([predicted(run, name, split, label) for label, run in runs.items()])
        for split in ("val", "test")
    )
    rule = WeightedMean(of_logits=True)
    rules = {label: BestSingle(number) for number, label in enumerate(runs)}
    scores = judge(rules | {LATE_FUSION: fit([rule], val)[rule.name]}, test)[[*rules, LATE_FUSION]]
    rows = scores.rename_axis("id").melt(var_name="model", value_name="dice", ignore_index=False).reset_index()
    return rows.assign(dataset=dataset, images=images, seed=seed).round(4)


def table(rows: pd.DataFrame) -> str:
    """Markdown: Dice in % with a 95 % interval over seeds and images, one column per number of training images."""
    counts = sorted(rows["images"].unique())
    lines = [
        f"| dataset | model | {' | '.join(f'{count} images' for count in counts)} |",
        "|---" * (2 + len(counts)) + "|",
    ]
    for (dataset, model), part in rows.groupby(["dataset", "model"], sort=False):
        cells = []
        for count in counts:
            rows_of = part[part["images"] == count]
            cells.append(mean_in_words(scores_by_seed(rows_of)) if len(rows_of) else "not run")
        lines.append(f"| {dataset} | {model} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the given datasets; both files are written after every share and seed and keep other rows."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("datasets", nargs="*", default=DATASETS)
    parser.add_argument("--shares", nargs="*", type=float, default=list(SHARES))
    parser.add_argument("--seeds", nargs="*", type=int, default=list(SEEDS))
    parser.add_argument("--out", type=Path, default=MEASURED / "learning_curve.csv.gz")
    given = parser.parse_args(arguments)
    for dataset in given.datasets:
        for seed in given.seeds:
            for share in given.shares:
                keep(measure(dataset, round(share * ALL), seed), given.out, KEYS, table)


if __name__ == "__main__":
    main()
