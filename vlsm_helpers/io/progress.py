"""Progress bars: tqdm's, which in a log that is no terminal print a line every ten seconds in place of a line per step.

`from vlsm_helpers.io.progress import tqdm` wherever the package shows progress. tqdm's own environment variables hold:
TQDM_DISABLE=1 shows nothing, TQDM_MININTERVAL=60 sets the seconds between two lines.
"""

import os
import sys
from collections.abc import Callable
from typing import TextIO

from tqdm.std import tqdm as _tqdm

LINE_EVERY = 10.0  # seconds


class tqdm(_tqdm):
    """tqdm's bar on a terminal and in a notebook; elsewhere lines, at most one every ten seconds, and one at the end."""

    def __init__(self, *args, **options):
        self.in_lines = not rewrites_lines(options.get("file") or sys.stderr)
        if self.in_lines and not os.environ.get("TQDM_MININTERVAL"):
            options["mininterval"] = max(options.get("mininterval", 0.0), LINE_EVERY)
        if self.in_lines:
            options["maxinterval"] = float("inf")  # no thread that prints in between, and no steps skipped
            options["delay"] = options.get("delay") or sys.float_info.min  # not 0: no line before the first step
        super().__init__(*args, **options)

    @staticmethod
    def status_printer(file: TextIO) -> Callable[[str], None]:
        """What writes a state of the bar to `file`: over the last one, or, where that cannot be, on a line of its own."""
        if rewrites_lines(file):
            return _tqdm.status_printer(file)
        lines = 0

        def print_line(text: str) -> None:
            nonlocal lines
            if text:  # tqdm clears a bar by printing nothing
                file.write("\n" * bool(lines) + text)  # tqdm ends the last line itself
                file.flush()
                lines += 1

        return print_line

    def moveto(self, n: int) -> None:
        """Move the cursor to the bar of another row; lines have none."""
        if not self.in_lines:
            super().moveto(n)


def rewrites_lines(file: TextIO) -> bool:
    """Whether a carriage return in what is written to `file` starts its line again: a terminal, or a notebook's output."""
    return type(file).__module__.partition(".")[0] == "ipykernel" or getattr(file, "isatty", lambda: False)()


def in_words(seconds: float) -> str:
    """A rough duration for people."""
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"about {minutes} minutes" if minutes < 90 else f"about {minutes / 60:.1f} hours"
