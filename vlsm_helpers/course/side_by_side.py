"""Execute notebooks side by side: worker processes, each of which runs one notebook after another.

The main process hands out the notebooks, draws a bar for each that runs, and ends the workers when the user stops it. They
are processes because papermill changes the working folder, and because an interrupt then ends each notebook on its own.
"""

import multiprocessing
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path

from vlsm_helpers.course.execution import CellBar, failure_of, run_notebook
from vlsm_helpers.io.progress import rewrites_lines

ENDED = "ended"  # a worker's message that its notebook is through, or has failed
PATIENCE = 30  # seconds in which a stopped worker shuts down its kernel
GONE = (EOFError, ConnectionError)  # what a pipe raises whose other process has ended


@dataclass(frozen=True)
class Task:
    """A notebook, the file to write it to when executed, and the parameters to inject."""

    notebook: Path
    executed: Path
    parameters: dict[str, str | int]


def execute(tasks: Sequence[Task], jobs: int, threads: int | None, ended: Callable[[Task], None]) -> None:
    """Execute `tasks` in their order, at most `jobs` at once, and call `ended` with each when its notebook is through or failed.

    Kernels compute with `threads` threads, unless OMP_NUM_THREADS is set or `threads` is None. On KeyboardInterrupt all
    kernels are shut down before it is raised again.
    """
    waiting = deque(tasks)
    label_width = max((len(task.notebook.stem) for task in tasks), default=0)
    workers = [_Worker(threads, label_width) for _ in range(min(jobs, len(tasks)))]
    try:
        for worker in workers:
            worker.begin(waiting.popleft())
        while busy := {worker.pipe: worker for worker in workers if worker.task}:
            for pipe in wait(list(busy), timeout=1):
                if (task := busy[pipe].listen()) is not None:
                    if waiting:
                        busy[pipe].begin(waiting.popleft())
                    ended(task)
            for worker in busy.values():
                worker.tick()
    finally:
        for worker in workers:
            worker.interrupt()
        for worker in workers:
            worker.join()


class _Worker:
    """A process that executes one task after another, and the bar of its current one, as the main process sees them."""

    def __init__(self, threads: int | None, label_width: int):
        self.threads, self.label_width = threads, label_width
        self.process: multiprocessing.Process | None = None
        self.pipe: Connection | None = None
        self.task: Task | None = None
        self.bar: CellBar | None = None
        self.begun = 0.0

    def begin(self, task: Task) -> None:
        """Let the process, a new one where there is none, execute `task`."""
        if self.process is None:
            context = multiprocessing.get_context("spawn")  # the same on every system
            self.pipe, theirs = context.Pipe()
            self.process = context.Process(target=_serve, args=(theirs, self.threads), daemon=True)
            self.process.start()
            theirs.close()  # so that the pipe ends with the process
        file = sys.stderr if rewrites_lines(sys.stderr) else _WholeLines()
        self.bar = CellBar(task.notebook.stem.ljust(self.label_width), file=file)
        self.task, self.begun = task, time.monotonic()
        self.pipe.send(task)

    def listen(self) -> Task | None:
        """Receive one message; returns the task if it has ended. A process that died is a failure of its notebook."""
        try:
            message = self.pipe.recv()
        except GONE:
            message = ENDED
            self._record_death()
        if message != ENDED:
            self.bar.reach(*message)
            return None
        self.bar.close()
        task, self.task = self.task, None
        return task

    def tick(self) -> None:
        """Draw the bar again with the time that is gone; not in a log."""
        if self.task and not self.bar.in_lines:
            self.bar.refresh()

    def interrupt(self) -> None:
        """Tell the process to end: at once if nothing runs, else as soon as its kernel is shut down."""
        if self.task:
            self._signal()
        elif self.process is not None:
            self.pipe.close()

    def join(self) -> None:
        """Wait until the process has ended; what does not end in time is killed."""
        if self.process is None:
            return
        for _ in range(PATIENCE):
            self.process.join(1)
            if self.process.exitcode is not None:
                break
            if self.task:
                self._signal()  # the first may have come before the worker could handle it
        else:
            self.process.kill()  # its kernel ends when it finds its parent gone
        if self.bar is not None:
            self.bar.close()

    def _signal(self) -> None:
        if self.process.exitcode is None and sys.platform != "win32":  # there Ctrl-C reaches all processes
            os.kill(self.process.pid, signal.SIGINT)

    def _record_death(self) -> None:
        from vlsm_helpers.course.executed import stamp

        self.process.join()
        error = ChildProcessError(f"the process that executed it ended with status {self.process.exitcode}")
        stamp(self.task.executed, time.monotonic() - self.begun, failure_of(self.task.executed, error))
        self.process = None


class _WholeLines:
    """Standard error for the bars of several notebooks in a log: a state is one line, whichever bar wrote before."""

    def write(self, text: str) -> None:
        if text.strip():
            sys.stderr.write(text.strip("\n") + "\n")

    def flush(self) -> None:
        sys.stderr.flush()


def _serve(pipe: Connection, threads: int | None) -> None:
    """What a worker process does: execute the tasks that come through `pipe` until it is closed, or until an interrupt."""
    signal.signal(signal.SIGINT, _interrupt_once)
    if threads is not None:
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    with suppress(KeyboardInterrupt, *GONE):
        while True:
            task = pipe.recv()
            run_notebook(task.notebook, task.executed, task.parameters, told=lambda *cells: pipe.send(cells))
            pipe.send(ENDED)


def _interrupt_once(*_) -> None:
    """Raise KeyboardInterrupt, but never a second one, which would interrupt the shutdown of the kernel."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt
