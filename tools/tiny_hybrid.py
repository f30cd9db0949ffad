"""Make the trained networks that the package ships (see vlsm_helpers/course/trained.py): `python -m tools.tiny_hybrid`.

Trains them as benchmarks/hybrid_ensembles.py does, the same runs of seed 0 in VLSM_RUNS, so that what it finds finished there is
not trained again: 6 CPU minutes. Writes the best weights in float16, the histories and a card.
"""

import argparse
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from benchmarks.hybrid_ensembles import trained as trained_run
from vlsm_helpers import settings
from vlsm_helpers.course import trained
from vlsm_helpers.data.dataset import SegmentationDataset
from vlsm_helpers.data.samples import load_split
from vlsm_helpers.evaluation.scoring import evaluate
from vlsm_helpers.io.checkpoints import load_checkpoint, save_checkpoint
from vlsm_helpers.models import factory
from vlsm_helpers.training.run_folder import BEST, METRICS

TRAINING = (
    f"200 images of {settings.DEFAULT_DATASET}, train, seed {trained.SEED}, prompt p1; networks with a CNN 20 epochs at batch "
    "size 8, the others up to 40 at batch size 16"
)
KEPT = ("member", "frozen_weights", "image_size", "prompt", "dataset", "val_dice")  # of a checkpoint's facts


def write(folder: Path, runs: dict[str, Path]) -> None:
    """Write the best weights of the `runs` of networks, by their labels in NETWORKS, and their histories to `folder`."""
    folder.mkdir(exist_ok=True)
    for label, run in runs.items():
        tensors, facts = load_checkpoint(run / BEST)
        halves = {name: halved(tensor) for name, tensor in tensors.items()}
        save_checkpoint(folder / f"{trained.NETWORKS[label]}.safetensors", halves, {key: facts[key] for key in KEPT})
    rows = pd.concat(pd.read_csv(run / METRICS).assign(model=label) for label, run in runs.items())
    rows.round(6).to_csv(folder / trained.HISTORY, index=False)


def halved(tensor: Tensor) -> Tensor:
    """A tensor of floating-point numbers in float16, any other as it is. Raises OverflowError for what float16 cannot hold."""
    if not tensor.is_floating_point():
        return tensor
    half = tensor.half()
    if not torch.isfinite(half).all():
        raise OverflowError("a weight is too large for float16")
    return half


def card(folder: Path, runs: dict[str, Path]) -> str:
    """The README that is stored with the weights: how they were made, and Dice on test before and after rounding."""
    lines = []
    for label, run in runs.items():
        history = pd.read_csv(run / METRICS)
        best = 1 + history["val_dice"].argmax()
        exact, stored = (test_dice(path) for path in (run / BEST, folder / f"{trained.NETWORKS[label]}.safetensors"))
        lines.append(f"| {label} | {len(history)}, best the {best}th | {exact:.2f} | {stored:.2f} |")
    megabytes = sum(path.stat().st_size for path in folder.glob("*.safetensors")) / 1e6
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "open_clip_torch", "numpy"))
    rows = "\n".join(lines)
    return f"""# Ensemble A, two of its members and a control, trained

Networks of the tiny profile for chapter 4, which starts from them. `vlsm_helpers.course.trained` loads them. Made by
`python -m tools.tiny_hybrid`.

**Not for clinical use.** The images are phantoms, the networks are miniatures; for teaching how ensembles are judged.

| | |
|---|---|
| training | `benchmarks/hybrid_ensembles.py`: {TRAINING} |
| weights | what was trained, of the best epoch on val, in float16; the encoders are the shipped miniatures, frozen |
| size | {megabytes:.1f} MB |
| hardware | {settings.hardware()} |
| versions | {packages} |

Dice on test in %, as trained and as stored:

| | epochs | trained | stored |
|---|---|---|---|
{rows}

Licence: Apache-2.0, as the course.
"""


def test_dice(checkpoint: Path) -> float:
    """Mean Dice on test, in %, at the masks' own size."""
    network, facts = factory.load(checkpoint)
    samples = load_split(settings.DEFAULT_DATASET, "test")
    return (
        100
        * evaluate(network, SegmentationDataset(samples, facts["image_size"], prompt=facts["prompt"]))["dice"].mean()
    )


def main() -> None:
    """Train what is missing, write, and say how good and how large it became."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--out", type=Path, default=trained.FOLDER)
    folder = parser.parse_args().out
    runs = {label: trained_run(settings.DEFAULT_DATASET, label, trained.SEED) for label in trained.NETWORKS}
    write(folder, runs)
    text = card(folder, runs)
    (folder / "README.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
