"""The frozen part of a segmenter: neither trained nor saved, but identified by a hash when a checkpoint is loaded."""

import hashlib
from collections.abc import Mapping

from torch import Tensor

from vlsm_helpers.errors import TrainingError
from vlsm_helpers.models.segmenter import Segmenter


def frozen_state(segmenter: Segmenter) -> dict[str, Tensor]:
    """The encoders' parameters that require no gradient, by their names in the state_dict; empty for a CNN."""
    pretrained = {id(parameter) for module in segmenter.encoders() for parameter in module.parameters()}
    state = segmenter.state_dict(keep_vars=True)
    return {name: value for name, value in state.items() if id(value) in pretrained and not value.requires_grad}


def trainable_state_dict(segmenter: Segmenter) -> dict[str, Tensor]:
    """The rest of its state_dict: what trains, and every buffer. A checkpoint stores this."""
    frozen = frozen_state(segmenter)
    return {name: value for name, value in segmenter.state_dict().items() if name not in frozen}


def load_trainable_state_dict(segmenter: Segmenter, tensors: Mapping[str, Tensor]) -> None:
    """Load what `trainable_state_dict` returned. Raises TrainingError, with some names, unless names and shapes are equal."""
    own = {name: tuple(value.shape) for name, value in trainable_state_dict(segmenter).items()}
    given = {name: tuple(value.shape) for name, value in tensors.items()}
    different = sorted(name for name in own.keys() | given.keys() if own.get(name) != given.get(name))
    if different:
        shown = "; ".join(f"{name}: {given.get(name)} instead of {own.get(name)}" for name in different[:3])
        what = f"The checkpoint does not fit this segmenter: {len(different)} tensors differ ({shown})."
        hint = "build the segmenter with the options in the run's settings.json."
        raise TrainingError(what, where=segmenter.config["name"], hint=hint)
    segmenter.load_state_dict(tensors, strict=False)  # names were compared above; the frozen tensors are already loaded


def weights_revisions(segmenter: Segmenter) -> dict[str, str]:
    """The hub's commits of the pretrained weights in a segmenter, by their source; those that are known."""
    parts = [part for part in segmenter.modules() if isinstance(part, Segmenter) and part.weights_revision]
    return {part.config.get("weights") or part.started_from: part.weights_revision for part in parts}


def encoder_hash(segmenter: Segmenter) -> str | None:
    """The fingerprint of the frozen parameters; None without any."""
    frozen = frozen_state(segmenter)
    return fingerprint(frozen) if frozen else None


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and values, on any device: 0.5 to 2 s per gigabyte."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).numpy())
    return digest.hexdigest()
