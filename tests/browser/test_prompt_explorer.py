"""The explorer in a real browser: JupyterLab, a notebook on tiny random weights, somebody who types."""

import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from tools.notebooks import KERNEL

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
TOKEN = "only-for-this-test"
PATIENCE = 300_000  # milliseconds: a kernel that imports torch on a busy machine
SOURCE = """
import numpy as np
from vlsm_helpers.data.samples import load_split
from vlsm_helpers.data.segmentation import SegmentationDataset
from vlsm_helpers.models.clipseg import CLIPSeg
from vlsm_helpers.prompting import PromptedImages
from vlsm_helpers.widgets import PromptExplorer, PromptModel

images = PromptedImages.of(CLIPSeg(), SegmentationDataset(load_split("toy", "test"), 64))
model = PromptModel(images)
middle = np.median(model.probability(0, "a bright square"))  # random weights know no better threshold
PromptExplorer(model, "a bright square", threshold=float(middle))
"""

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def page():
    """A page of a headless Chromium."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        pytest.skip("there is no Chromium: install one (apt-get install chromium)")
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=executable, args=FLAGS)
        page = browser.new_page(viewport={"width": 1100, "height": 1000})
        page.set_default_timeout(PATIENCE)
        # On a slow machine JupyterLab may ask for a kernel, though the notebook names one.
        page.add_locator_handler(page.locator(".jp-Dialog"), lambda dialog: dialog.locator(".jp-mod-accept").click())
        yield page
        browser.close()


@pytest.fixture
def address(toy, tiny_weights, tmp_path):
    """The address of the notebook in a JupyterLab that serves it."""
    folder = tmp_path / "lab"
    folder.mkdir()
    notebook = new_notebook(cells=[new_code_cell(SOURCE.strip())], metadata={"kernelspec": KERNEL})
    nbformat.write(notebook, folder / "explorer.ipynb")
    with jupyter_lab(folder, VLSM_WEIGHTS=str(tiny_weights)) as address:
        yield f"{address}/lab/tree/explorer.ipynb?token={TOKEN}"


@contextmanager
def jupyter_lab(folder: Path, **environment: str):
    """A JupyterLab on `folder` at a free port, with settings of its own; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {name: str(folder.parent / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "JUPYTERLAB_SETTINGS_DIR")}
    options = ["--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0"]
    options += [f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={folder}"]
    log = (folder.parent / "jupyter.log").open("w+")
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", *options], env=os.environ | own | environment, stdout=log, stderr=log
    )
    try:
        wait_for(f"http://127.0.0.1:{port}/api?token={TOKEN}", server, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(30)
        log.close()


def wait_for(address: str, server: subprocess.Popen, log) -> None:
    for _ in range(PATIENCE // 1000):
        if server.poll() is not None:
            break
        try:
            urlopen(address, timeout=5).close()
            return
        except (URLError, ConnectionError, TimeoutError):
            time.sleep(1)
    log.seek(0)
    pytest.fail(f"JupyterLab did not start:\n{log.read()[-2000:]}")


def test_somebody_types_another_prompt_and_sees_the_picture_change(page, address, tmp_path):
    page.goto(address)
    try:
        use_the_explorer(page)
    finally:
        page.screenshot(path=tmp_path / "explorer.png")  # kept by pytest, for whoever has to look


def use_the_explorer(page):
    run_all_cells(page)
    picture = page.locator("img.widget-image")
    picture.wait_for()
    assert "Dice" in page.locator(".widget-html-content").inner_text()
    box = page.locator(".widget-text input")
    with changing(page, picture):
        box.fill("a dark round thing")
        box.press("Enter")
    box.fill("word " * 60)
    box.press("Enter")
    page.get_by_text("are cut off").wait_for()
    with changing(page, picture):
        page.locator(".widget-slider [role=slider]").press("ArrowRight")


def run_all_cells(page):
    """By the menu; what is chosen while JupyterLab still puts the page together is lost, and chosen once more."""
    prompt = page.locator(".jp-InputArea-prompt").first
    prompt.wait_for()
    for _ in range(10):
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        page.wait_for_timeout(1000)
        if prompt.inner_text().strip() != "[ ]:":
            return
    pytest.fail("JupyterLab did not run the cell")


@contextmanager
def changing(page, picture):
    """What is done in this block must change the picture."""
    before = picture.get_attribute("src")
    yield
    page.wait_for_function("old => document.querySelector('img.widget-image').src !== old", arg=before)
