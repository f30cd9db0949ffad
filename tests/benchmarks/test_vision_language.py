import pandas as pd

from benchmarks.vision_language import MEMBERS, RIGHT, table
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


def test_every_modality_that_is_measured_has_words_and_every_member_says_what_trains():
    assert {card.modality for card in registry.DATASETS.values() if card.is_phantom} <= set(RIGHT)
    assert {options["train"] for _, options in MEMBERS.values()} == {"decoder", "encoders"}
