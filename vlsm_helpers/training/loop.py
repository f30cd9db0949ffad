"""`fit()`: one training loop for every member, on accelerate, that can be killed at any moment and resumes."""

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Sampler

from vlsm_helpers import settings
from vlsm_helpers.data.dataset import SegmentationDataset
from vlsm_helpers.errors import TrainingError
from vlsm_helpers.io.progress import tqdm
from vlsm_helpers.metrics.overlap import overlap
from vlsm_helpers.models.segmenter import Segmenter, trainable_parameters
from vlsm_helpers.models.state import encoder_hash, weights_revisions
from vlsm_helpers.settings.precision import VARIABLE, Precision, training_precision
from vlsm_helpers.training.acceleration import check_shares, loader_workers, start_accelerator, training_layout
from vlsm_helpers.training.feature_cache import CachedDataset, PromptEmbeddings, has_frozen_encoders
from vlsm_helpers.training.loss import segmentation_loss
from vlsm_helpers.training.recipes import CNN, Recipe
from vlsm_helpers.training.run_folder import Progress, RunFolder

Dataset = SegmentationDataset | CachedDataset


def fit(
    segmenter: Segmenter, train: Dataset, validation: Dataset, run: Path, recipe: Recipe = CNN, *, seed: int = 0
) -> pd.DataFrame:
    """Train `segmenter` and leave it with its best weights; returns metrics.csv, one row per epoch.

    The number of parameters that train and the precision are printed. Frozen encoders embed each prompt once, and do not run
    on images whose features `train` and `validation` hold (see `feature_cache.cache_features`).

    The folder `run` holds settings.json, metrics.csv, last.safetensors (weights and optimizer after the last whole epoch)
    and best.safetensors (weights of the epoch with the best `recipe.monitor`), without weights that are frozen. Where it
    holds an unfinished run with the same settings, that run resumes and ends with the numbers of an uninterrupted one:
    order, augmentation and dropout of an epoch follow from the seed and the epoch's number alone. A start that saved no
    epoch is begun anew. Started by `accelerate launch` on several processes, each takes its share of every batch, and
    dropout apart the numbers are those of one process. `settings.precision` decides in which precision the device trains.
    Afterwards the segmenter itself computes in float32.
    Raises BusyError where another process trains the run; TrainingError for a folder of another run, a loss that is not
    finite, or a checkpoint that cannot be written, with what was saved before kept; SettingsError for cached features of
    another segmenter and an unknown precision.
    """
    with RunFolder.lock(Path(run)):
        return fit_owned(segmenter, train, validation, Path(run), recipe, seed=seed)


def fit_owned(
    segmenter: Segmenter, train: Dataset, validation: Dataset, run: Path, recipe: Recipe, *, seed: int = 0
) -> pd.DataFrame:
    """`fit`, for a caller that holds `RunFolder.lock(run)`: one that has long work of its own to do before it."""
    check_shares(recipe, settings.process().num_processes)
    training = _prepare(segmenter, train, validation, run, recipe, seed)
    accelerator, folder = training.accelerator, RunFolder(run, _settings(training, train))
    noted = {"weights_revisions": weights_revisions(segmenter)}
    with accelerator.main_process_first():  # it begins the run, the others find it begun
        if accelerator.is_main_process:
            folder.claim(noted)
    try:
        progress = _resume(training, folder)
        steps = len(training.train_loader)
        with tqdm(
            total=recipe.epochs * steps,
            initial=progress.epoch * steps,
            desc="training",
            unit="step",
            disable=not accelerator.is_main_process,
        ) as bar:
            while not progress.is_finished(recipe):
                row = _train_epoch(training, train, progress.epoch, bar) | _validate(training)
                _save_epoch(training, folder, progress, row)
                bar.set_postfix_str(f"epoch {progress.epoch}, val Dice {row['val_dice']:.3f}, best {progress.best:.3f}")
        folder.load_best(segmenter)
        segmenter.eval()
    finally:  # without accelerate's wrapper, which would go on computing scores in bfloat16
        accelerator.unwrap_model(training.model, keep_fp32_wrapper=False)
    return progress.history()


