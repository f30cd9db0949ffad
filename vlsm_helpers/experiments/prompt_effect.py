"""What the prompt of an ensemble is worth: its test scores beside those with an empty prompt, and the mean training mask's.

A member that scores as well without words segments what its decoder learned to segment, whatever the prompt says.
"""

from dataclasses import replace

import numpy as np
import pandas as pd

from vlsm_helpers.data.dataset import SegmentationDataset
from vlsm_helpers.evaluation.predictions import PredictionStore
from vlsm_helpers.evaluation.scoring import evaluate, predict
from vlsm_helpers.experiments.late_ensemble import Ensemble
from vlsm_helpers.experiments.members import LATE_FUSION
from vlsm_helpers.fusion.weighted import WeightedFusion
from vlsm_helpers.metrics.statistics import paired_difference
from vlsm_helpers.models.mean_mask import MeanMask

EMPTY = "p0"  # the key of the empty prompt


def prompt_effect(ensemble: Ensemble) -> pd.DataFrame:
    """One row per member that is conditioned on text, then of late fusion: model, dice, empty, value, low, high, n.

    `dice` and `empty`: mean Dice on test, fractions, with the dataset's prompts and with an empty one; `value`: their paired
    difference in percentage points, with a 95 % interval over `n` groups of images. No rows where no member has a text input.
    """
    store, renamed = _with_empty_prompts(ensemble)
    alone = {name: WeightedFusion({name: 1.0}, "logits") for name in renamed}
    clusters = pd.factorize(pd.Series(store.ids).map(ensemble.test_groups))[0]
    rows = []
    for name, fusion in (alone | {LATE_FUSION: ensemble.fusion}).items() if renamed else ():
        silent = replace(fusion, weights={renamed.get(one, one): weight for one, weight in fusion.weights.items()})
        dice, empty = (one.score(store)["dice"] for one in (fusion, silent))
        value, low, high, n = paired_difference(100 * dice, 100 * empty, clusters=clusters)
        row = {"model": name, "dice": dice.mean(), "empty": empty.mean()}
        rows.append(row | {"value": value, "low": low, "high": high, "n": n})
    return pd.DataFrame(rows)


def mean_mask_dice(ensemble: Ensemble) -> float:
    """Dice on test, a fraction, of the mean of the training masks as the prediction for every image."""
    size = ensemble.predictions("test").size
    train, test = (SegmentationDataset(ensemble.samples(split), size) for split in ("train", "test"))
    return float(evaluate(MeanMask(train.masks[: ensemble.plan.limit]), test)["dice"].mean())


def in_words(ensemble: Ensemble) -> str:
    """Both, as a list in Markdown."""
    lines = [
        f"Mean training mask, as the prediction for every image: {100 * mean_mask_dice(ensemble):.1f} % Dice on test"
    ]
    for row in prompt_effect(ensemble).itertuples():
        scores = f"{100 * row.dice:.1f} % with the prompt, {100 * row.empty:.1f} % with an empty one"
        interval = f", 95 % CI {row.low:+.1f} to {row.high:+.1f}" if row.n > 1 else ""
        verdict = "" if row.low > 0 else ". **The prompt does not beat an empty one**"
        lines.append(f"{row.model}: {scores} ({row.value:+.1f} points{interval}){verdict}")
    return "\n".join(f"- {line}" for line in lines)


def _with_empty_prompts(ensemble: Ensemble) -> tuple[PredictionStore, dict[str, str]]:
    """The test predictions, with those of an empty prompt as further members, whose names are by the member's name."""
    store, predictor, renamed = ensemble.predictions("test"), ensemble.predictor(), {}
    samples = [replace(sample, prompts={EMPTY: ""}) for sample in ensemble.samples("test")]
    images = SegmentationDataset(samples, predictor.size, prompt=EMPTY)
    for name, member in predictor.members.items():
        if member.encoders():  # a CNN has none, and no text input
            renamed[name] = f"{name}, empty prompt"
            logits = np.stack([one.numpy() for _, one in predict(member, images)])
            store = store.with_member(renamed[name], logits)
    return store, renamed
