"""A run: one member trained on one dataset, scored, and kept in runs/NAME/."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

from vlsm_helpers import settings
from vlsm_helpers.data.samples import load_split
from vlsm_helpers.data.segmentation import SegmentationDataset
from vlsm_helpers.errors import SettingsError
from vlsm_helpers.evaluation import score_split, summarise
from vlsm_helpers.models import members
from vlsm_helpers.recipes import RECIPES
from vlsm_helpers.training import BEST, fit

PER_IMAGE = "per_image.csv"
DEFAULT_PROMPT = "p1"  # the class name alone: it says nothing of this image's mask


def train_member(
    member: str,
    dataset: str,
    *,
    run: str | None = None,
    recipe: str = "ours",
    size: int | None = None,
    width: float | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    limit: int | None = None,
    prompt: str = DEFAULT_PROMPT,
    seed: int = 0,
) -> Path:
    """Train a member on a dataset's train split and choose its best epoch on val; the run's folder.

    `size`: pixels a side of the training images, and `width`: UNet-D's channel multiplier, by default the profile's;
    `limit`: at most so many training images; `epochs` and `batch_size` replace the recipe's. An unfinished run of the same
    name and settings goes on.
    """
    if recipe not in RECIPES:
        raise SettingsError(f"There is no recipe {recipe!r}.", mend=f"use one of {', '.join(RECIPES)}.")
    changes = {key: value for key, value in {"epochs": epochs, "batch_size": batch_size}.items() if value is not None}
    chosen = replace(RECIPES[recipe], **changes)
    profile, _ = settings.choose_profile()
    size = size or profile.image_size
    if member == "unet_d":
        width = width or profile.unet_width
    settings.seed_everything(seed)
    segmenter = members.build(member, **({} if width is None else {"width": width}))
    train = load_split(dataset, "train")[:limit]
    validation = load_split(dataset, "val")
    name = run or f"{dataset}-{member}-{recipe}-{size}px-seed{seed}"
    folder = settings.runs_folder() / name
    fit(
        segmenter,
        SegmentationDataset(train, size, prompt=prompt, augment=chosen.augment, seed=seed),
        SegmentationDataset(validation, size, prompt=prompt),
        folder,
        chosen,
        seed=seed,
    )
    return folder


def evaluate_run(run: Path, split: str = "test", dataset: str | None = None) -> pd.DataFrame:
    """Score the run's best weights on a split, of its own dataset or another; the table of `evaluation.summarise`.

    The rows of each image go to the run's per_image.csv (with the columns dataset and split), in place of older ones.
    """
    run = Path(run)
    segmenter, facts = members.load(run / BEST)
    names = [dataset] if dataset else facts["dataset"]
    samples = [sample for name in names for sample in load_split(name, split)]
    segmenter.to(settings.device(), memory_format=torch.channels_last)
    table = score_split(segmenter, SegmentationDataset(samples, facts["image_size"], prompt=facts["prompt"]))
    label = "+".join(names)
    _keep(run / PER_IMAGE, table.assign(dataset=label, split=split))
    summary = summarise(table, model=facts["member"]["name"], split=split)
    return summary.assign(dataset=label)


def _keep(path: Path, rows: pd.DataFrame) -> None:
    if path.exists():
        older = pd.read_csv(path, dtype={"id": str})
        same = (older["dataset"] == rows["dataset"].iloc[0]) & (older["split"] == rows["split"].iloc[0])
        rows = pd.concat([older[~same], rows])
    rows.to_csv(path, index=False)
