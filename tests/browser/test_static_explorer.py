"""The explorer without a kernel, in a real browser, from a file and offline: its Dice is Python's."""

import json
from dataclasses import replace

import nbformat
import pytest

from tests.browser.lab import SCREENSHOTS, screenshot
from tools.notebooks import NOTEBOOKS
from vlsm_helpers.course.shipped import tiny_store
from vlsm_helpers.fusion.weighted import WeightedFusion
from vlsm_helpers.metrics.overlap import mask_dice
from vlsm_helpers.widgets import static
from vlsm_helpers.widgets.export import ExplorableHTML
from vlsm_helpers.widgets.fusion_model import FusionModel

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def model():
    return FusionModel(tiny_store("val"))


@pytest.fixture(scope="module")
def files(model, built, tmp_path_factory):
    """The explorer alone, and chapter 5 as nbconvert exports it and as the site has it."""
    folder = tmp_path_factory.mktemp("pages")
    (folder / "alone.html").write_text(static.page(model), encoding="utf-8")
    chapter = nbformat.read(NOTEBOOKS / "05_late_fusion.ipynb", as_version=4)
    (folder / "exported.html").write_text(ExplorableHTML().from_notebook_node(chapter)[0], encoding="utf-8")
    return {path.name: path for path in folder.iterdir()} | {"site": built / "notebooks" / "05_late_fusion.html"}


@pytest.fixture
def opened(page, files):
    """A function that opens a page; whatever it asks of a server fails, and is listed."""
    asked = []

    def refuse(route):
        asked.append(route.request.url)
        route.abort()

    def go(name, **emulated):
        page.route(lambda url: url.startswith("http"), refuse)
        page.emulate_media(**emulated)
        page.goto(files[name].as_uri())
        page.locator(".vlsm-explorer table").wait_for()
        return page, asked

    return go


def shown(page):
    """Dice of the image and of all images, as the table shows them."""
    cells = page.locator(".vlsm-explorer table b").all_inner_texts()
    return [float(cell) for cell in cells[1:]]


def python(model, fusion, image):
    """The same from the stored logits."""
    predicted = fusion(model.store.logits(model.size)) > fusion.threshold
    dice = mask_dice(predicted, model.store.masks(model.size))
    return [dice[image].item(), dice.mean().item()]


def press(page, label, key, times=1):
    control = page.locator(".vlsm-explorer").get_by_role("slider", name=label, exact=False)
    control.focus()
    for _ in range(times):
        control.press(key)


@pytest.mark.parametrize("name", ["alone.html", "exported.html", "site"])
def test_sliders_moved_by_keyboard_give_the_dice_that_python_gives(opened, model, name):
    page, asked = opened(name)
    fusion, image = WeightedFusion.equal(model.names), model.order()[0]
    assert shown(page) == pytest.approx(python(model, fusion, image), abs=1e-3)

    def moved(member, *weights):
        nonlocal fusion
        for weight in weights:
            fusion = fusion.moved(member, weight)

    press(page, "unet_d", "End")
    moved("unet_d", 1)
    assert shown(page) == pytest.approx(python(model, fusion, image), abs=1e-3)
    press(page, "unet_d", "ArrowLeft", 20)
    moved("unet_d", *(1 - step / 100 for step in range(1, 21)))
    press(page, "biomedclipseg", "ArrowRight", 5)
    moved("biomedclipseg", *(0.10 + step / 100 for step in range(1, 6)))
    assert shown(page) == pytest.approx(python(model, fusion, image), abs=1e-3)
    press(page, "threshold", "ArrowLeft", 10)
    fusion = replace(fusion, threshold=0.4)
    assert shown(page) == pytest.approx(python(model, fusion, image), abs=1e-3)
    press(page, "temperature", "ArrowRight", 4)
    fusion = replace(fusion, temperature=2)
    assert shown(page) == pytest.approx(python(model, fusion, image), abs=1e-3)
    page.get_by_role("combobox", name="rule").focus()
    page.keyboard.press("ArrowDown")
    fusion = replace(fusion, mean_of="logits")
    assert shown(page) == pytest.approx(python(model, fusion, image), abs=1e-3)
    page.get_by_role("combobox", name="image").focus()
    page.keyboard.press("End")
    assert shown(page) == pytest.approx(python(model, fusion, model.order()[-1]), abs=1e-3)
    if name == "alone.html":
        assert asked == []


def test_the_mask_follows_and_the_best_weights_are_pythons(opened, model, tmp_path):
    page, _ = opened("alone.html")
    canvas = page.locator(".vlsm-explorer .picture canvas")
    page.get_by_text("(bright)").wait_for()
    before = canvas.screenshot()
    page.get_by_role("button", name="use the best weights").press("Enter")
    assert canvas.screenshot() != before
    best = model.best()
    assert shown(page) == pytest.approx(python(model, best, model.order()[0]), abs=1e-3)
    with page.expect_download() as download:
        page.get_by_role("button", name="export").press("Enter")
    download.value.save_as(tmp_path / "fusion.json")
    assert WeightedFusion.load(tmp_path / "fusion.json").weights == pytest.approx(best.weights)
    assert json.loads((tmp_path / "fusion.json").read_text())["mean_of"] == "probabilities"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_control_has_a_name_and_text_is_legible_in_both_schemes(opened, scheme):
    page, _ = opened("alone.html", color_scheme=scheme)
    for control in page.locator(".vlsm-explorer :is(input, select)").all():
        assert control.evaluate("one => one.labels.length") == 1
    for canvas in page.locator(".vlsm-explorer canvas").all():
        assert canvas.get_attribute("aria-label")
    text, ground = (
        page.evaluate(f"brightness({where})")
        for where in ("getComputedStyle(document.querySelector('.vlsm-explorer')).color", "'Canvas'")
        if page.evaluate(BRIGHTNESS) is None
    )
    assert abs(text - ground) > 0.6
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    with screenshot(page, f"static_explorer_{scheme}"):
        page.get_by_text("(bright)").wait_for()


# Relative luminance of a CSS colour, in [0, 1], as a canvas draws it.
BRIGHTNESS = """() => { window.brightness = (colour) => {
  const probe = document.body.appendChild(document.createElement("i"));
  probe.style.color = colour;
  const [red, green, blue] = getComputedStyle(probe).color.match(/[0-9.]+/g).map(Number);
  probe.remove();
  return (0.2126 * red + 0.7152 * green + 0.0722 * blue) / 255;
}; return null; }"""
