import os
import re
import signal

import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from typer.testing import CliRunner

from tests.helpers import write_toy
from vlsm_helpers import settings
from vlsm_helpers.cli import app
from vlsm_helpers.course import runner, side_by_side
from vlsm_helpers.errors import CourseError

PARAMETERS = new_code_cell("PROFILE = None\nDATASET = None\nSEED = None", metadata={"tags": ["parameters"]})
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAsTj2FAAAAABJRU5ErkJggg=="
PICTURE = f'''
from IPython.display import display
display({{"image/png": "{PIXEL}"}}, raw=True, metadata={{"image/png": {{"alt": "a pixel"}}}})
'''
RESULTS = """
import os
from pathlib import Path
import pandas as pd
from vlsm_helpers.course.results import publish
from vlsm_helpers.settings.profiles import PROFILES
from vlsm_helpers.settings import Settings
settings = Settings(PROFILES[PROFILE or "tiny"], "", DATASET or "none", SEED or 0, "cpu", "a toaster")
model = f"{Path.cwd().name} {os.environ['VLSM_DATA']} {os.environ['VLSM_CACHE']}"
row = dict(model=model, split="test", metric="dice", value=0.8121, low=0.79, high=0.83, n=5)
publish(pd.DataFrame([row]), settings)
"""
FAILS = "# sum up\nvalues = [1, 2]\nraise ValueError(f'three are needed, there are {len(values)}')"


