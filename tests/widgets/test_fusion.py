import statistics
import time
from dataclasses import replace
from io import BytesIO

import matplotlib
import numpy as np
import pytest
from PIL import Image

matplotlib.use("Agg")

from tests.data.phantoms.test_phantoms import YARDSTICK, fixed_work, least_time
from tests.fusion.test_interactive import blurred
from tests.helpers import index, toy_store
from vlsm_helpers.errors import DataError
from vlsm_helpers.evaluation.predictions import Prediction, PredictionStore
from vlsm_helpers.fusion.weighted import WeightedFusion
from vlsm_helpers.widgets import FusionExplorer, display
from vlsm_helpers.widgets.fusion import MAP, SIDE, SMALL


@pytest.fixture
def explorer(toy, tmp_path):
    return FusionExplorer(toy_store(), tmp_path / "runs" / "fusion.json")


def opened(widget):
    return Image.open(BytesIO(widget.value))


def seen(explorer):
    """Everything that is drawn."""
    return [explorer.message.value, *(widget.value for widget in (explorer.image, explorer.map, *explorer.members))]


def weights(explorer):
    return {name: slider.value for name, slider in explorer.weights.items()}


def test_it_shows_a_picture_the_members_and_a_map(explorer):
    assert opened(explorer.image).size == (SIDE, SIDE)
    assert [opened(member).size for member in explorer.members] == [(SMALL, SMALL)] * 3
    assert opened(explorer.map).size[0] == 2 * MAP
    assert weights(explorer) == dict.fromkeys(explorer.model.names, 0.33)
    assert [caption.value.split()[0] for caption in explorer.captions] == explorer.model.names


def test_moving_a_slider_takes_the_others_and_the_pictures_along(explorer):
    before = seen(explorer)
    explorer.weights["clipseg"].value = 0.9
    assert weights(explorer) == pytest.approx({"unet_d": 0.05, "clipseg": 0.9, "biomedclipseg": 0.05})
    assert explorer.model.fusion.weights == pytest.approx(weights(explorer))
    words, picture, triangle, *members = seen(explorer)
    assert words != before[0]
    assert picture != before[1]
    assert triangle != before[2]
    assert members == before[3:], "members do not change with their weights"
    assert f"{explorer.model.dice().mean():.3f}" in words
    assert f"{explorer.model.dice()[explorer.model.image]:.3f}" in words


def test_sliders_go_to_both_ends_and_back(explorer):
    for value in (1.0, 0.0, 1.0, 0.4):
        explorer.weights["unet_d"].value = value
        assert weights(explorer)["unet_d"] == value
        assert sum(weights(explorer).values()) == pytest.approx(1)


def test_a_slider_that_follows_moves_nothing_back(explorer):
    explorer.weights["clipseg"].value = 0.35  # 0.325 is left for each of the others
    before = explorer.model.fusion
    for name in ("unet_d", "biomedclipseg"):
        shown_at = explorer.weights[name].value
        assert shown_at == round(shown_at, 2), "a browser would round it and send it back"
        for value in (shown_at + 1e-9, shown_at):
            explorer.weights[name].value = value
    assert explorer.model.fusion == before
    explorer.weights["unet_d"].value = explorer.weights["unet_d"].value + 0.01
    assert explorer.model.fusion != before


@pytest.mark.parametrize(
    ("control", "value", "changed"),
    [("temperature", 4.0, "temperature"), ("threshold", 0.3, "threshold"), ("mean_of", "logits", "mean_of")],
)
def test_the_other_controls_reach_the_model_and_the_map(explorer, control, value, changed):
    before = seen(explorer)
    getattr(explorer, control).value = value
    assert getattr(explorer.model.fusion, changed) == value
    after = seen(explorer)
    assert after[0] != before[0]
    assert after[2] != before[2]


def test_pictures_are_chosen_by_name_those_that_fusing_helps_most_first(explorer):
    labels, numbers = zip(*explorer.picture.options, strict=True)
    assert list(numbers) == explorer.model.order()
    assert labels == tuple(explorer.model.ids[number] for number in numbers)
    assert explorer.picture.value == numbers[0]
    before = seen(explorer)
    explorer.picture.value = numbers[2]
    assert explorer.model.image == numbers[2]
    assert all(new != old for new, old in zip(seen(explorer)[3:], before[3:], strict=True))
    assert seen(explorer)[2] == before[2], "the map is of all pictures"


