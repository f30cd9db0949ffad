"""Dice of the vision-language members: `python -m benchmarks.vision_language [DATASET ...]`.

Writes vision_language.csv and .md: for each dataset the mean-mask baseline, zero-shot CLIPSeg (a suitable prompt chosen on
val, unsuitable prompts, no prompt), and members trained as by `vlsm train`. Phantoms: three seeds, each with
its own training and validation images and the same test images. Real datasets: one seed. Runs are stored in VLSM_RUNS: a
second call resumes where the first stopped.
"""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import pandas as pd

from benchmarks.rows import DRAWN, HERE, SEEDS, draw_of, keep, of_test
from vlsm_helpers import settings
from vlsm_helpers.data import registry
from vlsm_helpers.data.dataset import SegmentationDataset
from vlsm_helpers.data.samples import load_split
from vlsm_helpers.evaluation.prompting import PromptedImages
from vlsm_helpers.evaluation.scoring import evaluate
from vlsm_helpers.experiments.runs import evaluate_run, train_member
from vlsm_helpers.metrics.statistics import bootstrap_mean
from vlsm_helpers.models.clipseg import CLIPSeg
from vlsm_helpers.models.mean_mask import MeanMask
from vlsm_helpers.training.run_folder import METRICS

KEYS = ["dataset", "model", "prompt", "seed"]
RIGHT = {  # everyday words for the target; the best is chosen on val
    "colonoscopy": (
        "polyp",
        "a bump",
        "a pink bump",
        "a red bump",
        "a round bump",
        "a pink lump",
        "a mound",
        "an oval",
        "a ball",
        "a round blob",
    ),
    "breast ultrasound": (
        "tumor",
        "a dark patch",
        "a black oval",
        "a dark oval",
        "a dark blob",
        "a black spot",
        "a disc",
        "a round disc",
        "an oval",
    ),
    "dermoscopy": ("skin lesion", "a brown patch", "a dark patch", "a brown blob", "a brown spot", "a stain"),
    "chest X-ray": (
        "finding",
        "a patch",
        "a round patch",
        "an irregular patch",
        "a white patch",
        "a bright patch",
        "a bright blob",
        "a white oval",
        "a bump",
        "a grey patch",
    ),
}
UNSUITABLE = ("a white star", "a blue square", "a green ring", "a yellow triangle", "the background")
MEMBERS = {  # what is trained, and how; `vlsm train` takes the same options
    "CLIPSeg, decoder": ("clipseg", {"train": "decoder"}),
    "CLIPSeg, encoders too": ("clipseg", {"train": "encoders"}),
    "BiomedCLIPSeg, decoder": ("biomedclipseg", {"train": "decoder"}),
    "BiomedCLIPSeg, encoders too": ("biomedclipseg", {"train": "encoders"}),
}


def zero_shot(dataset: str) -> Iterator[dict]:
    """Rows of the baseline and of zero-shot CLIPSeg, on the test images."""
    profile, _ = settings.choose_profile()
    splits = {
        split: SegmentationDataset(load_split(dataset, split), profile.image_size) for split in ("train", "val", "test")
    }
    yield _row(
        dataset, "mean of the training masks", "", evaluate(MeanMask(splits["train"].masks), splits["test"])["dice"]
    )
    segmenter = CLIPSeg(profile.clipseg_weights)
    val, test = (PromptedImages.of(segmenter, splits[split]) for split in ("val", "test"))
    right = RIGHT[registry.find(dataset).modality]
    best = max(right, key=lambda prompt: val.dice(val.logits(prompt)).mean())
    for kind, prompts in {
        "the noun alone": [right[0]],
        "right, chosen on val": [best],
        "unsuitable": UNSUITABLE,
        "empty": [""],
    }.items():
        for prompt in prompts:
            logits = test.logits(prompt)
            nearly_empty = float((test.marked(logits) < 0.01).mean())
            yield _row(dataset, f"CLIPSeg, zero-shot: {kind}", prompt, test.dice(logits), nearly_empty=nearly_empty)


def trained(dataset: str, label: str, seeds: Sequence[int], budget: dict) -> Iterator[dict]:
    """One row per seed: a member trained on that seed's images, evaluated on test."""
    member, options = MEMBERS[label]
    for seed in seeds:
        name = draw_of(dataset, seed)
        run = train_member(member, name, seed=seed, **options, **budget)
        evaluate_run(run)
        dice = of_test(run, name)["dice"]
        yield _row(dataset, label, "p1", dice, seed=seed, epochs=len(pd.read_csv(run / METRICS)))


def _row(dataset: str, model: str, prompt: str, dice: Iterable[float], seed: int = 0, **more) -> dict:
    mean, low, high, n = bootstrap_mean(list(dice))
    row = {
        "dataset": dataset,
        "model": model,
        "prompt": prompt,
        "seed": seed,
        "dice": mean,
        "low": low,
        "high": high,
        "n": n,
    }
    return row | more | {"hardware": settings.hardware()}


def table(rows: pd.DataFrame) -> str:
    """Markdown: one line per dataset and model; mean and standard deviation over several seeds."""
    lines = ["| dataset | model | prompt | Dice on test, % | seeds |", "|---|---|---|---|---|"]
    for (dataset, model, prompt), group in rows.groupby(["dataset", "model", "prompt"], sort=False):
        dice, first = 100 * group["dice"], 100 * group.iloc[0][["low", "high"]]
        spread = f"± {dice.std():.1f}" if len(group) > 1 else f"({first['low']:.1f} to {first['high']:.1f})"
        lines.append(f"| {dataset} | {model} | {prompt} | {dice.mean():.1f} {spread} | {len(group)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure the given datasets; both files are written after every row and keep the rows of other datasets."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("datasets", nargs="*", default=DRAWN)
    parser.add_argument("--members", nargs="*", default=list(MEMBERS)[::2], choices=list(MEMBERS))
    parser.add_argument("--epochs", type=int, help="of each training, instead of the recipe's")
    parser.add_argument("--out", type=Path, default=HERE / "vision_language.csv")
    given = parser.parse_args()
    for dataset in given.datasets:
        seeds = SEEDS if registry.find(dataset).is_phantom else SEEDS[:1]
        budget = {} if given.epochs is None else {"epochs": given.epochs}
        parts = [zero_shot(dataset)]
        parts += [trained(dataset, label, seeds, budget) for label in given.members]
        for row in chain.from_iterable(parts):
            keep(pd.DataFrame([row]), given.out, KEYS, table)
            print(row["dataset"], row["model"], repr(row["prompt"]), f"{row['dice']:.3f}", flush=True)


if __name__ == "__main__":
    main()
