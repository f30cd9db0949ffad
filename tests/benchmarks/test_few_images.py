from functools import partial

import pandas as pd
import pytest

from benchmarks import few_images
from benchmarks.few_images import BASELINE, OFFICIAL, OWN, RULES, WITH, WITHOUT, measure, table
from tests.helpers import write_toy


def test_a_draw_is_adopted_trained_and_tested_twice(tmp_path, monkeypatch, own_data):
    monkeypatch.setenv("VLSM_RUNS", str(tmp_path / "runs"))
    write_toy(tmp_path / "data", entries={"train": 24, "val": 2, "test": 3})
    monkeypatch.setattr(few_images, "NOUNS", {"toy": "square"})
    monkeypatch.setattr(few_images, "IMAGES", 20)
    monkeypatch.setattr(few_images, "adopt", partial(few_images.adopt, alike=1))  # all squares look alike
    train = partial(few_images.train_ensemble, members=("clipseg", "unet_d"))
    monkeypatch.setattr(few_images, "train_ensemble", train)
    rows = measure("toy", 1, epochs=1)
    assert (
        len({tuple(part["dice"]) for _, part in rows.groupby("members")}) == 1
    )  # the members to be added are none of these
    rows = rows[rows["members"] == WITH].reset_index(drop=True)
    assert set(rows["rule"]) == {rule.name for rule in RULES}
    assert rows.groupby(["tested", "rule"])["id"].count().to_dict() == {
        (tested, rule.name): count for tested, count in ((OWN, 4), (OFFICIAL, 3)) for rule in RULES
    }
    assert set(rows[rows["tested"] == OFFICIAL]["id"]) == {"test_0", "test_1", "test_2"}
    monkeypatch.setattr(few_images, "predict", lambda *_: pytest.fail("predicted again"))
    again = measure("toy", 1, epochs=1)
    pd.testing.assert_frame_equal(again[again["members"] == WITH].reset_index(drop=True), rows)


def test_the_table_has_every_draw_and_the_paired_difference():
    parts = []
    for tested in (OWN, OFFICIAL):
        for seed in (0, 1):
            for rule, gain in ((BASELINE, 0.0), ("shrunk mean of logits", 0.1)):
                dice = [0.4 + gain + 0.2 * seed, 0.6 + gain + 0.2 * seed]
                ids = [f"{seed} {number}" if tested == OWN else f"{number}" for number in range(2)]
                row = {"id": ids, "dice": dice, "rule": rule, "seed": seed, "tested": tested, "members": WITHOUT}
                parts += [
                    pd.DataFrame(row),
                    pd.DataFrame(row | {"dice": [0.05 + one for one in dice], "members": WITH}),
                ]
    lines = table(pd.concat(parts).assign(dataset="busi")).splitlines()
    assert f"| busi | {OWN} | {WITHOUT} | {BASELINE} | 50.0 | 70.0 | 60.0 |  |  |" in lines
    gains = "+10.0 (+10.0 to +10.0) | +5.0 (+5.0 to +5.0)"
    for tested in (OWN, OFFICIAL):
        assert f"| busi | {tested} | {WITH} | shrunk mean of logits | 65.0 | 85.0 | 75.0 | {gains} |" in lines


def test_what_docs_say_of_few_images_is_what_was_measured():
    rows = pd.read_csv(few_images.HERE / "few_images.csv.gz", dtype={"id": str})
    assert (few_images.HERE / "few_images.md").read_text(encoding="utf-8") == table(rows) + "\n"
    said = (few_images.HERE.parent / "docs" / "results.md").read_text(encoding="utf-8")
    by_draw = 100 * rows.groupby(["members", "dataset", "tested", "rule", "seed"])["dice"].mean()
    names = ["best single member", "mean of logits", "weighted mean of logits", "shrunk mean of logits"]
    for members, first in ((WITHOUT, "the paper's three"), (WITH, "all four")):
        for title, dataset in (("Kvasir-SEG", "kvasir_polyp"), ("BUSI", "busi")):
            for tested, words in ((OWN, "the draws' 60"), (OFFICIAL, "official")):
                start = f"| {first} | {title}, "
                line = next(line for line in said.splitlines() if line.startswith(start) and words in line)
                means = [f"{by_draw[members, dataset, tested, name].mean():.1f}" for name in names]
                assert [cell.split()[0] for cell in line.strip("| ").split(" | ")[2:]] == means
                assert float(means[3]) > float(means[0]) - 1  # what late fusion with few images has to reach
    official = by_draw.unstack("rule").xs(OFFICIAL, level="tested")
    worst = [(official[name] - official[BASELINE]).min() for name in names[1:]]
    assert [f"{-one:.1f}" for one in worst] == ["8.0", "6.8", "6.8"]