def test_a_button_takes_the_best_weights(explorer):
    best = explorer.model.best().weights
    explorer.take_best.click()
    assert weights(explorer) == best
    assert explorer.model.dice().mean() == pytest.approx(explorer.model.dice_map().max())
    assert f"all 4 pictures</td><td><b>{explorer.model.dice_map().max():.3f}</b>" in explorer.message.value


def test_a_button_exports_what_is_set(explorer, tmp_path):
    explorer.weights["clipseg"].value = 0.7
    explorer.export.click()
    path = tmp_path / "runs" / "fusion.json"
    assert WeightedFusion.load(path) == explorer.model.fusion
    assert str(path) in explorer.exported.value
    explorer.threshold.value = 0.4
    assert explorer.exported.value == "", "what is set now is not what was written"


def test_an_export_that_fails_says_why(toy, tmp_path):
    (tmp_path / "file").touch()
    explorer = FusionExplorer(toy_store(), tmp_path / "file" / "fusion.json")
    explorer.export.click()
    assert "cannot be written to" in explorer.exported.value


def test_without_a_path_it_exports_to_the_runs(toy, tmp_path, monkeypatch):
    monkeypatch.setenv("VLSM_RUNS", str(tmp_path / "mine"))
    FusionExplorer(toy_store()).export.click()
    assert (tmp_path / "mine" / "fusion.json").exists()


@pytest.mark.parametrize("count", [1, 2, 4])
def test_other_numbers_of_members_have_no_map(toy, count):
    explorer = FusionExplorer(toy_store(names=("a", "b", "c", "d")[:count]))
    assert explorer.map.value == b""
    assert len(explorer.members) == count
    explorer.take_best.click()
    assert sum(weights(explorer).values()) == pytest.approx(1)
    assert explorer.weights["a"].disabled == (count == 1)
    assert len(explorer._still()) > 1000


def test_names_are_shown_as_they_are(toy):
    explorer = FusionExplorer(toy_store(names=("<i>", "b", "c")))
    assert "&lt;i&gt;" in explorer.captions[0].value
    assert "<i>" not in explorer.message.value


def test_it_displays_the_widget_and_a_still_for_pages_without_a_kernel(explorer, monkeypatch):
    displayed = []
    monkeypatch.setattr(display, "display", lambda bundle, metadata, raw: displayed.append((bundle, metadata)))
    explorer._ipython_display_()
    [(bundle, metadata)] = displayed
    assert bundle[display.WIDGET_VIEW]["model_id"] == explorer.box.model_id
    assert bundle["image/png"].startswith("iVBOR")
    assert metadata == {"image/png": {"alt": repr(explorer)}}
    assert f"[Dice {explorer.model.dice().mean():.3f} of 0.33 unet_d, 0.33 clipseg" in repr(explorer)


def test_weights_are_not_chosen_on_the_test_split(toy):
    with pytest.raises(DataError, match="chosen on the test split"):
        FusionExplorer(toy_store("test", 5))


def test_a_slider_that_is_moved_is_followed_within_100_ms(toy):
    val = toy_store(count=4)
    masks = val.masks(176).repeat(25, 1, 1)
    facts = (((4, 2), 1), ((-3, 5), 2), ((0, -4), 3))
    ids = [f"i{number}" for number in range(100)]
    members = [
        Prediction(index(f"m{number}", ids), blurred(masks, *how).numpy().astype(np.float16))
        for number, how in enumerate(facts)
    ]
    samples = [replace(sample, id=name) for name, sample in zip(ids, val.samples() * 25, strict=True)]
    explorer = FusionExplorer(PredictionStore(members, samples))
    moves = {
        "a weight": lambda number: setattr(explorer.weights["m1"], "value", 0.2 + 0.01 * number),
        "the temperature": lambda number: setattr(explorer.temperature, "value", 2.0 ** (0.25 * number - 2)),
        "the threshold": lambda number: setattr(explorer.threshold, "value", 0.3 + 0.01 * number),
    }
    slower = max(1, least_time(fixed_work) / YARDSTICK)
    for what, move in moves.items():
        took = [elapsed(move, number) for number in range(5)]
        print(
            f"redrawn {1000 * statistics.median(took):.0f} ms after {what} moved, a machine {slower:.1f} times slower"
        )
        assert least_time(lambda number, move=move: move(number + 5), times=5) < 0.1 * slower


def elapsed(work, *given):
    started = time.perf_counter()
    work(*given)
    return time.perf_counter() - started
