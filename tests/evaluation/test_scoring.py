import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vlsm_helpers.data.dataset import SegmentationDataset
from vlsm_helpers.data.samples import load_split
from vlsm_helpers.errors import DataError
from vlsm_helpers.evaluation.scoring import (
    evaluate,
    predict,
    read_scores,
    samples_named,
    save_scores,
    score_mask,
    summarise,
    worst_and_best,
)
from vlsm_helpers.models.segmenter import ImageOnlySegmenter


class Bright(ImageOnlySegmenter):
    """Marks what is brighter than a half."""

    def __init__(self):
        super().__init__()
        self.cut = torch.nn.Parameter(torch.tensor(0.45))

    def decode(self, features, text, images, size):
        return 40 * (images.mean(dim=1, keepdim=True) - self.cut)


def test_a_row_an_image_in_the_datasets_order(toy):
    table = evaluate(Bright(), SegmentationDataset(load_split("toy", "test"), 32))
    assert table["id"].tolist() == [f"test_{number}" for number in range(5)]
    assert (table["dice"] > 0.97).all()
    assert table["foreground"].tolist() == pytest.approx([144 / 1024] * 5)


def test_it_is_scored_at_the_original_size(toy):
    """A mask stored four times as large, with a hole that the network's size cannot show, costs Dice."""
    samples = load_split("toy", "test")
    large = np.kron(np.array(Image.open(samples[0].mask)), np.ones((4, 4), np.uint8))
    rows, columns = np.nonzero(large)
    large[rows.min() : rows.min() + 40, columns.min() : columns.min() + 1] = 0
    Image.fromarray(large).save(samples[0].mask)
    table = evaluate(Bright(), SegmentationDataset(samples, 32))
    assert table["foreground"][0] == pytest.approx(np.mean(large > 0))
    assert table["dice"][0] < table["dice"][1:].min()


def test_predictions_of_an_image_do_not_depend_on_the_batch(toy):
    dataset = SegmentationDataset(load_split("toy", "test"), 32)
    for (first, one), (second, other) in zip(
        predict(Bright(), dataset, batch_size=1), predict(Bright(), dataset, batch_size=3), strict=True
    ):
        assert first.id == second.id
        torch.testing.assert_close(one, other)


def per_image():
    return pd.DataFrame(
        {
            "id": list("abcd"),
            "dice": [1.0, 0.5, 0.75, 0.0],
            "iou": [1.0, 1 / 3, 0.6, 0.0],
            "nsd": [math.nan, 0.4, 0.6, 0.0],
            "hd95_relative": [math.nan, 0.1, 0.2, math.nan],
            "foreground": [0.0, 0.2, 0.1, 0.0],
            "predicted": [0.0, 0.2, 0.1, 0.3],
        }
    )


def test_empty_masks_give_lesion_only_rows():
    table = summarise(per_image(), model="unet_d", split="test").set_index("metric")
    assert table.loc["dice", "value"] == pytest.approx(2.25 / 4)
    assert table.loc["dice", "n"] == 4
    assert table.loc["dice, lesion only", "value"] == pytest.approx(0.625)
    assert table.loc["dice, lesion only", "n"] == 2
    assert table.loc["nsd", "n"] == 3
    assert table.loc["dice", "low"] < table.loc["dice", "value"] < table.loc["dice", "high"]


def test_without_empty_masks_there_is_one_row_a_metric():
    lesions = per_image().query("foreground > 0")
    assert summarise(lesions, model="m", split="val")["metric"].tolist() == ["dice", "iou", "nsd", "hd95_relative"]


def test_every_mean_says_how_many_images_it_leaves_out_and_why():
    table = summarise(per_image(), model="m", split="test").set_index("metric")
    assert table.loc["dice", "left_out"] == ""
    assert table.loc["nsd", "left_out"] == "1: ground truth and prediction empty"
    both = "1: ground truth and prediction empty, 1: ground truth empty"
    assert table.loc["hd95_relative", "left_out"] == table.loc["dice, lesion only", "left_out"] == both
    counted = table["left_out"].str.findall(r"(\d+):").map(lambda counts: sum(map(int, counts)))
    assert (counted + table["n"] == 4).all()


