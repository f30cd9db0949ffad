"""Taking turns with a clock: what is compared runs in the same process and minute, so that a busy machine slows both."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

Way = Callable[[], object]


def interleaved(ways: Mapping[str, Way], rounds: int) -> dict[str, list[float]]:
    """By way, the seconds of `rounds` calls; the ways take turns, and a first turn, which warms up, does not count."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            begin = time.perf_counter()
            way()
            if number > 0:
                taken[name].append(time.perf_counter() - begin)
    return taken


def rows(what: str, taken: Mapping[str, Sequence[float]], wanted: Mapping[str, str] | None = None) -> list[dict]:
    """A row a way: what was measured, the way, the median, fastest and slowest in seconds, how many times faster than the first
    way, and what is wanted of it."""
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


def peak_gigabytes() -> float:
    """The most memory that this process has held, resident (on Linux): ru_maxrss would be that of who started it."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e9


def in_a_process(*arguments: str) -> dict:
    """What `python -m ARGUMENTS` prints as JSON in its last line."""
    child = subprocess.run([sys.executable, "-m", *arguments], check=True, capture_output=True, text=True)
    return json.loads(child.stdout.splitlines()[-1])
