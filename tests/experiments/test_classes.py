import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tests.helpers import write_toy
from vlsm_helpers.data.dataset import SegmentationDataset
from vlsm_helpers.data.samples import has_classes, load_split
from vlsm_helpers.errors import DataError
from vlsm_helpers.experiments.classes import by_class, confusion, evaluate_classes
from vlsm_helpers.models.segmenter import ImageOnlySegmenter

CHANNELS = {"red square": 0, "blue square": 2}


class Colours(ImageOnlySegmenter):
    """Marks what is red or blue, as the prompt says; of the class `deaf` it marks both, whatever the prompt."""

    def __init__(self, deaf=False):
        super().__init__()
        self.deaf, self.unused = deaf, torch.nn.Parameter(torch.zeros(1))

    def encode_text(self, prompts):
        chosen = [[self.deaf or name == prompt for name in CHANNELS] for prompt in prompts]
        return torch.tensor(chosen, dtype=torch.float32)

    def decode(self, features, text, images, size):
        shown = images[:, list(CHANNELS.values())] * text[:, :, None, None]
        return 20 * (shown.amax(dim=1, keepdim=True) - 0.5)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two images: the first has a red square of 16 pixels and a blue one of 4, the second only a red one."""
    root = tmp_path_factory.mktemp("data") / "two"
    for part in ("images", "masks", "anns"):
        (root / part).mkdir(parents=True)
    entries = []
    for number, has_blue in enumerate((True, False)):
        image = np.zeros((16, 16, 3), np.uint8)
        image[2:6, 2:6, 0], image[10:12, 10:12, 2] = 255, 255 * has_blue
        Image.fromarray(image).save(root / f"images/{number}.png")
        for name, channel in CHANNELS.items():
            file = f"{number}_{name.replace(' ', '_')}.png"
            Image.fromarray(image[..., channel]).save(root / "masks" / file)
            prompts = {"p0": "", "p1": name}
            entries.append({"img_name": f"{number}.png", "mask_name": file, "prompts": prompts, "class": name})
    (root / "anns" / "test.json").write_text(json.dumps(entries))
    return SegmentationDataset(load_split("two", "test", root.parent), size=16)


def test_a_member_that_follows_the_prompt(two):
    rows = evaluate_classes(Colours(), two)
    assert len(rows) == 8
    assert confusion(rows).to_numpy().tolist() == [[1, 0], [0, 1]]
    table = by_class(rows)
    assert table["class"].tolist() == ["red square", "blue square"]
    assert table[["dice", "n", "absent"]].to_numpy().tolist() == [[1, 2, 0], [1, 1, 1]]
    assert np.isnan(table["silent"][0])
    assert table["silent"][1] == 1  # nothing was predicted in the image without a blue square


def test_a_member_that_ignores_the_prompt(two):
    """It marks 20 pixels of the first image: Dice 2 * 16 / 36 against red, 2 * 4 / 24 against blue; 16 of the second."""
    rows = evaluate_classes(Colours(deaf=True), two)
    red, blue = (32 / 36 + 1) / 2, 8 / 24
    assert confusion(rows).to_numpy() == pytest.approx(np.array([[red, blue], [red, blue]]))
    assert by_class(rows)["silent"][1] == 0


def test_a_threshold(two):
    assert evaluate_classes(Colours(), two, threshold=1)["predicted"].max() == 0


def test_an_image_without_the_class_is_left_out_of_the_confusion():
    pairs = {"prompted": ["a", "a"], "truth": ["a", "a"], "dice": [0.4, 1.0], "present": [True, False]}
    assert confusion(pd.DataFrame(pairs)).loc["a", "a"] == 0.4


def test_samples_of_one_class_are_refused(tmp_path):
    write_toy(tmp_path)
    samples = load_split("toy", "test", tmp_path)
    assert not has_classes(samples)
    with pytest.raises(DataError, match="class"):
        evaluate_classes(Colours(), SegmentationDataset(samples, size=16))
