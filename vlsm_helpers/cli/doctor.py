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
from vlsm_helpers.data.registry import DATASETS, availability, own_datasets
from vlsm_helpers.errors import SettingsError, WeightsError
from vlsm_helpers.io import hub
from vlsm_helpers.settings.precision import training_precision
from vlsm_helpers.settings.published import PRETRAINED, Pretrained

PACKAGES = (
    "vlsm-helpers",
    "torch",
    "torchvision",
    "transformers",
    "open_clip_torch",
    "huggingface_hub",
    "timm",
    "peft",
)


def report(console: Console) -> list[str]:
    """Print the report; returns the problems that keep the course from running here, each with its fix."""
    weights, problems = _weights()
    precision, refused = _precision()
    for title, rows in (
        ("Software", _software()),
        ("Machine", [*_machine(), ("trains in", precision)]),
        ("Folders", _folders()),
        ("Datasets", [(card.name, availability(card)) for card in DATASETS.values()] + _own()),
        ("Pretrained weights", [*weights, ("hub", _hub())]),
        ("Profile", [("auto picks", ": ".join(settings.auto_profile()))]),
    ):
        table = Table(Column(no_wrap=True, min_width=20), Column(overflow="fold"), show_header=False, box=None)
        for name, value in rows:
            table.add_row(name, value)
        console.print(f"[bold]{title}[/]", table, "")
    # Datasets may well lie in a folder that only others may write to.
    return (
        problems
        + refused
        + [
            f"{title} cannot be written to: {folder}; name another one with {variable}"
            for variable, title, folder in _named_folders()
            if variable != "VLSM_DATA" and not _is_writable(folder)
        ]
    )


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


def _precision() -> tuple[str, list[str]]:
    """The precision that training computes in, and why; and the problem, where it is refused."""
    try:
        return str(training_precision(settings.device())), []
    except SettingsError as error:
        return error.what, [str(error)]


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
    """The pretrained weights in every place that they are loaded from, as rows, and the problems found there."""
    from vlsm_helpers.models import imagenet, pretrained

    rows, problems = [], []
    for kind in PRETRAINED.values():
        for place, folder in _places(kind).items():
            state = "none"
            if folder is not None:
                try:
                    pretrained.check(folder, kind)
                    state = f"{folder}\n{_contents(folder, kind)}, sha256 {pretrained.fingerprint(folder, kind)}"
                except WeightsError as error:
                    state = f"{folder}\n{error.what}"
                    problems.append(str(error))
            rows.append((f"{kind.name}, {place}", state))
    file = imagenet.package_file()
    rows.append((f"{imagenet.EFFICIENTNET.name}, Python package", str(file) if file else "none"))
    local = settings.weights_folder()
    if local is not None and not local.is_dir():
        problems.append(f"VLSM_WEIGHTS names a folder that does not exist: {local}; correct or unset it")
    return rows, problems


def _places(kind: Pretrained) -> dict[str, Path | None]:
    """The places that weights of this kind are loaded from, and the folder there, if any.

    An unfinished download counts as none: the next use continues it.
    """
    from vlsm_helpers.models.pretrained import SHIPPED

    local, cached = settings.weights_folder(), hub.cached_folder(kind.hub_id, kind.tensors)
    places = {"shipped": SHIPPED / kind.name} if kind.shipped else {}
    return places | {
        "VLSM_WEIGHTS": local / kind.name if local is not None and (local / kind.name).is_dir() else None,
        f"hub's cache ({kind.megabytes} MB)": cached if cached and not kind.missing_in(cached) else None,
    }


def _contents(folder: Path, kind: Pretrained) -> str:
    """What is there, in words: the file that will be read, the size of the folder, the hub's commit where it is known."""
    tensors = kind.tensors_in(folder).name
    commit = hub.commit_of(folder, tensors)
    return f"{tensors}, {_size(folder)}" + (f", revision {commit[:12]}" if commit else "")


def _size(folder: Path) -> str:
    return f"{sum(file.stat().st_size for file in folder.iterdir() if file.is_file()) / 1e6:.1f} MB"


def _hub() -> str:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "not asked: HF_HUB_OFFLINE is set"
    return f"{constants.ENDPOINT} {'answers' if settings.hub_reachable() else 'does not answer'}"
