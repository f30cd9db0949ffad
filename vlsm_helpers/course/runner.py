"""Run the course's numbered notebooks headless, one after another, each to its end or to its first error."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vlsm_helpers import settings
from vlsm_helpers.course import report
from vlsm_helpers.course.executed import Executed, Failure, read, stamp
from vlsm_helpers.errors import CourseError
from vlsm_helpers.io.progress import interval_in_logs

if TYPE_CHECKING:
    from nbconvert import HTMLExporter

PROGRESS = "{desc} {percentage:3.0f}% |{bar:24}| {n_fmt}/{total_fmt} cells, {elapsed} gone, {remaining} left"


def run_course(
    patterns: Sequence[str] = ("*",),
    *,
    profile: str | None = None,
    dataset: str | None = None,
    seed: int | None = None,
    output: Path | None = None,
    exporter: "type[HTMLExporter] | None" = None,
) -> list[Executed]:
    """Run the notebooks that `patterns` name and write the report; what is None, the notebooks decide themselves.

    `output` (by default `course` in the runs folder) gets the executed notebooks, index.html, results.csv, pictures/, and
    the notebooks as pages, rendered by `exporter`, by default nbconvert's HTMLExporter.
    A notebook that fails is kept as far as it came, and the others still run. Raises CourseError where no notebook
    matches, and for a dataset that is not there.
    """
    notebooks = find_notebooks(patterns)
    folder = settings.writable((output or settings.runs_folder() / "course").absolute())
    if dataset is not None:
        _check_dataset(dataset)
    settings.absolute_folders()
    chosen = {"PROFILE": profile, "DATASET": dataset, "SEED": seed}
    parameters = {name: value for name, value in chosen.items() if value is not None}
    width = max(len(notebook.stem) for notebook in notebooks)
    try:
        for notebook in notebooks:
            run_notebook(notebook, folder / notebook.name, parameters, label=notebook.stem.ljust(width))
    finally:  # also when the user stops the run
        report.write(folder, exporter)
    return [read(folder / notebook.name) for notebook in notebooks]


def find_notebooks(patterns: Sequence[str], folder: Path | None = None) -> list[Path]:
    """The numbered notebooks of `folder` (the checkout's notebooks/) that match one of the globs, in their order.

    A pattern names notebooks ('03*', '03_train_light_cnn') or their files. Raises CourseError, listing them, for none.
    """
    folder = folder or settings.project_folder() / "notebooks"
    notebooks = sorted(folder.absolute().glob("[0-9]*.ipynb"))
    if not notebooks:
        raise CourseError(
            "There are no numbered notebooks.", where=folder, hint="run the command in a checkout of the course."
        )
    chosen = [path for path in notebooks if any(path.match(p) or path.with_suffix("").match(p) for p in patterns)]
    if not chosen:
        names = ", ".join(path.stem for path in notebooks)
        raise CourseError(
            f"No notebook matches {' '.join(patterns)!r}.", where=folder, hint=f"choose among {names}; '03*' is a glob."
        )
    return chosen


def run_notebook(notebook: Path, executed: Path, parameters: dict[str, str | int], *, label: str) -> None:
    """Execute `notebook` in its own folder with a progress bar called `label`, and write it to `executed`.

    `parameters` are injected after the cell tagged so. The first error ends the notebook and stays in its outputs;
    where and what it was, and the seconds taken, are stamped on `executed` (see executed.stamp).
    """
    import papermill

    executed.unlink(missing_ok=True)  # what an earlier run left must not pass for this one's
    failure, begin = None, time.monotonic()
    try:
        papermill.execute_notebook(
            notebook,
            executed,
            parameters=parameters,
            cwd=notebook.parent,
            progress_bar={"desc": label, "bar_format": PROGRESS} | interval_in_logs(),
            extra_arguments=["--log-level=ERROR"],  # else every kernel warns, in the bar, that it talks over TCP
        )
    except BaseException as error:
        failure = _failure(executed, error)
        if not isinstance(error, Exception):  # the user stops the whole run
            raise
    finally:
        stamp(executed, time.monotonic() - begin, failure)


def _check_dataset(name: str) -> None:
    """Fail now, and once, rather than in every notebook."""
    from vlsm_helpers.data.samples import dataset_folder

    dataset_folder(name)


def _failure(executed: Path, error: BaseException) -> Failure:
    """Where and why the notebook stopped: at a cell that raised, or (a kernel that died) at the last one begun."""
    import nbformat
    from papermill.exceptions import PapermillExecutionError

    if isinstance(error, PapermillExecutionError):
        return Failure(f"In [{error.exec_count}]", _first_line(error.source), f"{error.ename}: {error.evalue}")
    message = f"{type(error).__name__}: {error}".rstrip(": ")
    cells = nbformat.read(executed, as_version=4).cells if executed.exists() else []
    code = [cell for cell in cells if cell.cell_type == "code"]
    begun = [n for n, cell in enumerate(code, 1) if cell.metadata.get("papermill", {}).get("start_time")]
    if not begun:
        return Failure("before its first cell", "", message)
    return Failure(f"In [{begun[-1]}]", _first_line(code[begun[-1] - 1].source), message)


def _first_line(source: str) -> str:
    return next((line.strip() for line in source.splitlines() if line.strip()), "")
