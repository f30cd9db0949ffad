"""Profile, device, seed and folders; `start()` opens every notebook.

Environment: VLSM_PROFILE, VLSM_DATASET, VLSM_SEED (what a notebook's parameters leave open), VLSM_EPOCHS (of a notebook's
training, in place of the profile's), VLSM_DATA (prepared datasets), VLSM_CACHE (what the package computes once), VLSM_RUNS
(what training writes), VLSM_WEIGHTS (weights copied from another machine).

Side effects, all of them: importing `vlsm_helpers` sets OMP_WAIT_POLICY, and importing `vlsm_helpers.data.transforms` sets
NO_ALBUMENTATIONS_UPDATE (no request for a newer version); a variable that is set already is left alone. `start()` writes
VLSM_PROFILE and makes the folders in VLSM_* absolute, so that child processes agree with it; `absolute_folders()` does the
latter alone. Reading a setting changes nothing.
"""

import os
import platform
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryFile

import platformdirs

from vlsm_helpers.errors import SettingsError, unknown
from vlsm_helpers.io.hub import cached_folder
from vlsm_helpers.settings.precision import training_precision
from vlsm_helpers.settings.profiles import FULL_WITHOUT_GPU, PROFILES, Profile
from vlsm_helpers.settings.published import PRETRAINED

DEFAULT_DATASET = "phantom_endoscopy"
_DATASETS: ContextVar[Path | None] = ContextVar("datasets", default=None)


@dataclass(frozen=True)
class Settings:
    """What a notebook runs with; made by `start()`."""

    profile: Profile
    reason: str  # why this profile
    dataset: str
    seed: int
    device: str
    hardware: str


def data_folder() -> Path:
    """The folder that holds prepared datasets: that of `datasets_in`, VLSM_DATA, else `data` in the user's cache folder."""
    return _DATASETS.get() or _folder("VLSM_DATA", cache_folder() / "data")


@contextmanager
def datasets_in(folder: Path | None) -> Iterator[None]:
    """Within the `with` block, look for prepared datasets in `folder`; None changes nothing. Phantoms stay in the cache."""
    token = _DATASETS.set(_DATASETS.get() if folder is None else Path(folder).expanduser().absolute())
    try:
        yield
    finally:
        _DATASETS.reset(token)


def cache_folder() -> Path:
    """The folder for what is computed or downloaded once: VLSM_CACHE, else the user's cache folder."""
    return _folder("VLSM_CACHE", Path(platformdirs.user_cache_dir("vlsm")))


def runs_folder() -> Path:
    """The folder that training writes to: VLSM_RUNS, else `runs` in the checkout (or in the working folder)."""
    return _folder("VLSM_RUNS", project_folder() / "runs")


def weights_folder() -> Path | None:
    """The folder that VLSM_WEIGHTS names, if it does: it holds `clipseg/` and `biomedclip/`, as published."""
    return _folder("VLSM_WEIGHTS", None)


def absolute_folders() -> None:
    """Make the folders that VLSM_* name absolute in the environment, before kernels are started elsewhere.

    papermill runs a notebook in the caller's folder, nbmake in the notebook's: a relative path would mean two places.
    """
    for variable in ("VLSM_DATA", "VLSM_CACHE", "VLSM_RUNS", "VLSM_WEIGHTS"):
        if folder := _folder(variable, None):
            os.environ[variable] = str(folder)


def project_folder() -> Path:
    """The checkout around the working folder, so that notebooks and commands agree on `runs`; else that folder."""
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / "vlsm_helpers").is_dir()), here)


def writable(folder: Path) -> Path:
    """`folder`, made if need be. Raises SettingsError where it cannot be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=folder).close()
    except OSError as error:
        hint = "free it, or name another one: VLSM_CACHE for caches, VLSM_RUNS for runs, VLSM_DATA for datasets."
        raise SettingsError(f"The folder cannot be written to ({error.strerror}).", where=folder, hint=hint) from error
    return folder


def start(profile: str | None = None, dataset: str | None = None, seed: int | None = None) -> Settings:
    """Open a notebook: decide profile, dataset and seed, seed the generators, print what was decided and why.

    A value that is not None wins, then VLSM_PROFILE, VLSM_DATASET, VLSM_SEED, then `auto`, endoscopy phantoms and 0. Without
    a GPU the profile `full` keeps its sizes and weights, but trains on fewer images and in fewer epochs; VLSM_EPOCHS still
    holds. The environment is left with the profile's name in VLSM_PROFILE, and with absolute folders.
    Raises SettingsError for an unknown profile or precision, a seed that is no integer, and epochs that are none.

    >>> import vlsm_helpers as vlsm
    >>> settings = vlsm.start("tiny", seed=1)
    versions   Python ...
    profile    tiny: ...; 128 px
    dataset    phantom_endoscopy, seed 1
    device     ...
    >>> settings.profile.image_size, settings.seed
    (128, 1)
    """
    chosen, reason = _within_reach(*choose_profile(profile))
    precision = training_precision(device())
    os.environ["VLSM_PROFILE"] = chosen.name  # for functions that choose it themselves, and for child processes
    absolute_folders()
    settings = Settings(
        profile=chosen,
        reason=reason,
        dataset=dataset or os.environ.get("VLSM_DATASET") or DEFAULT_DATASET,
        seed=_as_seed(seed if seed is not None else os.environ.get("VLSM_SEED") or 0),
        device=device(),
        hardware=hardware(),
    )
    seed_everything(settings.seed)
    print(f"versions   {versions()}")
    print(f"profile    {chosen.name}: {reason}; {chosen.image_size} px")
    print(f"dataset    {settings.dataset}, seed {settings.seed}")
    usual = (settings.device, precision.name) == ("cpu", "no")
    print(f"device     {settings.device} ({settings.hardware})" + ("" if usual else f"; trains in {precision}"))
    return settings


def _within_reach(profile: Profile, reason: str) -> tuple[Profile, str]:
    """The profile with budgets that a machine without a GPU can afford, and why."""
    if profile.name != "full" or device() != "cpu":
        return profile, reason
    epochs = profile.epochs if os.environ.get("VLSM_EPOCHS") else FULL_WITHOUT_GPU["epochs"]
    profile = replace(profile, **FULL_WITHOUT_GPU | {"epochs": epochs})
    budget = f"{profile.max_train_images} training images and {profile.epochs} epochs at most"
    return profile, f"{reason}; no GPU, so {budget}"


def versions() -> str:
    """The versions that a bug report needs, on one line."""
    names = ("vlsm-helpers", "torch", "transformers", "open_clip_torch", "numpy")
    return ", ".join([f"Python {platform.python_version()}"] + [f"{name} {version(name)}" for name in names])


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's legacy and PyTorch's generators (those that libraries draw from unasked)."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - libraries still draw from it
    torch.manual_seed(seed)


def device() -> str:
    """`cuda`, `mps` or `cpu`, the first that is there."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def process():
    """This process among those that `accelerate launch` or torchrun started, the main one if alone: accelerate's PartialState."""
    import accelerate
    import torch

    started, cards = int(os.environ.get("LOCAL_WORLD_SIZE", 1)), torch.cuda.device_count()
    if cards and started > cards:  # they would share one, which NCCL refuses much later, as "Duplicate GPU detected"
        raise SettingsError(f"{started} processes, but {cards} GPU.", hint=f"start {cards}, one for each GPU.")
    # Without a GPU accelerate takes torchrun's processes for single ones, which would all write to one run.
    return accelerate.PartialState(cpu=device() == "cpu" and int(os.environ.get("WORLD_SIZE", 1)) > 1)


