import json

import numpy as np
import pandas as pd
import pytest

from vlsm_helpers.experiments import table as paper_table
from vlsm_helpers.experiments.members import FUSED, LATE_FUSION
from vlsm_helpers.experiments.plan import Cell, Plan

pytestmark = pytest.mark.usefixtures("own_runs")


def finish(cell, dice, foreground=0.1, dataset=None, plan=None):
    """Write what a finished cell leaves: the Dice of each image."""
    cell.folder.mkdir(parents=True, exist_ok=True)
    rows = pd.DataFrame({"id": [f"image{n}" for n in range(len(dice))], "dice": dice, "foreground": foreground})
    rows = rows.assign(dataset=dataset or cell.dataset, split="test")
    older = [pd.read_csv(cell.per_image)] if cell.per_image.exists() else []
    pd.concat([*older, rows]).to_csv(cell.per_image, index=False)
    tests = sorted(set(pd.read_csv(cell.per_image)["dataset"]))
    mark = {"facts": (plan or PLAN).budgets, "tests": tests, "seconds": 1}
    (cell.folder / "done.json").write_text(json.dumps(mark))


PLAN = Plan(("toy",), members=("unet_d", "clipseg"), seeds=(0, 1))


def row(table, **where):
    found = table[(table[list(where)] == list(where.values())).all(axis=1)]
    assert len(found) == 1
    return found.iloc[0]


def test_means_are_over_seeds_and_images():
    finish(Cell("toy", "unet_d", "p1", 0), [0.2, 0.6])
    finish(Cell("toy", "unet_d", "p1", 1), [0.4, 1.0])
    found = row(paper_table.table(PLAN), model="unet_d")
    assert found["value"] == pytest.approx(0.55)
    assert found["std_images"] == pytest.approx((np.std([0.2, 0.6], ddof=1) + np.std([0.4, 1.0], ddof=1)) / 2)
    assert found["low"] < 0.55 < found["high"]
    assert found["n"] == 2
    assert (found["seeds"], found["missing"]) == ("2 of 2", "")


def test_images_of_one_group_are_resampled_together():
    finish(Cell("toy", "unet_d", "p1", 0), [0.2, 0.2, 0.6, 0.6])
    alone = row(paper_table.table(PLAN), model="unet_d")
    together = row(paper_table.table(PLAN, {f"image{n}": f"patient{n // 2}" for n in range(4)}), model="unet_d")
    assert (together["value"], together["n"]) == (alone["value"], 4)
    assert (together["low"], together["high"]) == pytest.approx((0.2, 0.6))  # two patients: both may be the same one
    own = row(paper_table.table(PLAN, {f"image{n}": n for n in (3, 1, 2, 0)}), model="unet_d")
    assert (own["low"], own["high"]) == (alone["low"], alone["high"])


def test_a_half_finished_table_says_what_is_missing_and_how_to_fill_it():
    finish(Cell("toy", "unet_d", "p1", 1), [0.4, 1.0])
    table = paper_table.table(PLAN)
    half, none = row(table, model="unet_d"), row(table, model="clipseg")
    assert (half["value"], half["seeds"]) == (pytest.approx(0.7), "1 of 2")
    assert half["missing"] == "vlsm reproduce toy --member unet_d --seed 0"
    assert np.isnan(none["value"])
    assert none["missing"] == "vlsm reproduce toy --member clipseg --seed 0 --seed 1"


def test_the_command_names_the_members_that_late_fusion_joins_where_they_are_not_the_papers():
    fused = ("clipseg", "unet_d")
    plan = Plan(("toy",), members=(*fused, LATE_FUSION), seeds=(0,), fused=fused)
    missing = row(paper_table.table(plan), model=LATE_FUSION)["missing"]
    members = "--member clipseg --member unet_d --member late_fusion"
    assert missing == f"vlsm reproduce toy {members} --fuse clipseg --fuse unet_d --seed 0"


def test_a_cell_that_is_not_done_counts_for_nothing():
    cell = Cell("toy", "unet_d", "p1", 0)
    finish(cell, [0.4, 1.0])
    (cell.folder / "done.json").unlink()
    assert row(paper_table.table(PLAN), model="unet_d")["seeds"] == "0 of 2"


def test_the_command_repeats_what_was_asked_for():
    wanted = Plan(
        ("a+b",), members=(*FUSED, LATE_FUSION), seeds=(3,), prompts=("p0",), also_test=("c",), epochs=2, limit=9
    )
    assert row(paper_table.table(wanted), model=LATE_FUSION, dataset="c")["missing"] == (
        "vlsm reproduce a+b --member biomedclipseg --member clipseg --member unet_d --member late_fusion "
        "--seed 3 --prompt p0 --also-test c --epochs 2 --limit 9"
    )


