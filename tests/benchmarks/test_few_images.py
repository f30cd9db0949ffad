from functools import partial

import pandas as pd
import pytest

from benchmarks import few_images
from benchmarks.few_images import BASELINE, OFFICIAL, OWN, RULES, measure, table
from tests.helpers import write_toy


def test_a_draw_is_adopted_trained_and_tested_twice(tmp_path, monkeypatch):
    monkeypatch.setenv("VLSM_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("VLSM_RUNS", str(tmp_path / "runs"))
    write_toy(tmp_path / "data", entries={"train": 24, "val": 2, "test": 3})
    monkeypatch.setattr(few_images, "NOUNS", {"toy": "square"})
    monkeypatch.setattr(few_images, "IMAGES", 20)
    monkeypatch.setattr(few_images, "adopt", partial(few_images.adopt, alike=1))  # all squares look alike
    train = partial(few_images.train_ensemble, members=("clipseg", "unet_d"))
    monkeypatch.setattr(few_images, "train_ensemble", train)
    rows = measure("toy", 1, epochs=1)
    assert set(rows["rule"]) == {rule.name for rule in RULES}
    assert rows.groupby(["tested", "rule"])["id"].count().to_dict() == {
        (tested, rule.name): count for tested, count in ((OWN, 4), (OFFICIAL, 3)) for rule in RULES
    }
    assert set(rows[rows["tested"] == OFFICIAL]["id"]) == {"test_0", "test_1", "test_2"}
    monkeypatch.setattr(few_images, "predict", lambda *_: pytest.fail("predicted again"))
    pd.testing.assert_frame_equal(measure("toy", 1, epochs=1), rows)


def test_the_table_has_every_draw_and_the_paired_difference():
    parts = []
    for tested in (OWN, OFFICIAL):
        for seed in (0, 1):
            for rule, gain in ((BASELINE, 0.0), ("shrunk mean of logits", 0.1)):
                dice = [0.4 + gain + 0.2 * seed, 0.6 + gain + 0.2 * seed]
                ids = [f"{seed} {number}" if tested == OWN else f"{number}" for number in range(2)]
                parts.append(pd.DataFrame({"id": ids, "dice": dice, "rule": rule, "seed": seed, "tested": tested}))
    lines = table(pd.concat(parts).assign(dataset="busi")).splitlines()
    assert f"| busi | {OWN} | {BASELINE} | 50.0 | 70.0 | 60.0 |  |" in lines
    for tested in (OWN, OFFICIAL):
        assert f"| busi | {tested} | shrunk mean of logits | 60.0 | 80.0 | 70.0 | +10.0 (+10.0 to +10.0) |" in lines
