"""Where pretrained weights come from: a folder, VLSM_WEIGHTS, or the hub; once there, no request is made.

VLSM_WEIGHTS names a folder that holds `clipseg/` and `biomedclip/`, each as published on the hub; they stand in for the
published ids. "tiny" means the miniatures that this package ships, folders of the same formats. Only safetensors are
read: a pickled file runs its author's code.
"""

import json
import os
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open

from vlsm_helpers.errors import WeightsError
from vlsm_helpers.models.vision_language import Preprocessing
from vlsm_helpers.settings import BIOMEDCLIP_WEIGHTS, CLIPSEG_WEIGHTS, PUBLISHED_WEIGHTS, TINY_WEIGHTS

PICKLED = (".bin", ".pt", ".pth", ".ckpt")
SHIPPED = Path(__file__).parents[1] / "tiny_weights"


class Format(NamedTuple):
    """What a folder of weights holds."""

    hub_id: str  # the published weights
    name: str  # of their folder in VLSM_WEIGHTS
    tensors: str
    others: tuple[tuple[str, ...], ...]  # of each group, one file is needed


CLIPSEG = Format(
    CLIPSEG_WEIGHTS,
    "clipseg",
    "model.safetensors",
    (("config.json",), ("preprocessor_config.json", "processor_config.json"), ("tokenizer.json", "vocab.json")),
)
BIOMEDCLIP = Format(
    BIOMEDCLIP_WEIGHTS,
    "biomedclip",
    "open_clip_model.safetensors",
    (("open_clip_config.json",), ("tokenizer.json", "vocab.txt")),
)


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
            mend="take weights of CLIPSegForImageSegmentation.",
        )
    return model, tokenizer, preprocessing


def load_biomedclip(source: str | Path):
    """open_clip's model in float32, its tokenizer, its context length and its Preprocessing, from a folder or a hub id.

    Raises WeightsError.
    """
    return build_biomedclip(find(source, BIOMEDCLIP), load_weights=True)


