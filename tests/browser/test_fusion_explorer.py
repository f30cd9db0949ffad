"""The explorer of fusions in a real browser: JupyterLab and Voila, on a small store on disk."""

import json

import numpy as np
import pytest
from scipy import ndimage

from tests.browser.lab import changing, run_all_cells, screenshot, voila, write_notebook
from vlsm_helpers.data.images import read_mask
from vlsm_helpers.data.samples import load_split
from vlsm_helpers.evaluation import predictions

SOURCE = """
from pathlib import Path
import vlsm_helpers as vlsm

vlsm.FusionExplorer(vlsm.PredictionStore.open(sorted(Path("../predictions").iterdir())), Path("../fusion.json"))
"""
MEMBERS = {
    "biomedclipseg": ((0, -5), 4),
    "clipseg": ((-4, 3), 3),
    "unet_d": ((3, 3), 2),
}  # how far each shifts and blurs the masks

pytestmark = pytest.mark.browser


@pytest.fixture
def notebook(lab, monkeypatch):
    """The notebook, in a folder next to the predictions of three members that shift and blur the masks."""
    folder, _ = lab
    root, path = folder.parent, folder / "fusion.ipynb"
    monkeypatch.setenv("VLSM_DATA", str(root / "data"))
    (root / "fusion.json").unlink(missing_ok=True)  # of another test
    if path.exists():
        return path
    samples, rng = load_split("toy", "val"), np.random.default_rng(0)
    masks = [read_mask(sample.mask) for sample in samples]
    ids, sizes = tuple(sample.id for sample in samples), tuple(mask.shape for mask in masks)
    (root / "predictions").mkdir()
    for name, (shift, width) in MEMBERS.items():
        logits = [8 * ndimage.gaussian_filter(np.roll(mask, shift, (0, 1)) - 0.5, width) for mask in masks]
        spots = [ndimage.gaussian_filter(rng.normal(size=mask.shape), 2) for mask in masks]
        noisy = [one + 8 * spot for one, spot in zip(logits, spots, strict=True)]
        predictions.write(
            root / "predictions" / name,
            predictions.PredictionInfo(name, "toy", "val", ids, sizes, "by hand"),
            noisy,
        )
    write_notebook(path, SOURCE)
    return path


def test_a_slider_moves_in_jupyterlab(page, lab, notebook):
    _, address = lab
    page.goto(address(notebook))
    with screenshot(page, "fusion_explorer_jupyterlab"):
        run_all_cells(page)
        use_the_explorer(page)
    assert list(exported(notebook)) == sorted(MEMBERS)


def test_a_slider_moves_in_voila(page, notebook):
    pytest.importorskip("voila", reason="the package voila is not installed")
    with voila(notebook) as address, screenshot(page, "fusion_explorer_voila"):
        page.goto(address)
        use_the_explorer(page)
    assert list(exported(notebook)) == sorted(MEMBERS)


def exported(notebook):
    """The weights in the file that the button writes."""
    return json.loads((notebook.parents[1] / "fusion.json").read_text())["weights"]


def use_the_explorer(page):
    table = page.locator(".widget-html-content", has_text="this image")
    table.wait_for()
    # In the order of the page: the map, the image, the members' maps.
    triangle, image = page.locator("img.widget-image").nth(0), page.locator("img.widget-image").nth(1)
    before, drawn = table.inner_text(), image.screenshot()
    sliders = page.get_by_role("slider")
    sliders.first.focus()
    with changing(page, image), changing(page, triangle):
        sliders.first.press("End")
    page.wait_for_function("([shown, old]) => shown.innerText !== old", arg=[table.element_handle(), before])
    assert [float(one.get_attribute("aria-valuenow")) for one in sliders.all()[:3]] == [1, 0, 0]
    assert image.screenshot() != drawn
    before = table.inner_text()
    page.get_by_role("button", name="use the best weights").click()
    page.wait_for_function("([shown, old]) => shown.innerText !== old", arg=[table.element_handle(), before])
    page.get_by_role("button", name="export").click()
    page.get_by_text("written to").wait_for()
