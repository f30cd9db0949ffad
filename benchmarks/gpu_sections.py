"""The sections of `benchmarks.gpu`: what is measured, each as a function from the command's options to rows."""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from benchmarks import features, limits
from benchmarks.timing import Way, interleaved, rows
from benchmarks.wirings import inference, training_step
from vlsm_helpers import settings
from vlsm_helpers.data.dataset import SegmentationDataset
from vlsm_helpers.data.samples import load_split
from vlsm_helpers.models import factory
from vlsm_helpers.models.segmenter import Segmenter
from vlsm_helpers.models.smp_unet import NO_WEIGHTS
from vlsm_helpers.models.unet_d import UNetD
from vlsm_helpers.settings.profiles import PROFILES
from vlsm_helpers.training.feature_cache import has_frozen_encoders
from vlsm_helpers.training.loop import fit
from vlsm_helpers.training.recipes import CNN

MEMBERS = (
    *("unet_d", "unet_imagenet", "smp_unet", "clipseg", "biomedclipseg", "cris"),
    *("ensemble_a", "ensemble_b", "ensemble_c"),
)
FLOAT32, BF16, COMPILED = "float32", "bfloat16", "bfloat16, compiled"
WITHOUT_TF32 = "float32 without TF32"
STEP, INFERENCE = "training step", "inference"
TOLERANCE = 1e-3  # of the logits' standard deviation, between CPU and GPU in float32 without TF32
Given = argparse.Namespace


def device() -> str:
    """Where it is measured: the GPU, or with --dry whatever there is."""
    return settings.device()


def build(name: str, given: Given) -> Segmenter:
    """A member at the size of the profile; CNNs from random weights."""
    options = {
        "unet_imagenet": {"weights": NO_WEIGHTS},
        "smp_unet": {"weights": None},
        "cris": {"image_weights": NO_WEIGHTS},
    }
    torch.manual_seed(0)
    return factory.build(name, given.profile, **options.get(name, {}))


def member(name: str, given: Given) -> list[dict]:
    """A training step and an inference in float32 and bfloat16."""
    return _measured(name, {FLOAT32: (False, None), BF16: (True, None)}, given)


def compiled(name: str, given: Given) -> list[dict]:
    """The same compiled, against bfloat16; `wanted` says what compiling took."""
    backend = "eager" if given.dry else "inductor"  # a dry run traces and generates no code
    compile_ = partial(torch.compile, dynamic=False, backend=backend)
    return _measured(name, {BF16: (True, None), COMPILED: (True, compile_)}, given)


def _measured(name: str, ways: Mapping[str, tuple[bool, Callable | None]], given: Given) -> list[dict]:
    """Rows of both kinds of call, each way with its work, its share of the limit and its peak memory."""
    model = build(name, given).to(device(), memory_format=torch.channels_last)
    logits = {way: partial(call(model, given, compile_), bf16) for way, (bf16, compile_) in ways.items()}
    trained = [one for one in model.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=device() == "cuda")
    limit, found = limits.Limit(torch.bfloat16, device(), side=64 if given.dry else 8192), []
    for kind in (STEP, INFERENCE):
        step = partial(training_step, model, optimizer=optimizer) if kind == STEP else partial(inference, model)
        calls = {way: partial(step, one) for way, one in logits.items()}
        first = {way: _seconds(one) for way, one in calls.items()}  # compiles
        taken = interleaved({way: synced(one) for way, one in (calls | limit.ways).items()}, given.rounds)
        rate = limit.rates(taken)[limits.MATMUL]
        done = limits.work(calls[next(iter(calls))])
        label = f"{kind} of {name}, {given.size} px, batch {given.batch}"
        for row in rows(label, {way: taken[way] for way in calls}):
            row |= {"gigaflop": done.total / 1e9, "share": done.total / row["seconds"] / rate}
            row |= memory(calls[row["way"]])
            if row["way"] == COMPILED:
                row["wanted"] = f"the first took {first[COMPILED]:.0f} s"
            found.append(row)
        found.append({"what": label, "way": limits.MATMUL, "wanted": f"{rate / 1e12:.3g} TFLOP/s in bfloat16"})
    return found


def call(model: Segmenter, given: Given, compile_: Callable | None) -> Callable[[bool], Tensor]:
    """The logits of one batch in float32 or under autocast, as `fit` computes them: frozen embeddings are computed before."""
    images = torch.rand(given.batch, 3, given.size, given.size, device=device())
    images = images.contiguous(memory_format=torch.channels_last)
    prompts, known = ["one small round polyp"] * given.batch, {}
    if has_frozen_encoders(model):
        with torch.no_grad():
            known = {"text": model.encode_text(prompts)}
    network = compile_(model) if compile_ else model

    def logits(bf16: bool) -> Tensor:
        with torch.autocast(device(), torch.bfloat16, enabled=bf16):
            return network(images, prompts, **known).float()

    return logits


def synced(way: Way) -> Way:
    """The same call, which ends when the GPU has done it."""

    def until_done() -> None:
        way()
        if device() == "cuda":
            torch.cuda.synchronize()

    return until_done


def memory(way: Way) -> dict[str, float]:
    """The peak of the memory that tensors take on the GPU during one call, in GB; empty on other devices."""
    if device() != "cuda":
        return {}
    torch.cuda.reset_peak_memory_stats()
    synced(way)()
    return {"gigabytes": torch.cuda.max_memory_allocated() / 1e9}


