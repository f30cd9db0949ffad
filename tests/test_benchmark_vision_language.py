import pandas as pd

from benchmarks.vision_language import KEYS, MEMBERS, RIGHT, keep, table
from vlsm_helpers.data import registry


def row(model="CLIPSeg, decoder", seed=0, dice=0.5, dataset="phantom_skin", prompt="p1"):
    return {
        "dataset": dataset,
        "model": model,
        "prompt": prompt,
        "seed": seed,
        "dice": dice,
        "low": 0.4,
        "high": 0.6,
        "n": 9,
    }


def test_one_seed_has_its_interval_and_several_have_their_spread():
    text = table(pd.DataFrame([row(seed=0, dice=0.5), row(seed=1, dice=0.7), row(model="floor", prompt="", dice=0.3)]))
    assert "| phantom_skin | CLIPSeg, decoder | p1 | 60.0 ± 14.1 | 2 |" in text
    assert "| phantom_skin | floor |  | 30.0 (40.0 to 60.0) | 1 |" in text


def test_a_row_measured_again_replaces_the_older_one_and_no_other(tmp_path):
    path = tmp_path / "rows.csv"
    for one in (row(), row(seed=1), row(prompt="", model="floor"), row(dice=0.9)):
        keep(one, path)
    rows = pd.read_csv(path, keep_default_na=False)
    assert not rows.duplicated(KEYS).any()
    assert len(rows) == 3
    assert rows.query("seed == 0 and prompt == 'p1'")["dice"].item() == 0.9
    assert "70.0 ± 28.3" in path.with_suffix(".md").read_text()  # of 90 and 50


def test_every_modality_that_is_measured_has_words_and_every_member_says_what_trains():
    assert {card.modality for card in registry.DATASETS.values() if card.is_phantom} <= set(RIGHT)
    assert {options["train"] for _, options in MEMBERS.values()} == {"decoder", "encoders"}
