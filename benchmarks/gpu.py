"""The full size on a GPU, in 8 minutes at most: `python -m benchmarks.gpu`; with --dry every section at tiny sizes, on a CPU too.

Random weights in the published formats, so that no hub is needed; the first run writes them to the cache folder (1.5 GB).
Writes gpu.json and gpu.md to the current folder, or where --out says, after each section. A run that was stopped, by you or by
the limit of time, resumes: sections that were measured on this card are kept, failed ones are tried again. Give names of
sections to measure only these, again.

Sections: one for each member (a training step and an inference in float32 and bfloat16, their memory, and their share of the
bfloat16 matrix multiplication of the same rounds), training (epochs of `fit`, UNet-D at 352 px), features (filling a cache, and
epochs with and without it), parity (logits on the GPU against those on the CPU), processes (two on one GPU), and one for each
compiled member.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from benchmarks import sections
from benchmarks.gpu_sections import Given, all_sections, device, one_line
from tools.rehearse import random_weights
from vlsm_helpers import settings
from vlsm_helpers.errors import CourseError
from vlsm_helpers.settings.profiles import PROFILES

MINUTES = 8.0


class OutOfTime(Exception):
    """The limit of time ended a section."""


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise OutOfTime in the block after so many seconds (on Linux and macOS, whose signals it takes)."""

    def stop(*_: object) -> None:
        raise OutOfTime

    if not hasattr(signal, "SIGALRM"):
        yield
        return
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def is_done(measured: dict | None) -> bool:
    """Whether a section was measured on this card, without an error."""
    return bool(measured) and "failed" not in measured["rows"][0] and settings.hardware() in measured["hardware"]


def measure(name: str, section: Callable[[Given], list[dict]], given: Given, seconds: float) -> list[dict] | None:
    """The section's rows; a row that says what went wrong; None where time ended it."""
    try:
        with at_most(seconds):
            return section(given)
    except OutOfTime:
        print(f"{name}: stopped by the limit of {given.minutes:g} minutes")
        return None
    except (RuntimeError, ImportError, CourseError) as error:  # out of memory among them: the other sections go on
        why = f"{type(error).__name__}: {error}"
        return [{"what": name, "way": "", "failed": why, "wanted": one_line([f"failed: {why[:300]}"])}]
    finally:
        if device() == "cuda":
            torch.cuda.empty_cache()


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is not there yet; the exit status is 1 where a section failed or is missing."""
    given = _given(arguments)
    if not given.dry and device() != "cuda":
        raise SystemExit("There is no CUDA GPU: --dry runs every section at tiny sizes on what there is.")
    if not given.dry:
        root = settings.cache_folder() / "random_weights"
        random_weights(root)
        os.environ["VLSM_WEIGHTS"] = str(root)
    end, known, order = time.monotonic() + 60 * given.minutes, sections.read(given.out), all_sections()
    for name in given.sections or [name for name in order if not is_done(known.get(name))]:
        found = measure(name, order[name], given, end - time.monotonic())
        if found is None:
            break
        print(sections.keep(given.out, name, found, given.rounds, order), flush=True)
    known = sections.read(given.out)
    missing = [name for name in order if not is_done(known.get(name))]
    print(f"{given.out.with_suffix('.md')}: {len(order) - len(missing)} of {len(order)} sections")
    if missing:
        print(f"The same command measures the rest: {', '.join(missing)}")
    return int(bool(missing))


def _given(arguments: Sequence[str] | None) -> Given:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(all_sections())}")
    parser.add_argument("--dry", action="store_true", help="tiny sizes, on a CPU too; its figures mean nothing")
    parser.add_argument(
        "--minutes", type=float, default=MINUTES, help="the limit of time, sections in progress included"
    )
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--dataset", default=settings.DEFAULT_DATASET)
    parser.add_argument("--out", type=Path, help="by default gpu.json here; with --dry in a temporary folder")
    given = parser.parse_args(arguments)
    if unknown := set(given.sections) - set(all_sections()):
        parser.error(f"unknown section {', '.join(sorted(unknown))}")
    given.profile = "tiny" if given.dry else "full"
    if given.dry:
        given.rounds, given.batch = 1, 2
    given.size, given.images = (64, 4) if given.dry else (PROFILES["full"].image_size, 200)
    given.out = given.out or Path(tempfile.mkdtemp() if given.dry else ".") / "gpu.json"
    return given


if __name__ == "__main__":
    sys.exit(main())
