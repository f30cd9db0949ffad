"""What of a segmenter is frozen: given by its pretrained weights, so neither trained nor saved, but recognised again."""

import hashlib
from collections.abc import Mapping

from torch import Tensor

from vlsm_helpers.models.segmenter import Segmenter


def frozen_state(segmenter: Segmenter) -> dict[str, Tensor]:
    """The parameters of the encoders that ask for no gradient, by their names in the state_dict; none of a CNN."""
    pretrained = {id(parameter) for module in segmenter.encoders() for parameter in module.parameters()}
    state = segmenter.state_dict(keep_vars=True)
    return {name: value for name, value in state.items() if id(value) in pretrained and not value.requires_grad}


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """A SHA-256 of names, types, shapes and values, wherever the tensors lie: 0.5 to 2 s a gigabyte."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).numpy())
    return digest.hexdigest()
