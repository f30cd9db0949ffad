"""Make the predictions that the package ships (see vlsm_helpers/course/shipped.py): `python -m tools.tiny_predictions`.

Trains BiomedCLIPSeg, CLIPSeg and UNet-D on the endoscopy phantoms as benchmarks/hybrid_ensembles.py does, the same runs of seed 0
in VLSM_RUNS, so that what it finds finished there is not trained again. Writes the pictures, their index and a card.
"""

import argparse
import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import version
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from benchmarks.hybrid_ensembles import MEMBERS, trained
from vlsm_helpers import settings
from vlsm_helpers.course import shipped
from vlsm_helpers.data.phantoms.rendering import GENERATOR_VERSION
from vlsm_helpers.evaluation import predictions
from vlsm_helpers.evaluation.predictions import Prediction, PredictionStore
from vlsm_helpers.experiments.runs import predict_run
from vlsm_helpers.fusion import RULES
from vlsm_helpers.fusion.rule import THRESHOLDS, dice_by_threshold
from vlsm_helpers.io.checkpoints import load_checkpoint
from vlsm_helpers.metrics.overlap import mask_dice
from vlsm_helpers.settings.profiles import PROFILES
from vlsm_helpers.training.run_folder import BEST, METRICS
from vlsm_helpers.widgets.static import quantised

DATASET, SEED, SPLITS = settings.DEFAULT_DATASET, 0, ("val", "test")
SIZE = PROFILES["tiny"].image_size


def write(folder: Path, runs: dict[str, Path]) -> dict[str, list[Prediction]]:
    """Write the pictures and the index of the `runs` of members to `folder`; by split, the predictions before rounding."""
    folder.mkdir(exist_ok=True)
    files, exact = {}, {split: [] for split in SPLITS}
    for run in runs.values():
        for split in SPLITS:
            prediction = predictions.read(predict_run(run, split))
            exact[split].append(prediction)
            name = f"{split}-{prediction.index.member}.png"
            content, steps = encode(prediction.logits)
            (folder / name).write_bytes(content)
            files[name] = {
                "steps": steps,
                "sha256": hashlib.sha256(content).hexdigest(),
                "frozen_weights": load_checkpoint(run / BEST)[1]["frozen_weights"],
                "index": asdict(prediction.index),
            }
    facts = {"phantom_generator": GENERATOR_VERSION, "files": files}
    (folder / shipped.INDEX).write_text(json.dumps(facts) + "\n", encoding="utf-8")
    return exact


def encode(logits: np.ndarray) -> tuple[bytes, int]:
    """Logits (N, S, S) as a grey PNG, S pixels wide and N * S high, and its grey levels per logit of 1 (see `quantised`)."""
    levels, steps = quantised(logits)
    file = BytesIO()
    Image.fromarray(levels.reshape(-1, levels.shape[-1])).save(file, "PNG", optimize=True)
    return file.getvalue(), steps


def rounded(exact: list[Prediction]) -> PredictionStore:
    """What is read from their pictures."""
    return PredictionStore([Prediction(one.index, shipped.decode(*encode(one.logits))) for one in exact])


def changes(exact: dict[str, list[Prediction]]) -> Iterator[tuple[str, float, float, float]]:
    """Of each member, then of each rule: its name, Dice on test, the same from rounded logits, and the largest change there is.

    A member's Dice are at 0.5, its largest change is that at any threshold; a rule is fitted on exact logits of val.
    """
    val, test = (PredictionStore(exact[split]) for split in SPLITS)
    before, after, masks = test.logits(SIZE), rounded(exact["test"]).logits(SIZE), test.masks(SIZE)
    for name, *pair in zip(test.names, before, after, strict=True):
        first, second = (dice_by_threshold(torch.sigmoid(one), masks).mean(1) for one in pair)
        half = THRESHOLDS.index(0.5)
        yield name, first[half].item(), second[half].item(), (second - first).abs().max().item()
    validation = val.validation(SIZE)
    for rule in RULES:
        fitted = rule.fit(validation)
        first, second = (mask_dice(fitted.predict(one), masks).mean().item() for one in (before, after))
        yield rule.name, first, second, abs(second - first)


def card(folder: Path, runs: dict[str, Path], exact: dict[str, list[Prediction]]) -> str:
    """The README that lies beside the pictures."""
    trainings = "; ".join(
        f"{label}: best of {len(history)} epochs the {1 + history['val_dice'].argmax()}th"
        for label, history in ((label, pd.read_csv(run / METRICS)) for label, run in runs.items())
    )
    images = ", ".join(f"{len(exact[split][0].index.ids)} of {split}" for split in SPLITS)
    rows = list(changes(exact))
    lines = "\n".join(f"| {name} | {100 * a:.2f} | {100 * b:.2f} | {100 * most:.2f} |" for name, a, b, most in rows)
    members, rules = (100 * max(most for *_, most in part) for part in (rows[: len(runs)], rows[len(runs) :]))
    megabytes = sum(path.stat().st_size for path in folder.glob("*.png")) / 1e6
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "open_clip_torch", "numpy"))
    return f"""# Predictions of three miniature members for the endoscopy phantoms

Logits of BiomedCLIPSeg, CLIPSeg and UNet-D on the images of val and test of {DATASET}, stored so that the course's chapters on
fusing need no training. `vlsm_helpers.tiny_store("val")` loads them. Made by `python -m tools.tiny_predictions`.

**Not for clinical use.** The images are phantoms, the networks are miniatures; for teaching how predictions are fused.

| | |
|---|---|
| images | {images}; phantoms of generator version {GENERATOR_VERSION}, which each machine generates itself; {SIZE} px |
| training | `benchmarks/hybrid_ensembles.py`: 200 images of {DATASET}, train, seed {SEED}, prompt p1; {trainings} |
| weights | the shipped miniatures, frozen, as encoders of CLIPSeg and BiomedCLIPSeg; UNet-D randomly initialised |
| format | one grey PNG per member and split, images below each other; grey v is the logit (v - 127.5) / steps (index.json) |
| size | {megabytes:.1f} MB |
| hardware | {settings.hardware()} |
| versions | {packages} |

Effect of rounding on Dice on test, in %. Members at the threshold 0.5: none; at the worst threshold from 0.05 to 0.95
at most {members:.2f} points. Rules fitted on exact logits of val: at most {rules:.2f} points. Fitted on the stored logits, a
rule for which two thresholds are equally good on val may choose the other one.

| | exact | stored | largest change |
|---|---|---|---|
{lines}

Licence: Apache-2.0, as the course.
"""


def main() -> None:
    """Train what is missing, predict, write, and say how large it became."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--out", type=Path, default=shipped.FOLDER)
    folder = parser.parse_args().out
    runs = {label: trained(DATASET, label, SEED) for label in MEMBERS}
    text = card(folder, runs, write(folder, runs))
    (folder / "README.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
