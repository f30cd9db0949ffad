from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import real_fusion
from benchmarks.real_fusion import GROUPS, PAPERS, RIVAL, curve, curves_table, finished, fuse, table
from benchmarks.real_images import MINUTES, fine_folder, run_folder
from tests.benchmarks.test_real_images import trainings
from tests.helpers import write_toy
from vlsm_helpers.data.images import read_mask
from vlsm_helpers.data.samples import load_split
from vlsm_helpers.evaluation.predictions import Prediction, PredictionInfo
from vlsm_helpers.experiments.reference import MEASURED, measured
from vlsm_helpers.fusion import BestSingle, MeanLogit
from vlsm_helpers.training.run_folder import METRICS


def test_members_of_one_dataset_number_and_seed_are_fused(tmp_path, monkeypatch):
    monkeypatch.setenv("VLSM_RUNS", str(tmp_path))
    rows = pd.DataFrame(trainings("CRIS", (0, 1), (20, 20)) + trainings("CLIPSeg"))
    found = {seed: runs for *_, seed, runs in finished(rows)}
    assert {seed: list(runs) for seed, runs in found.items()} == {0: ["CRIS", "CLIPSeg"], 1: ["CRIS"]}
    assert found[1]["CRIS"] == run_folder("kvasir_polyp", "first 200", "CRIS", 1, 1e-3)


@pytest.fixture
def members(tmp_path, monkeypatch):
    """Runs named "right" and "wrong", whose logits are those of the true masks and of their complements."""
    monkeypatch.setenv("VLSM_DATA", str(tmp_path / "data"))
    write_toy(tmp_path / "data", entries={"train": 1, "val": 2, "test": 2})

    def predicted(run, dataset, split, name):
        samples = load_split(dataset, split)
        masks = [read_mask(one.mask) for one in samples]
        right = np.stack([np.where(mask, 4.0, -4.0) for mask in masks]).astype("float32")
        logits = right if run.name.startswith("right") else -right
        info = PredictionInfo(name, dataset, split, tuple(s.id for s in samples), tuple(m.shape for m in masks), name)
        return Prediction(info, logits)

    monkeypatch.setattr(real_fusion, "predicted", predicted)


def test_groups_without_a_member_are_left_out_and_cris_stands_alone_beside_them(members):
    runs = dict.fromkeys(PAPERS, Path("wrong")) | {"UNet-D": Path("right"), RIVAL: Path("right")}
    rows = fuse("toy", runs)
    assert set(rows["group"]) == {group for group, names in GROUPS.items() if set(names) <= set(runs)} | {RIVAL}
    dice = rows.groupby(["group", "rule"])["dice"].mean()
    assert dice["the paper's three", BestSingle.name] == pytest.approx(1)
    assert dice["the paper's three", MeanLogit.name] < 0.9  # two of three are wrong
    assert dice[RIVAL, RIVAL] == pytest.approx(1)
    lines = table(rows.assign(dataset="toy", images="all", seed=0)).splitlines()
    best = next(line for line in lines if "the paper's three" in line and BestSingle.name in line)
    assert best.endswith("|  | +0.0 (+0.0 to +0.0) |")


def test_the_curve_is_the_best_so_far_over_the_minutes_of_both_parts(tmp_path):
    run = tmp_path / "run"
    for part, dice, minutes in ((run, [0.2, 0.6, 0.5], 4.5), (fine_folder(run), [0.7, 0.65], 2)):
        part.mkdir()
        rows = pd.DataFrame({"epoch": range(1, 1 + len(dice)), "val_dice": dice})
        rows.to_csv(part / METRICS, index=False)
        (part / MINUTES).write_text(f"{minutes}\n")
    found = curve(run)
    assert found["minutes"].tolist() == [1.5, 3, 4.5, 5.5, 6.5]
    assert found["best_dice"].tolist() == [0.2, 0.6, 0.6, 0.7, 0.7]
    line = curves_table(found.assign(dataset="d", images="all", model="m", seed=0)).splitlines()[-1]
    assert line == "| d | all | m |  | 20.0 | 60.0 | 70.0 | 70.0 | 70.0 |"


def test_the_committed_tables_are_those_of_the_committed_rows():
    for name, formatted in (("real_fusion", table), ("real_curves", curves_table)):
        assert (MEASURED / f"{name}.md").read_text(encoding="utf-8") == formatted(measured(name)) + "\n"