@dataclass(frozen=True)
class _Training:
    """What an epoch needs, on the device and in as many processes as accelerate was started with."""

    accelerator: Accelerator
    precision: Precision
    segmenter: Segmenter
    model: nn.Module  # `segmenter`, wrapped by accelerate
    optimizer: AcceleratedOptimizer
    train_loader: DataLoader
    validation_loader: DataLoader
    loss: nn.Module
    embeddings: PromptEmbeddings | None  # of a frozen text encoder
    layout: torch.memory_format
    run: Path
    recipe: Recipe
    seed: int


def _prepare(
    segmenter: Segmenter, train: Dataset, validation: Dataset, run: Path, recipe: Recipe, seed: int
) -> _Training:
    """Put model, optimizer and data on the device. Raises SettingsError for features of another segmenter."""
    embeddings = PromptEmbeddings(segmenter) if has_frozen_encoders(segmenter) else None
    for dataset in (train, validation):
        if isinstance(dataset, CachedDataset):
            dataset.check(segmenter)
    precision, on_gpu = training_precision(settings.device()), torch.cuda.is_available()
    accelerator = start_accelerator(precision)
    layout = training_layout(segmenter, train.size, accelerator.device.type)
    segmenter.to(memory_format=layout)
    groups = _parameter_groups(segmenter, recipe.encoder_rate)
    optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=on_gpu)
    loading = {"num_workers": loader_workers(accelerator.device.type), "pin_memory": on_gpu}
    whole = len(train) >= recipe.batch_size  # a last batch of one image would upset batch norm
    prepared = accelerator.prepare(
        segmenter,
        optimizer,
        DataLoader(train, recipe.batch_size, sampler=_EpochSampler(len(train), seed), drop_last=whole, **loading),
        DataLoader(validation, recipe.batch_size, **loading),
    )
    parts = (*prepared, segmentation_loss(), embeddings, layout)
    return _Training(accelerator, precision, segmenter, *parts, run, recipe, seed)


def _resume(training: _Training, folder: RunFolder) -> Progress:
    """Say what trains and how, and load what the last whole epoch left; where the run stands."""
    accelerator, segmenter = training.accelerator, training.segmenter
    everything = sum(parameter.numel() for parameter in segmenter.parameters())
    trained = f"training {trainable_parameters(segmenter):,} of {everything:,} parameters"
    accelerator.print(f"{trained} in {training.precision}")
    progress = folder.resume(segmenter, training.optimizer.optimizer)
    if accelerator.scaler and progress.scaler:
        accelerator.scaler.load_state_dict(progress.scaler)
    return progress


def _train_epoch(training: _Training, dataset: Dataset, epoch: int, bar: tqdm) -> dict:
    """One pass over the training images: the epoch's number from 1, mean loss and last learning rate."""
    torch.manual_seed(1_000_003 * training.seed + epoch + 7_919 * training.accelerator.process_index)  # dropout
    training.train_loader.set_epoch(epoch)  # accelerate's loader counts for itself, from 0 even in a resumed run
    dataset.set_epoch(epoch)
    training.model.train()
    losses = []
    for step, batch in enumerate(training.train_loader):
        done = (epoch + step / len(training.train_loader)) / training.recipe.epochs
        for group in training.optimizer.param_groups:
            group["lr"] = training.recipe.learning_rate_at(done) * group["share"]
        losses.append(_train_step(training, batch, epoch))
        bar.update()
    rate = training.optimizer.param_groups[0]["lr"]
    return {"epoch": epoch + 1, "train_loss": float(np.mean(losses)), "learning_rate": rate}


