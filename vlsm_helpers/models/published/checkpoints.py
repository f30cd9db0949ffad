"""Checkpoints of the authors' code: their networks by name, their parameter names mapped to ours."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from safetensors.torch import load_model, save_model
from torch import Tensor, nn

from vlsm_helpers.errors import SettingsError, unknown
from vlsm_helpers.models.biomedclipseg import BiomedCLIPSeg
from vlsm_helpers.models.published.cris import PublishedCRIS
from vlsm_helpers.models.published.networks import (
    PublishedA,
    PublishedB,
    PublishedBiomedCLIPSeg,
    PublishedC,
    PublishedUNetD,
)
from vlsm_helpers.models.unet_d import UNetD

PUBLISHED: dict[str, type[nn.Module]] = {
    "unet_d": PublishedUNetD,
    "biomedclipseg": PublishedBiomedCLIPSeg,
    "ensemble_a": PublishedA,
    "ensemble_b": PublishedB,
    "ensemble_c": PublishedC,
    "cris": PublishedCRIS,
}
WRAPPERS = ("module.", "net.")  # of torch's DistributedDataParallel, of MedVLSM's Lightning module
# The authors' names of UNet-D's encoder convolutions, level by level (the second repeats its digit).
_ENCODER_CONVOLUTIONS = (("conv11", "conv12"), ("conv22", "conv222"), ("conv33", "conv333"), ("conv44", "conv444"))


class Placement(NamedTuple):
    """The names of a published state dict that were not loaded."""

    unused: list[str]  # registered in the published module, but never used in its forward
    unplaced: list[str]  # unknown


class _Names(NamedTuple):
    """The authors' names for the modules of one network."""

    ours: dict[str, str]  # by the authors' module names; names inside a module are the same
    dead: frozenset[str]  # modules that are registered but never used in the forward


def build(name: str) -> nn.Module:
    """The authors' network `name` (see PUBLISHED) at full size, with random weights; needs no network access.

    Raises SettingsError for an unknown name.
    """
    if name not in PUBLISHED:
        raise unknown("published network", name, PUBLISHED, error=SettingsError)
    return PUBLISHED[name]()


def load_published_state_dict(model: nn.Module, state_dict: Mapping[str, Tensor | Mapping]) -> Placement:
    """Load the authors' `state_dict` into `model`, and return the names that were not loaded.

    `model`: what `build` made, or a segmenter as large as theirs: a UNetD of width 1, a BiomedCLIPSeg of the published
    BiomedCLIP with PUBLISHED_TAPS (a state dict does not contain taps). Raises RuntimeError, with their names, if entries of
    the model are missing or have another shape. A training checkpoint with its weights in "state_dict" is accepted, and a
    prefix that all names share there ("module." of CRIS, "net." of MedVLSM) is removed.
    """
    names, own = _names(model), model.state_dict()
    placed, unused, unplaced = {}, [], []
    for name, value in _without_wrapping(state_dict).items():
        ours = _renamed(name, names.ours)
        if ours in own:
            placed[ours] = value
        elif name.endswith(".position_ids") or _renamed(name, dict.fromkeys(names.dead, "")) is not None:
            unused.append(name)
        else:
            unplaced.append(name)
    # Batch norm's step counters are integers, which a file of floating-point entries may leave out.
    counters = {name: own[name] for name in own if name.endswith("num_batches_tracked") and name not in placed}
    model.load_state_dict(placed | counters)
    return Placement(unused, unplaced)


def save_published(model: nn.Module, path: Path) -> None:
    """Write a network that `build` made, with its name, as safetensors for `load_published`."""
    name = {kind: name for name, kind in PUBLISHED.items()}[type(model)]
    save_model(model, str(path), metadata={"published": name})


def load_published(path: Path) -> nn.Module:
    """The network of a file that `save_published` wrote, in evaluation mode. Raises SettingsError for another file."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        name = (file.metadata() or {}).get("published", "without a name")
    model = build(name)
    load_model(model, path)
    return model.eval()


def _without_wrapping(state_dict: Mapping[str, Tensor | Mapping]) -> Mapping[str, Tensor]:
    """The weights of a checkpoint by the names that the network itself gives them."""
    inner = state_dict.get("state_dict", state_dict)
    for prefix in WRAPPERS:
        if inner and all(name.startswith(prefix) for name in inner):
            return {name.removeprefix(prefix): value for name, value in inner.items()}
    return inner


def _renamed(name: str, modules: Mapping[str, str]) -> str | None:
    """A parameter's name in which the longest prefix that is in `modules` is replaced; None if no prefix is."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        if (module := ".".join(parts[:length])) in modules:
            return ".".join([modules[module], *parts[length:]])
    return None


