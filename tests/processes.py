"""Python in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[1]


def python(code: str, *arguments: object, **variables: str) -> str:
    """What `code` prints, given these arguments and environment variables; it must end well."""
    done = _run(code, arguments, env=os.environ | variables)
    assert done.returncode == 0, done.stderr
    return done.stdout


def on_a_full_disk(code: str, *arguments: object) -> str:
    """The errors of code that may write files of 64 KiB: the kernel refuses the rest, as it does on a full disk."""
    import resource  # not on Windows

    limit = (65536, 65536)
    return _run(code, arguments, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit)).stderr


def _run(code: str, arguments: tuple, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, **options)
