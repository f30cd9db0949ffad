"""The time that cached features save: `python -m benchmarks.features`, on two cores; with --tiny a rehearsal in seconds.

Trains the decoder of a full-size BiomedCLIPSeg, random weights in the published format, on images of 224 px in batches of 8.
Epochs from cached features and epochs without them take turns, so that a busy machine slows both; medians are reported.
"""

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks.limits import Limit, work
from benchmarks.timing import interleaved
from tools.random_checkpoints import write_biomedclip
from vlsm_helpers import settings
from vlsm_helpers.data.dataset import SegmentationDataset
from vlsm_helpers.data.samples import load_split
from vlsm_helpers.models.biomedclipseg import BiomedCLIPSeg
from vlsm_helpers.settings.precision import training_precision
from vlsm_helpers.training.feature_cache import PromptEmbeddings, cache_features
from vlsm_helpers.training.loop import segmentation_loss

THREADS, BATCH, SIZE = 2, 8, 224
COMPUTED, CACHED = "without the cache", "from cached features"


def epoch(
    segmenter: BiomedCLIPSeg, dataset: Dataset, texts: PromptEmbeddings, optimizer: torch.optim.Optimizer
) -> None:
    """An epoch of the steps that `fit` takes, without validation and checkpoints."""
    loss, device = segmentation_loss(), segmenter.mean.device
    segmenter.train()
    for batch in DataLoader(dataset, BATCH):
        cached = {"features": tuple(one.to(device) for one in batch["features"])} if "features" in batch else {}
        with torch.autocast(device.type, torch.bfloat16, enabled=training_precision(device.type).name == "bf16"):
            logits = segmenter(batch["image"].to(device), batch["prompt"], text=texts(batch["prompt"]), **cached)
        loss(logits.float(), batch["mask"].to(device)).backward()
        torch.nn.utils.clip_grad_norm_(segmenter.decoder.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()


def largest_difference(segmenter: BiomedCLIPSeg, cached: Dataset, computed: Dataset) -> float:
    """The largest difference between logits from cached and from newly computed features, on the first batch."""
    batch, same = (next(iter(DataLoader(dataset, BATCH))) for dataset in (cached, computed))
    segmenter.eval()
    with torch.no_grad():
        device = segmenter.mean.device
        features = tuple(one.to(device) for one in batch["features"])
        one = segmenter(batch["image"].to(device), batch["prompt"], features=features)
        return (one - segmenter(same["image"].to(device), same["prompt"])).abs().max().item()


class Measured(NamedTuple):
    """The results of `seconds`, per image."""

    epochs: dict[str, list[float]]  # by way, seconds of each epoch
    making: float  # seconds to compute the features of one augmentation
    megabytes: float  # of the features of one augmentation
    difference: float  # largest, between logits from cached and from newly computed features
    size: int  # side in pixels
    encoding: float  # the share of the limit (see `limits`) that the encoder reaches while the cache is filled


def seconds(weights: Path | str, dataset: str, images: int, rounds: int, size: int | None = None) -> Measured:
    """Fill a cache, then alternate epochs without and with it; the cache is deleted."""
    segmenter = BiomedCLIPSeg(weights)
    computed = SegmentationDataset(load_split(dataset, "train")[:images], size or SIZE)
    begin = time.perf_counter()
    cached = cache_features(segmenter, computed)
    making = (time.perf_counter() - begin) / len(computed)
    megabytes = sum(path.stat().st_size for path in cached.folders[0].iterdir()) / 1e6 / len(computed)
    difference = largest_difference(segmenter, cached, computed)
    texts = PromptEmbeddings(segmenter)
    optimizer = torch.optim.AdamW(segmenter.decoder.parameters(), lr=1e-3)
    ways = {
        name: partial(epoch, segmenter, some, texts, optimizer)
        for name, some in ((COMPUTED, computed), (CACHED, cached))
    }
    taken = {name: [one / len(computed) for one in values] for name, values in interleaved(ways, rounds).items()}
    shutil.rmtree(cached.folders[0])  # nobody needs features of random weights
    return Measured(
        taken, making, megabytes, difference, segmenter.image_size, share_of_encoding(segmenter, computed, rounds)
    )


def share_of_encoding(segmenter: BiomedCLIPSeg, dataset: SegmentationDataset, rounds: int) -> float:
    """The share of the limit that `encode_images` reaches for one batch, in turns with the limit itself."""
    device = segmenter.mean.device
    images = next(iter(DataLoader(dataset, BATCH)))["image"].to(device)
    limit = Limit(device=str(device), side=1024 if segmenter.image_size == SIZE else 64)

    def encode() -> None:
        with torch.no_grad():
            segmenter.encode_images(images)[-1].sum().item()  # a GPU answers when it is done

    taken = interleaved({"encode": encode} | limit.ways, rounds)
    return work(encode).share(statistics.median(taken["encode"]), limit.rates(taken))


def measure(weights: Path, dataset: str, images: int, rounds: int) -> str:
    """The results as Markdown."""
    found = seconds(weights, dataset, images, rounds)
    lines = [
        f"BiomedCLIPSeg, {found.size} px, decoder only, batch {BATCH}, {images} images, {rounds} epochs each.",
        f"{settings.hardware()}, torch {torch.__version__}.",
        *table(found.epochs),
        f"Making the cache, once: {found.making:.4f} s and {found.megabytes:.2f} MB per image and augmentation; the encoder "
        f"reaches {found.encoding:.0%} of what this machine multiplies.",
        f"Logits from cached features and from newly computed ones differ by at most {found.difference:.1e}.",
    ]
    return "\n".join(lines)


def table(seconds: dict[str, list[float]]) -> list[str]:
    """Lines of Markdown: one row per way, then the speed-up of the cache."""
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    rows = [
        f"| {name} | {medians[name]:.4f} | {min(taken):.4f} to {max(taken):.4f} |" for name, taken in seconds.items()
    ]
    head = ["", "| an epoch | seconds per image, median | fastest to slowest |", "|---|---|---|"]
    return [*head, *rows, "", f"From the cache {medians[COMPUTED] / medians[CACHED]:.1f} times faster."]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--tiny", action="store_true", help="on miniature random weights")
    parser.add_argument("--dataset", default=settings.DEFAULT_DATASET)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args(arguments)
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        write_biomedclip(Path(folder) / "biomedclip", tiny=given.tiny)
        print(measure(Path(folder) / "biomedclip", given.dataset, given.images, given.rounds))


if __name__ == "__main__":
    main()
