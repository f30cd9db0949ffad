import os
import sys

import nbformat
import pytest

from tests.course.test_runner import write_notebook
from vlsm_helpers.course.executed import read
from vlsm_helpers.course.side_by_side import Task, execute

pytestmark = pytest.mark.notebooks

MEETS = """
import time
from pathlib import Path
Path({own!r}).touch()
while not Path({other!r}).exists():
    time.sleep(0.05)
"""
KILLS_ITS_WORKER = "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\nimport time; time.sleep(600)"
SAYS_ITS_THREADS = "import os\nprint(os.environ.get('OMP_NUM_THREADS'))"


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """Four notebooks, two at once: two that wait for each other, one that kills the process that executes it, and a last one."""
    folder = tmp_path_factory.mktemp("notebooks")
    write_notebook(folder, "0_meets_1", MEETS.format(own="0", other="1"))
    write_notebook(folder, "1_meets_0", MEETS.format(own="1", other="0"))
    write_notebook(folder, "2_kills", KILLS_ITS_WORKER)
    write_notebook(folder, "3_says", SAYS_ITS_THREADS)
    tasks = [Task(path, folder / "out" / path.name, {}) for path in sorted(folder.glob("*.ipynb"))]
    (folder / "out").mkdir()
    ended = []
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("OMP_NUM_THREADS", raising=False)
        execute(tasks, 2, 3, lambda task: ended.append(task.notebook.stem))
        assert "OMP_NUM_THREADS" not in os.environ  # here
    return {path.stem: read(path) for path in (folder / "out").glob("*.ipynb")}, ended


def test_two_run_at_once(executed):
    found, ended = executed
    assert found["0_meets_1"].failure is found["1_meets_0"].failure is None
    assert set(ended[:2]) == {"0_meets_1", "1_meets_0"}
    assert sorted(ended) == sorted(found)  # each once


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
def test_the_death_of_a_worker_is_a_failure_of_its_notebook_alone(executed):
    found, _ = executed
    assert found["2_kills"].failure.cell == "In [2]"
    assert "ChildProcessError" in found["2_kills"].failure.error
    assert found["2_kills"].seconds > 0
    assert found["3_says"].failure is None


def test_kernels_share_the_cores(executed):
    notebook = nbformat.read(executed[0]["3_says"].path, as_version=4)
    assert notebook.cells[-1].outputs[0].text == "3\n"


def test_nothing_to_execute_is_no_error():
    execute([], 2, 1, lambda task: pytest.fail("there is no task"))
