import os

import pytest
import torch

from vlsm_helpers.models.unet_d import UNetD
from vlsm_helpers.training.acceleration import loader_workers, training_layout


@pytest.mark.parametrize(
    ("cores", "processes", "device", "workers"),
    [(2, 1, "cuda", 2), (16, 1, "cuda", 4), (1, 1, "mps", 1), (8, 4, "cuda", 2), (2, 4, "cuda", 1), (16, 1, "cpu", 0)],
)
def test_no_more_loaders_than_cores(monkeypatch, cores, processes, device, workers):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    assert loader_workers(device) == workers


@pytest.mark.parametrize(
    ("capability", "device", "width", "size", "layout"),
    [
        ("AVX2", "cpu", 1, 224, torch.contiguous_format),
        ("AVX2", "cpu", 1, 352, torch.contiguous_format),
        ("AVX2", "cpu", 1, 128, torch.channels_last),
        ("AVX2", "cpu", 1 / 8, 352, torch.channels_last),
        ("AVX512", "cpu", 1, 352, torch.channels_last),
        ("DEFAULT", "cpu", 1, 352, torch.channels_last),  # not measured on ARM
        ("AVX2", "cuda", 1, 352, torch.channels_last),
    ],
)
def test_the_layout_follows_from_the_cpu_and_the_size(monkeypatch, capability, device, width, size, layout):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert training_layout(UNetD(width), size, device) == layout
    assert training_layout(UNetD(width).requires_grad_(False), size, device) == torch.channels_last
