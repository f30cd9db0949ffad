"""`fit()`: one training loop for every member, on accelerate, that can be killed at any moment and goes on."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator, DataLoaderConfiguration
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Sampler

from vlsm_helpers import settings
from vlsm_helpers.data.dataset import SegmentationDataset
from vlsm_helpers.errors import TrainingError
from vlsm_helpers.io import atomic
from vlsm_helpers.io.checkpoints import (
    flatten_optimizer,
    load_checkpoint,
    part,
    prefixed,
    restore_optimizer,
    save_checkpoint,
)
from vlsm_helpers.io.progress import tqdm
from vlsm_helpers.metrics.overlap import overlap
from vlsm_helpers.models.segmenter import Segmenter, trainable_parameters
from vlsm_helpers.models.state import encoder_hash, load_trainable_state_dict, trainable_state_dict, weights_revisions
from vlsm_helpers.training.feature_cache import CachedDataset, PromptEmbeddings, has_frozen_encoders
from vlsm_helpers.training.recipes import CNN, Recipe

FACTS = ("member", "frozen_weights", "dataset", "image_size", "prompt", "seed")  # what a checkpoint says of itself
LAST, BEST, METRICS, SETTINGS = "last.safetensors", "best.safetensors", "metrics.csv", "settings.json"


def segmentation_loss() -> nn.Module:
    """Dice + binary cross-entropy from logits (B, 1, H, W) and masks of 0 and 1; equal weights, as the paper's code.

    `sigmoid=True` makes both terms read logits: handed probabilities, cross-entropy would squash them a second time.
    """
    from monai.losses import DiceCELoss  # seconds, which only training should wait for

    return DiceCELoss(sigmoid=True, lambda_dice=1.0, lambda_ce=1.0)


def fit(
    segmenter: Segmenter,
    train: SegmentationDataset | CachedDataset,
    validation: SegmentationDataset | CachedDataset,
    run: Path,
    recipe: Recipe = CNN,
    *,
    seed: int = 0,
) -> pd.DataFrame:
    """Train `segmenter` and leave it with its best weights; returns metrics.csv, a row an epoch.

    How many parameters train is printed. Frozen encoders embed each prompt once, and run on no image whose features
    `train` and `validation` hold (see `caching.cached`).

    The folder `run` holds settings.json, metrics.csv, last.safetensors (weights and optimizer after the last whole
    epoch) and best.safetensors (weights of the epoch with the best `recipe.monitor`); weights that are frozen are not
    among them. Where it holds an unfinished run with the same settings, that run goes on and ends with the numbers of an
    uninterrupted one: order, augmentation and dropout of an epoch follow from the seed and the epoch's number alone.
    Started by `accelerate launch` on several processes, each takes its share of every batch, and dropout apart the numbers
    are those of one. A GPU trains in bfloat16; a CPU in float32, unless ACCELERATE_MIXED_PRECISION says bf16. The segmenter
    itself, asked afterwards, computes in float32.
    Raises TrainingError for a folder of another run, a loss that is not finite, or a checkpoint that cannot be written;
    what was saved before is kept. Raises SettingsError for cached features that another segmenter computed.
    """
    trainer = _Trainer(segmenter, train, validation, settings.writable(Path(run)), recipe, seed)
    try:
        trainer.resume()
        trainer.train()
    finally:  # without accelerate's wrapper, which would go on computing scores in bfloat16
        trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    return trainer.history()


@dataclass
class _Progress:
    """Where a run stands after its last whole epoch."""

    epoch: int = 0
    best: float | None = None
    best_epoch: int = 0
    rows: list[dict] = field(default_factory=list)


class _Trainer:
    def __init__(self, segmenter, train, validation, run, recipe, seed):
        self.run, self.recipe, self.seed, self.train_set = run, recipe, seed, train
        self.progress = _Progress()
        self.loss = segmentation_loss()
        self.texts = PromptEmbeddings(segmenter) if has_frozen_encoders(segmenter) else None
        for dataset in (train, validation):
            if isinstance(dataset, CachedDataset):
                dataset.check(segmenter)
        _check_shares(recipe, settings.process().num_processes)
        on_gpu = torch.cuda.is_available()
        self.accelerator = Accelerator(
            # None: as accelerate is told (`--mixed_precision`, ACCELERATE_MIXED_PRECISION), float32 if it is not.
            mixed_precision="bf16" if on_gpu and torch.cuda.is_bf16_supported() else None,
            dataloader_config=DataLoaderConfiguration(split_batches=True, non_blocking=on_gpu),
        )
        self.segmenter = segmenter.to(memory_format=torch.channels_last)
        groups = _parameter_groups(segmenter, recipe.encoder_rate)
        self.optimizer = torch.optim.AdamW(
            groups, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=on_gpu
        )
        sampler = _EpochSampler(len(train), seed)
        loading = {"num_workers": 0 if self.accelerator.device.type == "cpu" else 4, "pin_memory": on_gpu}
        whole = len(train) >= recipe.batch_size  # a last batch of one image would upset batch norm
        self.model, self.wrapped, self.train_loader, self.validation_loader = self.accelerator.prepare(
            segmenter,
            self.optimizer,
            DataLoader(train, recipe.batch_size, sampler=sampler, drop_last=whole, **loading),
            DataLoader(validation, recipe.batch_size, **loading),
        )

    def resume(self) -> None:
        """Take up the unfinished run of the folder, or begin one."""
        with self.accelerator.main_process_first():  # it begins the run, the others find it begun
            if (self.run / SETTINGS).exists():
                _refuse_other_settings(self.run, json.loads((self.run / SETTINGS).read_text()), self.settings)
            else:
                described = self.settings | {"weights_revisions": weights_revisions(self.segmenter)}
                atomic.write_text(self.run / SETTINGS, json.dumps(described, indent=1))
        if not (self.run / LAST).exists():
            return
        tensors, facts = load_checkpoint(self.run / LAST)
        load_trainable_state_dict(self.segmenter, part(tensors, "model."))
        restore_optimizer(self.optimizer, part(tensors, "optimizer."))
        self.progress = _Progress(**facts)

    @cached_property
    def settings(self) -> dict:
        """What makes this run this run."""
        samples = self.train_set.samples
        return {
            "dataset": sorted({sample.dataset for sample in samples}),
            "member": self.segmenter.config,
            "frozen_weights": encoder_hash(self.segmenter),
            "started_from": self.segmenter.started_from,
            "recipe": asdict(self.recipe),
            "seed": self.seed,
            "image_size": self.train_set.size,
            "prompt": self.train_set.prompt,
            "views": self.train_set.views if isinstance(self.train_set, CachedDataset) else None,
            "train_images": len(samples),
            "train_ids": hashlib.sha256("\n".join(sample.id for sample in samples).encode()).hexdigest()[:16],
        }

    def train(self) -> None:
        """All epochs that are left, then the best weights."""
        total = self.recipe.epochs * len(self.train_loader)
        everything = sum(parameter.numel() for parameter in self.segmenter.parameters())
        self.accelerator.print(f"training {trainable_parameters(self.segmenter):,} of {everything:,} parameters")
        with tqdm(
            total=total,
            initial=self.progress.epoch * len(self.train_loader),
            desc="training",
            unit="step",
            disable=not self.accelerator.is_main_process,
        ) as bar:
            while not self.finished():
                row = self.one_epoch(bar)
                self.keep(row)
                bar.set_postfix_str(
                    f"epoch {self.progress.epoch}, val Dice {row['val_dice']:.3f}, best {self.progress.best:.3f}"
                )
        load_trainable_state_dict(self.segmenter, load_checkpoint(self.run / BEST)[0])
        self.segmenter.eval()

    def finished(self) -> bool:
        return (
            self.progress.epoch >= self.recipe.epochs
            or self.progress.epoch - self.progress.best_epoch >= self.recipe.patience
        )

    def one_epoch(self, bar: tqdm) -> dict:
        epoch = self.progress.epoch
        process = self.accelerator.process_index
        torch.manual_seed(1_000_003 * self.seed + epoch + 7_919 * process)  # dropout
        self.train_loader.set_epoch(epoch)  # accelerate's loader counts for itself, from 0 even in a resumed run
        self.train_set.set_epoch(epoch)
        self.model.train()
        losses = []
        for step, batch in enumerate(self.train_loader):
            done = (epoch + step / len(self.train_loader)) / self.recipe.epochs
            losses.append(self.one_step(batch, self.recipe.learning_rate_at(done)))
            bar.update()
        rate = self.optimizer.param_groups[0]["lr"]
        return {"epoch": epoch + 1, "train_loss": float(np.mean(losses)), "learning_rate": rate} | self.validate()

    def one_step(self, batch: dict, rate: float) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["share"]
        loss = self.loss(self.logits(batch), batch["mask"])
        value = self.accelerator.reduce(loss.detach(), "mean").item()  # the same in every process
        if not np.isfinite(value):
            raise TrainingError(
                f"The loss became {value} in epoch {self.progress.epoch + 1}, on the images {', '.join(batch['id'])}.",
                where=self.run,
                hint="lower the learning rate, or look at those images; the checkpoints of the epochs before are kept.",
            )
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        self.wrapped.step()
        self.wrapped.zero_grad()
        return value

    def logits(self, batch: dict) -> Tensor:
        """Logits (B, 1, S, S) in float32; what frozen encoders say of the batch is computed only if it is not known."""
        known = {"text": self.texts(batch["prompt"])} if self.texts else {}
        if "features" in batch:
            known["features"] = tuple(batch["features"])
        images = batch["image"].contiguous(memory_format=torch.channels_last)
        with self.accelerator.autocast():
            return self.model(images, batch["prompt"], **known).float()

    @torch.no_grad()
    def validate(self) -> dict:
        """Mean over images of Dice and of cross-entropy, at network size."""
        self.model.eval()
        dice, bce = [], []
        for batch in self.validation_loader:
            logits = self.logits(batch)
            one = functional.binary_cross_entropy_with_logits(logits, batch["mask"], reduction="none").mean((1, 2, 3))
            pair = self.accelerator.gather_for_metrics((overlap(logits > 0, batch["mask"] > 0)[0], one))
            dice.append(pair[0])
            bce.append(pair[1])
        return {"val_dice": torch.cat(dice).mean().item(), "val_bce": torch.cat(bce).mean().item()}

    def keep(self, row: dict) -> None:
        """Write down a whole epoch: first the best weights, then the state from which the run goes on, then the table."""
        state, value = self.progress, row[self.recipe.monitor]
        better = state.best is None or (value > state.best if self.recipe.higher_is_better else value < state.best)
        state.epoch = row["epoch"]
        state.rows.append(row)
        if better:
            state.best, state.best_epoch = value, state.epoch
            facts = {key: self.settings[key] for key in FACTS}
            self.save(BEST, trainable_state_dict(self.segmenter), facts | row)
        elif self.recipe.return_to_best:
            load_trainable_state_dict(self.segmenter, load_checkpoint(self.run / BEST)[0])
        tensors = prefixed("model.", trainable_state_dict(self.segmenter))
        tensors |= prefixed("optimizer.", flatten_optimizer(self.optimizer))
        self.save(LAST, tensors, asdict(state))
        if self.accelerator.is_main_process:
            atomic.write_text(self.run / METRICS, self.history().to_csv(index=False))

    def save(self, name: str, tensors: dict[str, Tensor], facts: dict) -> None:
        if self.accelerator.is_main_process:
            save_checkpoint(self.run / name, tensors, facts)
        self.accelerator.wait_for_everyone()

    def history(self) -> pd.DataFrame:
        return pd.DataFrame(self.progress.rows)


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


def _check_shares(recipe: Recipe, processes: int) -> None:
    """Raise TrainingError unless every process gets as many images of a batch as the others."""
    if recipe.batch_size % processes:
        raise TrainingError(
            f"A batch of {recipe.batch_size} images cannot be shared by {processes} processes.",
            hint=f"give a batch size that {processes} divides (`--batch-size`), or start another number of processes.",
        )


def _parameter_groups(segmenter: Segmenter, encoder_rate: float) -> list[dict]:
    """What trains, the encoders' part apart; `share`: a group's learning rate as a share of the recipe's."""
    encoders = {id(parameter) for module in segmenter.encoders() for parameter in module.parameters()}
    trained = [parameter for parameter in segmenter.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trained if id(parameter) not in encoders], "share": 1.0},
        {"params": [parameter for parameter in trained if id(parameter) in encoders], "share": encoder_rate},
    ]
    return [group for group in groups if group["params"]]


def _refuse_other_settings(run: Path, found: dict, wanted: dict) -> None:
    different = [key for key in wanted if found.get(key) != wanted[key]]
    if different:
        detail = "; ".join(f"{key}: there {found.get(key)}, asked for {wanted[key]}" for key in different)
        raise TrainingError(
            f"The folder holds a run with other settings ({detail}).",
            where=run,
            hint="give this run another name, or delete the folder.",
        )
