"""accelerate on this machine: its precision, its processes, and those that load images for it."""

import os
import warnings

import torch
from accelerate import Accelerator, DataLoaderConfiguration
from torch import nn

from vlsm_helpers.errors import SettingsError, TrainingError
from vlsm_helpers.settings.machine import cores
from vlsm_helpers.settings.precision import VARIABLE, Precision
from vlsm_helpers.training.recipes import Recipe

LARGE_SIDE, WIDE_CHANNELS = 224, 256  # pixels; of the widest convolution


def start_accelerator(precision: Precision) -> Accelerator:
    """accelerate on this machine. Raises SettingsError where it cannot compute in `precision`, or has begun in another one."""
    if precision.emulated:
        warnings.warn(f"Training computes in {precision}.", stacklevel=2)
    try:
        return Accelerator(
            mixed_precision=precision.name,
            dataloader_config=DataLoaderConfiguration(split_batches=True, non_blocking=torch.cuda.is_available()),
        )
    except ValueError as error:
        hint = f"unset {VARIABLE}, or set it before the first training of a process (restart the kernel)."
        raise SettingsError(f"Training cannot compute in {precision}: {error}", hint=hint) from error


def loader_workers(device: str) -> int:
    """Processes that load images: none on a CPU, which trains meanwhile; else up to 4, and no more than cores in all."""
    if device == "cpu":
        return 0
    return max(1, min(4, cores() // int(os.environ.get("LOCAL_WORLD_SIZE", 1))))


def training_layout(segmenter: nn.Module, size: int, device: str) -> torch.memory_format:
    """The memory layout of a network that trains on images of `size` pixels: channels last, with one exception.

    Without AVX-512, oneDNN computes the weights' gradients of convolutions on large maps 2 to 3 times as fast from the
    contiguous layout: a training step of UNet-D at full width takes 0.7 of the time at 224 px. A narrow network, or a small
    image, takes up to 1.3 times as long in it (`python -m benchmarks.bench layouts`).
    """
    trained = [one for one in segmenter.modules() if isinstance(one, nn.Conv2d) and one.weight.requires_grad]
    dense = [one for one in trained if one.groups == 1 and max(one.kernel_size) > 1]
    widest = max((min(one.in_channels, one.out_channels) for one in dense), default=0)
    large = size >= LARGE_SIDE and widest >= WIDE_CHANNELS
    no_avx512 = device == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX2"
    return torch.contiguous_format if large and no_avx512 else torch.channels_last


def check_shares(recipe: Recipe, processes: int) -> None:
    """Raise TrainingError unless every process gets as many images of a batch as the others."""
    if recipe.batch_size % processes:
        what = f"A batch of {recipe.batch_size} images cannot be shared by {processes} processes."
        hint = f"give a batch size that {processes} divides (`--batch-size`), or start another number of processes."
        raise TrainingError(what, hint=hint)
