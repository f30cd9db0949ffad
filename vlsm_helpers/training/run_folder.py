"""The folder of a run: its settings, its checkpoints, and where its training stands.

settings.json says what is trained; metrics.csv has one row per epoch; last.safetensors holds weights and optimizer after the
last whole epoch, best.safetensors the weights of the best one. A folder without last.safetensors holds nothing yet.
"""

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from vlsm_helpers import settings
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
from vlsm_helpers.models.segmenter import Segmenter
from vlsm_helpers.models.state import load_trainable_state_dict, trainable_state_dict
from vlsm_helpers.training.recipes import Recipe, recipe_name

FACTS = ("member", "frozen_weights", "dataset", "image_size", "prompt", "seed")  # what best.safetensors says of itself
LAST, BEST = "last.safetensors", "best.safetensors"
METRICS, SETTINGS, LOCK = "metrics.csv", "settings.json", ".fit.lock"
OLD_NAMES = {"epochs_a_view": "epochs_per_view"}  # of settings, in files of version 0.1.0
ANOTHER_NAME = "give this run another name (`--name`)"


@dataclass
class Progress:
    """Where a run stands after its last whole epoch."""

    epoch: int = 0
    best: float | None = None
    best_epoch: int = 0
    rows: list[dict] = field(default_factory=list)
    scaler: dict = field(default_factory=dict)  # the state of the loss scaling, where there is one

    def add(self, row: dict, recipe: Recipe) -> bool:
        """Count an epoch; whether it is the best one so far."""
        value = row[recipe.monitor]
        better = self.best is None or (value > self.best if recipe.higher_is_better else value < self.best)
        self.epoch = row["epoch"]
        self.rows.append(row)
        if better:
            self.best, self.best_epoch = value, self.epoch
        return better

    def is_finished(self, recipe: Recipe) -> bool:
        """Whether all epochs are done, or the last `patience` ones were no better."""
        return self.epoch >= recipe.epochs or self.epoch - self.best_epoch >= recipe.patience

    def history(self) -> pd.DataFrame:
        """One row per epoch: what metrics.csv holds."""
        return pd.DataFrame(self.rows)


class RunFolder:
    """The folder `path` of the training that `wanted`, JSON-able, describes."""

    def __init__(self, path: Path, wanted: Mapping[str, Any]):
        self.path, self.settings = path, json.loads(atomic.as_json(dict(wanted)))

    @staticmethod
    def lock(path: Path) -> AbstractContextManager[None]:
        """Own the folder while the block runs; of several processes of one training, the main one owns it and writes.

        Raises BusyError where another process trains the run.
        """
        if not settings.process().is_main_process:
            return nullcontext()
        return atomic.owned(settings.writable(path) / LOCK, "trains this run")

    def claim(self, noted: Mapping[str, Any] | None = None) -> None:
        """Begin the run, or check that the folder holds the same one; a start that saved no epoch is begun anew.

        `noted`: JSON-able facts that settings.json holds besides, and that make no other run.

        Raises TrainingError, the folder unchanged, where it holds another run, naming the settings that differ, or files
        of others.
        """
        atomic.sweep(self.path, "*.safetensors", age=0)  # of a killed process: this one owns the folder
        found = self._found_settings()
        if (self.path / LAST).exists() and found is not None:
            _refuse_other_settings(self.path, found, self.settings)
            return
        kept = [name for name in (METRICS, LAST) if (self.path / name).exists()]
        if found is None and (self.path / BEST).exists():
            kept.append(BEST)
        if kept:
            missing = SETTINGS if found is None else LAST
            raise TrainingError(
                f"The folder has {kept[0]}, but no {missing}: it holds no run that can go on, and nothing is overwritten.",
                where=self.path,
                hint=f"{ANOTHER_NAME}, or put {missing} back.",
            )
        (self.path / BEST).unlink(missing_ok=True)  # of a start that was killed between its first two files
        atomic.write_text(self.path / SETTINGS, atomic.as_json(self.settings | dict(noted or {}), indent=1))

    def resume(self, segmenter: Segmenter, optimizer: torch.optim.Optimizer) -> Progress:
        """Load what the last whole epoch left, if any, into `segmenter` and `optimizer`; where the run stands."""
        if not (self.path / LAST).exists():
            return Progress()
        tensors, facts = load_checkpoint(self.path / LAST)
        load_trainable_state_dict(segmenter, part(tensors, "model."))
        restore_optimizer(optimizer, part(tensors, "optimizer."))
        return Progress(**facts)

    def save_best(self, segmenter: Segmenter, row: dict) -> None:
        """Write the weights as the best ones, with the scores of their epoch."""
        facts = {key: self.settings[key] for key in FACTS} | row
        save_checkpoint(self.path / BEST, trainable_state_dict(segmenter), facts)

    def save_last(self, segmenter: Segmenter, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
        """Write the state from which the run resumes, then the table of its epochs."""
        tensors = prefixed("model.", trainable_state_dict(segmenter))
        tensors |= prefixed("optimizer.", flatten_optimizer(optimizer))
        save_checkpoint(self.path / LAST, tensors, asdict(progress))
        atomic.write_table(self.path / METRICS, progress.history())

    def load_best(self, segmenter: Segmenter) -> None:
        """Put the best weights into `segmenter`."""
        load_trainable_state_dict(segmenter, load_checkpoint(self.path / BEST)[0])

    def _found_settings(self) -> dict | None:
        """The settings of the run that the folder holds; None where there are none. Raises TrainingError for another file."""
        path = self.path / SETTINGS
        try:
            text = path.read_text(encoding="utf-8")
            found = json.loads(text) if text.strip("\0 \n") else None  # a power failure may leave an empty file
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            what = f"The file holds no settings of a run ({error})."
            raise TrainingError(what, where=path, hint=f"{ANOTHER_NAME}.") from error
        if found is not None and not (isinstance(found, dict) and {"recipe", "frozen_weights"} <= set(found)):
            raise TrainingError("The file holds no settings of a run.", where=path, hint=f"{ANOTHER_NAME}.")
        return found


def _refuse_other_settings(run: Path, found: dict, wanted: dict) -> None:
    """Raise TrainingError, naming each setting that differs, unless both describe one training."""
    there, now = _flat(found), _flat(wanted)
    different = [name for name in now if there.get(name) != now[name]]
    if different:
        detail = "; ".join(f"{name}: there {there.get(name)}, asked for {now[name]}" for name in different)
        hint = f"{ANOTHER_NAME}, or repeat the command with the settings that it began with."
        raise TrainingError(f"The folder holds a run with other settings ({detail}).", where=run, hint=hint)


def _flat(facts: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted names such as recipe.batch_size, in today's words."""
    flat = {}
    for key, value in facts.items():
        name = prefix + OLD_NAMES.get(key, key)
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{name}.")
        else:
            flat[name] = recipe_name(value) if name == "recipe.name" else value
    return flat
