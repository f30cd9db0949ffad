from io import BytesIO

import matplotlib
import pytest
from PIL import Image

matplotlib.use("Agg")

from tests.helpers import toy_store
from vlsm_helpers.errors import DataError
from vlsm_helpers.fusion.weighted import WeightedFusion
from vlsm_helpers.widgets import FusionExplorer, display
from vlsm_helpers.widgets.fusion import MAP, SIDE, SMALL


@pytest.fixture
def explorer(toy, tmp_path):
    return FusionExplorer(toy_store(), tmp_path / "runs" / "fusion.json")


def opened(widget):
    return Image.open(BytesIO(widget.value))


def seen(explorer):
    """Everything that is displayed."""
    return [
        explorer.scores.value,
        *(widget.value for widget in (explorer.overlay, explorer.dice_map, *explorer.member_maps)),
    ]


def weights(explorer):
    return {name: slider.value for name, slider in explorer.weights.items()}


def test_it_shows_an_image_the_members_and_a_map(explorer):
    assert opened(explorer.overlay).size == (SIDE, SIDE)
    assert [opened(member).size for member in explorer.member_maps] == [(SMALL, SMALL)] * 3
    assert opened(explorer.dice_map).size[0] == 2 * MAP
    assert weights(explorer) == dict.fromkeys(explorer.model.names, 0.33)
    assert [caption.value.split()[0] for caption in explorer.member_captions] == explorer.model.names


def test_moving_a_slider_updates_the_others_and_the_images(explorer):
    before = seen(explorer)
    explorer.weights["clipseg"].value = 0.9
    assert weights(explorer) == pytest.approx({"unet_d": 0.05, "clipseg": 0.9, "biomedclipseg": 0.05})
    assert explorer.model.fusion.weights == pytest.approx(weights(explorer))
    table, image, triangle, *members = seen(explorer)
    assert table != before[0]
    assert image != before[1]
    assert triangle != before[2]
    assert members == before[3:], "members do not change with their weights"
    assert f"{explorer.model.dice().mean():.3f}" in table
    assert f"{explorer.model.dice()[explorer.model.image]:.3f}" in table


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


def test_images_are_chosen_by_name_those_that_gain_most_first(explorer):
    labels, numbers = zip(*explorer.image_choice.options, strict=True)
    assert list(numbers) == explorer.model.order()
    assert labels == tuple(explorer.model.ids[number] for number in numbers)
    assert explorer.image_choice.value == numbers[0]
    before = seen(explorer)
    explorer.image_choice.value = numbers[2]
    assert explorer.model.image == numbers[2]
    assert all(new != old for new, old in zip(seen(explorer)[3:], before[3:], strict=True))
    assert seen(explorer)[2] == before[2], "the map is of all images"


def test_a_button_sets_the_best_weights(explorer):
    best = explorer.model.best().weights
    explorer.use_best.click()
    assert weights(explorer) == best
    assert explorer.model.dice().mean() == pytest.approx(explorer.model.dice_map().max())
    assert f"all 4 images</td><td><b>{explorer.model.dice_map().max():.3f}</b>" in explorer.scores.value


def test_a_button_exports_the_current_settings(explorer, tmp_path):
    explorer.weights["clipseg"].value = 0.7
    explorer.export.click()
    path = tmp_path / "runs" / "fusion.json"
    assert WeightedFusion.load(path) == explorer.model.fusion
    assert str(path) in explorer.export_message.value
    explorer.threshold.value = 0.4
    assert explorer.export_message.value == "", "the current settings are not those that were written"


def test_an_export_that_fails_says_why(toy, tmp_path):
    (tmp_path / "file").touch()
    explorer = FusionExplorer(toy_store(), tmp_path / "file" / "fusion.json")
    explorer.export.click()
    assert "cannot be written to" in explorer.export_message.value


def test_without_a_path_it_exports_to_the_runs(toy, tmp_path, monkeypatch):
    monkeypatch.setenv("VLSM_RUNS", str(tmp_path / "mine"))
    FusionExplorer(toy_store()).export.click()
    assert (tmp_path / "mine" / "fusion.json").exists()


@pytest.mark.parametrize("count", [1, 2, 4])
def test_other_numbers_of_members_have_no_map(toy, count):
    explorer = FusionExplorer(toy_store(names=("a", "b", "c", "d")[:count]))
    assert explorer.dice_map.value == b""
    assert len(explorer.member_maps) == count
    explorer.use_best.click()
    assert sum(weights(explorer).values()) == pytest.approx(1)
    assert explorer.weights["a"].disabled == (count == 1)
    assert len(explorer._static_png()) > 1000


def test_names_are_shown_as_they_are(toy):
    explorer = FusionExplorer(toy_store(names=("<i>", "b", "c")))
    assert "&lt;i&gt;" in explorer.member_captions[0].value
    assert "<i>" not in explorer.scores.value


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
    with pytest.raises(DataError, match="test split"):
        FusionExplorer(toy_store("test", 5))