def _names(model: nn.Module) -> _Names:
    if isinstance(model, UNetD):
        return _Names(_unet_d(), frozenset({"outconv2"}))
    if isinstance(model, PublishedC):
        a, b = _ensemble_a(), _ensemble_b()
        ours = _within(a.ours, ours="a.") | _within(b.ours, "clip_seg.", "b.")
        dead = a.dead | {"clip_seg." + name for name in b.dead | {"decoder2.eca3"}}
        return _Names(ours, dead | {"textembed", "reduce_input_ids", "decoder2.eca3", "decoder2.gn1"})
    if isinstance(model, PublishedA):
        return _ensemble_a()
    if isinstance(model, PublishedB):
        return _ensemble_b()
    if isinstance(model, BiomedCLIPSeg | PublishedBiomedCLIPSeg):
        return _Names({"biomedclip": "clip", "decoder": "decoder"}, frozenset())
    if isinstance(model, PublishedCRIS):
        return _Names(_cris(), frozenset({"backbone.logit_scale"}))
    raise TypeError(f"the authors have no {type(model).__name__}: see PUBLISHED")


def _ensemble_a() -> _Names:
    ours = {"biomedclip": "clip", "decoder": "decoder", "reduce": "adapter.reduce"} | _shared()
    ours |= {"trans_conv1.0": "head.convolve", "trans_conv1.2": "head.enlarge", "trans_conv1.4": "head.draw"}
    return _Names(ours, frozenset({"dense_layer", "trans_conv", "upsample_proj"}))


def _ensemble_b() -> _Names:
    ours = {"clipseg.clip": "clip", "clipseg.decoder": "decoder"} | _shared()
    ours |= {"reduces": "adapter.reduces", "blocks": "adapter.blocks"}
    return _Names(ours, frozenset({"reduce", "trans_conv", "trans_conv1", "upsample_proj", "decoder2.gn1"}))


def _shared() -> dict[str, str]:
    """The names that A and B share."""
    adapter = {"film_mul": "adapter.film.scale", "film_add": "adapter.film.shift", "reduce2": "adapter.mix"}
    cnn = _within(_unet_d(), "decoder2.", "cnn.")
    return adapter | cnn | {"decoder2.outconv2": "fuse_cnn", "convlast": "fuse"}


def _unet_d() -> dict[str, str]:
    names = {"upconv41": "widen", "eca4": "attention", "outconv": "head"}
    for level, (first, second) in enumerate(_ENCODER_CONVOLUTIONS):
        names |= {first: f"encoder.{level}.conv1", second: f"encoder.{level}.conv2"}
        names |= {f"bn{level + 1}": f"encoder.{level}.norm"}
    for level in range(4):
        names |= {f"upconv{4 - level}": f"decoder.{level}.up", f"convup{4 - level}": f"decoder.{level}.conv"}
        names |= {f"upbn{4 - level}": f"decoder.{level}.norm"}
    return names


def _cris() -> dict[str, str]:
    names = {"backbone": "clip", "backbone.visual.attnpool.connect": "head.deepest.shortcut"}
    neck = {"txt_proj": "sentence", "norm_layer": "norm5", "aggr": "gather"}
    neck |= {"coordconv.0.conv1": "locate.0", "coordconv.1": "locate.1"}
    neck |= {"f1_v_proj": "v5", "f2_v_proj": "v4", "f2_cat": "join4", "f3_v_proj": "v3", "f3_cat": "join3"}
    neck |= {f"f4_proj{level}": f"gather{level}" for level in (3, 4, 5)}
    names |= _within(neck, "neck.", "head.neck.") | {"decoder.norm": "head.decoder.norm"}
    layer = {"self_attn": "self_attention", "multihead_attn": "cross_attention", "ffn": "mlp"}
    layer |= {"self_attn_norm": "self_norm", "cross_attn_norm": "cross_norm"}
    layer |= {f"norm{number}": f"norm{number}" for number in (1, 2, 3)}
    for number in range(3):
        names |= _within(layer, f"decoder.layers.{number}.", f"head.decoder.layers.{number}.")
    return names | {"proj.vis": "head.projector.pixels", "proj.txt": "head.projector.kernel"}


def _within(names: Mapping[str, str], theirs: str = "", ours: str = "") -> dict[str, str]:
    """The names of a part, prefixed as in the whole network."""
    return {theirs + module: ours + name for module, name in names.items()}