def _train_step(training: _Training, batch: dict, epoch: int) -> float:
    """Forward, backward, update; the loss. Raises TrainingError, before the update, where it is not finite."""
    accelerator = training.accelerator
    loss = training.loss(_logits(training, batch), batch["mask"])
    value = accelerator.reduce(loss.detach(), "mean").item()  # the same in every process
    if not np.isfinite(value):
        scaled = f", or train in float32 ({VARIABLE}=no)" if accelerator.scaler else ""  # float16 ends at 65504
        what = f"The loss became {value} in epoch {epoch + 1}, on the images {', '.join(batch['id'])}."
        hint = f"lower the learning rate, or look at those images{scaled}; the checkpoints of earlier epochs are kept."
        raise TrainingError(what, where=training.run, hint=hint)
    accelerator.backward(loss)
    # It divides by the scale of the loss first.
    accelerator.clip_grad_norm_(training.model.parameters(), training.recipe.clip)
    training.optimizer.step()  # where scaled gradients overflow, it skips the update and halves the scale
    training.optimizer.zero_grad()
    return value


def _logits(training: _Training, batch: dict) -> Tensor:
    """Logits (B, 1, S, S) in float32; frozen features and embeddings of the batch are computed only if they are not cached."""
    cached = {"text": training.embeddings(batch["prompt"])} if training.embeddings else {}
    if "features" in batch:
        cached["features"] = tuple(batch["features"])
    images = batch["image"].contiguous(memory_format=training.layout)
    with training.accelerator.autocast():
        return training.model(images, batch["prompt"], **cached).float()


@torch.no_grad()
def _validate(training: _Training) -> dict:
    """Mean over images of Dice and of cross-entropy, at network size."""
    training.model.eval()
    dice, bce = [], []
    for batch in training.validation_loader:
        logits = _logits(training, batch)
        one = functional.binary_cross_entropy_with_logits(logits, batch["mask"], reduction="none").mean((1, 2, 3))
        pair = training.accelerator.gather_for_metrics((overlap(logits > 0, batch["mask"] > 0)[0], one))
        dice.append(pair[0])
        bce.append(pair[1])
    return {"val_dice": torch.cat(dice).mean().item(), "val_bce": torch.cat(bce).mean().item()}


def _save_epoch(training: _Training, folder: RunFolder, progress: Progress, row: dict) -> None:
    """Save a whole epoch: first the best weights, then the state from which the run resumes, then the table."""
    accelerator, segmenter = training.accelerator, training.segmenter
    better = progress.add(row, training.recipe)
    progress.scaler = accelerator.scaler.state_dict() if accelerator.scaler else {}
    if better and accelerator.is_main_process:
        folder.save_best(segmenter, row)
    accelerator.wait_for_everyone()
    if not better and training.recipe.return_to_best:
        folder.load_best(segmenter)
    if accelerator.is_main_process:
        folder.save_last(segmenter, training.optimizer.optimizer, progress)
    accelerator.wait_for_everyone()


def _settings(training: _Training, train: Dataset) -> dict:
    """What makes this run this run: a folder with other settings holds another one."""
    segmenter, samples = training.segmenter, train.samples
    return {
        "dataset": sorted({sample.dataset for sample in samples}),
        "member": segmenter.config,
        "frozen_weights": encoder_hash(segmenter),
        "started_from": segmenter.started_from,
        "recipe": asdict(training.recipe),
        "seed": training.seed,
        "image_size": train.size,
        "prompt": train.prompt,
        "views": train.views if isinstance(train, CachedDataset) else None,
        "train_images": len(samples),
        "train_ids": hashlib.sha256("\n".join(sample.id for sample in samples).encode()).hexdigest()[:16],
    }


class _EpochSampler(Sampler[int]):
    """A shuffled order that follows from the seed and the epoch's number alone."""

    def __init__(self, length: int, seed: int):
        self.length, self.seed, self.epoch = length, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        return iter(np.random.default_rng([self.seed, self.epoch]).permutation(self.length).tolist())


def _parameter_groups(segmenter: Segmenter, encoder_rate: float) -> list[dict]:
    """The trained parameters, encoders in a group of their own; `share`: a group's learning rate over the recipe's."""
    encoders = {id(parameter) for module in segmenter.encoders() for parameter in module.parameters()}
    trained = [parameter for parameter in segmenter.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trained if id(parameter) not in encoders], "share": 1.0},
        {"params": [parameter for parameter in trained if id(parameter) in encoders], "share": encoder_rate},
    ]
    return [group for group in groups if group["params"]]
