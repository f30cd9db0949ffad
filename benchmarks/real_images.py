"""Members on real images under one protocol: `python -m benchmarks.real_images [DATASET ...]`, hours of CPU time in all.

One protocol for every member: the same images, size, augmentation and prompt (the class name), and the learning rate of three
(RATES) whose Dice on validation is highest after SCREEN epochs with seed 0 and the dataset of CHOOSE. It is kept until Dice on
validation has not risen for PATIENCE epochs; from the best epoch on, a tenth of it is, until the same happens again (as the
error's plateaus decide in He et al., Deep Residual Learning, 2016). Each part has at most EPOCHS epochs; one whose best epoch
lies in the last fifth of them was cut off: the table marks it. Published recipes, and those of `vlsm train`, have other budgets
and are not compared.

Writes real_images.csv.gz (Dice of each test image, and of each training its rate, epochs, steps, CPU minutes) and .md. Runs stay
in the runs folder: a second call resumes. One job takes one thread: start several with different datasets or seeds.
"""

import argparse
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from benchmarks.rows import SEEDS, keep, mean_in_words, of_test
from vlsm_helpers import settings
from vlsm_helpers.data.dataset import SegmentationDataset
from vlsm_helpers.data.samples import load_split
from vlsm_helpers.experiments.reference import MEASURED
from vlsm_helpers.experiments.runs import evaluate_run, train_member
from vlsm_helpers.experiments.runs import train as continue_training
from vlsm_helpers.io import atomic
from vlsm_helpers.metrics.statistics import scores_by_seed
from vlsm_helpers.models import factory
from vlsm_helpers.models.segmenter import trainable_parameters
from vlsm_helpers.training.recipes import CNN, CNN_IMAGENET, DECODER_ONLY, FULL, FULL_LIGHT, Recipe
from vlsm_helpers.training.run_folder import BEST, METRICS

DATASETS = ("kvasir_polyp", "clinicdb_polyp", "busi")
IMAGES = {"first 200": 200, "all": None}  # of training
RATES = (3e-4, 1e-3, 3e-3)
CHOOSE = ("kvasir_polyp", "first 200")  # the dataset on which each member's rate is chosen
SCREEN = 10  # epochs of each of the three trainings by which a rate is chosen
EPOCHS, PATIENCE, LATE = 120, 10, 0.8
MINUTES = "cpu_minutes.txt"  # in a run's folder
KEYS = ["dataset", "images", "model", "seed"]


@dataclass(frozen=True)
class Entrant:
    """A member with the recipe that says how it is batched, and its options."""

    member: str
    recipe: Recipe
    options: tuple[tuple[str, str], ...] = ()


ENTRANTS = {
    "CLIPSeg": Entrant("clipseg", DECODER_ONLY),
    "BiomedCLIPSeg": Entrant("biomedclipseg", DECODER_ONLY),
    "CLIPSeg, encoders": Entrant("clipseg", FULL, (("train", "encoders"),)),
    "UNet-D": Entrant("unet_d", CNN),
    "light CNN from ImageNet": Entrant("unet_imagenet", CNN_IMAGENET),
    "CRIS": Entrant("cris", FULL_LIGHT, (("train", "encoders"),)),
    "A": Entrant("ensemble_a", CNN),
    "B": Entrant("ensemble_b", CNN),
    "C": Entrant("ensemble_c", CNN),
}
DEFAULT = ("CLIPSeg", "BiomedCLIPSeg", "UNet-D", "light CNN from ImageNet", "CRIS")


def protocol(entrant: Entrant, rate: float, epochs: int) -> Recipe:
    """The entrant's recipe with the budget and the schedule that all share."""
    return replace(
        entrant.recipe,
        name=f"protocol_{rate:g}",
        learning_rate=rate,
        schedule="constant",
        epochs=epochs,
        patience=PATIENCE,
        weight_decay=CNN.weight_decay,
    )


def run_folder(dataset: str, images: str, label: str, seed: int, rate: float, epochs: int = EPOCHS) -> Path:
    """The folder, in the runs folder, of a training of at most `epochs` epochs at one rate."""
    name = re.sub("[ ,]+", "-", f"real-{dataset}-{images}-{label.lower()}-{rate:g}-{epochs}-seed{seed}")
    return settings.runs_folder() / name


def fine_folder(run: Path) -> Path:
    """The folder of the training that continues the one in `run` at a tenth of its rate."""
    return run.with_name(f"{run.name}-fine")


def train(dataset: str, images: str, label: str, seed: int, rate: float, epochs: int) -> Path:
    """The folder of the training at this rate, trained unless it is finished."""
    entrant = ENTRANTS[label]
    folder = run_folder(dataset, images, label, seed, rate, epochs)
    with _cpu_minutes(folder):
        return train_member(
            entrant.member,
            dataset,
            run=folder.name,
            recipe=protocol(entrant, rate, epochs),
            limit=IMAGES[images],
            seed=seed,
            **dict(entrant.options),
        )


def fine_tune(dataset: str, images: str, label: str, seed: int, rate: float, epochs: int) -> Path:
    """The folder of the training from the best epoch of `train` on, at a tenth of the rate."""
    start = train(dataset, images, label, seed, rate, epochs)
    folder, entrant = fine_folder(start), ENTRANTS[label]
    segmenter, facts = factory.load(start / BEST)
    training, validation = (
        SegmentationDataset(load_split(dataset, split)[:limit], facts["image_size"], augment=limited, seed=seed)
        for split, limit, limited in (("train", IMAGES[images], True), ("val", None, False))
    )
    with _cpu_minutes(folder):
        continue_training(segmenter, training, validation, folder, protocol(entrant, rate / 10, epochs), seed=seed)
    return folder


