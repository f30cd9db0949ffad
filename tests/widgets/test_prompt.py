from io import BytesIO

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image

matplotlib.use("Agg")

from vlsm_helpers import plots
from vlsm_helpers.evaluation.prompting import PromptedImages
from vlsm_helpers.models.clipseg import CLIPSeg
from vlsm_helpers.widgets import PromptExplorer, PromptModel, display
from vlsm_helpers.widgets.prompt import SIDE

LONG = "a " * 40 + "<b>bump</b>"


@pytest.fixture(scope="module")
def images(tiny_weights):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    mask = np.zeros((96, 96), bool)
    mask[24:72, 24:72] = True
    return PromptedImages(CLIPSeg(tiny_weights / "clipseg"), pixels, [mask, ~mask], ["a", "b"])


@pytest.fixture
def model(images):
    return PromptModel(images)


@pytest.fixture
def explorer(model):
    return PromptExplorer(model, "a pink bump", threshold=middle(model, "a pink bump"))


def middle(model, prompt, index=0):
    """A threshold at which half of the image is foreground; with random weights, 0.5 is not."""
    return float(np.median(model.probability(index, prompt)))


def pixels(explorer):
    return np.asarray(Image.open(BytesIO(explorer.overlay.value)))


def coloured(pixels, colour):
    return (pixels == np.uint8(255 * np.array(matplotlib.colors.to_rgb(colour)) + 0.5)).all(axis=-1)


def test_the_probability_is_the_segmenters(model, images):
    pixels = torch.from_numpy(images.images).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        expected = torch.sigmoid(images.segmenter(pixels, "a pink bump"))[1, 0]
    np.testing.assert_allclose(model.probability(1, "a pink bump"), expected, atol=1e-6)


def test_a_prediction_is_not_computed_again(model, images, monkeypatch):
    decoded = []
    decode = images.decode
    monkeypatch.setattr(images, "decode", lambda text, numbers: decoded.append(numbers) or decode(text, numbers))
    for threshold in (0.1, 0.5, 0.9):
        model.overlay(1, "polyp", threshold)
        model.dice(1, "polyp", threshold)
    model.overlay(0, "polyp", 0.5)
    assert decoded == [[1], [0]]
    assert model.encode.cache_info().misses == 1


def test_the_overlay_outlines_the_ground_truth_in_green(model):
    shown = model.overlay(0, "polyp", 1.0)  # no foreground is predicted
    assert shown.shape == (SIDE, SIDE, 3)
    assert shown.dtype == np.uint8
    rows, columns = np.nonzero(coloured(shown, plots.GROUND_TRUTH))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (96, 287, 96, 287)
    assert not coloured(shown, plots.PREDICTION).any()


def test_the_prediction_is_tinted_and_outlined(model):
    plain = model.overlay(0, "polyp", 1.0)
    half = model.overlay(0, "polyp", middle(model, "polyp"))
    assert coloured(half, plots.PREDICTION).any()
    assert 0.3 < (half != plain).any(axis=-1).mean() < 0.7
    everything = model.overlay(0, "polyp", 0.0)
    assert not coloured(everything, plots.PREDICTION).any(), "a mask that fills the image has no outline"


def test_dice_and_predicted_foreground_follow_the_threshold(model):
    inside = 48 * 48 / 96**2
    assert model.dice(0, "polyp", 0.0) == pytest.approx(2 * inside / (inside + 1), abs=1e-4)
    assert model.dice(0, "polyp", 1.0) == 0
    assert model.foreground(0, "polyp", 0.0) == 1
    assert model.foreground(0, "polyp", middle(model, "polyp")) == pytest.approx(0.5, abs=0.01)


def test_a_prompt_that_is_too_long_is_warned_of_every_time(model):
    for _ in range(2):
        assert "are cut off" in model.warning(LONG)
    assert model.warning("polyp") == ""


def test_another_prompt_changes_the_image(explorer, model):
    before = pixels(explorer)
    explorer.prompt.value = "a large dark blob"
    assert not np.array_equal(pixels(explorer), before)
    np.testing.assert_array_equal(pixels(explorer), model.overlay(0, "a large dark blob", explorer.threshold.value))


def test_another_choice_changes_the_image(explorer, model):
    explorer.image_choice.value = 1
    np.testing.assert_array_equal(pixels(explorer), model.overlay(1, "a pink bump", explorer.threshold.value))


def test_moving_the_threshold_changes_image_and_scores(explorer):
    before, words = pixels(explorer), explorer.message.value
    explorer.threshold.value = 1.0
    assert not np.array_equal(pixels(explorer), before)
    assert "Dice <b>0.00</b>, 0.0% predicted foreground" in explorer.message.value != words


def test_an_empty_prompt_is_a_prompt(explorer):
    explorer.prompt.value = ""
    assert "Dice <b>" in explorer.message.value
    assert "⚠" not in explorer.message.value


def test_a_prompt_that_is_too_long_shows_the_warning_as_text(explorer):
    explorer.prompt.value = LONG
    assert "⚠" in explorer.message.value
    assert "are cut off" in explorer.message.value
    explorer.prompt.value = "<i>" * 30
    assert "&lt;i&gt;" in explorer.message.value
    assert "<i>" not in explorer.message.value
    explorer.prompt.value = "polyp"
    assert "⚠" not in explorer.message.value


def test_images_have_names(model):
    assert PromptExplorer(model).image_choice.options == (("image a", 0), ("image b", 1))
    assert PromptExplorer(model, names=["flat", "sessile"]).image_choice.options == (("flat", 0), ("sessile", 1))


def test_it_displays_the_widget_and_a_sentence_for_pages_without_a_kernel(explorer, monkeypatch):
    displayed = []
    monkeypatch.setattr(display, "display", lambda bundle, metadata, raw: displayed.append((bundle, raw)))
    explorer._ipython_display_()
    [(bundle, raw)] = displayed
    assert raw
    assert bundle[display.WIDGET_VIEW]["model_id"] == explorer.box.model_id
    assert "kernel" in bundle["text/plain"]
