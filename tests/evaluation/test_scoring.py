import math

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from vlsm_helpers.data.dataset import SegmentationDataset
from vlsm_helpers.data.samples import load_split
from vlsm_helpers.evaluation.scoring import evaluate, predict, samples_named, summarise, worst_and_best
from vlsm_helpers.models.segmenter import Segmenter, resize


class Bright(Segmenter):
    """Marks what is brighter than a half."""

    def __init__(self):
        super().__init__()
        self.cut = torch.nn.Parameter(torch.tensor(0.45))

    def encode_images(self, images):
        return ()

    def encode_text(self, prompts):
        return torch.empty(len(prompts), 0)

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


def test_logits_are_resized_to_height_and_width():
    logits = torch.tensor([[-1.0, 1.0], [-1.0, 1.0]])
    assert resize(logits, (6, 4)).shape == (6, 4)
    assert (resize(logits, (6, 4)) > 0).sum() == 12


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
            "nsd": [math.nan, 0.4, 0.6, math.nan],
            "hd95_relative": [math.nan, 0.1, 0.2, math.nan],
            "foreground": [0.0, 0.2, 0.1, 0.0],
        }
    )


def test_empty_masks_give_lesion_only_rows():
    table = summarise(per_image(), model="unet_d", split="test").set_index("metric")
    assert table.loc["dice", "value"] == pytest.approx(2.25 / 4)
    assert table.loc["dice", "n"] == 4
    assert table.loc["dice, lesion only", "value"] == pytest.approx(0.625)
    assert table.loc["dice, lesion only", "n"] == 2
    assert table.loc["nsd", "n"] == 2
    assert table.loc["dice", "low"] < table.loc["dice", "value"] < table.loc["dice", "high"]


def test_without_empty_masks_there_is_one_row_a_metric():
    lesions = per_image().query("foreground > 0")
    assert summarise(lesions, model="m", split="val")["metric"].tolist() == ["dice", "iou", "nsd", "hd95_relative"]


def test_worst_and_best_have_a_lesion():
    assert worst_and_best(per_image(), 1)["id"].tolist() == ["b", "c"]


def test_samples_by_id(toy):
    samples = load_split("toy", "test")
    assert [sample.id for sample in samples_named(samples, ["test_4", "test_0"])] == ["test_4", "test_0"]
