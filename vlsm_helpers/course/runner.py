"""Run the course's numbered notebooks headless, side by side on a CPU, each to its end or to its first error."""

import re
from collections.abc import Sequence
from pathlib import Path

from vlsm_helpers import settings
from vlsm_helpers.course import report, side_by_side
from vlsm_helpers.course.executed import Executed, read
from vlsm_helpers.errors import CourseError
from vlsm_helpers.settings.machine import cores

MOST_JOBS = 4  # notebooks at once, unless the user says so: a kernel takes about 1 GB


def run_course(
    patterns: Sequence[str] = ("*",),
    *,
    profile: str | None = None,
    dataset: str | None = None,
    seed: int | None = None,
    output: Path | None = None,
    jobs: int | None = None,
    exporter: str = report.HTML,
) -> list[Executed]:
    """Run the notebooks that `patterns` name and write the report; what is None, the notebooks decide themselves.

    `output` (by default `course` in the runs folder) gets the executed notebooks, index.html, results.csv, pictures/, and
    the notebooks as pages, rendered by `exporter` (see report.write). `jobs` notebooks run at once (by
    default see `default_jobs`), long ones first; they share the cores.
    A notebook that fails is kept as far as it came, and the others still run. Raises CourseError where no notebook
    matches, and for a dataset that is not there. KeyboardInterrupt stops all kernels and writes the report; it is raised
    again with a sentence on what is done.
    """
    notebooks = find_notebooks(patterns)
    folder = settings.writable((output or settings.runs_folder() / "course").absolute())
    if dataset is not None:
        _check_dataset(dataset)
    settings.absolute_folders()
    chosen = {"PROFILE": profile, "DATASET": dataset, "SEED": seed}
    parameters = {name: value for name, value in chosen.items() if value is not None}
    longest_first = sorted(notebooks, key=_minutes, reverse=True)
    tasks = [side_by_side.Task(path, folder / path.name, parameters) for path in longest_first]
    jobs = min(jobs or default_jobs(profile), len(tasks))
    threads = max(1, cores() // jobs) if jobs > 1 else None
    ended = []

    def render(task: side_by_side.Task) -> None:  # while others run
        ended.append(task)
        report.render(task.executed, exporter)

    try:
        side_by_side.execute(tasks, jobs, threads, render)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_what_is_done([read(task.executed) for task in ended], folder, len(tasks))) from None
    finally:  # also when the user stops the run
        report.write(folder, exporter)
    return [read(folder / notebook.name) for notebook in notebooks]


def default_jobs(profile: str | None) -> int:
    """How many notebooks run at once: one on a GPU or at the full profile, which fill the machine; else one per core, up to 4."""
    if settings.device() != "cpu" or settings.choose_profile(profile)[0].name == "full":
        return 1
    return min(cores(), MOST_JOBS)


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


def _check_dataset(name: str) -> None:
    """Fail now, and once, rather than in every notebook."""
    from vlsm_helpers.data.samples import dataset_folder

    dataset_folder(name)


def _minutes(notebook: Path) -> float:
    """What the table at the head of a notebook says, so that long ones start first and all workers end together."""
    found = re.search(r"\*\*Minutes\*\* \| ([\d.]+)", notebook.read_text(encoding="utf-8"))
    return float(found[1]) if found else 0.0


def _what_is_done(ended: Sequence[Executed], folder: Path, number: int) -> str:
    done = [notebook.name for notebook in ended if notebook.failure is None]
    failed = [notebook.name for notebook in ended if notebook.failure is not None]
    words = f"{len(done)} of {number} notebooks are done" + (f" ({', '.join(sorted(done))})" if done else "")
    words += f", {', '.join(sorted(failed))} failed" if failed else ""
    return f"{words}. The report: {folder / 'index.html'}"
