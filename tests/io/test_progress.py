import io
import subprocess
import sys

import pytest

from vlsm_helpers.io import progress
from vlsm_helpers.io.progress import in_words, tqdm


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    """Seconds that pass as a test says."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr("tqdm.std.time", lambda: self.now)

    def run(self, file, steps, seconds, **options):
        with tqdm(total=steps, file=file, **options) as bar:
            bar._time = lambda: self.now
            for _ in range(steps):
                self.now += seconds
                bar.update()


@pytest.fixture
def clock(monkeypatch):
    for name in ("TQDM_DISABLE", "TQDM_MININTERVAL"):
        monkeypatch.delenv(name, raising=False)
    return Clock(monkeypatch)


def test_a_log_gets_a_line_every_ten_seconds_and_one_at_the_end(clock):
    log = io.StringIO()
    clock.run(log, steps=600, seconds=0.1, desc="features")  # a minute
    lines = log.getvalue().splitlines()
    assert 5 <= len(lines) <= 7
    assert all(line.startswith("features:") for line in lines)
    assert "100%" in lines[-1]
    assert "\r" not in log.getvalue()
    assert "\n\n" not in log.getvalue()


def test_what_is_over_before_its_delay_leaves_no_line(clock):
    log = io.StringIO()
    clock.run(log, steps=10, seconds=0.1, delay=2)
    assert log.getvalue() == ""


def test_what_is_over_at_once_leaves_one_line(clock):
    log = io.StringIO()
    clock.run(log, steps=10, seconds=0.1)
    assert log.getvalue().count("\n") == 1
    assert "100%" in log.getvalue()


def test_a_terminal_keeps_its_bar(clock):
    terminal = Terminal()
    clock.run(terminal, steps=600, seconds=0.1)
    assert terminal.getvalue().count("\r") > 100
    assert terminal.getvalue().count("\n") == 1


def test_the_interval_of_the_environment_holds():
    """tqdm reads it when it is imported."""
    code = """
import sys, time
from vlsm_helpers.io.progress import in_words, tqdm
for _ in tqdm(range(20)):
    time.sleep(0.02)
"""
    for variables, lines in (
        ({"TQDM_MININTERVAL": "0.05"}, range(3, 21)),
        ({"TQDM_DISABLE": "1"}, range(1)),
        ({}, range(1, 2)),
    ):
        done = subprocess.run(
            [sys.executable, "-c", code], env=progress.os.environ | variables, capture_output=True, text=True
        )
        assert len(done.stderr.splitlines()) in lines, done.stderr


def test_bars_within_bars_move_no_cursor(clock):
    log = io.StringIO()
    with tqdm(total=2, file=log, desc="outer") as outer:
        for _ in range(2):
            clock.run(log, steps=3, seconds=11, desc="inner")
            outer.update()
    assert "\x1b" not in log.getvalue()


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "1 s"), (89, "89 s"), (90, "2 minutes"), (3600, "60 minutes"), (7200, "2.0 hours")]
)
def test_durations_are_for_people(seconds, words):
    assert in_words(seconds) == f"about {words}"
