import numpy as np
import pytest

from vlsm_helpers.data.annotations import yolo
from vlsm_helpers.errors import DataError

NAMES = "path: .\ntrain: images/train\nnames:\n  0: polyp\n  1: instrument\n"
SQUARE = "0 0.125 0.25 0.5 0.25 0.5 0.625 0.125 0.625"  # of 8 x 8 pixels: columns 1 to 3, rows 2 to 4


def labels(tmp_path, config=NAMES, **files):
    folder = tmp_path / "labels" / "train"
    folder.mkdir(parents=True, exist_ok=True)
    if config is not None:
        (tmp_path / "data.yaml").write_text(config)
    for name, lines in files.items():
        (folder / f"{name}.txt").write_text(lines)
    return tmp_path / "labels"


@pytest.mark.parametrize("config", [NAMES, "names: [polyp, instrument]\nnc: 2\n", "names: {0: polyp, 1: instrument}"])
def test_polygons_of_two_classes(tmp_path, config):
    found, empty = yolo.read(labels(tmp_path, config, a=f"{SQUARE}\n\n1 0 0 0.25 0 0.25 0.25 0 0.25\n", b=""))
    masks = found.masks((8, 8))
    polyp, instrument = np.zeros((8, 8), bool), np.zeros((8, 8), bool)
    polyp[2:5, 1:4] = instrument[0:2, 0:2] = True
    assert np.array_equal(masks["polyp"], polyp)
    assert np.array_equal(masks["instrument"], instrument)
    assert (found.name, empty.name) == (str(tmp_path / "labels/train/a"), str(tmp_path / "labels/train/b"))
    assert empty.masks((8, 8)) == {}  # an empty file says that there is nothing


def test_fractions_are_of_the_width_and_the_height(tmp_path):
    (found,) = yolo.read(labels(tmp_path, a=SQUARE))
    mask = found.masks((8, 16))["polyp"]
    expected = np.zeros((8, 16), bool)
    expected[2:5, 2:8] = True
    assert np.array_equal(mask, expected)


def test_lists_of_images_beside_data_yaml_are_no_labels(tmp_path):
    folder = labels(tmp_path, a=SQUARE)
    for name in ("train.txt", "README.dataset.txt"):
        (tmp_path / name).write_text("images/train/a.png\n")
    assert [one.name for one in yolo.read(tmp_path)] == [one.name for one in yolo.read(folder)]


WRONG = {
    "an unknown class": "2 0 0 1 0 1 1",
    "a class that is no number": "polyp 0 0 1 0 1 1",
    "a box": "0 0.5 0.5 0.2 0.2",
    "two points": "0 0 0 1 1",
    "an odd number of coordinates": "0 0 0 1 1 1 0 1",
    "pixels instead of fractions": "0 0 0 120 0 120 90",
    "words": "0 a b c d e f",
    "no coordinates": "0",
    "infinity": "0 0 0 inf 0 1 1",
}


@pytest.mark.parametrize("fault", WRONG)
def test_wrong_lines_are_named(tmp_path, fault):
    with pytest.raises(DataError) as caught:
        yolo.read(labels(tmp_path, a=f"{SQUARE}\n{WRONG[fault]}\n"))
    assert "a.txt: line 2" in str(caught.value.where)
    assert caught.value.hint


@pytest.mark.parametrize(
    "config", [None, "", "names: 3", "nc: 2", "names: [polyp", "names: {a: polyp}", "names: [1, 2]", "- x"]
)
def test_without_names_of_the_classes(tmp_path, config):
    with pytest.raises(DataError, match="name") as caught:
        yolo.read(labels(tmp_path / "one" / "two", config, a=SQUARE))
    assert caught.value.hint
