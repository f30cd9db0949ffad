"""Where pretrained weights come from: a folder, VLSM_WEIGHTS, or the hub; once there, no request is made.

VLSM_WEIGHTS names a folder that holds `clipseg/`, `biomedclip/` and, for the U-Net of segmentation_models_pytorch,
`resnet50/`, each as published on the hub; they stand in for the published ids. "tiny" means the miniatures that this
package ships, folders of the same formats. Only safetensors are read: a pickled file runs its author's code.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import nn

from vlsm_helpers.errors import WeightsError
from vlsm_helpers.models.biomedclip import build_biomedclip
from vlsm_helpers.models.open_clip_resnet import build_clip
from vlsm_helpers.models.vision_language import Preprocessing
from vlsm_helpers.settings import weights_folder
from vlsm_helpers.settings.profiles import (
    BIOMEDCLIP_WEIGHTS,
    CLIP_RN50_WEIGHTS,
    CLIPSEG_WEIGHTS,
    PUBLISHED_WEIGHTS,
    RESNET_WEIGHTS,
    TINY_WEIGHTS,
)

PICKLED = (".bin", ".pt", ".pth", ".ckpt")
SHIPPED = Path(str(resources.files("vlsm_helpers").joinpath("tiny_weights")))


class Format(NamedTuple):
    """What a folder of weights holds."""

    hub_id: str  # the published weights
    name: str  # of their folder in VLSM_WEIGHTS
    tensors: str
    megabytes: int  # of the published tensors
    others: tuple[tuple[str, ...], ...]  # of each group, one file is needed


CLIPSEG = Format(
    CLIPSEG_WEIGHTS,
    *PUBLISHED_WEIGHTS[CLIPSEG_WEIGHTS],
    (("config.json",), ("preprocessor_config.json", "processor_config.json"), ("tokenizer.json", "vocab.json")),
)
BIOMEDCLIP = Format(
    BIOMEDCLIP_WEIGHTS,
    *PUBLISHED_WEIGHTS[BIOMEDCLIP_WEIGHTS],
    (("open_clip_config.json",), ("tokenizer.json", "vocab.txt")),
)
CLIP_RN50 = Format(
    CLIP_RN50_WEIGHTS,
    *PUBLISHED_WEIGHTS[CLIP_RN50_WEIGHTS],
    (("open_clip_config.json",), ("tokenizer.json", "vocab.json")),
)
# The encoder of the U-Net that is compared with; the course needs it in its table only.
RESNET = Format(RESNET_WEIGHTS, "resnet50", "model.safetensors", 102, (("config.json",),))


def load_clipseg(source: str | Path):
    """The library's CLIPSegForImageSegmentation in float32, its tokenizer and its Preprocessing, from a folder or a hub id.

    Raises WeightsError.
    """
    from transformers import AutoTokenizer, CLIPSegForImageSegmentation

    folder = find(source, CLIPSEG)
    with _explained(folder), _no_progress_bar():
        model, report = CLIPSegForImageSegmentation.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        preprocessing = _clipseg_preprocessing(folder)
    if report["missing_keys"]:  # the library would leave them random
        raise WeightsError(
            f"The weights lack {len(report['missing_keys'])} tensors, {min(report['missing_keys'])} among them.",
            where=folder,
            hint="take weights of CLIPSegForImageSegmentation.",
        )
    return model, tokenizer, preprocessing


def load_biomedclip(source: str | Path):
    """open_clip's model in float32, its tokenizer, its context length and its Preprocessing, from a folder or a hub id.

    Raises WeightsError.
    """
    folder = find(source, BIOMEDCLIP)
    with _explained(folder):
        return build_biomedclip(folder, load_weights=True)


def load_clip_rn50(source: str | Path):
    """open_clip's CLIP with a ResNet in float32, its tokenizer, its context length and its Preprocessing, from a folder or a
    hub id. Raises WeightsError.
    """
    from transformers import AutoTokenizer

    folder = find(source, CLIP_RN50)
    with _explained(folder):
        published = json.loads((folder / "open_clip_config.json").read_text(encoding="utf-8"))
        sizes, view = published["model_cfg"], published["preprocess_cfg"]
        clip = build_clip(sizes)
        clip.load_state_dict({name: value.float() for name, value in load_file(folder / CLIP_RN50.tensors).items()})
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        preprocessing = Preprocessing(sizes["vision_cfg"]["image_size"], tuple(view["mean"]), tuple(view["std"]))
    return clip, tokenizer, sizes["text_cfg"]["context_length"], preprocessing


def load_encoder(encoder: nn.Module, source: str | Path) -> None:
    """Give an encoder of segmentation_models_pytorch the weights `source`, a folder or a hub id. Raises WeightsError."""
    folder = find(source, RESNET)
    with _explained(folder):
        encoder.load_state_dict(load_file(folder / RESNET.tensors))  # the library drops the classifier


def find(source: str | Path, kind: Format) -> Path:
    """The folder with the weights `source`, complete and readable; fetched where that is needed.

    `source`: a folder, a hub id, or "tiny" for the miniature that the package ships.

    Raises WeightsError where there are none, they cannot be fetched, or something is missing, broken or pickled.
    """
    name = str(source).removeprefix("local-dir:").removeprefix("hf-hub:")
    if name == TINY_WEIGHTS:
        folder = SHIPPED / kind.name
    else:
        folder = Path(name).expanduser().absolute()
        if not folder.is_dir():
            folder = _brought(name, kind) or _from_hub(name, kind)
    check(folder, kind)
    return folder


def resolve_source(source: str | Path) -> str:
    """`source` as a member's config keeps it: a folder with its whole path, for notebooks and commands differ in theirs."""
    folder = Path(str(source).removeprefix("local-dir:")).expanduser()
    return str(folder.absolute()) if folder.is_dir() and source != TINY_WEIGHTS else str(source)


