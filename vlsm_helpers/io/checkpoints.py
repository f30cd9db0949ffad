"""Checkpoints in safetensors: written whole or not at all, read without running anybody's code."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vlsm_helpers.errors import TrainingError
from vlsm_helpers.io.atomic import as_json, sibling


def save_checkpoint(path: Path, tensors: Mapping[str, Tensor], facts: Mapping) -> None:
    """Write `tensors` and the JSON-able `facts` to `path`, in place of what was there.

    The file appears whole or not at all. Raises TrainingError, the old file kept, where it cannot be written (a full disk).
    """
    partial = sibling(path)
    try:
        contiguous = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
        save_file(contiguous, partial, metadata={"facts": as_json(dict(facts))})
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        raise TrainingError(
            f"The checkpoint could not be written ({error}); the one before it is kept.",
            where=path,
            hint="free some space, or name a folder on another disk in VLSM_RUNS, and give the same command again: it resumes.",
        ) from error


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict]:
    """The tensors and the facts of a checkpoint. Raises TrainingError where it is missing or broken."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["facts"])  # noqa: SIM118
    except FileNotFoundError:
        what = "The checkpoint is missing."
        raise TrainingError(what, where=path, hint="train the run first (`vlsm train`).") from None
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        hint = "copy it again, or train the run again under another name."
        raise TrainingError(f"The checkpoint cannot be read ({error}).", where=path, hint=hint) from error


def flatten_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The tensors of an optimizer's state, named PARAMETER.KEY by the parameter's number; settings belong to the recipe."""
    state = optimizer.state_dict()["state"]
    return {
        f"{number}.{key}": torch.as_tensor(value) for number, entry in state.items() for key, value in entry.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `flatten_optimizer` took."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        number, _, key = name.partition(".")
        state.setdefault(int(number), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under names with `prefix` before them, so that one file holds several kinds."""
    return {prefix + name: tensor for name, tensor in tensors.items()}


def part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Those whose names begin with `prefix`, without it: what `prefixed` was given."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
