"""Timing of alternatives that take turns in one process, so that a busy machine slows all of them."""

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

Way = Callable[[], object]


def interleaved(ways: Mapping[str, Way], rounds: int) -> dict[str, list[float]]:
    """The seconds of `rounds` calls of each way; the ways take turns after one warm-up call each."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            seconds = clock(way)
            if number > 0:
                taken[name].append(seconds)
    return taken


def clock(way: Way) -> float:
    """The seconds of one call."""
    begin = time.perf_counter()
    way()
    return time.perf_counter() - begin


def rows(what: str, taken: Mapping[str, Sequence[float]], wanted: Mapping[str, str] | None = None) -> list[dict]:
    """One row per way: what was measured, median, fastest and slowest seconds, speed-up over the first way, and the target."""
    base = statistics.median(next(iter(taken.values())))
    return [
        {
            "what": what,
            "way": way,
            "seconds": statistics.median(values),
            "fastest": min(values),
            "slowest": max(values),
            "times": base / statistics.median(values),
            "wanted": (wanted or {}).get(way, ""),
        }
        for way, values in taken.items()
    ]


def forget_peak() -> None:
    """Count the peak memory of this process from now on (on Linux)."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def peak_gigabytes() -> float:
    """Peak resident memory of this process (on Linux); ru_maxrss would include the process that started it."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e9


def in_a_process(*arguments: str) -> dict:
    """The JSON in the last line that `python -m ARGUMENTS` prints."""
    child = subprocess.run([sys.executable, "-m", *arguments], check=True, capture_output=True, text=True)
    return json.loads(child.stdout.splitlines()[-1])


def one_notebook(name: str, folder: Path) -> dict:
    """Run a notebook at the tiny profile with empty runs: its seconds, and the peak memory of its largest process in GB.

    To be called in a process that has imported nothing large: a child's peak begins at its parent's.
    """
    begin = time.perf_counter()
    command = [
        sys.executable,
        "-m",
        "vlsm_helpers",
        "run",
        name,
        "--profile",
        "tiny",
        "--output",
        str(folder / "course"),
    ]
    environment = os.environ | {"VLSM_RUNS": str(folder / "runs")}
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    gigabytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9
    return {"seconds": time.perf_counter() - begin, "gigabytes": gigabytes}


if __name__ == "__main__":
    print(json.dumps(one_notebook(sys.argv[1], Path(sys.argv[2]))))
