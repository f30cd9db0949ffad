"""A run: one member trained on one dataset, scored, and stored in runs/NAME/."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

from vlsm_helpers import settings
from vlsm_helpers.data.dataset import SegmentationDataset
from vlsm_helpers.data.images import read_mask
from vlsm_helpers.data.samples import Sample, has_classes, load_split
from vlsm_helpers.errors import SettingsError
from vlsm_helpers.evaluation import predictions
from vlsm_helpers.evaluation.scoring import check_scores, evaluate, predict, save_scores, summarise
from vlsm_helpers.experiments.classes import evaluate_classes
from vlsm_helpers.models import factory
from vlsm_helpers.models.biomedclipseg import BiomedCLIPSeg, warm_start
from vlsm_helpers.models.clipseg import CLIPSeg
from vlsm_helpers.models.cris import CRIS, EFFICIENTNET
from vlsm_helpers.models.segmenter import Segmenter
from vlsm_helpers.models.smp_unet import ImageNetUNet, SMPSegmenter
from vlsm_helpers.models.state import fingerprint, trainable_state_dict
from vlsm_helpers.models.unet_d import UNetD
from vlsm_helpers.settings.profiles import TINY_WEIGHTS, Profile
from vlsm_helpers.training.feature_cache import VIEWS, CachedDataset, cache_features, has_frozen_encoders
from vlsm_helpers.training.loop import fit_owned
from vlsm_helpers.training.recipes import (
    CNN,
    CNN_IMAGENET,
    CNN_PRETRAINED,
    DECODER_ONLY,
    FULL,
    FULL_LIGHT,
    FULL_LOW_LR,
    FULL_TENTH,
    OLD_NAMES,
    Recipe,
    find_recipe,
)
from vlsm_helpers.training.run_folder import BEST, RunFolder

PER_IMAGE = "per_image.csv"
LOGITS = "logits"  # the folder of the run's predictions
DEFAULT_PROMPT = "p1"  # the class name alone, which tells nothing about the individual mask
RANGES = {  # of numbers: the smallest and largest that a training can use
    "size": (16, 4096),
    "width": (0.01, 8),
    "epochs": (1, 1_000_000),
    "batch_size": (1, 1_000_000),
    "limit": (1, 1_000_000_000),
    "seed": (0, 2**32 - 1),  # what NumPy takes
}


def train_member(
    member: str,
    dataset: str,
    *,
    run: str | None = None,
    recipe: Recipe | str | None = None,
    size: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    limit: int | None = None,
    prompt: str = DEFAULT_PROMPT,
    warm_start: bool | None = None,
    seed: int = 0,
    **options,
) -> Path:
    """Train a member on a dataset's train split and choose its best epoch on val; the run's folder.

    `dataset` may be several, joined by "+", whose images are then pooled.
    `recipe`: one of `RECIPES` or its name, by default what fits the member (see `fitting_recipe`); features of frozen
    encoders are cached. `epochs` and `batch_size` replace the recipe's. `size`: pixels per side of the training images, by
    default the profile's; `limit`: maximum images per dataset. `options`: the member's own (`train`, `weights`, `width` ...),
    over the profile's.
    `warm_start`: whether the decoder of BiomedCLIPSeg, an ensemble's too, starts from the profile's CLIPSeg; by default it
    does. An unfinished run of the same name and settings resumes. Raises SettingsError for an unknown recipe, member or
    option, and for a number out of range; and what `fit` raises.
    """
    _check_ranges(size=size, epochs=epochs, batch_size=batch_size, limit=limit, seed=seed, width=options.get("width"))
    named = find_recipe(recipe) if isinstance(recipe, str) else recipe
    profile, _ = settings.choose_profile()
    size = profile.image_size if size is None else size
    settings.seed_everything(seed)
    segmenter = factory.build(member, profile, **options)
    _start(segmenter, warm_start, profile)
    chosen = _chosen(segmenter, named, epochs=epochs, batch_size=batch_size)
    names = (dataset, member, segmenter.config.get("train"), "{recipe}", f"{size}px", f"seed{seed}")
    folder = settings.runs_folder() / run if run else _default_folder("-".join(filter(None, names)), chosen.name)
    with RunFolder.lock(folder):  # from here on: what takes long is refused before it begins
        with settings.process().main_process_first():  # of several processes one decodes and caches, the others read
            training, validation = (
                SegmentationDataset(samples, size, prompt=prompt, augment=augment, seed=seed)
                for samples, augment in (
                    (_samples(dataset.split("+"), "train", limit), chosen.augment),
                    (_samples(dataset.split("+"), "val"), False),
                )
            )
        _train(segmenter, training, validation, folder, chosen, seed)
    return folder


def train(
    segmenter: Segmenter,
    training: SegmentationDataset | CachedDataset,
    validation: SegmentationDataset | CachedDataset,
    folder: Path,
    recipe: Recipe | str | None = None,
    *,
    epochs: int | None = None,
    batch_size: int | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Train a segmenter in place: choose a recipe, cache the features of frozen encoders, then `fit`.

    `recipe`: one of `RECIPES`, or its name; by default the one that fits the segmenter (see `fitting_recipe`). `epochs` and
    `batch_size` replace the recipe's. Augmentation is the training dataset's own (`augment=True`).
    Returns metrics.csv of the folder: one row per epoch. The segmenter is left with the weights of its best epoch, in
    evaluation mode. An unfinished run in `folder` with the same settings resumes, a finished one is loaded; the images are
    among the settings. Raises SettingsError for an unknown recipe, TrainingError where the folder holds a run with other
    settings and for a loss that is not finite, BusyError where another process trains in it.

    >>> import tempfile
    >>> import vlsm_helpers as vlsm
    >>> training, validation = (
    ...     vlsm.SegmentationDataset(vlsm.load_split("phantom_endoscopy", split)[:8], 64, augment=split == "train")
    ...     for split in ("train", "val")
    ... )
    >>> history = vlsm.train(vlsm.build("unet_d", "tiny"), training, validation, tempfile.mkdtemp(), epochs=1)
    training 185,689 of 185,689 parameters in float32 (the default on a CPU)
    >>> list(history.columns)
    ['epoch', 'train_loss', 'learning_rate', 'val_dice', 'val_bce']
    """
    chosen = _chosen(segmenter, recipe, epochs=epochs, batch_size=batch_size)
    with RunFolder.lock(Path(folder)):
        return _train(segmenter, training, validation, Path(folder), chosen, seed)