def test_a_missed_lesion_lowers_the_mean_of_surface_dice():
    """Ten lesions, one of them found: 1 / 10, and no distance for the others."""
    mask = np.zeros((64, 64), bool)
    mask[20:40, 20:40] = True
    rows = [{"id": str(n)} | score_mask(mask if n == 0 else np.zeros_like(mask), mask) for n in range(10)]
    table = summarise(pd.DataFrame(rows), model="m", split="test").set_index("metric")
    assert table.loc["nsd", ["value", "n"]].tolist() == [pytest.approx(0.1), 10]
    assert table.loc["hd95_relative", ["n", "left_out"]].tolist() == [1, "9: prediction empty"]


def scores(ids="ab", dataset="d", split="test", dice=0.5):
    values = dict.fromkeys(("dice", "iou", "hd95", "hd95_relative", "nsd", "foreground", "predicted"), dice)
    return pd.DataFrame({"id": list(ids)} | values | {"dataset": dataset, "split": split})


def test_scores_of_another_split_are_added_and_of_the_same_one_replaced(tmp_path):
    path = tmp_path / "t.csv"
    for one in (scores(), scores(split="val"), scores(dataset="e"), scores(ids="xyz", dice=np.nan)):
        save_scores(path, one)
    found = read_scores(path)
    assert found.groupby(["dataset", "split"])["id"].apply("".join).to_dict() == {
        ("d", "val"): "ab",
        ("e", "test"): "ab",
        ("d", "test"): "xyz",
    }
    assert found.loc[found["id"] == "x", "dice"].isna().all()


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.sampled_from(["NA", "nan", "null", "None", "", "007", "1e5", "a,b", 'q"x', "True"]), unique=True, min_size=1
    )
)
def test_whatever_images_are_called_their_names_come_back(tmp_path_factory, names):
    path = tmp_path_factory.mktemp("names") / "t.csv"
    save_scores(path, scores(names, dataset="null"))
    save_scores(path, scores(names, dataset="null", split="val"))
    found = read_scores(path).groupby("split")["id"].apply(list)
    assert found.to_dict() == {"test": names, "val": names}


@pytest.mark.parametrize(
    "content",
    ["my,own\n1,2\n", "image,dataset,split,value\nx,d,test,1\n", "", "id,dice,dataset,split,note\n", "\xff\x00"],
)
def test_a_table_of_the_users_own_is_left_as_it_is(tmp_path, content):
    path = tmp_path / "t.csv"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(DataError) as failure:
        save_scores(path, scores())
    assert failure.value.where == path
    assert path.read_bytes() == content.encode("latin-1")


def test_on_windows_lines_end_once(tmp_path, monkeypatch):
    """Acted out: pandas ends lines with os.linesep, and a file opened as text makes each line feed two characters."""
    real = Path.write_text

    def on_windows(self, data, encoding=None, errors=None, newline=None):
        return real(self, data if newline is not None else data.replace("\n", "\r\n"), encoding, errors, newline="")

    monkeypatch.setattr("os.linesep", "\r\n")
    monkeypatch.setattr(Path, "write_text", on_windows)
    save_scores(tmp_path / "t.csv", scores())
    assert b"\r" not in (tmp_path / "t.csv").read_bytes()


def test_worst_and_best_have_a_lesion():
    assert worst_and_best(per_image(), 1)["id"].tolist() == ["b", "c"]


def test_samples_by_id(toy):
    samples = load_split("toy", "test")
    assert [sample.id for sample in samples_named(samples, ["test_4", "test_0"])] == ["test_4", "test_0"]
