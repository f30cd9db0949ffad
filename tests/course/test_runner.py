import json
import os

import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from typer.testing import CliRunner

from tests.helpers import write_toy
from vlsm_helpers.cli import app
from vlsm_helpers.course import runner
from vlsm_helpers.course.executed import read
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


def write_notebook(folder, name, *sources):
    cells = [new_markdown_cell(f"# Notebook {name}"), PARAMETERS.copy(), *map(new_code_cell, sources)]
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
    assert "00_passes 100% |" in outcome.stderr
    assert "left" in outcome.stderr


@pytest.mark.notebooks
def test_kernels_do_not_write_into_the_bar(tmp_path, capfd):
    write_notebook(tmp_path, "00_start", "1")
    runner.run_notebook(tmp_path / "00_start.ipynb", tmp_path / "out.ipynb", {}, label="00_start")
    told = capfd.readouterr().err
    assert "00_start 100%" in told
    assert "WARNING" not in told


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


def test_without_wishes_nothing_is_injected_and_folders_are_absolute(checkout, monkeypatch):
    asked = {}
    for name in ("DATA", "RUNS", "CACHE"):
        monkeypatch.setenv(f"VLSM_{name}", name.lower())
    write_notebook(checkout / "notebooks", "00_start")
    monkeypatch.setattr("papermill.execute_notebook", lambda *paths, **options: asked.update(options))
    runner.run_course(output=checkout / "out")
    assert asked["parameters"] == {}
    assert asked["cwd"] == checkout / "notebooks"
    for name in ("DATA", "RUNS", "CACHE"):
        assert os.environ[f"VLSM_{name}"] == str(checkout / name.lower())


def test_a_stopped_run_leaves_a_report_of_what_was_done(checkout, monkeypatch):
    def stop(*paths, **options):
        raise KeyboardInterrupt

    write_notebook(checkout / "notebooks", "00_start")
    monkeypatch.setattr("papermill.execute_notebook", stop)
    with pytest.raises(KeyboardInterrupt):
        runner.run_course(output=checkout / "out")
    assert "KeyboardInterrupt" in (checkout / "out" / "index.html").read_text()


def test_a_file_that_is_no_notebook_is_a_failure_among_others(checkout):
    write_notebook(checkout / "notebooks", "01_fine")
    (checkout / "notebooks" / "00_broken.ipynb").write_text(json.dumps([]))
    executed = checkout / "out.ipynb"
    runner.run_notebook(checkout / "notebooks" / "00_broken.ipynb", executed, {}, label="00_broken")
    failure = read(executed).failure
    assert failure.cell == "before its first cell"
    assert "Error" in failure.error


def test_what_an_earlier_run_left_does_not_pass_for_this_ones(checkout, monkeypatch):
    write_notebook(checkout, "00_start")
    monkeypatch.setattr("papermill.execute_notebook", lambda *paths, **options: (_ for _ in ()).throw(OSError("full")))
    executed = checkout / "00_start.ipynb"
    runner.run_notebook(checkout / "notebooks" / "00_start.ipynb", executed, {}, label="")
    found = read(executed)
    assert found.failure.error == "OSError: full"
    assert found.title == "00_start"  # not the earlier file's