def write_notebook(folder, name, *sources, minutes=None):
    table = f"\n\n| **Minutes** | {minutes} on two cores |" if minutes else ""
    cells = [new_markdown_cell(f"# Notebook {name}{table}"), PARAMETERS.copy(), *map(new_code_cell, sources)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=cells, metadata=kernel), folder / f"{name}.ipynb")


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A working folder that looks like a checkout."""
    (tmp_path / "vlsm_helpers").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """`vlsm run` in a checkout with a notebook that passes, one that raises, one whose kernel dies; what it printed."""
    root = tmp_path_factory.mktemp("course")
    (root / "vlsm_helpers").mkdir()
    write_notebook(root / "notebooks", "00_passes", PICTURE, RESULTS)
    write_notebook(root / "notebooks", "01_raises", PICTURE, FAILS, RESULTS)
    write_notebook(root / "notebooks", "02_dies", "import os\nos._exit(1)")
    write_notebook(root / "notebooks", "draft", FAILS)
    write_toy(root / "images")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("VLSM_DATA", "images")  # relative to the checkout, where kernels do not run
        patch.setenv("VLSM_RUNS", "results")
        patch.setenv("VLSM_CACHE", "cache")
        outcome = CliRunner().invoke(app, ["run", "--dataset", "toy", "--seed", "3"])
    return root, outcome


@pytest.mark.notebooks
def test_the_run_fails_and_names_notebook_and_cell(course):
    _, outcome = course
    assert outcome.exit_code == 1
    told = outcome.stderr
    assert "01_raises failed at In [4]: # sum up\nValueError: three are needed, there are 2" in told
    assert "02_dies failed at In [3]: import os\nDeadKernelError" in told
    assert "00_passes failed" not in told


@pytest.mark.notebooks
def test_the_table_and_the_index_come_last(course):
    root, outcome = course
    lines = outcome.stdout.strip().splitlines()
    assert lines[-1] == str(root / "results" / "course" / "index.html")
    assert lines[-2] == "1 of 3 notebooks done. The report:"
    assert "81.2 %" in lines[-4]


@pytest.mark.notebooks
def test_notebooks_run_in_their_folder_with_what_was_given(course):
    root, _ = course
    table = pd.read_csv(root / "results" / "course" / "results.csv")
    assert table["notebook"].tolist() == ["00_passes"]  # 01 failed before it published
    row = table.iloc[0]
    assert row["model"] == f"notebooks {root / 'images'} {root / 'cache'}"
    assert (row["dataset"], row["seed"], row["profile"]) == ("toy", 3, "tiny")
    assert 0 < row["seconds"] < 60


@pytest.mark.notebooks
def test_only_the_parameters_that_were_given_are_injected(course):
    root, _ = course
    notebook = nbformat.read(root / "results" / "course" / "00_passes.ipynb", as_version=4)
    injected = [cell.source for cell in notebook.cells if "injected-parameters" in cell.metadata.get("tags", [])]
    assert [line for line in injected[0].splitlines() if "=" in line] == ['DATASET = "toy"', "SEED = 3"]


@pytest.mark.notebooks
def test_what_failed_is_kept_and_shown(course):
    root, _ = course
    folder = root / "results" / "course"
    index = (folder / "index.html").read_text()
    assert index.count("✗ failed") == 2
    assert "Stopped: In [4]" in index
    assert 'alt="a pixel"' in index
    assert (folder / "pictures" / "01_raises-1.png").exists()
    assert "three are needed" in (folder / "01_raises.html").read_text()
    assert not (folder / "draft.ipynb").exists()


@pytest.mark.notebooks
def test_each_notebook_has_a_bar_with_its_name(course):
    _, outcome = course
    bars = [line for line in outcome.stderr.splitlines() if "% |" in line]
    assert all(
        re.fullmatch(r"0\d_\w+ +\d+% \|[# \d]+\| \d/\d cells, [\d:]+ gone, [\d:?]+ left", bar) for bar in bars
    ), bars
    assert {bar.split()[0] for bar in bars} == {"00_passes", "01_raises", "02_dies"}
    assert [bar for bar in bars if "00_passes 100%" in bar]
    assert not [bar for bar in bars if "01_raises 100%" in bar]


def test_globs_names_and_files_choose_notebooks(checkout):
    for name in ("00_start", "03_train", "10_more", "draft"):
        write_notebook(checkout / "notebooks", name)

    def chosen(*patterns):
        return [path.stem for path in runner.find_notebooks(patterns)]

    assert chosen("*") == ["00_start", "03_train", "10_more"]
    assert chosen("03*") == chosen("03_train") == chosen("03_train.ipynb") == ["03_train"]
    assert chosen("notebooks/03_train.ipynb") == chosen(str(checkout / "notebooks" / "03*")) == ["03_train"]
    assert chosen("10*", "0[03]*") == ["00_start", "03_train", "10_more"]


def test_a_glob_that_matches_nothing_lists_the_notebooks(checkout):
    write_notebook(checkout / "notebooks", "00_start")
    outcome = CliRunner().invoke(app, ["run", "09*"])
    assert outcome.exit_code == 1
    assert "No notebook matches '09*'." in outcome.stderr
    assert "choose among 00_start" in outcome.stderr


def test_outside_a_checkout_there_is_nothing_to_run(checkout):
    with pytest.raises(CourseError, match="no numbered notebooks"):
        runner.find_notebooks(("*",))


def test_an_unknown_dataset_fails_before_any_notebook_runs(checkout):
    write_notebook(checkout / "notebooks", "00_start", FAILS)
    outcome = CliRunner().invoke(app, ["run", "--dataset", "kvasir", "--output", "out"])
    assert outcome.exit_code == 1
    assert "There is no dataset 'kvasir'" in outcome.stderr
    assert list((checkout / "out").iterdir()) == []


@pytest.fixture
def handed_over(monkeypatch):
    """The arguments of `side_by_side.execute`, which executes nothing; the course is read as it was given."""
    given = {}

    def execute(tasks, jobs, threads, ended):
        given.update(tasks=tasks, jobs=jobs, threads=threads)

    monkeypatch.setattr(side_by_side, "execute", execute)
    monkeypatch.setattr(runner, "read", lambda path: path)
    return given


def test_without_wishes_nothing_is_injected_and_folders_are_absolute(checkout, monkeypatch, handed_over):
    for name in ("DATA", "RUNS", "CACHE"):
        monkeypatch.setenv(f"VLSM_{name}", name.lower())
    write_notebook(checkout / "notebooks", "00_start")
    runner.run_course(output=checkout / "out")
    assert [task.parameters for task in handed_over["tasks"]] == [{}]
    for name in ("DATA", "RUNS", "CACHE"):
        assert os.environ[f"VLSM_{name}"] == str(checkout / name.lower())


def test_long_chapters_start_first_and_the_results_keep_their_order(checkout, handed_over):
    for name, minutes in {
        "00_short": "0.5",
        "01_long": "12",
        "02_says_nothing": None,
        "03_longer_than_0": "2.5",
    }.items():
        write_notebook(checkout / "notebooks", name, minutes=minutes)
    results = runner.run_course(output=checkout / "out")
    started = [task.notebook.stem for task in handed_over["tasks"]]
    assert started == ["01_long", "03_longer_than_0", "00_short", "02_says_nothing"]
    assert [path.stem for path in results] == sorted(started)


@pytest.mark.parametrize(
    ("cores", "device", "profile", "asked", "jobs", "threads"),
    [
        (2, "cpu", None, None, 2, 1),
        (8, "cpu", "tiny", None, 4, 2),
        (1, "cpu", None, None, 1, None),
        (8, "cpu", "full", None, 1, None),
        (8, "cuda", "tiny", None, 1, None),
        (8, "mps", None, None, 1, None),
        (8, "cuda", "full", 2, 2, 4),
        (2, "cpu", None, 3, 3, 1),
        (16, "cpu", None, 9, 5, 3),  # no more than notebooks
    ],
)
def test_cores_device_and_profile_say_how_many_run_at_once(
    checkout, monkeypatch, handed_over, cores, device, profile, asked, jobs, threads
):
    monkeypatch.setattr(runner, "cores", lambda: cores)
    monkeypatch.setattr(settings, "device", lambda: device)
    for number in range(5):
        write_notebook(checkout / "notebooks", f"0{number}")
    runner.run_course(output=checkout / "out", profile=profile, jobs=asked)
    assert (handed_over["jobs"], handed_over["threads"]) == (jobs, threads)


STOPPER = """
import os, signal, time
from pathlib import Path
Path("stopper").write_text(str(os.getpid()))
while not (Path("sleeper").exists() and Path("../out/00_passes.html").exists()):
    time.sleep(0.05)
