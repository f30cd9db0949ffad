"""The precision that training computes in, on which device, and why. Predictions and scores are float32 everywhere."""

import os
from dataclasses import dataclass

from vlsm_helpers.errors import SettingsError

VARIABLE = "ACCELERATE_MIXED_PRECISION"  # accelerate's own, which `accelerate launch --mixed_precision` sets
NAMES = {"no": "float32", "bf16": "bfloat16", "fp16": "float16 with loss scaling"}  # of accelerate's words
BF16_FROM, FP16_FROM = (8, 0), (7, 0)  # compute capabilities: Ampere, Volta
CPU_BF16 = ("avx512_bf16", "amx_bf16", "bf16")  # what multiplies bfloat16, by torch's names; the last on ARM


@dataclass(frozen=True)
class Precision:
    """The decision: `name` is accelerate's word, a key of `NAMES`."""

    name: str
    reason: str
    emulated: bool = False  # whether the device converts to float32 and back, which is slower than float32

    def __str__(self) -> str:
        return f"{NAMES[self.name]} ({self.reason})"


def training_precision(device: str) -> Precision:
    """The mixed precision that training uses on `device`: "cuda", "mps" or "cpu".

    ACCELERATE_MIXED_PRECISION overrules. Otherwise CUDA computes in bfloat16 from compute capability 8 on, in float16 with
    loss scaling at 7.x (V100, T4: tensor cores for float16 alone), and in float32 below; MPS and CPU compute in float32.
    `torch.cuda.is_bf16_supported()` is no guide: it counts emulation, and so says True on a T4.
    Raises SettingsError for a value that is unknown, or that this device cannot train in.
    """
    asked, capability = _asked_for(device), _capability() if device == "cuda" else None
    if asked:
        cost = _emulation(device, capability) if asked == "bf16" else ""
        return Precision(asked, f"{VARIABLE} is {asked}{cost}", emulated=bool(cost))
    if capability is None:
        return Precision("no", f"the default on {'a CPU' if device == 'cpu' else 'MPS'}")
    reason = "compute capability {}.{}".format(*capability)
    if capability >= BF16_FROM:
        return Precision("bf16", reason)
    return Precision("fp16" if capability >= FP16_FROM else "no", f"{reason}; bfloat16 needs 8.0")


def _asked_for(device: str) -> str | None:
    """What the environment asks for, if it does."""
    asked = os.environ.get(VARIABLE, "").lower()
    known = [name for name in NAMES if device == "cuda" or name != "fp16"]  # accelerate scales no losses on a CPU
    if asked and asked not in known:
        what = f"{VARIABLE} is {asked!r}."
        raise SettingsError(what, hint=f"set it to one of {', '.join(known)} on this device, or unset it.")
    return asked or None


def _capability() -> tuple[int, int]:
    """The compute capability of this process's GPU; of several processes, which must scale losses alike, the lowest."""
    import torch

    together = int(os.environ.get("WORLD_SIZE", 1)) > 1
    cards = range(torch.cuda.device_count()) if together else [torch.cuda.current_device()]
    return min(torch.cuda.get_device_capability(card) for card in cards)


def _emulation(device: str, capability: tuple[int, int] | None) -> str:
    """What bfloat16 costs where `device` does not multiply it; empty where it does, and on MPS."""
    import torch

    if capability and capability < BF16_FROM:
        return "; a GPU of compute capability {}.{} emulates it, slower than float32".format(*capability)
    if device == "cpu" and not any(torch.cpu.get_capabilities().get(name) for name in CPU_BF16):
        return "; this CPU emulates it, a step takes 9 to 20 times as long as in float32"  # measured on x86, UNet-D
    return ""