def check(folder: Path, kind: Format) -> None:
    """Raise WeightsError unless `folder` holds weights of this kind: all files, in safetensors, of the length they promise."""
    missing = missing_files(folder, kind)
    pickled = [path.name for path in folder.glob("*") if path.suffix in PICKLED]
    if kind.tensors in missing and pickled:
        raise WeightsError(
            f"The weights are pickled ({pickled[0]}), and a pickle can run any code: they are not opened.",
            where=folder,
            hint=f"get {kind.tensors} instead: {_remedy(folder, kind)}",
        )
    if missing:
        what = f"Files are missing: {', '.join(missing)}." if folder.is_dir() else "The folder is not there."
        raise WeightsError(what, where=folder, hint=_remedy(folder, kind))
    try:
        # Opening reads the header and compares what it promises with the file's length.
        with safe_open(folder / kind.tensors, framework="pt"):
            pass
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"The weights are broken or not all there ({_first_line(error)}).",
            where=folder / kind.tensors,
            hint=f"delete the file; then, {_remedy(folder, kind)}",
        ) from error


def missing_files(folder: Path, kind: Format) -> list[str]:
    """What `folder` lacks of this kind of weights; "a or b" where either file would do."""
    groups = [(kind.tensors,), *kind.others]
    return [" or ".join(group) for group in groups if not any((folder / file).is_file() for file in group)]


def in_hub_cache(hub_id: str, kind: Format) -> Path | None:
    """The folder of the hub's cache with what is there of `hub_id`, if anything is; no request is made."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(hub_id, allow_patterns=_patterns(kind), local_files_only=True))
    except LocalEntryNotFoundError:
        return None


def fingerprint(folder: Path, kind: Format) -> str:
    """The first 12 hexadecimal digits of the sha256 of the tensors' file."""
    with open(folder / kind.tensors, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def _brought(name: str, kind: Format) -> Path | None:
    """The folder in VLSM_WEIGHTS that stands in for the published id, where there is one."""
    root = weights_folder()
    if root is None or name != kind.hub_id:
        return None
    folder = root / kind.name
    return folder if folder.is_dir() else None


def _from_hub(hub_id: str, kind: Format) -> Path:
    """The folder of the hub's cache with what is needed of `hub_id`, downloaded unless it is all there."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    try:
        cached = in_hub_cache(hub_id, kind)
    except HFValidationError:
        raise WeightsError(
            "This is neither a folder that exists nor the id of weights on the hub.", where=hub_id, hint=_fetch(kind)
        ) from None
    if cached and not missing_files(cached, kind):
        return cached
    try:
        return Path(snapshot_download(hub_id, allow_patterns=_patterns(kind)))
    except RepositoryNotFoundError as error:
        raise WeightsError("The hub has no such weights.", where=hub_id, hint=f"try {kind.hub_id!r}.") from error
    except Exception as error:  # the hub's client, and so its errors, changed with its major version
        raise WeightsError(
            f"The weights are not on this machine, and the hub cannot be reached ({_first_line(error)}).",
            where=hub_id,
            hint=_fetch(kind) if hub_id == kind.hub_id else _fetch_other(hub_id),
        ) from error


def _patterns(kind: Format) -> list[str]:
    return ["*.json", "*.txt", kind.tensors]


def _remedy(folder: Path, kind: Format) -> str:
    if folder.parent == SHIPPED:
        return f"restore {folder.name}/ in a checkout with git, or install vlsm-helpers again, which brings it."
    return _fetch(kind)


def _fetch(kind: Format) -> str:
    return (
        f"on a machine with a network run `hf download {kind.hub_id} --local-dir weights/{kind.name}` (about "
        f"{kind.megabytes} MB), copy the folder `weights` here and set VLSM_WEIGHTS to its path{_where_now()}."
    )


def _fetch_other(hub_id: str) -> str:
    return (
        f"on a machine with a network run `hf download {hub_id} --local-dir FOLDER`, copy the folder here and give its path "
        f"in place of {hub_id!r}."
    )


def _where_now() -> str:
    folder = weights_folder()
    return f" (now {folder})" if folder else ""


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Turn the libraries' many errors about files that do not fit together into one that says where."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise WeightsError(
            f"The weights do not fit their configuration, or a file is broken ({_first_line(error)}).",
            where=folder,
            hint="restore the folder as it was published, or take another one.",
        ) from error


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    """Keep the library's bar over reading a file, a matter of seconds, out of notebooks."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def _clipseg_preprocessing(folder: Path) -> Preprocessing:
    """From the preprocessor's config, as published (`size` a number) or as today's library writes it (nested, a dict)."""
    path = next(folder / file for file in CLIPSEG.others[1] if (folder / file).is_file())
    config = json.loads(path.read_text(encoding="utf-8"))
    config = config.get("image_processor", config)
    size = config["size"]
    if isinstance(size, dict):
        size = size.get("height") or size["shortest_edge"]
    return Preprocessing(int(size), tuple(config["image_mean"]), tuple(config["image_std"]))
