"""Scoring a split: a row an image at the image's original size, then means with intervals."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from vlsm_helpers.data.dataset import SegmentationDataset
from vlsm_helpers.data.images import read_mask
from vlsm_helpers.data.samples import Sample
from vlsm_helpers.io import atomic
from vlsm_helpers.io.progress import tqdm
from vlsm_helpers.metrics.overlap import score
from vlsm_helpers.metrics.statistics import bootstrap_mean
from vlsm_helpers.models.segmenter import Segmenter, resize
from vlsm_helpers.training.feature_cache import CachedDataset

METRICS = ("dice", "iou", "nsd", "hd95_relative")
LESION_ONLY = ", lesion only"


def predict(
    segmenter: Segmenter, dataset: SegmentationDataset | CachedDataset, *, batch_size: int = 16
) -> Iterator[tuple[Sample, Tensor]]:
    """Each sample with its logits, float32 (S, S) at network size, in the dataset's order.

    Raises SettingsError for cached features that another segmenter computed.

    >>> import vlsm_helpers as vlsm
    >>> test = vlsm.SegmentationDataset(vlsm.load_split("phantom_endoscopy", "test")[:4], size=64)
    >>> for sample, logits in vlsm.predict(vlsm.build("unet_d", "tiny"), test):
    ...     mask = logits > 0
    >>> mask.shape
    torch.Size([64, 64])
    """
    if isinstance(dataset, CachedDataset):
        dataset.check(segmenter)
    device = next(segmenter.parameters()).device
    segmenter.eval()
    loader = torch.utils.data.DataLoader(dataset, batch_size)
    samples = iter(dataset.samples)
    with tqdm(total=len(dataset), desc="predicting", unit="image", delay=2) as bar:
        for batch in loader:
            known = {"features": tuple(one.to(device) for one in batch["features"])} if "features" in batch else {}
            with torch.no_grad():
                logits = segmenter(batch["image"].to(device), batch["prompt"], **known).float().cpu()
            for one in logits:
                yield next(samples), one[0]
                bar.update()


def evaluate(
    segmenter: Segmenter, dataset: SegmentationDataset | CachedDataset, *, threshold: float = 0.5
) -> pd.DataFrame:
    """A row an image: id, dice, iou, hd95, hd95_relative, nsd (see `metrics.score`), and the shares of foreground
    pixels, in [0, 1], of the true mask (`foreground`) and of the prediction (`predicted`).

    Logits are resized to the true mask's original size; a probability above `threshold` is foreground. `summarise` makes
    means with intervals of it. Raises SettingsError and DataError as `predict` does, and DataError for an unreadable mask.

    >>> import vlsm_helpers as vlsm
    >>> test = vlsm.SegmentationDataset(vlsm.load_split("phantom_endoscopy", "test")[:4], size=64)
    >>> scores = vlsm.evaluate(vlsm.build("unet_d", "tiny"), test)
    >>> len(scores), float(scores["dice"].mean()) <= 1
    (4, True)
    """
    rows = [
        {"id": sample.id} | score_image(logits, read_mask(sample.mask), threshold)
        for sample, logits in predict(segmenter, dataset)
    ]
    return pd.DataFrame(rows)


def score_image(logits: Tensor, mask: np.ndarray, threshold: float = 0.5) -> dict[str, float]:
    """One row of `evaluate` but for its id, from logits (S, S) and the true mask, bool (H, W), at its original size."""
    return score_mask((torch.sigmoid(resize(logits, mask.shape)) > threshold).numpy(), mask)


def score_mask(prediction: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """One row of `evaluate` but for its id, from a predicted mask and the true one, both bool (H, W)."""
    return score(prediction, mask) | {"foreground": mask.mean(), "predicted": prediction.mean()}


def summarise(per_image: pd.DataFrame, *, model: str, split: str, seed: int = 0) -> pd.DataFrame:
    """Means over images with 95 % bootstrap intervals, a row a metric: model, split, metric, value, low, high, n.

    A split with empty masks has each row twice, over all images and over those with a lesion. `n` counts the images on
    which the metric is defined.

    >>> import pandas as pd
    >>> import vlsm_helpers as vlsm
    >>> scores = {"dice": [0.6, 0.8], "iou": [0.43, 0.67], "nsd": [0.2, 0.4], "hd95_relative": [0.2, 0.1]}
    >>> per_image = pd.DataFrame(scores | {"foreground": [0.1, 0.2]})
    >>> vlsm.summarise(per_image, model="mine", split="test")[["metric", "value", "n"]].head(1)
      metric  value  n
    0   dice    0.7  2
    """
    subsets = {"": per_image}
    if (per_image["foreground"] == 0).any():
        subsets[LESION_ONLY] = per_image[per_image["foreground"] > 0]
    rows = []
    for suffix, table in subsets.items():
        for metric in METRICS:
            mean, low, high, n = bootstrap_mean(table[metric], seed=seed)
            rows.append(
                {
                    "model": model,
                    "split": split,
                    "metric": metric + suffix,
                    "value": mean,
                    "low": low,
                    "high": high,
                    "n": n,
                }
            )
    return pd.DataFrame(rows)


def keep(path: Path, rows: pd.DataFrame) -> None:
    """Add rows of images, of one `dataset` and one `split`, to the table at `path`, in place of older ones of the same."""
    if path.exists():
        older = pd.read_csv(path, dtype={"id": str})
        same = (older["dataset"] == rows["dataset"].iloc[0]) & (older["split"] == rows["split"].iloc[0])
        rows = pd.concat([older[~same], rows])
    atomic.write_text(path, rows.to_csv(index=False))


def worst_and_best(per_image: pd.DataFrame, count: int = 3) -> pd.DataFrame:
    """The `count` images with a lesion of lowest Dice, then the `count` of highest."""
    lesions = per_image[per_image["foreground"] > 0].sort_values("dice", kind="stable")
    return pd.concat([lesions.head(count), lesions.tail(count)])


def samples_named(samples: Sequence[Sample], ids: Sequence[str]) -> list[Sample]:
    """The samples of these ids, in the ids' order."""
    by_id = {sample.id: sample for sample in samples}
    return [by_id[name] for name in np.asarray(ids)]
