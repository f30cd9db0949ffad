"""Pretrained weights: found in a folder, in VLSM_WEIGHTS or on the hub, checked, and loaded into their models.

VLSM_WEIGHTS names a folder that holds `clipseg/`, `biomedclip/` and, for the U-Net of segmentation_models_pytorch and the
light CNN, `resnet50/` and `efficientnet_lite0/`, each as published on the hub; they stand in for the published ids. "tiny"
means the miniatures that this package ships, folders of the same formats. Once weights are on this machine no request is
made. The table of all kinds is `vlsm_helpers.settings.published`.
"""

import errno
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

import torch
from torch import nn

from vlsm_helpers.errors import WeightsError
from vlsm_helpers.io import hub
from vlsm_helpers.io.tensors import check_tensors, read_tensors, refuse_misfits
from vlsm_helpers.models.biomedclip import build_biomedclip
from vlsm_helpers.models.open_clip_resnet import build_clip_rn50
from vlsm_helpers.models.vision_language import CLIPParts, Preprocessing
from vlsm_helpers.settings import weights_folder
from vlsm_helpers.settings.published import BIOMEDCLIP, CLIP_RN50, CLIPSEG, RESNET, TINY_WEIGHTS, Pretrained

SHIPPED = Path(str(resources.files("vlsm_helpers").joinpath("tiny_weights")))
# Buffers that the library saved until 2023, those of the published files among them, and that today's makes itself.
CLIPSEG_LEFTOVERS = ("clip.text_model.embeddings.position_ids", "clip.vision_model.embeddings.position_ids")
CLASSIFIER = ("fc.weight", "fc.bias")  # of a ResNet, which an encoder does not have


