"""What this machine offers the course; `vlsm doctor` prints it, and a bug report should carry it."""

import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Column, Table

from vlsm_helpers import settings
from vlsm_helpers.data.registry import DATASETS, availability, own_datasets
from vlsm_helpers.errors import WeightsError

if TYPE_CHECKING:  # it imports torch, and `vlsm data list` needs this module too
    from vlsm_helpers.models.pretrained import Format

PACKAGES = (
    "vlsm-helpers",
    "torch",
    "torchvision",
    "transformers",
    "open_clip_torch",
    "huggingface_hub",
    "timm",
    "monai",
    "peft",
)


def report(console: Console) -> list[str]:
    """Print the report; returns what keeps the course from running here, with its cure."""
    pretrained, problems = _weights()
    for title, rows in (
        ("Software", _software()),
        ("Machine", _machine()),
        ("Folders", _folders()),
        ("Datasets", [(card.name, availability(card)) for card in DATASETS.values()] + _own()),
        ("Pretrained weights", [*pretrained, ("hub", _hub())]),
        ("Profile", [("auto picks", ": ".join(settings.auto_profile()))]),
    ):
        table = Table(Column(no_wrap=True, min_width=20), Column(overflow="fold"), show_header=False, box=None)
        for name, value in rows:
            table.add_row(name, value)
        console.print(f"[bold]{title}[/]", table, "")
    # Datasets may well lie in a folder that only others may write to.
    return problems + [
        f"{title} cannot be written to: {folder}; name another one with {variable}"
        for variable, title, folder in _named_folders()
        if variable != "VLSM_DATA" and not _is_writable(folder)
    ]


def _own() -> list[tuple[str, str]]:
    return [(name, "your own") for name in own_datasets()]


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


def _weights() -> tuple[list[tuple[str, str]], list[str]]:
    """What there is of the pretrained models, in every place they are taken from, as rows; and what is wrong there."""
    from vlsm_helpers.models import pretrained as weights

    rows, problems = [], []
    for kind in (weights.CLIPSEG, weights.BIOMEDCLIP, weights.RESNET):
        for place, folder in _places(kind).items():
            state = "none"
            if folder is not None:
                try:
                    weights.check(folder, kind)
                    state = f"{folder}\n{_size(folder)}, sha256 {weights.fingerprint(folder, kind)}"
                except WeightsError as error:
                    state = f"{folder}\n{error.what}"
                    problems.append(str(error))
            rows.append((f"{kind.name}, {place}", state))
    brought = settings.weights_folder()
    if brought is not None and not brought.is_dir():
        problems.append(f"VLSM_WEIGHTS names a folder that is not there: {brought}; correct or unset it")
    return rows, problems


def _places(kind: "Format") -> dict[str, Path | None]:
    """Where weights of this kind are taken from, and the folder there, if any; half a download is none, it goes on."""
    from vlsm_helpers.models import pretrained as weights

    brought, cached = settings.weights_folder(), weights.in_hub_cache(kind.hub_id, kind)
    there = brought is not None and (brought / kind.name).is_dir()
    whole = cached is not None and not weights.missing_files(cached, kind)
    shipped = weights.SHIPPED / kind.name
    return {
        "shipped": shipped if kind is not weights.RESNET else None,
        "VLSM_WEIGHTS": brought / kind.name if there else None,
        f"hub's cache ({kind.megabytes} MB)": cached if whole else None,
    }


def _size(folder: Path) -> str:
    return f"{sum(file.stat().st_size for file in folder.iterdir() if file.is_file()) / 1e6:.1f} MB"


def _hub() -> str:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "not asked: HF_HUB_OFFLINE is set"
    return f"{constants.ENDPOINT} {'answers' if settings.hub_reachable() else 'does not answer'}"