def hardware() -> str:
    """The machine in a few words, for result tables."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    threads = torch.get_num_threads()
    return f"{_processor()}, {threads} thread{'s' * (threads > 1)}"


def choose_profile(name: str | None = None) -> tuple[Profile, str]:
    """The profile and why: `name`, else VLSM_PROFILE, else what `auto` picks, with the epochs of VLSM_EPOCHS, if any.

    Raises SettingsError for an unknown profile, and for epochs that are no number from 1 up.
    """
    name, reason = name or os.environ.get("VLSM_PROFILE") or "auto", "set by PROFILE or VLSM_PROFILE"
    if name == "auto":
        name, reason = auto_profile()
    if name not in PROFILES:
        raise unknown("profile", name, [*PROFILES, "auto"], error=SettingsError)
    epochs = os.environ.get("VLSM_EPOCHS")
    if not epochs:
        return PROFILES[name], reason
    if not epochs.isdecimal() or int(epochs) < 1:
        raise SettingsError(f"VLSM_EPOCHS is {epochs!r}.", hint="set it to a number such as 6, or unset it.")
    return replace(PROFILES[name], epochs=int(epochs)), f"{reason}; epochs as VLSM_EPOCHS says, {epochs}"


def auto_profile() -> tuple[str, str]:
    """What `auto` picks, and why: `full` where there is a GPU and the published weights are within reach."""
    if device() == "cpu":
        return "tiny", "no GPU found"
    full = PROFILES["full"]
    missing = [name for name in (full.clipseg_weights, full.biomedclip_weights) if not weights_at_hand(name)]
    if not missing:
        return "full", "a GPU is there and the published weights are on this machine"
    if hub_reachable():
        megabytes = sum(PRETRAINED[name].megabytes for name in missing)
        return (
            "full",
            f"a GPU is there and the hub answers; about {megabytes} MB of weights will be downloaded when used",
        )
    return "tiny", "a GPU is there, but the published weights are not on this machine and the hub does not answer"


def weights_at_hand(hub_id: str) -> bool:
    """Whether the published weights `hub_id` are on this machine, all files: in VLSM_WEIGHTS, or in the hub's cache."""
    kind, local = PRETRAINED[hub_id], weights_folder()
    if local and not kind.missing_in(local / kind.name):
        return True
    cached = cached_folder(hub_id, kind.tensors)
    return cached is not None and not kind.missing_in(cached)


def hub_reachable(seconds: float = 3.0) -> bool:
    """Whether the weights hub answers within `seconds`, all told; HF_HUB_OFFLINE=1 counts as no, without a request."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    answers = []
    # A thread, because a client's timeout bounds neither the name's look-up nor a chain of redirects.
    probe = threading.Thread(target=lambda: answers.append(_hub_answers(constants.ENDPOINT, seconds)), daemon=True)
    probe.start()
    probe.join(seconds)
    return answers == [True]


def _hub_answers(address: str, seconds: float) -> bool:
    from huggingface_hub import get_session

    try:
        return get_session().head(address, timeout=seconds, follow_redirects=True).status_code < 500
    except Exception:  # the hub's client, and so its errors, changed with its major version: any failure is a no
        return False


def _as_seed(value: int | str) -> int:
    try:
        seed = int(value)
    except (ValueError, OverflowError):
        seed = -1
    if not 0 <= seed < 2**32:  # what NumPy takes
        what = f"The seed {value!r} is no integer from 0 to 4294967295."
        raise SettingsError(what, hint="set VLSM_SEED or SEED to a number such as 0.")
    return seed


def _folder(variable: str, default: Path | None) -> Path | None:
    """The folder that `variable` names, absolute; else `default`."""
    named = os.environ.get(variable)
    return Path(named).expanduser().absolute() if named else default


def _processor() -> str:
    names = Path("/proc/cpuinfo")
    if names.exists():
        for line in names.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
