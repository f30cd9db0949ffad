"""Which shipped files a notebook opened: an audit hook in every Python process that is started meanwhile, kernels included.

https://docs.python.org/3/library/audit_events.html: `open`. Safetensors are read past Python, so a file of a miniature
stands for its whole folder.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import vlsm_helpers

SHIPPED = Path(vlsm_helpers.__file__).parent
FOLDERS = ("tiny_weights",)  # each folder in these is used as one
HOOK = """
import os, sys

def record(event, arguments, root=os.environ["OPENED_ROOT"], log=os.environ["OPENED_LOG"]):
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        path = os.path.abspath(os.fsdecode(arguments[0]))
        if path.startswith(root) and not path.endswith((".py", ".pyc")):
            file = os.open(log, os.O_APPEND | os.O_CREAT | os.O_WRONLY)
            os.write(file, os.fsencode(path) + b"\\n")
            os.close(file)

sys.addaudithook(record)
"""


@contextmanager
def recorded() -> Iterator[set[str]]:
    """Shipped files, as `name_of` calls them, that Python processes started in the block open; filled when it ends."""
    opened: set[str] = set()
    with TemporaryDirectory() as folder:
        log = Path(folder, "opened")
        Path(folder, "sitecustomize.py").write_text(HOOK, encoding="utf-8")  # which every Python process imports first
        path = os.pathsep.join([folder, *filter(None, [os.environ.get("PYTHONPATH")])])
        changes = {"PYTHONPATH": path, "OPENED_ROOT": f"{SHIPPED}{os.sep}", "OPENED_LOG": str(log)}
        before = {name: os.environ.get(name) for name in changes}
        os.environ |= changes
        try:
            yield opened
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})
            if log.exists():
                opened |= {name_of(Path(line)) for line in log.read_text(encoding="utf-8").splitlines()}


def name_of(path: Path) -> str:
    """A shipped file by its path in the package, or the folder that it stands for."""
    parts = path.relative_to(SHIPPED).parts
    return "/".join(parts[:2] if parts[0] in FOLDERS else parts)


def hash_of(name: str) -> str | None:
    """16 digits of the sha256 of a shipped file, or of all files of a folder but its description; None where it is gone."""
    path = SHIPPED / name
    if not path.exists():
        return None
    files = sorted(one for one in path.rglob("*") if one.is_file() and one.suffix != ".md") if path.is_dir() else [path]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]
