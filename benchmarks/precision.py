"""Bfloat16 and torch.compile: the time that they save, and the change of Dice. Section `numbers` of `benchmarks.bench`."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks.timing import clock, interleaved, rows
from vlsm_helpers import settings
from vlsm_helpers.data.dataset import SegmentationDataset
from vlsm_helpers.data.images import read_mask
from vlsm_helpers.data.samples import load_split
from vlsm_helpers.evaluation.prompting import dice_curve
from vlsm_helpers.experiments.runs import train_member
from vlsm_helpers.models import factory
from vlsm_helpers.models.unet_d import UNetD
from vlsm_helpers.settings.profiles import Profile
from vlsm_helpers.training.loop import segmentation_loss
from vlsm_helpers.training.run_folder import BEST

FLOAT32, BF16, COMPILED, BOTH = "float32", "bfloat16", "compiled", "compiled, bfloat16"
WAYS = {FLOAT32: (False, False), BF16: (True, False), COMPILED: (False, True), BOTH: (True, True)}  # bf16, compiled
MEMBERS = ("unet_d", "clipseg", "biomedclipseg", "ensemble_a")
ALLOWED, BATCH = 0.002, 10  # of Dice; images

Call = Callable[..., Tensor]


def calls(model: nn.Module) -> dict[str, Call]:
    """By way, the model's call. Shapes are constant within a run, so compiling is static."""
    compiled = torch.compile(model, dynamic=False)

    def call(network: Call, bf16: bool, images: Tensor, prompts: list[str] | str) -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
            return network(images, prompts).float()

    return {way: partial(call, compiled if is_compiled else model, bf16) for way, (bf16, is_compiled) in WAYS.items()}


def steps(profile: Profile, batch: int, rounds: int) -> list[dict]:
    """Seconds of UNet-D's training step in each way, and the number of steps after which compiling pays off."""
    size = profile.image_size
    model = UNetD(profile.unet_width).to(memory_format=torch.channels_last).train()
    images = torch.rand(batch, 3, size, size).contiguous(memory_format=torch.channels_last)
    loss_of, masks = segmentation_loss(), torch.zeros(batch, 1, size, size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step(call: Call) -> None:
        loss_of(call(images, ""), masks).backward()
        optimizer.step()
        optimizer.zero_grad()

    ways = {way: partial(step, call) for way, call in calls(model).items()}
    first = {way: clock(once) for way, once in ways.items()}  # includes compilation
    found = rows(f"training step of UNet-D, {size} px, batch {batch}", interleaved(ways, rounds))
    for row, plain in zip(found[2:], found[:2], strict=True):
        saved = plain["seconds"] - row["seconds"]
        paid = f"pays after {first[row['way']] / saved:.0f} steps" if saved > 0 else "never pays"
        row["wanted"] = f"compiling took {first[row['way']]:.0f} s: {paid}"
    return found


def dice(dataset: str, images: int, epochs: int | None, rounds: int) -> Iterator[dict]:
    """For each trained member and way: seconds per batch, and the change in Dice of the test images."""
    profile, _ = settings.choose_profile()
    samples = load_split(dataset, "test")[:images]
    test = SegmentationDataset(samples, profile.image_size, prompt="p1")
    batches = list(DataLoader(test, BATCH))
    masks = [read_mask(sample.mask) for sample in samples]
    for name in MEMBERS:
        with _temporary_runs():
            model = factory.load(train_member(name, dataset, epochs=epochs, limit=images) / BEST)[0]
        ways, scores = calls(model.eval()), {}
        for way, call in ways.items():
            with torch.no_grad():
                logits = torch.cat([call(batch["image"], batch["prompt"]) for batch in batches])
            scores[way] = np.array(
                [dice_curve(one[0], mask, [0.5])[0] for one, mask in zip(logits, masks, strict=True)]
            )
        first = batches[0]
        again = {way: partial(_without_gradients, call, first["image"], first["prompt"]) for way, call in ways.items()}
        mean = scores[FLOAT32].mean()
        for row in rows(f"inference of {name}, batch {BATCH}, Dice {mean:.3f}", interleaved(again, rounds)):
            change = scores[row["way"]] - scores[FLOAT32]
            changed = f"{change.mean():+.4f}, of one image at most {np.abs(change).max():.4f}"
            yield row | {"wanted": f"Dice within {ALLOWED}: {changed}" if row["way"] != FLOAT32 else ""}


def _without_gradients(call: Call, images: Tensor, prompts: list[str]) -> None:
    with torch.no_grad():
        call(images, prompts)


@contextmanager
def _temporary_runs() -> Iterator[None]:
    """Train into a temporary folder."""
    before = os.environ.get("VLSM_RUNS")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["VLSM_RUNS"] = folder
        try:
            yield
        finally:
            os.environ.pop("VLSM_RUNS")
            if before is not None:
                os.environ["VLSM_RUNS"] = before
