"""The explorer of prompts in a real browser: JupyterLab, a notebook on tiny random weights."""

import pytest

from tests.browser.lab import changing, run_all_cells, screenshot, write_notebook

SOURCE = """
import numpy as np
from vlsm_helpers.data.samples import load_split
from vlsm_helpers.data.dataset import SegmentationDataset
from vlsm_helpers.models.clipseg import CLIPSeg
from vlsm_helpers.evaluation.prompting import PromptedImages
from vlsm_helpers.widgets import PromptExplorer, PromptModel

images = PromptedImages.of(CLIPSeg(), SegmentationDataset(load_split("toy", "test"), 64))
model = PromptModel(images)
middle = np.median(model.probability(0, "a bright square"))  # random weights have no other useful threshold
PromptExplorer(model, "a bright square", threshold=float(middle))
"""

pytestmark = pytest.mark.browser


def test_another_prompt_changes_the_image(page, lab):
    folder, address = lab
    write_notebook(folder / "prompts.ipynb", SOURCE)
    page.goto(address(folder / "prompts.ipynb"))
    with screenshot(page, "prompt_explorer"):
        use_the_explorer(page)


def use_the_explorer(page):
    run_all_cells(page)
    image = page.locator("img.widget-image")
    image.wait_for()
    assert "Dice" in page.locator(".widget-html-content").inner_text()
    box = page.locator(".widget-text input")
    with changing(page, image):
        box.fill("a dark round thing")
        box.press("Enter")
    box.fill("word " * 60)
    box.press("Enter")
    page.get_by_text("are cut off").wait_for()
    with changing(page, image):
        page.locator(".widget-slider [role=slider]").press("ArrowRight")