def _train(
    segmenter: Segmenter,
    training: SegmentationDataset | CachedDataset,
    validation: SegmentationDataset | CachedDataset,
    folder: Path,
    recipe: Recipe,
    seed: int,
) -> pd.DataFrame:
    """Cache the features of frozen encoders, then fit, in a folder whose lock the caller holds."""
    if has_frozen_encoders(segmenter):
        with settings.process().main_process_first():  # of several processes one computes the features, the others read
            if not isinstance(training, CachedDataset):
                training = cache_features(segmenter, training, recipe.views(VIEWS))
            if not isinstance(validation, CachedDataset):
                validation = cache_features(segmenter, validation)
    return fit_owned(segmenter, training, validation, folder, recipe, seed=seed)


def _chosen(segmenter: Segmenter, recipe: Recipe | str | None, **changes: int | None) -> Recipe:
    """The recipe, or the one that fits, with the changes that are given."""
    if recipe is None:
        recipe = fitting_recipe(segmenter)
    elif isinstance(recipe, str):
        recipe = find_recipe(recipe)
    return replace(recipe, **{name: value for name, value in changes.items() if value is not None})


def _default_folder(pattern: str, recipe: str) -> Path:
    """The folder named by the run's settings; the one that version 0.1.0 named by the recipe's old name, where that exists."""
    old_names = [old for old, new in OLD_NAMES.items() if new == recipe]
    folders = [settings.runs_folder() / pattern.replace("{recipe}", name) for name in (recipe, *old_names)]
    return next((folder for folder in folders if folder.is_dir()), folders[0])


def _check_ranges(**given: float | None) -> None:
    """Raise SettingsError, naming the option, for a number that no training can use."""
    for name, value in given.items():
        least, most = RANGES[name]
        whole = name != "width"
        if value is not None and not (least <= value <= most and (not whole or value == int(value))):
            option, kind = name.replace("_", "-"), "a whole number" if whole else "a number"
            raise SettingsError(f"The {option} is {value!r}.", hint=f"--{option}: give {kind} from {least} to {most}.")


def _samples(datasets: Sequence[str], split: str, limit: int | None = None) -> list[Sample]:
    """The samples of a split of several datasets, at most `limit` of each."""
    return [sample for name in datasets for sample in load_split(name, split)[:limit]]