def load_clipseg(source: str | Path):
    """The library's CLIPSegForImageSegmentation in float32, its tokenizer and Preprocessing; raises WeightsError as `find`."""
    from transformers import AutoTokenizer, CLIPSegConfig, CLIPSegForImageSegmentation

    folder = find(source, CLIPSEG)
    path = CLIPSEG.tensors_in(folder)
    tensors = {name: tensor for name, tensor in read_tensors(path).items() if name not in CLIPSEG_LEFTOVERS}
    with _explained(folder), _no_progress_bar():
        config = CLIPSegConfig.from_pretrained(folder, local_files_only=True)
        with torch.device("meta"):
            wanted = {name: value.shape for name, value in CLIPSegForImageSegmentation(config).state_dict().items()}
        refuse_misfits(tensors, wanted, path)
        model = CLIPSegForImageSegmentation.from_pretrained(
            None, config=config, state_dict=tensors, dtype=torch.float32
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        preprocessing = _clipseg_preprocessing(folder)
    return model, tokenizer, preprocessing


def load_biomedclip(source: str | Path) -> CLIPParts:
    """open_clip's BiomedCLIP in float32, from a folder or a hub id. Raises WeightsError."""
    folder = find(source, BIOMEDCLIP)
    with _explained(folder):
        return build_biomedclip(folder, load_weights=True)


def load_clip_rn50(source: str | Path) -> CLIPParts:
    """open_clip's CLIP with a ResNet in float32, from a folder or a hub id. Raises WeightsError."""
    folder = find(source, CLIP_RN50)
    with _explained(folder):
        return build_clip_rn50(folder)


def load_encoder(encoder: nn.Module, source: str | Path) -> None:
    """Give an encoder of segmentation_models_pytorch the weights `source`, a folder or a hub id. Raises WeightsError."""
    folder = find(source, RESNET)
    path = RESNET.tensors_in(folder)
    tensors = {name: tensor for name, tensor in read_tensors(path).items() if name not in CLASSIFIER}
    refuse_misfits(tensors, {name: value.shape for name, value in encoder.state_dict().items()}, path)
    encoder.load_state_dict(tensors)


def find(source: str | Path, kind: Pretrained) -> Path:
    """The folder with the weights `source`, complete and readable; downloaded where that is needed.

    `source`: a folder, a hub id, a hub id and a revision of it (`ID@REVISION`: a commit, a tag or a branch), or "tiny" for
    the miniature that the package ships. A hub id means the revision that was downloaded first, else today's `main`.

    Raises WeightsError where there are none, they cannot be downloaded, or something is missing, broken or no plain tensors.
    """
    folder = locate(source, kind)
    if folder is None:
        folder = _download(*_id_and_revision(source), kind)
    check(folder, kind)
    return folder


def locate(source: str | Path, kind: Pretrained) -> Path | None:
    """The folder on this machine that `find` would take, without a request; None where it would download one.

    Raises WeightsError for what is neither a folder nor an id.
    """
    if source == TINY_WEIGHTS:
        return SHIPPED / kind.name
    hub_id, revision = _id_and_revision(source)
    folder = Path(str(source).removeprefix("local-dir:")).expanduser().absolute()
    if folder.is_dir():
        return folder
    if folder := _local_stand_in(hub_id, revision, kind):
        return folder
    try:
        cached = hub.cached_folder(hub_id, kind.tensors, revision)
    except ValueError:  # the client's own error for an id that none can have is one
        what = "This is neither a folder that exists nor the id of weights on the hub."
        raise WeightsError(what, where=hub_id, hint=fetch_by_hand(kind)) from None
    return cached if cached and not kind.missing_in(cached) else None


def resolve_source(source: str | Path) -> str:
    """`source` as a member's config keeps it: a folder as an absolute path, because working folders differ."""
    folder = Path(str(source).removeprefix("local-dir:")).expanduser()
    return str(folder.absolute()) if folder.is_dir() and source != TINY_WEIGHTS else str(source)


def revision_of(source: str | Path, kind: Pretrained) -> str | None:
    """The hub's commit that the weights `source` on this machine are of; None where their folder does not tell."""
    folder = locate(source, kind)
    return _commit_of(folder, kind) if folder else None


def check(folder: Path, kind: Pretrained) -> None:
    """Raise WeightsError unless `folder` holds weights of this kind: all files, and tensors that can be read."""
    if missing := kind.missing_in(folder):
        what = f"Files are missing: {', '.join(missing)}." if folder.is_dir() else "The folder does not exist."
        raise WeightsError(what, where=folder, hint=_remedy(folder, kind))
    try:
        check_tensors(kind.tensors_in(folder))
    except WeightsError as error:
        hint = f"delete the file; then {_remedy(folder, kind)}"
        raise WeightsError(error.what, where=error.where, hint=hint) from error


def fingerprint(folder: Path, kind: Pretrained) -> str:
    """The first 12 hexadecimal digits of the sha256 of the tensors' file."""
    with kind.tensors_in(folder).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def fetch_by_hand(kind: Pretrained, hub_id: str | None = None) -> str:
    """What to do on a machine without a network, as a hint: for the published weights, or for `hub_id`'s."""
    hub_id = hub_id or kind.hub_id
    if hub_id != kind.hub_id:
        return (
            f"on a machine with a network run `hf download {hub_id} --local-dir FOLDER`, copy the folder here and give its "
            f"path in place of {hub_id!r}."
        )
    folder = weights_folder()
    return (
        f"on a machine with a network run `hf download {hub_id} --local-dir weights/{kind.name}` (about {kind.megabytes} MB), "
        f"copy the folder `weights` here and set VLSM_WEIGHTS to its path{f' (now {folder})' if folder else ''}."
    )


def _id_and_revision(source: str | Path) -> tuple[str, str]:
    hub_id, _, revision = str(source).removeprefix("hf-hub:").partition("@")
    return hub_id, revision or hub.MAIN


def _local_stand_in(hub_id: str, revision: str, kind: Pretrained) -> Path | None:
    """The folder in VLSM_WEIGHTS that stands in for the published id; not one that says it is of another commit."""
    root = weights_folder()
    if root is None or hub_id != kind.hub_id or not (root / kind.name).is_dir():
        return None
    if hub.HASH.fullmatch(revision) and _commit_of(root / kind.name, kind) not in (None, revision):
        return None
    return root / kind.name


def _commit_of(folder: Path, kind: Pretrained) -> str | None:
    """The hub's commit that the tensors in `folder` are of; None where it does not tell, or holds none."""
    try:
        return hub.commit_of(folder, kind.tensors_in(folder).name)
    except FileNotFoundError:
        return None


def _download(hub_id: str, revision: str, kind: Pretrained) -> Path:
    """The folder of the hub's cache with what is needed of `hub_id`. Raises WeightsError, with a way out, where that fails."""
    try:
        listing = hub.list_files(hub_id, revision)
        if missing := kind.missing_among(listing.names):
            what = f"The hub's files are not those of {kind.name} weights: {', '.join(missing)} is not among them."
            raise WeightsError(what, where=f"{hub_id}@{listing.commit}", hint=f"try {kind.hub_id!r}.")
        others = kind.others_among(listing.names)
        return hub.download(hub_id, listing.commit, kind.tensors_among(listing.names), others, revision)
    except WeightsError:
        raise
    except Exception as error:  # the client's errors are httpx's in part, and their classes changed with its versions
        raise _explain_download(error, hub_id, revision, kind) from error


def _explain_download(error: Exception, hub_id: str, revision: str, kind: Pretrained) -> WeightsError:
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    wrapped = (error, error.__cause__)  # the client wraps some of its errors
    status = next((one.response.status_code for one in wrapped if getattr(one, "response", None) is not None), None)
    full = isinstance(error, OSError) and error.errno in (errno.EFBIG, errno.ENOSPC, errno.EDQUOT)
    by_hand = fetch_by_hand(kind, hub_id)
    if isinstance(error, RevisionNotFoundError):
        what = "The hub has these weights, but not this revision."
        hint = f"give a commit, tag or branch that the page of {hub_id} names, or the id alone."
        return WeightsError(what, where=f"{hub_id}@{revision}", hint=hint)
    if isinstance(error, RepositoryNotFoundError) or status in (401, 403):  # the hub answers 401 for what it hides
        what = f"The hub has no such weights, or they are not public{f' ({status})' if status else ''}."
        hint = f"check the id (the published one is {kind.hub_id!r}), or log in with `hf auth login`."
        return WeightsError(what, where=hub_id, hint=hint)
    if full:
        return WeightsError(
            f"The disk is full ({error.strerror}); what came already is kept.",
            where=error.filename or hub_id,
            hint="free some space, or name a folder on another disk in HF_HUB_CACHE, and start again: the download goes on.",
        )
    if status:
        what = f"The hub failed ({_first_line(error)})."
        return WeightsError(what, where=hub_id, hint=f"try again later, or {by_hand}")
    what = f"The weights are not on this machine, and could not be downloaded ({_first_line(error)})."
    hint = f"start again where the hub can be reached: the download goes on where it stopped. Or {by_hand}"
    return WeightsError(what, where=hub_id, hint=hint)


def _remedy(folder: Path, kind: Pretrained) -> str:
    if folder.parent == SHIPPED:
        return f"restore {folder.name}/ in a checkout with git, or install vlsm-helpers again, which brings it."
    return fetch_by_hand(kind)


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Turn the libraries' many errors about files that do not fit together into one that says where."""
    try:
        yield
    except WeightsError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError) as error:
        what = f"The weights do not fit their configuration, or a file is broken ({_first_line(error)})."
        hint = "restore the folder as it was published, or take another one."
        raise WeightsError(what, where=folder, hint=hint) from error


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
    """From the preprocessor's config: `size` a number, or as published and as today's library writes it, a dict."""
    path = next(folder / file for file in CLIPSEG.required[1] if (folder / file).is_file())
    config = json.loads(path.read_text(encoding="utf-8"))
    config = config.get("image_processor", config)
    size = config["size"]
    if isinstance(size, dict):
        size = size.get("height") or size["shortest_edge"]
    return Preprocessing(int(size), tuple(config["image_mean"]), tuple(config["image_std"]))
