"""Late fusion with few images: `python -m benchmarks.few_images [DATASET ...]`, on real datasets, in some 20 minutes of CPU time.

Draws 60 of a dataset's training images five times. Each draw is adopted as one's own images would be (36 train, 12 val, 12
test; near-duplicates together), and its members are trained as `vlsm ensemble` trains them. Rules are then fitted on the 12
validation images and compared on the very same logits: on the draw's own 12 test images, and on the dataset's official test
images, of which there are more. All are fused, and, as before there was a CNN from ImageNet, all but that one. Every image is
prompted with the noun: BUSI's own prompts tell which images are healthy.

Writes few_images.csv.gz (Dice of each test image) and .md. Trainings and logits stay in the runs folder, so that a stopped
measurement resumes, and another rule needs no training.
"""

import argparse
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.late_fusion import PIXEL_ORACLE, fit, judge
from benchmarks.rows import HERE, gain_in_words, keep
from vlsm_helpers import settings
from vlsm_helpers.data.dataset import SegmentationDataset
from vlsm_helpers.data.images import read_mask
from vlsm_helpers.data.own import adopt
from vlsm_helpers.data.samples import Sample, load_split
from vlsm_helpers.evaluation import predictions
from vlsm_helpers.evaluation.predictions import PredictionInfo, PredictionStore
from vlsm_helpers.evaluation.scoring import predict
from vlsm_helpers.experiments.late_ensemble import Ensemble, train_ensemble
from vlsm_helpers.experiments.runs import LOGITS
from vlsm_helpers.fusion import BestSingle, MeanLogit, ShrunkMean, WeightedMean
from vlsm_helpers.metrics.statistics import paired_difference, scores_by_seed
from vlsm_helpers.models import factory
from vlsm_helpers.training.run_folder import BEST

NOUNS = {"kvasir_polyp": "polyp", "busi": "tumor"}
IMAGES, DRAWS = 60, 5
EPOCHS = 20  # at most, of every training
RULES = (BestSingle(), MeanLogit(), WeightedMean(of_logits=True), ShrunkMean(of_logits=True))
BASELINE = BestSingle.name
ADDED = "unet_imagenet"
WITHOUT, WITH = f"without {ADDED}", f"with {ADDED}"
OWN, OFFICIAL = "own test images", "official test images"
KEYS = ["dataset", "seed"]


def drawn(dataset: str, seed: int) -> Path:
    """The folder of 60 adopted images of a dataset; made where it is missing."""
    root = settings.writable(settings.runs_folder() / "few_images")
    target = root / f"{dataset}_{seed}"
    if target.exists():
        return target
    samples = load_split(dataset, "train")
    chosen = np.random.default_rng(seed).choice(len(samples), IMAGES, replace=False)
    copies = root / f".{dataset}_{seed}"
    shutil.rmtree(copies, ignore_errors=True)
    for part in ("image", "mask"):
        (copies / part).mkdir(parents=True)
        for sample in (samples[one] for one in chosen):
            file = getattr(sample, part)
            shutil.copyfile(file, copies / part / f"{sample.id}{file.suffix}")
    adopt(target.name, copies / "image", copies / "mask", NOUNS[dataset], seed=seed, folder=root)
    shutil.rmtree(copies)
    return target


def measure(dataset: str, seed: int, epochs: int) -> pd.DataFrame:
    """One row per test image, members and rule: dataset, seed (of the draw), tested, members, rule, id, dice."""
    folder = drawn(dataset, seed)
    ensemble = train_ensemble(folder.name, folder=folder.parent, seed=seed, epochs=epochs)
    val = ensemble.predictions("val")
    groups = {WITHOUT: [name for name in val.names if name != ADDED], WITH: val.names}
    stores = {OWN: ensemble.predictions("test"), OFFICIAL: official(ensemble, dataset)}
    parts = []
    for members, names in groups.items():
        fitted = fit(RULES, val.of(names))
        for tested, store in stores.items():
            scores = judge(fitted, store.of(names)).drop(columns=PIXEL_ORACLE).rename_axis("id")
            rows = scores.melt(var_name="rule", value_name="dice", ignore_index=False).reset_index()
            parts.append(rows.assign(tested=tested, members=members))
    return pd.concat(parts).assign(dataset=dataset, seed=seed).round(5)


def official(ensemble: Ensemble, dataset: str) -> PredictionStore:
    """The members' logits of the official test images."""
    samples = [replace(one, prompts={ensemble.cell.prompt: NOUNS[dataset]}) for one in load_split(dataset, "test")]
    folders = [cell.folder / LOGITS / f"{dataset}-test" for cell in ensemble.cell.joined]
    for cell, folder in zip(ensemble.cell.joined, folders, strict=True):
        if not folder.exists():
            _predict(cell.folder / BEST, cell.member, samples, dataset, folder)
    return PredictionStore.open(folders, samples)


def _predict(checkpoint: Path, member: str, samples: list[Sample], dataset: str, folder: Path) -> None:
    segmenter, facts = factory.load(checkpoint)
    images = SegmentationDataset(samples, facts["image_size"], prompt=facts["prompt"])
    sizes = tuple(read_mask(one.mask).shape for one in samples)
    index = PredictionInfo(member, dataset, "test", tuple(one.id for one in samples), sizes, "of this run")
    predictions.write(folder, index, (logits.numpy() for _, logits in predict(segmenter, images)))


def table(rows: pd.DataFrame) -> str:
    """Markdown: Dice of each rule and draw, and its mean differences, with a 95 % interval, to the best member, and to the
    same rule without the CNN from ImageNet.

    Draws have test images of their own, so those are resampled; the official ones are the same for all draws: images and
    draws are resampled.
    """
    seeds = sorted(rows["seed"].unique())
    header = ["dataset", "tested on", "members", "rule", *(f"draw {seed + 1}" for seed in seeds), "mean"]
    header += ["minus the best member", f"minus {WITHOUT}"]
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    for (dataset, tested), part in rows.groupby(["dataset", "tested"], sort=False):
        scores = {key: found for key, found in part.groupby(["members", "rule"], sort=False)}
        for (members, rule), found in scores.items():
            by_draw = (100 * found.groupby("seed")["dice"].mean()).reindex(seeds)
            cells = [*(f"{one:.1f}" for one in by_draw), f"{by_draw.mean():.1f}"]
            cells.append("" if rule == BASELINE else _gain(found, scores[members, BASELINE], tested))
            cells.append("" if members == WITHOUT else _gain(found, scores[WITHOUT, rule], tested))
            lines.append(f"| {dataset} | {tested} | {members} | {rule} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _gain(found: pd.DataFrame, baseline: pd.DataFrame, tested: str) -> str:
    if tested == OFFICIAL:
        return gain_in_words(scores_by_seed(found), scores_by_seed(baseline))
    pairs = found.merge(baseline, on=["seed", "id"])
    mean, low, high, _ = paired_difference(100 * pairs["dice_x"], 100 * pairs["dice_y"])
    return f"{mean:+.1f} ({low:+.1f} to {high:+.1f})"


def main() -> None:
    """Measure the given datasets, draw by draw; both files are written after every draw and keep other rows."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("datasets", nargs="*", default=list(NOUNS))
    parser.add_argument("--draws", nargs="*", type=int, default=list(range(DRAWS)))
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of every training, at most")
    parser.add_argument("--out", type=Path, default=HERE / "few_images.csv.gz")
    given = parser.parse_args()
    for seed in given.draws:
        for dataset in given.datasets:
            keep(measure(dataset, seed, given.epochs), given.out, KEYS, table)


if __name__ == "__main__":
    main()
