"""Late fusion of the members of real_images.py, and Dice over minutes: `python -m benchmarks.real_fusion`, a few CPU minutes.

Trains nothing: it fuses what real_images.py has finished, each member at its chosen rate. Rules are fitted on validation at
network size and evaluated on test at the original size. `Against CRIS` compares with CRIS alone, its threshold chosen on
validation, too: the paper's question, on real images and in miniature.

Writes real_fusion.csv.gz (Dice of each test image) and .md, and real_curves.csv.gz (best Dice on validation so far, over the CPU
minutes of training) and .md.
"""

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd

from benchmarks.late_fusion import PIXEL_ORACLE, fit, judge, predicted
from benchmarks.real_images import fine_folder, read_minutes, run_folder
from benchmarks.rows import gain_in_words, keep, mean_in_words, write
from vlsm_helpers.evaluation.predictions import PredictionStore
from vlsm_helpers.experiments.reference import MEASURED
from vlsm_helpers.fusion import BestSingle, MeanLogit, ShrunkMean, WeightedMean
from vlsm_helpers.metrics.statistics import scores_by_seed
from vlsm_helpers.training.run_folder import METRICS

PAPERS = ("BiomedCLIPSeg", "CLIPSeg", "UNet-D")
GROUPS = {
    "the paper's three": PAPERS,
    "these and the CNN from ImageNet": (*PAPERS, "light CNN from ImageNet"),
    "these and CRIS": (*PAPERS, "CRIS"),
    "all five": (*PAPERS, "light CNN from ImageNet", "CRIS"),
}
RULES = (BestSingle(), MeanLogit(), WeightedMean(of_logits=True), ShrunkMean(of_logits=True))
RIVAL = "CRIS"
KEYS = ["dataset", "images", "seed", "group"]
BUDGETS = (1, 2, 5, 10, 20)  # CPU minutes


def finished(trainings: pd.DataFrame) -> Iterator[tuple[str, str, int, Mapping[str, Path]]]:
    """Dataset, number of images, seed, and the folders of the members' first parts of training, by label."""
    for (dataset, images, seed), part in trainings.groupby(["dataset", "images", "seed"], sort=False):
        rates = part.groupby("model", sort=False)["rate"].first()
        yield (
            dataset,
            images,
            seed,
            {name: run_folder(dataset, images, name, seed, rates[name]) for name in rates.index},
        )


def fuse(dataset: str, runs: Mapping[str, Path]) -> pd.DataFrame:
    """One row per test image, rule and group whose members are all among `runs`: group, rule, id, dice."""
    predictions = {
        name: {split: predicted(fine_folder(run), dataset, split, name) for split in ("val", "test")}
        for name, run in runs.items()
    }
    parts = []
    for group, names in GROUPS.items():
        if set(names) <= set(runs):
            val, test = (PredictionStore([predictions[name][split] for name in names]) for split in ("val", "test"))
            parts.append(_melted(judge(fit(RULES, val), test)).assign(group=group))
    if RIVAL in runs:
        val, test = (PredictionStore([predictions[RIVAL][split]]) for split in ("val", "test"))
        alone = judge(fit([BestSingle()], val), test).rename(columns={BestSingle.name: RIVAL})
        parts.append(_melted(alone).assign(group=RIVAL))
    return pd.concat(parts) if parts else pd.DataFrame(columns=["group", "rule", "id", "dice"])


def _melted(scores: pd.DataFrame) -> pd.DataFrame:
    scores = scores.drop(columns=PIXEL_ORACLE).rename_axis("id")
    return scores.melt(var_name="rule", value_name="dice", ignore_index=False).reset_index()


def table(rows: pd.DataFrame) -> str:
    """Markdown: Dice of each group and rule, minus the best member of the group, and minus CRIS alone."""
    header = ["dataset", "training images", "members", "rule", "Dice on test, %", "seeds"]
    header += ["minus the group's best member", "minus CRIS"]
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    for (dataset, images), part in rows.groupby(["dataset", "images"], sort=False):
        scores = {key: scores_by_seed(found) for key, found in part.groupby(["group", "rule"], sort=False)}
        for (group, rule), dice in scores.items():
            cells = [dataset, images, group, rule, mean_in_words(dice), str(len(dice))]
            baselines = (scores.get((group, BestSingle.name)), scores.get((RIVAL, RIVAL)))
            cells += ["" if one is None or one is dice else gain_in_words(dice, one) for one in baselines]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def curve(run: Path) -> pd.DataFrame:
    """One row per epoch of both parts of a training: the CPU minutes until its end, and the best Dice on validation so far.

    All epochs of a part are taken as equally long.
    """
    begin, parts = 0.0, []
    for part in (run, fine_folder(run)):
        history, minutes = pd.read_csv(part / METRICS), read_minutes(part)
        ends = begin + minutes * history["epoch"] / len(history)
        parts.append(pd.DataFrame({"minutes": ends, "best_dice": history["val_dice"]}))
        begin += minutes
    both = pd.concat(parts, ignore_index=True)
    return both.assign(best_dice=both["best_dice"].cummax()).round(4)


def curves_table(rows: pd.DataFrame) -> str:
    """Markdown: the best Dice on validation within so many CPU minutes, a mean over seeds; empty before the first epoch."""
    lines = [
        f"| dataset | training images | model | {' | '.join(f'{one} min' for one in BUDGETS)} | at the end |",
        "|---" * (len(BUDGETS) + 4) + "|",
    ]
    for (dataset, images, model), part in rows.groupby(["dataset", "images", "model"], sort=False):
        seeds = [one for _, one in part.groupby("seed")]
        within = [[one.loc[one["minutes"] <= budget, "best_dice"].max() for one in seeds] for budget in BUDGETS]
        means = [pd.Series(one).mean(skipna=False) for one in [*within, [one["best_dice"].max() for one in seeds]]]
        cells = ["" if pd.isna(one) else f"{100 * one:.1f}" for one in means]
        lines.append(f"| {dataset} | {images} | {model} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Fuse and tabulate what is finished; older rows of the same trainings are replaced."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--trainings", type=Path, default=MEASURED / "real_images.csv.gz")
    parser.add_argument("--out", type=Path, default=MEASURED)
    given = parser.parse_args()
    curves = []
    for dataset, images, seed, runs in finished(pd.read_csv(given.trainings, dtype={"id": str})):
        for _, rows in fuse(dataset, runs).groupby("group", sort=False):
            rows = rows.assign(dataset=dataset, images=images, seed=seed).round({"dice": 5})
            keep(rows, given.out / "real_fusion.csv.gz", KEYS, table)
        for model, run in runs.items():
            curves.append(curve(run).assign(dataset=dataset, images=images, model=model, seed=seed))
    write(pd.concat(curves), given.out / "real_curves.csv.gz", curves_table)


if __name__ == "__main__":
    main()