def build_biomedclip(folder: Path, load_weights: bool):
    """What `load_biomedclip` gives, from a BiomedCLIP folder; random where `load_weights` is False, from the configs alone.

    Raises WeightsError. The folder is used as it is and not written to: whatever its config calls the text tower and the
    tokenizer, they are taken from the folder, and a vision tower that timm does not know is registered.
    """
    import open_clip
    from transformers import AutoTokenizer

    with _explained(folder), _text_tower(folder) as text_tower:
        published = json.loads((folder / "open_clip_config.json").read_text(encoding="utf-8"))
        text, vision = published["model_cfg"]["text_cfg"], published["model_cfg"]["vision_cfg"]
        vit = _known_to_timm(vision["timm_model_name"], published.get("timm_model_args"))
        model = open_clip.create_model(
            f"local-dir:{folder}",
            load_weights=load_weights,
            vision_cfg=dict(vision, timm_model_name=vit, timm_model_pretrained=False),
            text_cfg=dict(text, hf_model_name=str(text_tower), hf_model_pretrained=False),
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        view = open_clip.get_model_preprocess_cfg(model)
    size = view["size"] if isinstance(view["size"], int) else view["size"][0]
    return model, tokenizer, text["context_length"], Preprocessing(size, tuple(view["mean"]), tuple(view["std"]))


def find(source: str | Path, kind: Format) -> Path:
    """The folder with the weights `source`, complete and readable; fetched where that is needed.

    `source`: a folder, a hub id, or "tiny" for the miniature that the package ships.

    Raises WeightsError where there are none, they cannot be fetched, or something is missing, broken or pickled.
    """
    name = str(source).removeprefix("local-dir:").removeprefix("hf-hub:")
    folder, stand_in = Path(name).expanduser().absolute(), _stand_in(name, kind)
    if name == TINY_WEIGHTS:
        folder = SHIPPED / kind.name
    if not folder.is_dir():
        folder = stand_in or _from_hub(name, kind)
    _check(folder, kind)
    return folder


def lasting_name(source: str | Path) -> str:
    """`source` as a member's config keeps it: a folder with its whole path, for notebooks and commands differ in theirs."""
    folder = Path(str(source).removeprefix("local-dir:")).expanduser()
    return str(folder.absolute()) if folder.is_dir() and source != TINY_WEIGHTS else str(source)


def _stand_in(name: str, kind: Format) -> Path | None:
    """The folder in VLSM_WEIGHTS that stands in for the published id, where there is one."""
    root = os.environ.get("VLSM_WEIGHTS")
    if not root or name != kind.hub_id:
        return None
    folder = Path(root).expanduser().absolute() / kind.name
    return folder if folder.is_dir() else None


def _from_hub(hub_id: str, kind: Format) -> Path:
    """The folder of the hub's cache with what is needed of `hub_id`, downloaded unless it is all there."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError

    fetch = partial(snapshot_download, hub_id, allow_patterns=["*.json", "*.txt", kind.tensors])
    try:
        cached = Path(fetch(local_files_only=True))
        if not _missing(cached, kind):
            return cached
    except LocalEntryNotFoundError:
        pass
    except HFValidationError:
        raise WeightsError(
            "This is neither a folder that exists nor the id of weights on the hub.", where=hub_id, mend=_remedy(kind)
        ) from None
    try:
        return Path(fetch())
    except RepositoryNotFoundError as error:
        raise WeightsError("The hub has no such weights.", where=hub_id, mend=f"try {kind.hub_id!r}.") from error
    except Exception as error:  # the hub's client, and so its errors, changed with its major version
        raise WeightsError(
            f"The weights are not on this machine, and the hub cannot be reached ({_first_line(error)}).",
            where=hub_id,
            mend=_remedy(kind),
        ) from error


def _remedy(kind: Format) -> str:
    megabytes = PUBLISHED_WEIGHTS[kind.hub_id][1]
    return (
        f"on a machine with a network run `hf download {kind.hub_id} --local-dir weights/{kind.name}` (about {megabytes} MB), "
        f"copy the folder `weights` here and set VLSM_WEIGHTS to its path."
    )


def _missing(folder: Path, kind: Format) -> list[str]:
    groups = [(kind.tensors,), *kind.others]
    return [" or ".join(group) for group in groups if not any((folder / file).is_file() for file in group)]


def _check(folder: Path, kind: Format) -> None:
    missing = _missing(folder, kind)
    pickled = [path.name for path in folder.iterdir() if path.suffix in PICKLED]
    if kind.tensors in missing and pickled:
        raise WeightsError(
            f"The weights are pickled ({pickled[0]}), and a pickle can run any code: they are not opened.",
            where=folder,
            mend=f"get {kind.tensors} instead: {_remedy(kind)}",
        )
    if missing:
        raise WeightsError(f"Files are missing: {', '.join(missing)}.", where=folder, mend=_remedy(kind))
    try:
        # Opening reads the header and compares what it promises with the file's length.
        with safe_open(folder / kind.tensors, framework="pt"):
            pass
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"The weights are broken or not all there ({_first_line(error)}).",
            where=folder / kind.tensors,
            mend=f"delete the file; then, {_remedy(kind)}",
        ) from error


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Turn the libraries' many errors about files that do not fit together into one that says where."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise WeightsError(
            f"The weights do not fit their configuration, or a file is broken ({_first_line(error)}).",
            where=folder,
            mend="restore the folder as it was published, or take another one.",
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


@contextmanager
def _text_tower(folder: Path) -> Iterator[Path]:
    """A folder with the text tower's config: `folder` itself, or one with BERT base's, which BiomedCLIP does not ship."""
    from transformers import BertConfig

    if (folder / "config.json").is_file():
        yield folder
        return
    with tempfile.TemporaryDirectory() as made:
        BertConfig().save_pretrained(made)
        yield Path(made)


def _known_to_timm(name: str, arguments: dict | None) -> str:
    """A name by which timm makes the vision tower.

    One it does not know is registered, from its `arguments` (img_size, patch_size, embed_dim, depth ...), under a name that
    no other arguments share.
    """
    import timm
    from timm.models import build_model_with_cfg, register_model
    from timm.models.vision_transformer import VisionTransformer

    if arguments is None and not timm.is_model(name):
        raise ValueError(f"timm does not know {name!r}, and open_clip_config.json has no timm_model_args")
    if arguments is None:
        return name
    unique = f"{name}_{zlib.crc32(json.dumps(arguments, sort_keys=True).encode()):08x}"

    def vit(pretrained: bool = False, **options):
        options |= arguments | {"pretrained_cfg": {"architecture": unique}}
        return build_model_with_cfg(VisionTransformer, unique, pretrained, **options)

    if not timm.is_model(unique):
        vit.__name__ = unique
        register_model(vit)
    return unique