os.kill({pid}, signal.SIGINT)
time.sleep(600)
"""
SLEEPER = """
import os, time
from pathlib import Path
Path("sleeper").write_text(str(os.getpid()))
time.sleep(600)
"""


@pytest.mark.notebooks
def test_a_stopped_run_ends_every_kernel_and_reports_what_is_done(checkout, capsys):
    sources = {"00_passes": "1", "01_stops": STOPPER.format(pid=os.getpid()), "02_sleeps": SLEEPER, "03_waits": "1"}
    for name, source in sources.items():
        write_notebook(checkout / "notebooks", name, source)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # pytest-xdist's workers ignore it
    try:
        outcome = CliRunner().invoke(app, ["run", "--output", "out", "--jobs", "2"])
    finally:
        signal.signal(signal.SIGINT, before)
    assert outcome.exit_code == 130
    told = outcome.stderr.strip().splitlines()[-1]
    assert "1 of 4 notebooks are done (00_passes)" in told
    assert told.endswith(str(checkout / "out" / "index.html"))
    index = (checkout / "out" / "index.html").read_text()
    assert index.count("KeyboardInterrupt") == 2
    assert "Notebook 00_passes" in index
    assert not (checkout / "out" / "03_waits.ipynb").exists()
    for name in ("stopper", "sleeper"):
        with pytest.raises(ProcessLookupError):
            os.kill(int((checkout / "notebooks" / name).read_text()), 0)
