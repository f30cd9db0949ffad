"""Tensors of files that others wrote, safetensors or PyTorch's own format, read without running anybody's code.

PyTorch's format (`.bin`, `.pt`, `.pth`) is a pickle, and a pickle can run code. It is opened by PyTorch's restricted
unpickler (`torch.load(weights_only=True)`), which builds tensors and plain containers and refuses anything else.
https://docs.pytorch.org/docs/stable/notes/serialization.html#weights-only
"""

import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from vlsm_helpers.errors import WeightsError, some_of

# In the restricted unpickler's messages for what is no tensor; it says otherwise what is broken.
REFUSED = ("GLOBAL ", "Can only create new object", "Can only build", "unrecognized function")
ZIP = b"PK\x03\x04"  # how a file of PyTorch 1.6 or newer begins


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name. They stay in the mapped file until they are used, so that memory never holds them twice.

    Raises WeightsError for a file that is broken, and for a pickle that holds anything besides tensors.
    """
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise broken(path, error) from error
    try:
        with path.open("rb") as file:
            mapped = file.read(len(ZIP)) == ZIP  # PyTorch cannot map the older format
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        if any(reason in str(error) for reason in REFUSED):
            raise WeightsError(
                f"The file holds more than tensors, and loading it could run code: it was not loaded ({_reason(error)}).",
                where=path,
                hint="take weights from a source that you trust, as safetensors if there are any.",
            ) from error
        raise broken(path, error) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
        raise broken(path, error) from error
    content = content.get("state_dict", content) if isinstance(content, Mapping) else content
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        what = "The file holds no table of tensors by name."
        raise WeightsError(what, where=path, hint="take the file that holds a state_dict.")
    return dict(content)


def check_tensors(path: Path) -> None:
    """Raise WeightsError where a file is broken, as far as its header tells; nothing large is read."""
    if path.suffix != ".safetensors":
        read_tensors(path)  # maps the file, so that only the pickle beside the tensors is read
        return
    try:
        with safe_open(path, framework="pt"):  # compares what the header promises with the file's length
            pass
    except (SafetensorError, OSError) as error:
        raise broken(path, error) from error


def fill(model: nn.Module, tensors: Mapping[str, Tensor], where: Path, passed_over: Iterable[str] = ()) -> None:
    """Give `model` the tensors, in float32: assigned, not copied.

    `passed_over`: names of tensors that the model does not take and need not take. Raises WeightsError, naming some, unless
    all other tensors and no others are there, each in its shape.
    """
    given = {name: tensor for name, tensor in tensors.items() if name not in set(passed_over)}
    refuse_misfits(given, {name: value.shape for name, value in model.state_dict().items()}, where)
    model.load_state_dict(
        {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in given.items()}, assign=True
    )


def refuse_misfits(tensors: Mapping[str, Tensor], wanted: Mapping[str, torch.Size], where: Path) -> None:
    """Raise WeightsError, naming some, unless `tensors` have exactly the names and shapes `wanted`."""
    kinds = {
        "missing": sorted(wanted.keys() - tensors.keys()),
        "unknown": sorted(tensors.keys() - wanted.keys()),
        "of another shape": sorted(
            f"{name} {tuple(tensors[name].shape)}, not {tuple(wanted[name])}"
            for name in wanted.keys() & tensors.keys()
            if tensors[name].shape != wanted[name]
        ),
    }
    if any(kinds.values()):
        found = "; ".join(f"{len(names)} {kind}: {some_of(names, 3)}" for kind, names in kinds.items() if names)
        what = f"The tensors do not fit the model of the configuration beside them ({found})."
        raise WeightsError(what, where=where, hint="restore the folder as it was published, or name other weights.")


def broken(path: Path, error: Exception) -> WeightsError:
    """The error for a file that cannot be read."""
    what = f"The weights are broken or incomplete ({_reason(error)})."
    return WeightsError(what, where=path, hint="delete the file and fetch it again.")


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = next((line for line in lines if "WeightsUnpickler error" in line), lines[0] if lines else "")
    return f"{type(error).__name__}: {named[:200]}"
