"""The table of `reproduce`, from the cells that are done: means with intervals over images and seeds, and what is missing."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import product

import pandas as pd

from vlsm_helpers import settings
from vlsm_helpers.evaluation.scoring import LESION_ONLY, read_scores
from vlsm_helpers.experiments.members import FUSED
from vlsm_helpers.experiments.plan import FOLDER, Cell, Plan
from vlsm_helpers.experiments.runs import DEFAULT_PROMPT
from vlsm_helpers.io import atomic
from vlsm_helpers.metrics.statistics import bootstrap_seeds, scores_by_seed

ROW = ("trained_on", "dataset", "prompt", "model", "metric")
COLUMNS = (*ROW, "seeds", "value", "std_images", "low", "high", "n", "missing")
DASH = "–"
TABLE = "table"  # .csv and .md, in the folder of the cells


# Of each cell that is done: the datasets it was scored on, and its rows.
Filled = dict[Cell, tuple[list[str], pd.DataFrame]]


def scores(plan: Plan) -> pd.DataFrame:
    """One row per image, cell and test dataset, of the cells that are done: trained_on, dataset, prompt, model, seed, id, dice,
    iou, nsd, hd95_relative, foreground ... (see `scoring.evaluate`)."""
    return _joined(_filled(plan))


def _filled(plan: Plan) -> Filled:
    """One look at every cell of the plan: other processes fill cells while this one reads."""
    filled = {}
    for cell in plan.cells:
        done = cell.read_done()
        if done is None or any(done["facts"].get(name) != value for name, value in plan.budgets.items()):
            continue  # not done, or with other budgets
        with suppress(FileNotFoundError):  # a cell that was deleted between the two reads is not done either
            rows = read_scores(cell.per_image).query("split == 'test'")
            rows = rows[rows["dataset"].isin(plan.tests(cell))]
            names = {"trained_on": cell.dataset, "prompt": cell.prompt, "model": cell.member, "seed": cell.seed}
            filled[cell] = done["tests"], rows.assign(**names)
    return filled


def _joined(filled: Filled) -> pd.DataFrame:
    tables = [rows for _, rows in filled.values()]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def table(plan: Plan, groups: Mapping[str, object] | None = None) -> pd.DataFrame:
    """One row (COLUMNS) per training set, test set, prompt and member: mean Dice, a fraction, over seeds and images.

    `std_images`: the standard deviation over images, mean over seeds (what the paper gives); `low` to `high`: a 95 % interval
    that resamples images and seeds; both are NaN for a single image. `seeds`: how many are done, such as "2 of 3"; `n`: images
    in the mean; `missing`: the command that fills the rest, empty where nothing is missing. Test sets with empty masks have a
    second row, over images with a lesion. `groups`: the patient or other group of each image, by its id; the interval then
    resamples groups in place of images.
    """
    return pd.DataFrame(list(_rows(plan, _filled(plan), groups)), columns=list(COLUMNS))


def _rows(plan: Plan, filled: Filled, groups: Mapping[str, object] | None) -> Iterator[dict]:
    found = _joined(filled)
    tested = {cell: tests for cell, (tests, _) in filled.items()}
    for trained_on, prompt, member in product(plan.datasets, plan.prompts, plan.members):
        cells = [plan.cell(trained_on, member, prompt, seed) for seed in plan.seeds]
        missing = _command(plan, cells, tested)
        shared = {"trained_on": trained_on, "prompt": prompt, "model": member, "missing": missing}
        for dataset in plan.tests(cells[0]):
            done = [cell for cell in cells if dataset in tested.get(cell, [])]
            shared |= {"seeds": f"{len(done)} of {len(cells)}"}
            if not done:
                yield shared | {"dataset": dataset, "metric": "dice"}
                continue
            names = {"trained_on": trained_on, "prompt": prompt, "model": member, "dataset": dataset}
            of_row = found[(found[list(names)] == list(names.values())).all(axis=1)]
            yield shared | {"dataset": dataset, "metric": "dice"} | _summary(of_row, groups)
            if (of_row["foreground"] == 0).any():
                lesions = of_row[of_row["foreground"] > 0]
                yield shared | {"dataset": dataset, "metric": "dice" + LESION_ONLY} | _summary(lesions, groups)


def _summary(of_row: pd.DataFrame, groups: Mapping[str, object] | None) -> dict:
    dice = scores_by_seed(of_row)
    clusters = None if groups is None else pd.factorize(dice.columns.map(groups))[0]
    mean, low, high, _ = bootstrap_seeds(dice.to_numpy(), clusters=clusters)
    return {"value": mean, "std_images": dice.std(axis=1).mean(), "low": low, "high": high, "n": dice.shape[1]}


def _command(plan: Plan, cells: Sequence[Cell], tested: Mapping[Cell, list[str]]) -> str:
    """The command that fills those of `cells` (one member's, of several seeds) that are not done; empty where all are."""
    open_ = [cell for cell in cells if not set(plan.tests(cell)) <= set(tested.get(cell, []))]
    if not open_:
        return ""
    members = dict.fromkeys(cell.member for cell in [*open_[0].joined, open_[0]])
    words = ["vlsm reproduce", open_[0].dataset, *(f"--member {member}" for member in members)]
    others = plan.fused if open_[0].joined and plan.fused != FUSED else ()
    words += [f"--fuse {member}" for member in others]
    words += [f"--seed {cell.seed}" for cell in open_]
    words += [f"--prompt {open_[0].prompt}"] * (open_[0].prompt != DEFAULT_PROMPT)
    words += [f"--also-test {name}" for name in plan.also_test]
    budgets = {"epochs": plan.epochs, "batch-size": plan.batch_size, "limit": plan.limit}
    words += [f"--{name} {value}" for name, value in budgets.items() if value is not None]
    return " ".join(words)


def readable(found: pd.DataFrame) -> pd.DataFrame:
    """The table as text, for people: Dice in %, and "not run" with its command where a row has nothing."""
    names = {"trained_on": "trained on", "dataset": "tested on"}
    shown = found[["trained_on", "dataset", "prompt", "model"]].rename(columns=names)
    run = found["value"].notna()
    lesion = found["metric"].str.removeprefix("dice").str.strip(", ").radd("; ").where(found["metric"] != "dice", "")
    shown["model"] = shown["model"] + lesion
    shown["seeds"] = found["seeds"]
    shown["Dice, %"] = (100 * found["value"]).map("{:.1f}".format).where(run, "not run")
    spread = (100 * found["std_images"]).map("{:.1f}".format).where(found["std_images"].notna(), DASH)
    shown["± over images"] = spread.where(run, "")
    interval = (100 * found["low"]).map("{:.1f}".format) + " to " + (100 * found["high"]).map("{:.1f}".format)
    shown["95 % interval"] = interval.where(found["low"].notna(), DASH).where(run, "")  # one image has none
    shown["images"] = found["n"].map("{:.0f}".format).where(run, "")
    shown["to fill it"] = found["missing"]
    return shown


def write(plan: Plan) -> pd.DataFrame:
    """Write the table of what is done by now, table.csv and table.md, to runs/reproduce/; the table."""
    found = table(plan)
    folder = settings.writable(settings.runs_folder() / FOLDER)
    atomic.write_table(folder / f"{TABLE}.csv", found)
    atomic.write_text(folder / f"{TABLE}.md", markdown(readable(found)))
    return found


def markdown(shown: pd.DataFrame) -> str:
    """A table of text as Markdown."""
    lines = [list(shown.columns), ["---"] * len(shown.columns), *shown.astype(str).to_numpy().tolist()]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