def _seconds(way: Way) -> float:
    begin = time.perf_counter()
    synced(way)()
    return time.perf_counter() - begin


class _Clocked(SegmentationDataset):
    """A dataset that notes when each epoch begins."""

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch."""
        super().set_epoch(epoch)
        self.__dict__.setdefault("begun", {}).setdefault(epoch, time.perf_counter())


def training(given: Given) -> list[dict]:
    """Seconds per image of epochs of `fit`, loading, validation and checkpoints included."""
    train = _Clocked(load_split(given.dataset, "train")[: given.images], given.size, augment=True)
    validation = SegmentationDataset(load_split(given.dataset, "val")[: given.batch], given.size)
    # One epoch more to warm up, and one whose end no other epoch's beginning shows.
    recipe = replace(CNN, epochs=given.rounds + 2, batch_size=given.batch)
    with tempfile.TemporaryDirectory() as folder:
        fit(UNetD(PROFILES[given.profile].unet_width), train, validation, Path(folder) / "run", recipe)
    begins = list(train.begun.values())[1:]
    epochs = [(later - begin) / len(train) for begin, later in pairwise(begins)]
    label = f"an epoch of UNet-D, {given.size} px, seconds per image, {len(train)} images"
    return rows(label, {"fit": epochs})


def filling(given: Given) -> list[dict]:
    """The features of BiomedCLIPSeg: filling their cache, and epochs with and without it."""
    weights = PROFILES[given.profile].biomedclip_weights
    size = 64 if given.dry else None
    measured = features.seconds(weights, given.dataset, given.images, given.rounds, size)
    label = f"features of BiomedCLIPSeg, seconds per image, {given.images} images"
    filled = {"filling the cache, one view": [measured.making]}
    return rows(label, filled) + rows(f"an epoch, {label}", measured.epochs)


def parity(given: Given) -> list[dict]:
    """Logits on this device against the CPU's, for the same weights and images."""
    found = []
    for name in MEMBERS:
        model = build(name, given).eval()
        images, prompts = torch.rand(2, 3, given.size, given.size), ["one small round polyp"] * 2
        with torch.no_grad():
            expected = model(images, prompts)
            model.to(device())
            for way in (FLOAT32, WITHOUT_TF32, BF16):
                with _tf32(way == FLOAT32), torch.autocast(device(), torch.bfloat16, enabled=way == BF16):
                    logits = model(images.to(device()), prompts).float().cpu()
                found.append(_difference(name, way, logits, expected))
        model.cpu()
    return found


def _difference(name: str, way: str, logits: Tensor, expected: Tensor) -> dict:
    deviation = ((logits - expected).abs().max() / expected.std()).item()
    flipped = ((logits > 0) != (expected > 0)).float().mean().item()
    wanted = f"largest difference {deviation:.1e} standard deviations, {flipped:.3%} of the pixels flip"
    if way == WITHOUT_TF32:
        wanted += f"; {'within' if deviation <= TOLERANCE else 'ABOVE'} {TOLERANCE:g}"
    what = f"logits of {name} against the CPU's"
    return {"what": what, "way": way, "deviation": deviation, "flipped": flipped, "wanted": wanted}


@contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    """Let convolutions compute in TF32, as torch does unless told otherwise, or not."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def two_processes(given: Given) -> list[dict]:
    """Two trainings side by side must work; one training on more processes than GPUs must work or be refused with a hint."""
    train = [
        "-m",
        "vlsm_helpers",
        "train",
        "unet_d",
        given.dataset,
        "--epochs",
        "1",
        "--limit",
        "4",
        "--batch-size",
        "2",
    ]
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *train]
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        apart = [_start(train, Path(folder) / number) for number in ("one", "two")]
        outputs = [child.communicate()[0] for child in apart]
        seconds = time.perf_counter() - begin
        together = _start(launch, Path(folder) / "both")
        said = together.communicate()[0]
    failed = [f"FAILED: {text[-300:]}" for child, text in zip(apart, outputs, strict=True) if child.returncode]
    refused = together.returncode != 0 and "hint:" in said
    launched = "works" if together.returncode == 0 else ("refused with a hint" if refused else f"FAILED: {said[-300:]}")
    return [
        {"what": "two trainings at once", "way": "two commands", "seconds": seconds, "wanted": one_line(failed)},
        {"what": "one training, two processes", "way": "torchrun", "wanted": one_line([launched])},
    ]


def one_line(texts: list[str]) -> str:
    return " ".join(" ".join(texts).split()).replace("|", "/") or "both work"


def _start(arguments: list[str], runs: Path) -> subprocess.Popen:
    environment = os.environ | {"VLSM_RUNS": str(runs), "VLSM_PROFILE": "tiny", "OMP_NUM_THREADS": "1"}
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "env": environment}
    return subprocess.Popen([sys.executable, *arguments], **options)


def all_sections() -> dict[str, Callable[[Given], list[dict]]]:
    """By name, what matters most first."""
    found = {name: partial(member, name) for name in MEMBERS}
    found |= {"training": training, "features": filling, "parity": parity, "processes": two_processes}
    return found | {f"{name}, compiled": partial(compiled, name) for name in MEMBERS}
