"""Members trained separately and fused afterwards, against cheaper baselines: `python -m benchmarks.late_fusion [DATASET ...]`.

Writes late_fusion.csv.gz (Dice of each test image) and .md to vlsm_helpers/measured: complementarity of the
members, then every rule. Members are the runs of hybrid_ensembles.py, which are trained if they are missing. Rules are fitted on
validation at network size and evaluated on test at the original size: logits are resized, bilinear, then fused (so the per-pixel
gate runs at a finer resolution than it was fitted at).

Two baselines use only the member that is best on validation: the mean of its probabilities over the image and its three flips
(test-time augmentation), and over its trainings with all given seeds (seed ensemble). On phantoms each seed has its own training
images, so the seed ensemble was trained on three times as many as any rule.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from benchmarks.hybrid_ensembles import MEMBERS, trained
from benchmarks.rows import DRAWN, SEEDS, draw_of, gain_in_words, keep
from vlsm_helpers.data.dataset import SegmentationDataset
from vlsm_helpers.data.samples import load_split
from vlsm_helpers.evaluation import predictions
from vlsm_helpers.evaluation.predictions import Prediction, PredictionStore
from vlsm_helpers.evaluation.scoring import predict
from vlsm_helpers.experiments.reference import MEASURED
from vlsm_helpers.experiments.runs import predict_run
from vlsm_helpers.fusion import RULES, BestSingle, MeanProbability, Rule
from vlsm_helpers.fusion.diversity import Complementarity, from_scores, pixel_oracle
from vlsm_helpers.metrics.overlap import mask_dice
from vlsm_helpers.metrics.statistics import scores_by_seed
from vlsm_helpers.models import factory
from vlsm_helpers.training.run_folder import BEST

KEYS = ["dataset", "seed"]
SPLITS = ("val", "test")
MIRRORINGS = {"left to right": (-1,), "upside down": (-2,), "both": (-2, -1)}
BEST_SINGLE, MIRRORED, AVERAGED = BestSingle.name, "best single member, mirrorings", "best single member, all seeds"
PIXEL_ORACLE = "pixel oracle"


class Flipped(nn.Module):
    """A segmenter applied to images flipped along `dims`, whose logits are flipped back."""

    def __init__(self, segmenter: nn.Module, dims: tuple[int, ...]):
        super().__init__()
        self.segmenter, self.dims = segmenter, dims

    def forward(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """Logits (B, 1, H, W)."""
        return self.segmenter(images.flip(self.dims), prompts).flip(self.dims)


def predicted(run: Path, dataset: str, split: str, name: str) -> Prediction:
    """The predictions of a run for a split, under the member name `name`."""
    return _renamed(predictions.read(predict_run(run, split, dataset)), name)


def flips(run: Path, prediction: Prediction) -> list[Prediction]:
    """The prediction, and those of the same run for the flipped images."""
    segmenter, metadata = factory.load(run / BEST)
    samples = load_split(prediction.index.dataset, prediction.index.split)
    images = SegmentationDataset(samples, metadata["image_size"], prompt=metadata["prompt"])
    flipped = [prediction]
    for name, dims in MIRRORINGS.items():
        logits = np.stack([one.numpy() for _, one in predict(Flipped(segmenter, dims), images)])
        flipped.append(_renamed(Prediction(prediction.index, logits), name))
    return flipped


def measure(dataset: str, seed: int, seeds: Sequence[int]) -> pd.DataFrame:
    """Rows dataset, rule, seed, id, dice: each member, the pixel oracle, every rule, and the baselines.

    `seeds`: of the seed ensemble, which needs more than one.
    """
    name = draw_of(dataset, seed)
    runs = {label: trained(dataset, label, seed) for label in MEMBERS}
    predictions_of = {split: [predicted(run, name, split, label) for label, run in runs.items()] for split in SPLITS}
    single = {label: BestSingle(number) for number, label in enumerate(runs)}
    fitted = fit(RULES, PredictionStore(predictions_of["val"]))
    scores = judge(single | fitted, PredictionStore(predictions_of["test"]))
    number = fitted[BEST_SINGLE].member
    best = list(runs)[number]
    augmented = {split: PredictionStore(flips(runs[best], predictions_of[split][number])) for split in SPLITS}
    scores[MIRRORED] = mean_of(augmented)
    if len(seeds) > 1:
        others = {one: trained(dataset, best, one) for one in seeds}
        trainings = {
            split: PredictionStore([predicted(run, name, split, f"seed {one}") for one, run in others.items()])
            for split in SPLITS
        }
        scores[AVERAGED] = mean_of(trainings)
    rows = scores.rename_axis("id").melt(var_name="rule", value_name="dice", ignore_index=False).reset_index()
    return rows.assign(dataset=dataset, seed=seed).round(4)


def fit(rules: Sequence[Rule], validation: PredictionStore) -> dict[str, Rule]:
    """The rules by name, fitted on a validation split."""
    members = validation.validation(validation.size)
    return {rule.name: rule.fit(members) for rule in rules}


def judge(rules: Mapping[str, Rule], test: PredictionStore) -> pd.DataFrame:
    """Dice at the original size: one row per image, one column per rule, and the pixel oracle at the threshold 0.5."""
    rows = []
    for number, truth in enumerate(test.true_masks()):
        logits, mask = test.logits(truth.shape, [number]), torch.from_numpy(truth)[None]
        masks = {name: rule.predict(logits) for name, rule in rules.items()}
        row = {name: mask_dice(one, mask).item() for name, one in masks.items()}
        rows.append(row | {PIXEL_ORACLE: pixel_oracle(logits > 0, mask).item()})
    return pd.DataFrame(rows, index=list(test.ids))


def mean_of(stores: Mapping[str, PredictionStore]) -> pd.Series:
    """Dice of each test image for the mean of probabilities, with the threshold chosen on validation; `stores` by split."""
    rules = fit([MeanProbability()], stores["val"])
    return judge(rules, stores["test"])[MeanProbability.name]


def table(rows: pd.DataFrame) -> str:
    """Markdown: complementarity of the members, then the rules."""
    scores = {
        dataset: {rule: scores_by_seed(group) for rule, group in part.groupby("rule")}
        for dataset, part in rows.groupby("dataset", sort=False)
    }
    return "\n".join([*_complementarity(scores), "", *_rules(scores)])


def _complementarity(scores: Mapping[str, Mapping[str, pd.DataFrame]]) -> list[str]:
    """Lines of a table: each member, and oracles that choose between them; seeds pooled."""
    columns = [*MEMBERS, "per-image oracle", PIXEL_ORACLE, "correlations", *(f"won by {label}" for label in MEMBERS)]
    lines = [f"| dataset | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for dataset, dice in scores.items():
        members = torch.stack([torch.tensor(dice[label].to_numpy().ravel()) for label in MEMBERS])
        found: Complementarity = from_scores(
            members, torch.tensor(dice[PIXEL_ORACLE].to_numpy().ravel()), tuple(MEMBERS)
        )
        percent = [*found.members.values(), found.image_oracle, found.pixel_oracle]
        correlations = ", ".join(f"{one:.2f}" for one in found.correlations.values())
        cells = [*(f"{100 * one:.1f}" for one in percent), correlations]
        cells += [f"{100 * one:.0f} %" for one in found.best_on.values()]
        lines.append(f"| {dataset} | {' | '.join(cells)} |")
    return lines


def _rules(scores: Mapping[str, Mapping[str, pd.DataFrame]]) -> list[str]:
    """Lines of a table: a rule's Dice, and its differences to the three baselines."""
    baselines = (BEST_SINGLE, MIRRORED, AVERAGED)
    lines = [f"| dataset | rule | Dice on test, % | seeds | {' | '.join(f'against {one}' for one in baselines)} |"]
    lines.append("|---" * (4 + len(baselines)) + "|")
    for dataset, dice in scores.items():
        for rule in [name for name in (*(rule.name for rule in RULES), MIRRORED, AVERAGED) if name in dice]:
            by_seed = 100 * dice[rule].mean(axis=1)
            spread = f" ± {by_seed.std():.1f}" if len(by_seed) > 1 else ""
            cells = [_difference(dice, rule, one) for one in baselines]
            lines.append(
                f"| {dataset} | {rule} | {by_seed.mean():.1f}{spread} | {len(by_seed)} | {' | '.join(cells)} |"
            )
    return lines


def _difference(dice: Mapping[str, pd.DataFrame], rule: str, baseline: str) -> str:
    """The mean difference on the same images and seeds, in percentage points, with a 95 % interval; empty without both."""
    if rule == baseline or baseline not in dice:
        return ""
    return gain_in_words(dice[rule], dice[baseline])


def _renamed(prediction: Prediction, name: str) -> Prediction:
    return Prediction(replace(prediction.index, member=name), prediction.logits)


def main() -> None:
    """Measure the given datasets; both files are written after every seed and keep the rows of other datasets."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("datasets", nargs="*", default=DRAWN)
    parser.add_argument("--seeds", nargs="*", type=int, default=list(SEEDS))
    parser.add_argument("--out", type=Path, default=MEASURED / "late_fusion.csv.gz")
    given = parser.parse_args()
    for dataset in given.datasets:
        for seed in given.seeds:
            keep(measure(dataset, seed, given.seeds), given.out, KEYS, table)


if __name__ == "__main__":
    main()
