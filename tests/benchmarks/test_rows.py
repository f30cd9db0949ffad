import gzip
import importlib

import numpy as np
import pandas as pd
import pytest

from benchmarks.rows import draw_of, gain_in_words, keep, of_test
from vlsm_helpers.experiments.reference import MEASURED, measured
from vlsm_helpers.metrics.statistics import paired_gain, scores_by_seed

KEYS = ["model", "prompt", "seed"]


def rows(model="A", seed=0, dice=(0.5, 0.7), prompt="p1", ids=("007", "8")):
    return pd.DataFrame({"id": ids, "model": model, "prompt": prompt, "seed": seed, "dice": dice})


def table(found):
    return f"{len(found)} rows, {found['dice'].sum():.1f} in sum"


def test_a_measurement_made_again_replaces_the_older_one_and_no_other(tmp_path):
    path = tmp_path / "rows.csv"
    for one in (rows(), rows(seed=1), rows(prompt=""), rows("B"), rows(dice=(0.9, 0.1)), rows(prompt="", dice=(0, 1))):
        keep(one, path, KEYS, table)
    found = pd.read_csv(path, dtype={"id": str}, keep_default_na=False)
    assert len(found) == 8
    assert set(found["id"]) == {"007", "8"}
    assert found.query("model == 'A' and seed == 0 and prompt == 'p1'")["dice"].tolist() == [0.9, 0.1]
    assert path.with_suffix(".md").read_text() == "8 rows, 4.4 in sum\n"


def test_columns_that_only_some_measurements_have_are_empty_in_the_others(tmp_path):
    path = tmp_path / "rows.csv"
    keep(rows(), path, KEYS, table)
    keep(rows("B").assign(epochs=3), path, KEYS, table)
    assert pd.read_csv(path)["epochs"].isna().tolist() == [True, True, False, False]


def test_a_packed_table_is_the_same_file_whenever_it_is_written(tmp_path):
    paths = [tmp_path / name / "rows.csv.gz" for name in ("one", "two")]
    for path in paths:
        path.parent.mkdir()
        for one in (rows(), rows("B")):
            keep(one, path, KEYS, table)
    assert gzip.decompress(paths[0].read_bytes()).startswith(b"id,model")
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert (tmp_path / "one" / "rows.md").read_text() == "4 rows, 2.4 in sum\n"


def test_a_seed_of_real_images_sees_the_same_ones_and_a_seed_of_phantoms_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("VLSM_DATA", str(tmp_path))
    monkeypatch.setattr("benchmarks.rows.phantoms.ensure", lambda name, folder, draw: folder / f"{name}_draw{draw}")
    assert draw_of("busi", 2) == "busi"
    assert draw_of("phantom_skin", 0) == "phantom_skin"
    assert draw_of("phantom_skin", 2) == "phantom_skin_draw2"


def test_scores_on_other_datasets_and_splits_are_not_those_of_the_test_images(tmp_path):
    own = pd.DataFrame({"id": ["007", "8"], "dice": [0.5, 0.7], "dataset": "home", "split": "test"})
    others = [own.assign(dataset="abroad"), own.assign(split="val")]
    pd.concat([*others, own]).to_csv(tmp_path / "per_image.csv", index=False)
    found = of_test(tmp_path, "home")
    assert found[["id", "dice"]].to_numpy().tolist() == [["007", 0.5], ["8", 0.7]]


@pytest.mark.parametrize(
    "name", ["domain_shift", "hybrid_ensembles", "late_fusion", "learning_curve", "prompts_and_pools"]
)
def test_shipped_tables_hold_the_intervals_that_their_rows_have(name):
    table = importlib.import_module(f"benchmarks.{name}").table(measured(name))
    assert (MEASURED / f"{name}.md").read_text(encoding="utf-8") == table + "\n"


def test_a_gain_in_words_is_the_paired_gain():
    scores = np.random.default_rng(0).random((2, 3, 9))
    ids = [f"{number}" for number in range(9)]
    parts = [rows(model, seed, scores[place, seed], ids=ids) for place, model in enumerate("AB") for seed in range(3)]
    gain = paired_gain(pd.concat(parts), "A", "B")
    both = [scores_by_seed(pd.concat(parts[start : start + 3])) for start in (0, 3)]
    assert gain_in_words(*both) == "{value:+.1f} ({low:+.1f} to {high:+.1f})".format(**gain)
