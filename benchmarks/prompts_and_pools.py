"""The effect of prompts, pooled training images and a standard U-Net: `python -m benchmarks.prompts_and_pools [--shard K/N]`.

The cells are those of `vlsm reproduce`, in VLSM_RUNS, so that a run can be stopped, resumed, and split over processes.
Writes prompts_and_pools.csv.gz (Dice of each test image) and .md to vlsm_helpers/measured, from all finished cells.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from benchmarks.rows import SEEDS, keep, mean_in_words
from vlsm_helpers.experiments import table as paper_table
from vlsm_helpers.experiments.grid import run
from vlsm_helpers.experiments.members import FUSED, LATE_FUSION
from vlsm_helpers.experiments.plan import Plan, as_shard
from vlsm_helpers.experiments.reference import MEASURED
from vlsm_helpers.metrics.statistics import scores_by_seed

KEYS = ["trained_on", "dataset", "prompt", "model"]
BUDGET = {"seeds": SEEDS, "epochs": 30, "limit": 200}
ALONE, POOLED = ("kvasir_polyp", "clinicdb_polyp", "busi"), "kvasir_polyp+clinicdb_polyp"
PLANS = (
    Plan((POOLED, *ALONE), (*FUSED, LATE_FUSION), **BUDGET),
    # No prompt, and one prompt per image, which gives size, colour and position of its ground truth.
    Plan(("kvasir_polyp", "busi"), ("biomedclipseg", "clipseg"), prompts=("p0", "p6"), **BUDGET),
    Plan(ALONE, ("smp_unet",), **BUDGET),
)


def measured() -> pd.DataFrame:
    """A row a test image, of what is done: KEYS, seed, id, dice, lesion (whether its mask marks anything)."""
    found = pd.concat([paper_table.scores(plan) for plan in PLANS], ignore_index=True)
    if not len(found):
        return found
    return found.assign(lesion=found["foreground"] > 0)[[*KEYS, "seed", "id", "dice", "lesion"]].round(4)


def table(rows: pd.DataFrame) -> str:
    """Markdown: Dice in % of each row of the table, with a 95 % interval over seeds and images."""
    lines = ["| trained on | tested on | prompt | model | Dice, % | seeds |", "|---" * 6 + "|"]
    for (trained_on, dataset, prompt, model), part in rows.groupby(KEYS, sort=False):
        grid = scores_by_seed(part)
        lines.append(f"| {trained_on} | {dataset} | {prompt} | {model} | {mean_in_words(grid)} | {len(grid)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Fill the cells of a share of each plan, and write what all processes have done by then."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--shard", default="1/1", help="the K-th of N shares, such as 1/2")
    parser.add_argument("--out", type=Path, default=MEASURED / "prompts_and_pools.csv.gz")
    given = parser.parse_args(arguments)
    for plan in PLANS:
        run(plan, plan.shard(*as_shard(given.shard)))
    for _, rows in measured().groupby([*KEYS, "seed"], sort=False):
        keep(rows, given.out, [*KEYS, "seed"], table)


if __name__ == "__main__":
    main()
