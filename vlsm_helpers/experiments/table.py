"""The table of `reproduce`, from whatever cells are done: means with intervals over images and seeds, and what is missing."""

from collections.abc import Iterator, Sequence
from importlib import resources
from itertools import product

import pandas as pd

from vlsm_helpers import settings
from vlsm_helpers.evaluation.scoring import LESION_ONLY
from vlsm_helpers.experiments.grid import FOLDER, Cell, Plan
from vlsm_helpers.experiments.runs import DEFAULT_PROMPT
from vlsm_helpers.io import atomic
from vlsm_helpers.metrics.statistics import bootstrap_seeds

COLUMNS = (
    "trained_on",
    "dataset",
    "prompt",
    "model",
    "metric",
    "seeds",
    "value",
    "std_images",
    "low",
    "high",
    "n",
    "missing",
)
TABLE = "table"  # .csv and .md, in the folder of the cells
RESAMPLES = 2000


def scores(plan: Plan) -> pd.DataFrame:
    """A row an image, cell and test dataset, of the cells that are done: trained_on, dataset, prompt, model, seed, id, dice,
    iou, nsd, hd95_relative, foreground ... (see `evaluation.evaluate`)."""
    tables = [_of_cell(plan, cell) for cell in plan.cells if _tested(plan, cell)]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _of_cell(plan: Plan, cell: Cell) -> pd.DataFrame:
    table = pd.read_csv(cell.per_image, dtype={"id": str}).query("split == 'test'")
    table = table[table["dataset"].isin(plan.tests(cell))]
    return table.assign(trained_on=cell.dataset, prompt=cell.prompt, model=cell.member, seed=cell.seed)


def _tested(plan: Plan, cell: Cell) -> list[str]:
    """The datasets that a cell was scored on; none where it is not done, or was done with other budgets."""
    found = cell.done
    if found is None or any(found["facts"].get(name) != value for name, value in plan.budgets.items()):
        return []
    return found["tests"]


def table(plan: Plan) -> pd.DataFrame:
    """A row (COLUMNS) a training set, test set, prompt and member: mean Dice, a fraction, over seeds and images.

    `std_images`: the standard deviation over images, mean over seeds (what the paper gives); `low` to `high`: a 95 % interval
    in which images and seeds are drawn anew; `seeds`: how many are done, such as "2 of 3"; `missing`: the command that fills
    the rest, empty where nothing is missing. Test sets with empty masks have a second row, over images with a lesion.
    """
    found = scores(plan)
    return pd.DataFrame(list(_rows(plan, found)), columns=list(COLUMNS))


def _rows(plan: Plan, found: pd.DataFrame) -> Iterator[dict]:
    for trained_on, prompt, member in product(plan.datasets, plan.prompts, plan.members):
        cells = [plan.cell(trained_on, member, prompt, seed) for seed in plan.seeds]
        shared = {"trained_on": trained_on, "prompt": prompt, "model": member, "missing": command(plan, cells)}
        for dataset in plan.tests(cells[0]):
            done = [cell for cell in cells if dataset in _tested(plan, cell)]
            shared |= {"seeds": f"{len(done)} of {len(cells)}"}
            if not done:
                yield shared | {"dataset": dataset, "metric": "dice"}
                continue
            same = (found[["trained_on", "prompt", "model", "dataset"]] == [trained_on, prompt, member, dataset]).all(
                axis=1
            )
            of_row = found[same]
            yield shared | {"dataset": dataset, "metric": "dice"} | _summary(of_row)
            if (of_row["foreground"] == 0).any():
                lesions = of_row[of_row["foreground"] > 0]
                yield shared | {"dataset": dataset, "metric": "dice" + LESION_ONLY} | _summary(lesions)


def _summary(of_row: pd.DataFrame) -> dict:
    dice = of_row.pivot(index="seed", columns="id", values="dice")
    mean, low, high, images = bootstrap_seeds(dice.to_numpy(), resamples=RESAMPLES)
    return {"value": mean, "std_images": dice.std(axis=1).mean(), "low": low, "high": high, "n": images}


def command(plan: Plan, cells: Sequence[Cell]) -> str:
    """The command that fills those of `cells` (one member's, of several seeds) that are not done; empty where all are."""
    open_ = [cell for cell in cells if not set(plan.tests(cell)) <= set(_tested(plan, cell))]
    if not open_:
        return ""
    members = dict.fromkeys(cell.member for cell in [*open_[0].joined, open_[0]])
    words = ["vlsm reproduce", open_[0].dataset, *(f"--member {member}" for member in members)]
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
    shown["± over images"] = (100 * found["std_images"]).map("{:.1f}".format).where(run, "")
    interval = (100 * found["low"]).map("{:.1f}".format) + " to " + (100 * found["high"]).map("{:.1f}".format)
    shown["95 % interval"] = interval.where(run, "")
    shown["images"] = found["n"].map("{:.0f}".format).where(run, "")
    shown["to fill it"] = found["missing"]
    return shown


def write(plan: Plan) -> pd.DataFrame:
    """Write the table of what is done by now, table.csv and table.md, to runs/reproduce/; the table."""
    found = table(plan)
    folder = settings.writable(settings.runs_folder() / FOLDER)
    atomic.write_text(folder / f"{TABLE}.csv", found.to_csv(index=False))
    atomic.write_text(folder / f"{TABLE}.md", markdown(readable(found)))
    return found


def markdown(shown: pd.DataFrame) -> str:
    """A table of text as Markdown."""
    lines = [list(shown.columns), ["---"] * len(shown.columns), *shown.astype(str).to_numpy().tolist()]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def literature() -> pd.DataFrame:
    """Published Dice on the paper's datasets, in %: source, trained_on, dataset, model, dice_percent, address.

    Read off the tables of MedVLSM and VLSM-Adapter, which share the course's splits and not its protocol: they score at
    network size, train without augmentation, and give one run (MedVLSM) or the mean of three (VLSM-Adapter). The cells of
    VLSM-Ensemble's own table are not among them: copy them from arXiv 2509.05154.
    """
    return pd.read_csv(str(resources.files("vlsm_helpers").joinpath("literature.csv")))


def references() -> str:
    """BibTeX of the paper, its models and the benchmark."""
    return resources.files("vlsm_helpers").joinpath("references.bib").read_text(encoding="utf-8")
