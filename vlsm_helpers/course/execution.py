"""Execute one notebook to its end or to its first error, and record what became of it.

Nothing heavy is imported before it is needed, so that a worker process soon handles signals (see side_by_side).
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from vlsm_helpers.io.progress import tqdm

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from vlsm_helpers.course.executed import Failure

Told = Callable[[int, int], None]  # called with the number of code cells that are executed, and of all of them


class CellBar(tqdm):
    """The progress bar of one notebook, called `label`: its code cells, with the time gone and left."""

    FORMAT = "{desc} {percentage:3.0f}% |{bar:24}| {n_fmt}/{total_fmt} cells, {elapsed} gone, {remaining} left"

    def __init__(self, label: str, **options):
        super().__init__(desc=label, bar_format=self.FORMAT, **options)

    def reach(self, done: int, cells: int) -> None:
        """Show that `done` of `cells` code cells are executed."""
        self.total = cells
        self.update(done - self.n)


def run_notebook(notebook: Path, executed: Path, parameters: dict[str, str | int], told: Told | None = None) -> None:
    """Execute `notebook` in its own folder, and write it to `executed` after each cell. Both paths are absolute.

    `parameters` are injected after the cell tagged so. The first error ends the notebook and stays in its outputs;
    where and what it was, and the seconds taken, are stamped on `executed` (see executed.stamp).
    """
    import papermill

    from vlsm_helpers.course.executed import stamp

    executed.unlink(missing_ok=True)  # what an earlier run left must not pass for this one's
    failure, begin = None, time.monotonic()
    try:
        papermill.execute_notebook(
            notebook,
            executed,
            parameters=parameters,
            cwd=notebook.parent,
            progress_bar=False,
            # Else every kernel warns, in the bar, that it talks over TCP, and a stopped one that its sockets are closed.
            extra_arguments=["--log-level=CRITICAL"],
            **(_hooks(told) if told else {}),
        )
    except BaseException as error:
        failure = failure_of(executed, error)
        if not isinstance(error, Exception):  # the user stops the whole run
            raise
    finally:
        stamp(executed, time.monotonic() - begin, failure)


def failure_of(executed: Path, error: BaseException) -> "Failure":
    """Where and why the notebook stopped: at a cell that raised, or (a kernel that died) at the last one begun."""
    import nbformat
    from papermill.exceptions import PapermillExecutionError

    from vlsm_helpers.course.executed import Failure

    if isinstance(error, PapermillExecutionError):
        return Failure(f"In [{error.exec_count}]", _first_line(error.source), f"{error.ename}: {error.evalue}")
    message = f"{type(error).__name__}: {error}".rstrip(": ")
    cells = nbformat.read(executed, as_version=4).cells if executed.exists() else []
    code = [cell for cell in cells if cell.cell_type == "code"]
    begun = [n for n, cell in enumerate(code, 1) if cell.metadata.get("papermill", {}).get("start_time")]
    if not begun:
        return Failure("before its first cell", "", message)
    return Failure(f"In [{begun[-1]}]", _first_line(code[begun[-1] - 1].source), message)


def _hooks(told: Told) -> dict[str, Callable[..., None]]:
    """What nbclient calls while it executes a notebook, so that `told` is called after each code cell."""
    done = cells = 0

    def begin(notebook: "NotebookNode") -> None:
        nonlocal cells
        cells = sum(cell.cell_type == "code" and bool(cell.source.strip()) for cell in notebook.cells)
        told(done, cells)

    def count(**_) -> None:
        nonlocal done
        done += 1
        told(done, cells)

    return {"on_notebook_start": begin, "on_cell_executed": count}


def _first_line(source: str) -> str:
    return next((line.strip() for line in source.splitlines() if line.strip()), "")
