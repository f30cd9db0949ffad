import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.test_predictor import HALVES, predictor
from vlsm_helpers.errors import SettingsError
from vlsm_helpers.segmenting import segment_files


@pytest.fixture
def images(tmp_path):
    paths = [tmp_path / "in" / f"{name}.png" for name in ("one", "two")]
    paths[0].parent.mkdir()
    for path in paths:
        Image.fromarray(HALVES.repeat(8, 0).repeat(8, 1)).save(path)
    return paths


def test_masks_overlays_uncertainties_and_a_table(images, tmp_path):
    table, broken = segment_files(predictor(), images, tmp_path / "out")
    assert broken == []
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {
        *("one.png", "one_overlay.jpg", "one_uncertainty.png", "two.png", "two_overlay.jpg", "two_uncertainty.png"),
        "segmented.csv",
    }
    mask = np.asarray(Image.open(tmp_path / "out" / "one.png"))
    assert set(np.unique(mask)) == {0, 255}
    assert mask.mean() == 255 / 2
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "out" / "segmented.csv"), table)
    assert list(table["foreground"]) == [0.5, 0.5]
    overlay = np.asarray(Image.open(tmp_path / "out" / "one_overlay.jpg")).astype(int)
    assert overlay[16, 4].max() < 40  # black stays black,
    assert overlay[16, 24, 2] < 230  # white is tinted


def test_a_broken_image_does_not_stop_the_others(images, tmp_path):
    images[0].write_text("no image")
    table, broken = segment_files(predictor(), images, tmp_path / "out")
    assert [error.where for error in broken] == [images[0]]
    assert list(table["image"]) == [str(images[1])]
    assert not (tmp_path / "out" / "one.png").exists()


def test_nothing_is_overwritten(images, tmp_path):
    (tmp_path / "masks").mkdir()
    truth = tmp_path / "masks" / "two.png"
    truth.write_text("drawn by hand")
    with pytest.raises(SettingsError, match="1 files are there already, such as two.png"):
        segment_files(predictor(), images, tmp_path / "masks")
    assert [path.name for path in (tmp_path / "masks").iterdir()] == ["two.png"]
    assert truth.read_text() == "drawn by hand"


def test_two_images_of_one_name_are_refused(images, tmp_path):
    other = tmp_path / "one.jpg"
    Image.fromarray(HALVES).save(other)
    with pytest.raises(SettingsError, match="Two images would both be written to one.png"):
        segment_files(predictor(), [*images, other], tmp_path / "out")


def test_an_image_whose_name_is_that_of_another_ones_output_is_refused(images, tmp_path):
    other = images[0].with_name("one_uncertainty.png")
    other.write_bytes(images[0].read_bytes())
    with pytest.raises(SettingsError, match="Two images would both be written to one_uncertainty.png"):
        segment_files(predictor(), [*images, other], tmp_path / "out")


def test_a_stop_in_the_middle_keeps_the_rows_of_what_is_there(images, tmp_path):
    one, asked = predictor(), []

    def stops(pixels, prompt):
        asked.append(prompt)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return one(pixels, prompt)

    with pytest.raises(KeyboardInterrupt):
        segment_files(stops, images, tmp_path / "out")
    assert list(pd.read_csv(tmp_path / "out" / "segmented.csv")["image"]) == [str(images[0])]
