"""BiomedCLIP itself: open_clip's model, made from nothing but one folder.

Whatever the folder's config calls the text tower and the tokenizer, names that open_clip would look up elsewhere, they
are taken from the folder, and so is a vision tower called `local-dir:`; one that timm does not know is registered.
"""

import json
import logging
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from vlsm_helpers.io.tensors import fill, read_tensors
from vlsm_helpers.models.vision_language import CLIPParts, Preprocessing
from vlsm_helpers.settings.published import BIOMEDCLIP

CONFIG, LOCAL = "open_clip_config.json", "local-dir:"
_BERT = "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract"
PUBLISHED_CONFIG = {  # what the published folder's CONFIG says
    "model_cfg": {
        "embed_dim": 512,
        "vision_cfg": {
            "timm_model_name": "vit_base_patch16_224",
            "timm_model_pretrained": False,
            "image_size": 224,
            "timm_pool": "",
            "timm_proj": "linear",
        },
        "text_cfg": {
            "hf_model_name": _BERT,
            "hf_tokenizer_name": _BERT,
            "context_length": 256,
            "hf_proj_type": "mlp",
            "hf_pooler_type": "cls_last_hidden_state_pooler",
        },
    },
    "preprocess_cfg": {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]},
}
# A buffer that the library saved until 2023, the published checkpoint's among them, and that today's makes itself.
LEFTOVERS = ("text.transformer.embeddings.position_ids",)
OLD_SPELLINGS = {"proj": "hf_proj_type", "pooler_type": "hf_pooler_type"}  # in CONFIG, until November 2023


def build_biomedclip(folder: Path, load_weights: bool) -> CLIPParts:
    """The model in float32, its tokenizer, its context length and its Preprocessing; the folder is not written to.

    Where `load_weights` is False the weights are random, from the configs alone. Raises WeightsError for tensors that are
    broken or do not fit, and what the libraries raise (OSError, ValueError, KeyError, TypeError, RuntimeError) for configs.
    """
    import open_clip
    from transformers import AutoTokenizer

    model, text = _network(folder)
    if load_weights:
        path = BIOMEDCLIP.tensors_in(folder)
        fill(model, read_tensors(path), path, LEFTOVERS)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    images = open_clip.get_model_preprocess_cfg(model)
    size = images["size"] if isinstance(images["size"], int) else images["size"][0]
    preprocessing = Preprocessing(size, tuple(images["mean"]), tuple(images["std"]))
    return CLIPParts(model, tokenizer, text["context_length"], preprocessing)


def build_published() -> nn.Module:
    """A BiomedCLIP as large as the published one, with random weights; it needs no file and no network."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / CONFIG).write_text(json.dumps(PUBLISHED_CONFIG), encoding="utf-8")
        return _network(Path(folder))[0]


def tapped_states(clip: nn.Module, pixels: Tensor, taps: Sequence[int]) -> tuple[Tensor, ...]:
    """Hidden states (B, 1 + tokens, D) after the vision blocks `taps`, before the final norm; later blocks are not run."""
    states = clip.visual.trunk.forward_intermediates(
        pixels,
        indices=list(taps),
        return_prefix_tokens=True,
        output_fmt="NLC",
        stop_early=True,
        intermediates_only=True,
    )
    return tuple(torch.cat([prefix, tokens], dim=1) for tokens, prefix in states)


def _network(folder: Path) -> tuple[nn.Module, dict]:
    """The model with random weights, as the folder's configs say, and the text tower's settings."""
    import open_clip

    published = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    text, vision = published["model_cfg"]["text_cfg"], published["model_cfg"]["vision_cfg"]
    text = {OLD_SPELLINGS.get(name, name): value for name, value in text.items()}
    vit = _known_to_timm(folder, vision["timm_model_name"], published.get("timm_model_args"))
    with _text_tower(folder) as text_tower, _no_warnings_logged():
        model = open_clip.create_model(
            f"local-dir:{folder}",
            load_weights=False,
            vision_cfg=dict(vision, timm_model_name=vit, timm_model_pretrained=False),
            text_cfg=dict(text, hf_model_name=str(text_tower), hf_model_pretrained=False),
        )
    return model, text


@contextmanager
def _no_warnings_logged() -> Iterator[None]:
    """Keep open_clip from warning of random weights: the right ones follow, or random ones are wanted."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


@contextmanager
def _text_tower(folder: Path) -> Iterator[Path]:
    """A folder with the text tower's config: `folder` itself, or one with BERT base's, which BiomedCLIP does not ship.

    A config.json of another model type is none of a text tower: a proposed change on the hub adds one of the whole BiomedCLIP.
    """
    from transformers import BertConfig

    path = folder / "config.json"
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")).get("model_type") == "bert":
        yield folder
        return
    with tempfile.TemporaryDirectory() as made:
        BertConfig().save_pretrained(made)
        yield Path(made)


def _known_to_timm(folder: Path, name: str, arguments: dict | None) -> str:
    """A name by which timm makes the vision tower; that of a folder is a path from `folder`, which becomes absolute.

    One it does not know is registered, from its `arguments` (img_size, patch_size, embed_dim, depth ...), under a name that
    no other arguments share.
    """
    import timm
    from timm.models import build_model_with_cfg, register_model
    from timm.models.vision_transformer import VisionTransformer

    if name.startswith(LOCAL):
        return f"{LOCAL}{folder.absolute() / name.removeprefix(LOCAL)}"
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
