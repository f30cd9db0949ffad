"""Servers that show a notebook, and steps in a headless Chromium."""

import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from tools.notebooks import KERNEL

TOKEN = "only-for-this-test"
PATIENCE = 300_000  # milliseconds: a kernel that imports torch on a busy machine
SCREENSHOTS = Path(__file__).parents[2] / "runs" / "browser"  # kept for inspection


def write_notebook(path: Path, source: str) -> None:
    """Write a notebook of one cell."""
    notebook = new_notebook(cells=[new_code_cell(source.strip())], metadata={"kernelspec": KERNEL})
    nbformat.write(notebook, path)


@contextmanager
def jupyter_lab(folder: Path, **environment: str):
    """A JupyterLab server on `folder` at a free port, with its own settings; yields a function from a notebook to its address."""
    own = {name: str(folder.parent / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "JUPYTERLAB_SETTINGS_DIR")}
    settings = folder.parent / "jupyterlab_settings_dir/@jupyterlab/apputils-extension/notification.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text('{"fetchNews": "false"}')  # otherwise a dialog covers the page
    port = free_port()
    options = ["--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0"]
    options += [f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={folder}"]
    with server("jupyterlab", options, folder, port, own | environment):
        # A workspace for each: the tabs of another notebook are not opened again.
        yield lambda path: f"http://127.0.0.1:{port}/lab/workspaces/{path.stem}/tree/{path.name}?token={TOKEN}"


@contextmanager
def voila(notebook: Path, **environment: str):
    """A Voila server that shows the outputs of a notebook at a free port; yields its address."""
    folder = notebook.parent
    own = {"JUPYTER_CONFIG_DIR": str(folder.parent / "jupyter_config_dir")}
    port = free_port()
    options = [notebook.name, "--no-browser", "--Voila.ip=127.0.0.1", f"--port={port}", "--Voila.port_retries=0"]
    with server("voila", [*options, f"--token={TOKEN}"], folder, port, own | environment):
        yield f"http://127.0.0.1:{port}/?token={TOKEN}"


@contextmanager
def server(module: str, options: list[str], folder: Path, port: int, environment: dict[str, str]):
    """The server `python -m module`, started in `folder`, once it listens at `port`."""
    with (folder.parent / f"{module}.log").open("w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *options], cwd=folder, env=os.environ | environment, stdout=log, stderr=log
        )
        try:
            wait_for(port, process, log)
            yield
        finally:
            process.terminate()
            try:
                process.wait(30)
            except (
                subprocess.TimeoutExpired
            ):  # Jupyter sometimes waits longer for its kernels, which is not what is tested
                process.kill()  # its kernels end when they find their parent gone
                process.wait()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def wait_for(port: int, process: subprocess.Popen, log) -> None:
    for _ in range(PATIENCE // 1000):
        if process.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return
        except OSError:
            time.sleep(1)
    log.seek(0)
    pytest.fail(f"the server did not start:\n{log.read()[-2000:]}")


@contextmanager
def screenshot(page, name: str):
    """Save a screenshot of the page after this block, also if it fails."""
    try:
        yield
    finally:
        page.screenshot(path=SCREENSHOTS / f"{name}.png")


def run_all_cells(page):
    """Use the menu, again if JupyterLab was still loading the page and lost the click."""
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
def changing(page, image):
    """Check that this block changes the image."""
    before = image.get_attribute("src")
    yield
    page.wait_for_function("([shown, old]) => shown.src !== old", arg=[image.element_handle(), before])
