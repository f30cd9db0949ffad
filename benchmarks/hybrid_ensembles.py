"""Members, ensembles A, B, C and ablations on the same images: `python -m benchmarks.hybrid_ensembles [DATASET ...]`.

Writes hybrid_ensembles.csv.gz (Dice of each test image) and .md (each ensemble against its best member, paired by image) to
vlsm_helpers/measured, which the notebooks load.
All networks are trained as by `vlsm train`, on at most as many images as the profile allows; those without a CNN train from
cached features for the 40 epochs of their recipe. Phantoms: three seeds, each with training and validation images of its own
draw and the same test images; real datasets: three seeds of training. Runs are stored in VLSM_RUNS: a second call resumes.
"""

import argparse
from pathlib import Path

import pandas as pd
import torch

from benchmarks.rows import DRAWN, SEEDS, draw_of, gain_in_words, keep, of_test
from vlsm_helpers import settings
from vlsm_helpers.experiments.reference import MEASURED
from vlsm_helpers.experiments.runs import evaluate_run, train_member
from vlsm_helpers.metrics.statistics import scores_by_seed
from vlsm_helpers.models import factory
from vlsm_helpers.models.segmenter import trainable_parameters
from vlsm_helpers.models.unet_d import UNetD
from vlsm_helpers.settings.profiles import Profile
from vlsm_helpers.training.run_folder import METRICS

KEYS = ["dataset", "model", "seed"]
MEMBERS = {"BiomedCLIPSeg": "biomedclipseg", "CLIPSeg": "clipseg", "UNet-D": "unet_d"}
ENSEMBLES = {"A": "ensemble_a", "B": "ensemble_b", "C": "ensemble_c"}
JOINED = {
    "A": ("BiomedCLIPSeg", "UNet-D"),
    "B": ("CLIPSeg", "UNet-D"),
    "C": tuple(MEMBERS),
}  # the members in each ensemble
CONTROLS = {"A without the CNN": "ensemble_a_no_cnn", "a CNN as large as A": "unet_d"}
ENTRANTS = MEMBERS | ENSEMBLES | CONTROLS
WITHOUT_CNN = ("BiomedCLIPSeg", "CLIPSeg", "A without the CNN")
CNN_EPOCHS = 20  # of each training of a network with a CNN


def options(label: str, profile: Profile) -> dict:
    """Options of `train_member` beyond those of the profile."""
    if label != "a CNN as large as A":
        return {}
    ensemble = factory.build("ensemble_a", profile)
    return {"width": width_for(trainable_parameters(ensemble))}


def width_for(parameters: int) -> float:
    """The width, to three digits, at which UNet-D has about `parameters` parameters: a CNN as large as another network."""
    low, high = 0.0, 8.0
    while high - low > 5e-4:
        middle = (low + high) / 2
        with torch.device("meta"):
            size = trainable_parameters(UNetD(middle))
        low, high = (middle, high) if size < parameters else (low, middle)
    return round(high, 3)


def trained(dataset: str, label: str, seed: int, cnn_epochs: int = CNN_EPOCHS) -> Path:
    """The run of an entrant on its seed's draw of the dataset; trained unless it is finished."""
    name, (profile, _) = draw_of(dataset, seed), settings.choose_profile()
    what = label.lower().replace(" ", "-")
    return train_member(
        ENTRANTS[label],
        name,
        run=f"hybrid-{name}-{what}-seed{seed}",
        seed=seed,
        limit=profile.max_train_images,
        epochs=None if label in WITHOUT_CNN else cnn_epochs,
        **options(label, profile),
    )


def measure(dataset: str, label: str, seed: int, cnn_epochs: int) -> pd.DataFrame:
    """One row per test image: dataset, model, seed, id, dice, and the run's best Dice on validation."""
    run = trained(dataset, label, seed, cnn_epochs)
    evaluate_run(run)
    rows = of_test(run, draw_of(dataset, seed))[["id", "dice"]]
    validated = pd.read_csv(run / METRICS)["val_dice"].max()
    return rows.assign(dataset=dataset, model=label, seed=seed, val_dice=validated).round(5)


def table(rows: pd.DataFrame) -> str:
    """Markdown: means over seeds and images; for an ensemble the difference to its best member, chosen on validation."""
    lines = ["| dataset | model | Dice on test, % | seeds | against its best member, points |", "|---|---|---|---|---|"]
    for dataset, of_dataset in rows.groupby("dataset", sort=False):
        scores = {model: scores_by_seed(group) for model, group in of_dataset.groupby("model")}
        validated = of_dataset.groupby("model")["val_dice"].mean()
        for model in [label for label in ENTRANTS if label in scores]:
            by_seed = 100 * scores[model].mean(axis=1)
            spread = f" ± {by_seed.std():.1f}" if len(by_seed) > 1 else ""
            against = _against(model, scores, validated)
            lines.append(f"| {dataset} | {model} | {by_seed.mean():.1f}{spread} | {len(by_seed)} | {against} |")
    return "\n".join(lines)


def _against(model: str, scores: dict[str, pd.DataFrame], validated: pd.Series) -> str:
    """The mean difference of an ensemble to its best member on the same images and seeds, with a 95 % interval."""
    members = [name for name in JOINED.get(model, ()) if name in scores]
    if not members:
        return ""
    best = max(members, key=validated.get)
    return f"{gain_in_words(scores[model], scores[best])} v {best}"


def main() -> None:
    """Measure the given datasets; both files are written after every run and keep the rows of other runs."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("datasets", nargs="*", default=DRAWN)
    parser.add_argument("--models", nargs="*", default=list(ENTRANTS), choices=list(ENTRANTS))
    parser.add_argument("--seeds", nargs="*", type=int, default=list(SEEDS))
    parser.add_argument("--cnn-epochs", type=int, default=CNN_EPOCHS, help="of each training of a network with a CNN")
    parser.add_argument("--out", type=Path, default=MEASURED / "hybrid_ensembles.csv.gz")
    given = parser.parse_args()
    for dataset in given.datasets:
        for seed in given.seeds:
            for label in given.models:
                keep(measure(dataset, label, seed, given.cnn_epochs), given.out, KEYS, table)


if __name__ == "__main__":
    main()
