"""The bridge to checkpoints of the authors' code: their parameter names, placed in our networks."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from torch import Tensor

from vlsm_helpers.models.biomedclipseg import BiomedCLIPSeg
from vlsm_helpers.models.unet_d import UNetD

# The authors' names of UNet-D's encoder convolutions, level by level (the second repeats its digit).
_ENCODER_CONVOLUTIONS = (("conv11", "conv12"), ("conv22", "conv222"), ("conv33", "conv333"), ("conv44", "conv444"))
# Registered in the published state dicts, never used in their forward.
_DEAD = {"outconv2", "biomedclip.text.transformer.embeddings"}


class Placement(NamedTuple):
    """What became of a published state dict's names."""

    unused: list[str]  # part of the published module, but never used in its forward
    unplaced: list[str]  # not known at all


def load_published_state_dict(model: UNetD | BiomedCLIPSeg, state_dict: Mapping[str, Tensor]) -> Placement:
    """Place the authors' `state_dict` in `model` and return the names that were not placed, and why.

    The model must be as large as theirs: a UNetD of width 1; a BiomedCLIPSeg of the published BiomedCLIP, whose taps, no part
    of a state dict, are PUBLISHED_TAPS there. Raises RuntimeError, naming them, when entries of the model are missing or
    have another shape.
    """
    names = dict(_biomedclipseg_names(model) if isinstance(model, BiomedCLIPSeg) else _unet_d_names())
    placed, unused, unplaced = {}, [], []
    for name, value in state_dict.items():
        module, _, entry = name.rpartition(".")
        if module in names:
            placed[f"{names[module]}.{entry}"] = value
        elif module in _DEAD:
            unused.append(name)
        else:
            unplaced.append(name)
    model.load_state_dict(placed | _counters(model, placed))
    return Placement(unused, unplaced)


def _biomedclipseg_names(model: BiomedCLIPSeg) -> Iterator[tuple[str, str]]:
    """The authors' module names and ours: they call `biomedclip` what we call `clip`."""
    for name in {name.rpartition(".")[0] for name in model.state_dict()}:
        yield ("biomed" + name if name.startswith("clip") else name), name


def _unet_d_names() -> Iterator[tuple[str, str]]:
    """The authors' module names and ours."""
    for level, (first, second) in enumerate(_ENCODER_CONVOLUTIONS):
        yield first, f"encoder.{level}.conv1"
        yield second, f"encoder.{level}.conv2"
        yield f"bn{level + 1}", f"encoder.{level}.norm"
    for level in range(4):
        yield f"upconv{4 - level}", f"decoder.{level}.up"
        yield f"convup{4 - level}", f"decoder.{level}.conv"
        yield f"upbn{4 - level}", f"decoder.{level}.norm"
    yield "upconv41", "widen"
    yield "eca4.conv", "attention.conv"
    yield "outconv", "head"


def _counters(model: UNetD | BiomedCLIPSeg, placed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Batch norm's step counters: integers that a file of floating-point entries may leave out."""
    own = model.state_dict()
    return {name: own[name] for name in own if name.endswith("num_batches_tracked") and name not in placed}