def test_empty_masks_give_a_row_of_lesions_alone():
    finish(Cell("toy", "unet_d", "p1", 0), [1.0, 0.5, 0.7], foreground=[0.0, 0.1, 0.2])
    table = paper_table.table(PLAN)
    assert row(table, metric="dice, lesion only", model="unet_d")["value"] == pytest.approx(0.6)
    assert row(table, metric="dice, lesion only", model="unet_d")["n"] == 2
    shown = paper_table.readable(table)
    assert "unet_d; lesion only" in set(shown["model"])


def test_a_test_set_that_was_asked_for_later_is_missing_though_the_cell_is_done():
    wanted = Plan(("toy",), members=("unet_d",), seeds=(0,), also_test=("other",))
    finish(wanted.cells[0], [0.5, 0.7])
    own, other = paper_table.table(wanted).to_dict("records")
    assert (own["seeds"], own["value"]) == ("1 of 1", pytest.approx(0.6))
    assert other["seeds"] == "0 of 1"
    assert other["missing"] == "vlsm reproduce toy --member unet_d --seed 0 --also-test other"


def test_a_cell_that_was_done_with_other_budgets_counts_for_nothing():
    finish(Cell("toy", "unet_d", "p1", 0), [0.5, 0.7])
    more = Plan(("toy",), members=("unet_d",), seeds=(0,), epochs=50)
    (found,) = paper_table.table(more).to_dict("records")
    assert found["seeds"] == "0 of 1"
    assert found["missing"].endswith("--epochs 50")


def test_other_test_sets_have_rows_of_their_own():
    wanted = Plan(("toy",), members=("unet_d",), seeds=(0,), also_test=("other",))
    cell = wanted.cells[0]
    finish(cell, [0.5, 0.7])
    finish(cell, [0.1, 0.1, 0.4], dataset="other")
    finish(cell, [0.9, 0.9], dataset="nobody asked")
    table = paper_table.table(wanted)
    assert list(table["dataset"]) == ["toy", "other"]
    assert list(table["n"]) == [2, 3]


def test_it_is_written_for_programs_and_for_people(own_runs):
    finish(Cell("toy", "unet_d", "p1", 0), [0.25, 0.75])
    written = paper_table.write(PLAN)
    again = pd.read_csv(own_runs / "reproduce" / "table.csv")
    assert list(again.columns) == list(paper_table.COLUMNS) == list(written.columns)
    lines = (own_runs / "reproduce" / "table.md").read_text().splitlines()
    assert lines[0].startswith("| trained on | tested on | prompt | model | seeds | Dice, %")
    assert lines[2].startswith("| toy | toy | p1 | unet_d | 1 of 2 | 50.0 |")
    assert "not run" in lines[3]
    assert all(line.count("|") == lines[0].count("|") for line in lines)


def test_one_image_has_no_interval_and_no_spread():
    finish(Cell("toy", "unet_d", "p1", 0), [0.5])
    finish(Cell("toy", "unet_d", "p1", 1), [0.7])
    shown = paper_table.readable(paper_table.table(PLAN))
    found = shown[shown["model"] == "unet_d"].iloc[0]
    assert (found["Dice, %"], found["images"]) == ("60.0", "1")
    assert (found["± over images"], found["95 % interval"]) == ("–", "–")
    assert "nan" not in paper_table.markdown(shown)


@pytest.mark.filterwarnings("error")
def test_a_cell_that_is_finished_while_the_table_is_made_counts_wholly_or_not_at_all(monkeypatch):
    """Another process finishes a cell, and deletes one, after the look at it."""
    first, second = PLAN.cells[:2]
    finish(first, [0.2, 0.6])
    real = paper_table.read_scores

    def read(path):
        if not second.folder.exists():
            finish(second, [0.4, 1.0])
        return real(path)

    monkeypatch.setattr(paper_table, "read_scores", read)
    by_model = paper_table.table(PLAN).set_index("model")
    assert by_model.loc[first.member, "value"] == pytest.approx(0.4)
    for found in by_model.to_dict("records"):
        assert np.isnan(found["value"]) == found["seeds"].startswith("0")

    def gone(path):
        raise FileNotFoundError(path)

    monkeypatch.setattr(paper_table, "read_scores", gone)
    assert set(paper_table.table(PLAN)["seeds"]) == {"0 of 2"}


def test_images_called_NA_or_007_keep_their_names():
    names = ["NA", "nan", "null", "None", "007", "1e5"]
    cell = Cell("toy", "unet_d", "p1", 0)
    finish(cell, [0.5] * len(names))
    pd.read_csv(cell.per_image).assign(id=names).to_csv(cell.per_image, index=False)
    assert row(paper_table.table(PLAN), model="unet_d")["n"] == len(names)
    assert paper_table.scores(PLAN)["id"].tolist() == names
