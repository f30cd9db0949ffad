"""A page of a headless Chromium, for all tests in this folder."""

import shutil

import pytest

from tests.browser.lab import PATIENCE, jupyter_lab
from tests.helpers import write_toy

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@pytest.fixture(scope="session")
def chromium():
    """A headless Chromium."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        pytest.skip("no Chromium found: install one (apt-get install chromium)")
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=executable, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def lab(tmp_path_factory, tiny_weights):
    """A JupyterLab server for all notebooks, with a toy dataset and tiny weights: its folder, and a notebook's address there."""
    root = tmp_path_factory.mktemp("lab")
    write_toy(root / "data", entries={"val": 6, "test": 5})
    (root / "notebooks").mkdir()
    with jupyter_lab(root / "notebooks", VLSM_DATA=str(root / "data"), VLSM_WEIGHTS=str(tiny_weights)) as address:
        yield root / "notebooks", address


@pytest.fixture
def page(chromium):
    """A new page without the cookies of other tests."""
    page = chromium.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(PATIENCE)
    # On a slow machine JupyterLab may ask for a kernel although the notebook names one.
    page.add_locator_handler(page.locator(".jp-Dialog"), lambda dialog: dialog.locator(".jp-mod-accept").click())
    yield page
    page.close()