def fitting_recipe(segmenter: Segmenter) -> Recipe:
    """The recipe for what of a segmenter trains: CNN for a CNN, an ensemble's too; where it starts from pretrained weights
    CNN_PRETRAINED, and CNN_IMAGENET for the light one; DECODER_ONLY for a decoder on frozen encoders, FULL where encoders
    train, and FULL_LOW_LR where those are not the shipped miniatures and all of their parameters train; for the encoders of
    CRIS FULL_TENTH, or FULL_LIGHT for the light ones."""
    if not segmenter.trains_encoders:
        if isinstance(segmenter, SMPSegmenter) and segmenter.started_from:
            return CNN_IMAGENET if isinstance(segmenter, ImageNetUNet) else CNN_PRETRAINED
        has_cnn = any(isinstance(module, UNetD) for module in segmenter.modules())
        return CNN if has_cnn or not segmenter.encoders() else DECODER_ONLY
    if isinstance(segmenter, CRIS):
        return FULL_LIGHT if segmenter.config["image_encoder"] == EFFICIENTNET else FULL_TENTH
    published = segmenter.config["weights"] != TINY_WEIGHTS and segmenter.config["train"] == "encoders"
    return FULL_LOW_LR if published else FULL


def _start(segmenter: Segmenter, warm: bool | None, profile: Profile) -> None:
    """Give each BiomedCLIPSeg in it the decoder of the profile's CLIPSeg, unless `warm` is False. Raises SettingsError."""
    parts = [module for module in segmenter.modules() if isinstance(module, BiomedCLIPSeg)]
    if warm and not parts:
        what = "Only a decoder of biomedclipseg, or of an ensemble with it, can start from another one."
        raise SettingsError(what, hint="leave warm_start out.")
    for part in parts if warm is not False else []:
        warm_start(part, CLIPSeg(profile.clipseg_weights))
        segmenter.started_from = part.started_from


def evaluate_run(run: Path, split: str = "test", dataset: str | None = None) -> pd.DataFrame:
    """Score the run's best weights on a split, of its own dataset or another; the table of `scoring.summarise`.

    The rows of each image go to the run's per_image.csv (with the columns dataset and split), in place of older ones. Raises
    DataError where that file holds something else.
    """
    run = Path(run)
    check_scores(run / PER_IMAGE)
    segmenter, facts = factory.load(run / BEST)
    names = [dataset] if dataset else facts["dataset"]
    samples = _samples(names, split)
    segmenter.to(settings.device(), memory_format=torch.channels_last)
    table = evaluate(segmenter, SegmentationDataset(samples, facts["image_size"], prompt=facts["prompt"]))
    label = "+".join(names)
    save_scores(run / PER_IMAGE, table.assign(dataset=label, split=split))
    summary = summarise(table, model=facts["member"]["name"], split=split)
    return summary.assign(dataset=label)


def evaluate_run_classes(run: Path, split: str = "test", dataset: str | None = None) -> pd.DataFrame | None:
    """The rows of `classes.evaluate_classes` for the run's best weights on a split; None where the images have no classes."""
    segmenter, facts = factory.load(Path(run) / BEST)
    samples = _samples([dataset] if dataset else facts["dataset"], split)
    if not has_classes(samples):
        return None
    segmenter.to(settings.device(), memory_format=torch.channels_last)
    return evaluate_classes(segmenter, SegmentationDataset(samples, facts["image_size"], prompt=facts["prompt"]))


def predict_run(run: Path, split: str, dataset: str | None = None, name: str | None = None) -> Path:
    """Write the logits of the run's best weights on a split, of its own dataset or another; the prediction's folder.

    It is stored in the run's logits/. `name`: the member's name there, by default the one it was built with. Raises
    SettingsError for a run of several datasets, unless one is named.
    """
    run = Path(run)
    segmenter, facts = factory.load(run / BEST)
    if dataset is None and len(facts["dataset"]) > 1:
        raise SettingsError("The run was trained on several datasets.", where=run, hint="name one of them.")
    dataset = dataset or facts["dataset"][0]
    samples = load_split(dataset, split)
    segmenter.to(settings.device(), memory_format=torch.channels_last)
    index = predictions.PredictionInfo(
        member=name or facts["member"]["name"],
        dataset=dataset,
        split=split,
        ids=tuple(sample.id for sample in samples),
        sizes=tuple(read_mask(sample.mask).shape for sample in samples),
        weights=fingerprint(trainable_state_dict(segmenter)),
    )
    images = SegmentationDataset(samples, facts["image_size"], prompt=facts["prompt"])
    folder = settings.writable(run / LOGITS) / f"{dataset}-{split}"
    predictions.write(folder, index, (logits.numpy() for _, logits in predict(segmenter, images)))
    return folder