@contextmanager
def _cpu_minutes(folder: Path) -> Iterator[None]:
    """Add the CPU time of epochs that are trained inside to the run's own record, also when they are stopped."""
    trained, minutes, begin = _epochs(folder), read_minutes(folder), time.process_time()
    try:
        yield
    finally:
        if _epochs(folder) > trained:
            minutes += (time.process_time() - begin) / 60
            atomic.write_text(folder / MINUTES, f"{minutes:.3f}\n")


def _epochs(folder: Path) -> int:
    return len(pd.read_csv(folder / METRICS)) if (folder / METRICS).exists() else 0


def read_minutes(folder: Path) -> float:
    """CPU minutes of a run's training and validation so far."""
    return float((folder / MINUTES).read_text()) if (folder / MINUTES).exists() else 0.0


def screened(label: str, epochs: int = SCREEN) -> dict[float, float]:
    """The best Dice on validation of each rate after so many epochs, trained unless they are finished."""
    runs = {rate: train(*CHOOSE, label, 0, rate, epochs) for rate in RATES}
    return {rate: float(pd.read_csv(run / METRICS)["val_dice"].max()) for rate, run in runs.items()}


def measure(
    dataset: str, images: str, label: str, seed: int, tried: Mapping[float, float], epochs: int
) -> pd.DataFrame:
    """One row per test image: KEYS, id, dice, foreground, and of the training rate, val_dice, steps, minutes, parameters.

    `foreground`: the share of the image that the ground truth covers, 0 without a lesion. `epochs` and `best_epoch` are of the
    first part, `fine_epochs` and `best_fine_epoch` of the second. `tried`: what `screened` found; the best rate is used, and all
    three results are columns, too.
    """
    rate = max(tried, key=tried.get)
    run = fine_tune(dataset, images, label, seed, rate, epochs)
    start = run_folder(dataset, images, label, seed, rate, epochs)
    evaluate_run(run)
    first, fine = (pd.read_csv(one / METRICS) for one in (start, run))
    batches = -(-len(load_split(dataset, "train")[: IMAGES[images]]) // ENTRANTS[label].recipe.batch_size)
    return (
        of_test(run, dataset)[["id", "foreground", "dice"]]
        .assign(dataset=dataset, images=images, model=label, seed=seed, rate=rate)
        .assign(val_dice=fine["val_dice"].max(), epochs=len(first), best_epoch=1 + first["val_dice"].argmax())
        .assign(fine_epochs=len(fine), best_fine_epoch=1 + fine["val_dice"].argmax())
        .assign(steps=batches * (len(first) + len(fine)), minutes=read_minutes(start) + read_minutes(run))
        .assign(parameters=trainable_parameters(factory.load(run / BEST)[0]))
        .assign(**{f"screened_{one:g}": found for one, found in tried.items()})
        .round({"dice": 5, "foreground": 5, "val_dice": 5, "minutes": 2} | {f"screened_{one:g}": 5 for one in tried})
    )


def table(rows: pd.DataFrame) -> str:
    """Markdown: one line per dataset, number of images and model, over the seeds that are done.

    Datasets that have images without a lesion, as BUSI, get a second line with Dice of the other images alone.
    """
    lines = [
        "| dataset | training images | model | Dice on test, % (95 % CI) | seeds | rate | best epoch of | then best of | steps "
        "| CPU minutes | million parameters |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (dataset, images, model), group in rows.groupby(["dataset", "images", "model"], sort=False):
        runs, lesions = group.groupby("seed").first(), group[group["foreground"] > 0]
        parts = {dataset: group} | ({f"{dataset}, lesions only": lesions} if len(lesions) < len(group) else {})
        training = (
            f"{len(runs)} | {runs['rate'].iloc[0]:g} "
            f"| {_epochs_in_words(runs['best_epoch'], runs['epochs'])} "
            f"| {_epochs_in_words(runs['best_fine_epoch'], runs['fine_epochs'])} "
            f"| {runs['steps'].mean():.0f} | {runs['minutes'].mean():.1f} | {runs['parameters'].iloc[0] / 1e6:.2f}"
        )
        for name, part in parts.items():
            lines.append(f"| {name} | {images} | {model} | {mean_in_words(scores_by_seed(part))} | {training} |")
    return "\n".join(lines)


def _epochs_in_words(best: pd.Series, all_: pd.Series) -> str:
    """ "20 of 30, 119 of 120 (cut off)"; one entry per seed."""
    pairs = zip(best.astype(int), all_.astype(int), strict=True)
    return ", ".join(f"{one} of {last}{' (cut off)' if one > LATE * EPOCHS else ''}" for one, last in pairs)


def plan(
    datasets: Sequence[str], images: Sequence[str], models: Sequence[str], seeds: Sequence[int]
) -> Iterator[tuple[str, str, str, int]]:
    """Seed by seed, so that what is done at any moment compares all members."""
    for seed in seeds:
        for dataset in datasets:
            for number in images:
                for model in models:
                    yield dataset, number, model, seed


def main() -> None:
    """Train and score what is missing; both files are written after every training."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("datasets", nargs="*", default=DATASETS)
    parser.add_argument("--images", nargs="*", default=list(IMAGES), choices=list(IMAGES))
    parser.add_argument("--models", nargs="*", default=list(DEFAULT), choices=list(ENTRANTS))
    parser.add_argument("--seeds", nargs="*", type=int, default=list(SEEDS))
    parser.add_argument("--out", type=Path, default=MEASURED / "real_images.csv.gz")
    given = parser.parse_args()
    for dataset, images, model, seed in plan(given.datasets, given.images, given.models, given.seeds):
        keep(measure(dataset, images, model, seed, screened(model), EPOCHS), given.out, KEYS, table)


if __name__ == "__main__":
    main()
