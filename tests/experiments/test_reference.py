import re

import pytest

from vlsm_helpers.data.registry import DATASETS
from vlsm_helpers.errors import CourseError
from vlsm_helpers.experiments.reference import literature, measured, references


def test_shipped_measurements_are_fractions_and_have_each_network_on_the_same_images():
    rows = measured("hybrid_ensembles")
    assert rows["dice"].between(0, 1).all()
    for _, part in rows.groupby(["dataset", "seed"]):
        assert part["model"].nunique() == 8
        assert part.groupby("model")["id"].apply(tuple).nunique() == 1


def test_measurements_that_there_are_not_are_told_with_those_there_are():
    with pytest.raises(CourseError, match="hybrid_ensembles"):
        measured("nothing")


def test_the_literature_is_in_percent_on_datasets_that_the_course_knows():
    found = literature()
    assert set(found["dataset"]) <= set(DATASETS)
    assert found["dice_percent"].between(40, 100).all()
    one = found[(found["source"] == "MedVLSM, Table 2") & (found["trained_on"] == "busi")].set_index("model")
    assert one.loc["CRIS", "dice_percent"] == 69.31
    assert one.loc["U-Net (ResNet-50)", "dice_percent"] == 75.21
    assert not found.duplicated(["source", "trained_on", "dataset", "model"]).any()


def test_references_are_whole_entries():
    text = references()
    assert len(re.findall(r"^@\w+\{\w+,$", text, re.M)) == len(re.findall(r"^\}$", text, re.M)) == text.count("@")
    assert text.count("{") == text.count("}")
    assert "2509.05154" in text
