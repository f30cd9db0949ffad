"""What this machine offers the course; `vlsm doctor` prints it, and a bug report should carry it."""

import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryFile

from rich.console import Console
from rich.table import Column, Table

from vlsm_helpers import settings
from vlsm_helpers.data.registry import DATASETS, Dataset

PACKAGES = (
    "vlsm-helpers",
    "torch",
    "torchvision",
    "transformers",
    "open_clip_torch",
    "huggingface_hub",
    "timm",
    "monai",
)


def report(console: Console) -> list[str]:
    """Print the report; returns what keeps the course from running here."""
    for title, rows in (
        ("Software", _software()),
        ("Machine", _machine()),
        ("Folders", _folders()),
        ("Datasets", [(card.name, availability(card)) for card in DATASETS.values()]),
        ("Published weights", _weights()),
        ("Profile", [("auto picks", ": ".join(settings.auto_profile()))]),
    ):
        table = Table(Column(no_wrap=True, min_width=20), Column(overflow="fold"), show_header=False, box=None)
        for name, value in rows:
            table.add_row(name, value)
        console.print(f"[bold]{title}[/]", table, "")
    # Datasets may well lie in a folder that only others may write to.
    return [
        f"{title} cannot be written to: {folder}; name another one with {variable}"
        for variable, title, folder in _named_folders()
        if variable != "VLSM_DATA" and not _is_writable(folder)
    ]


def availability(card: Dataset) -> str:
    """Whether the dataset is here: prepared, drawn when used (phantoms), or not."""
    if card.is_phantom:
        return "drawn when used"
    prepared = (settings.data_folder() / card.name / "anns").is_dir()
    return "prepared" if prepared else "no, needs an account" if card.account else "no"


def _software() -> list[tuple[str, str]]:
    return [("Python", platform.python_version()), *((name, _version(name)) for name in PACKAGES)]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _machine() -> list[tuple[str, str]]:
    import torch

    named = os.environ.get("OMP_NUM_THREADS")
    threads = f"{torch.get_num_threads()} of {os.cpu_count()} cores" + (f" (OMP_NUM_THREADS={named})" if named else "")
    system = f"{platform.system()} {platform.release()}, {platform.machine()}"
    return [("system", system), ("device", settings.device()), ("hardware", settings.hardware()), ("threads", threads)]


def _named_folders() -> list[tuple[str, str, Path]]:
    return [
        ("VLSM_DATA", "datasets", settings.data_folder()),
        ("VLSM_RUNS", "runs", settings.runs_folder()),
        ("VLSM_CACHE", "cache", settings.cache_folder()),
    ]


def _folders() -> list[tuple[str, str]]:
    return [(f"{title} ({variable})", f"{folder}\n{_state(folder)}") for variable, title, folder in _named_folders()]


def _state(folder: Path) -> str:
    exists = "exists" if folder.is_dir() else "made when used"
    writable = "writable" if _is_writable(folder) else "not writable"
    return f"{exists}, {writable}, {shutil.disk_usage(_nearest(folder)).free / 1e9:.0f} GB free"


def _is_writable(folder: Path) -> bool:
    """Whether the folder, or the nearest one above it, takes files; tried with one that never gets a name."""
    try:
        TemporaryFile(dir=_nearest(folder)).close()
    except OSError:
        return False
    return True


def _nearest(path: Path) -> Path:
    return next(place for place in (path, *path.parents) if place.exists())


def _weights() -> list[tuple[str, str]]:
    from huggingface_hub import constants

    rows = [
        (name.split("/")[1], "in the cache" if settings.weights_cached(name) else f"not in the cache ({megabytes} MB)")
        for name, (_, megabytes) in settings.PUBLISHED_WEIGHTS.items()
    ]
    if constants.HF_HUB_OFFLINE:
        return [*rows, ("hub", "not asked: HF_HUB_OFFLINE is set")]
    return [*rows, ("hub", f"{constants.ENDPOINT} {'answers' if settings.hub_reachable() else 'does not answer'}")]
