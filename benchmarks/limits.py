"""What a call computes, and the share that it reaches of what this machine computes at most.

The limit is measured, not looked up: a matrix multiplication and a 3x3 convolution, large enough to be bound by arithmetic,
take turns with the calls. A call's time at the limit is that of its own multiplications and convolutions at these rates; the
share is that time over the one it took. Operations that move memory (normalisation, activations, copies) count as no work.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.timing import Way
from vlsm_helpers.settings.precision import CPU_BF16

ENOUGH = 0.4  # of the limit; below, the operators that take the time are named
MATMUL, CONVOLUTION = "limit: matrix multiplication", "limit: convolution"
SIDE = 1024  # of the matrices
CHANNELS, MAPS, BATCH = 128, 64, 4  # of the convolution: channels, pixels a side, images


class Work(NamedTuple):
    """Floating-point operations, a multiplication and an addition counted as two."""

    matmul: int
    convolution: int

    @property
    def total(self) -> int:
        return self.matmul + self.convolution

    def share(self, seconds: float, rates: Mapping[str, float]) -> float:
        """The share of the limit that a call of this work reaches in `seconds`; `rates`, of `Limit`, per second."""
        return (self.matmul / rates[MATMUL] + self.convolution / rates[CONVOLUTION]) / seconds


def work(call: Way) -> Work:
    """What one call computes, its backward pass included, by torch's counter.

    Two things the counter does not know: the fused transformer layer of inference is one operator, taken apart here; and the
    backward pass of a grouped convolution is no larger than twice its forward pass.
    """
    known = {torch.ops.aten.convolution_backward: _backward_of_convolution}
    with FlopCounterMode(display=False, custom_mapping=known) as counter, _without_fused_layers():
        call()
    by_operator = counter.get_flop_counts()["Global"]
    convolution = sum(count for operator, count in by_operator.items() if "conv" in str(operator))
    return Work(sum(by_operator.values()) - convolution, convolution)


def _backward_of_convolution(
    gradient: Sequence[int],
    maps: Sequence[int],
    weight: Sequence[int],
    bias: Sequence[int] | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    wanted: Sequence[bool],
    **_: object,
) -> int:
    """Operations of aten.convolution_backward, from shapes: those of the forward pass for each gradient, of maps and weights."""
    smaller = maps if transposed else gradient  # every one of its positions is multiplied with every weight
    return 2 * smaller[0] * prod(smaller[2:]) * prod(weight) * sum(wanted[:2])


class Limit:
    """The two calls that measure the limit in one type, on a device, and their rates."""

    def __init__(self, dtype: torch.dtype = torch.float32, device: str = "cpu", *, side: int = SIDE, maps: int = MAPS):
        options = {"dtype": dtype, "device": device}
        self._matrices = torch.rand(2, side, side, **options)
        self._images = torch.rand(BATCH, CHANNELS, maps, maps, **options).contiguous(memory_format=torch.channels_last)
        self._layer = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1).to(**options, memory_format=torch.channels_last)
        self.ways: dict[str, Callable[[], Tensor]] = {MATMUL: self._multiply, CONVOLUTION: self._convolve}

    def rates(self, taken: Mapping[str, list[float]]) -> dict[str, float]:
        """Operations per second, from the seconds that `timing.interleaved` measured of `ways`."""
        return {name: work(way).total / median(taken[name]) for name, way in self.ways.items()}

    @torch.no_grad()
    def _multiply(self) -> Tensor:
        return self._matrices[0] @ self._matrices[1]

    @torch.no_grad()
    def _convolve(self) -> Tensor:
        return self._layer(self._images)


def native_bf16() -> bool:
    """Whether this CPU multiplies bfloat16."""
    return any(torch.cpu.get_capabilities().get(name) for name in CPU_BF16)


def slowest_operators(call: Way, most: int = 3) -> str:
    """The operators that take the most time of one call, each with its share of the time on the CPU."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        call()
    averages = profiled.key_averages()
    everything = sum(one.self_cpu_time_total for one in averages)
    slowest = sorted(averages, key=lambda one: -one.self_cpu_time_total)[:most]
    return ", ".join(f"{one.key.removeprefix('aten::')} {one.self_cpu_time_total / everything:.0%}" for one in slowest)


@contextmanager
def _without_fused_layers() -> Iterator[None]:
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
