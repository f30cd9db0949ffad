"""Scoring a split: one row per image, at its original size, then means with intervals."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from vlsm_helpers.data.dataset import SegmentationDataset
from vlsm_helpers.data.images import read_mask
from vlsm_helpers.data.samples import Sample
from vlsm_helpers.errors import DataError
from vlsm_helpers.io import atomic
from vlsm_helpers.io.progress import tqdm
from vlsm_helpers.metrics.overlap import score
from vlsm_helpers.metrics.statistics import bootstrap_mean
from vlsm_helpers.models.segmenter import Segmenter, resize
from vlsm_helpers.training.feature_cache import CachedDataset

METRICS = ("dice", "iou", "nsd", "hd95_relative")
LESION_ONLY = ", lesion only"
NAMES = ("id", "dataset", "split")  # columns of text
COLUMNS = ("id", "dice", "iou", "hd95", "hd95_relative", "nsd", "foreground", "predicted", "dataset", "split")
LOCK_SECONDS = 120  # a table is locked for milliseconds; a process that holds it longer is stopped, not dead


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
            cached = {"features": tuple(one.to(device) for one in batch["features"])} if "features" in batch else {}
            with torch.no_grad():
                logits = segmenter(batch["image"].to(device), batch["prompt"], **cached).float().cpu()
            for one in logits:
                yield next(samples), one[0]
                bar.update()


def evaluate(
    segmenter: Segmenter, dataset: SegmentationDataset | CachedDataset, *, threshold: float = 0.5
) -> pd.DataFrame:
    """One row per image: id, dice, iou, hd95, hd95_relative, nsd (see `overlap.score`), and the shares of foreground
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
    """Means over images with 95 % bootstrap intervals, one row per metric: model, split, metric, value, low, high, n, left_out.

    A split with empty masks has each row twice, over all images and over those with a lesion. `n` counts the images in the
    mean, and `left_out` says how many are not in it and why, such as "2: prediction empty"; it is empty where all are.

    >>> import pandas as pd
    >>> import vlsm_helpers as vlsm
    >>> scores = {"dice": [0.6, 0.8], "iou": [0.43, 0.67], "nsd": [0.2, 0.4], "hd95_relative": [0.2, 0.1]}
    >>> per_image = pd.DataFrame(scores | {"foreground": [0.1, 0.2], "predicted": [0.1, 0.3]})
    >>> vlsm.summarise(per_image, model="mine", split="test")[["metric", "value", "n"]].head(1)
      metric  value  n
    0   dice    0.7  2
    """
    lesion = per_image["foreground"] > 0
    subsets = {"": pd.Series(True, per_image.index)}
    if not lesion.all():
        subsets[LESION_ONLY] = lesion
    rows = []
    for suffix, subset in subsets.items():
        for metric in METRICS:
            mean, low, high, n = bootstrap_mean(per_image.loc[subset, metric], seed=seed)
            row = {"model": model, "split": split, "metric": metric + suffix, "value": mean, "low": low, "high": high}
            rows.append(row | {"n": n, "left_out": _reasons(per_image[~subset | per_image[metric].isna()])})
    return pd.DataFrame(rows)


def _reasons(left_out: pd.DataFrame) -> str:
    """How many of these images are left out of a mean for which reason."""
    truth, predicted = left_out["foreground"] == 0, left_out["predicted"] == 0
    names = ["ground truth and prediction empty", "ground truth empty", "prediction empty"]
    found = np.select([truth & predicted, truth, predicted], names, "undefined")
    return ", ".join(f"{count}: {reason}" for reason, count in Counter(found.tolist()).items())


def save_scores(path: Path, rows: pd.DataFrame) -> None:
    """Add rows of images, of one `dataset` and one `split`, to the table at `path`, in place of older ones of the same.

    Processes that do so at once wait for each other. Raises DataError, the file unchanged, where it holds another table.
    """
    with atomic.owned(path.with_name(f".{path.name}.lock"), "is writing this table", wait=LOCK_SECONDS):
        check_scores(path, rows.columns)
        if path.exists():
            older = read_scores(path)
            same = (older["dataset"] == rows["dataset"].iloc[0]) & (older["split"] == rows["split"].iloc[0])
            rows = pd.concat([older[~same], rows])
        atomic.write_table(path, rows)


def read_scores(path: Path) -> pd.DataFrame:
    """The table that `save_scores` wrote. Images may be called NA or 007: names stay text."""
    columns = pd.read_csv(path, nrows=0).columns
    missing = {name: [""] for name in columns if name not in NAMES}
    return pd.read_csv(path, dtype=dict.fromkeys(NAMES, str), keep_default_na=False, na_values=missing)


def check_scores(path: Path, columns: Iterable[str] = COLUMNS) -> None:
    """Raise DataError unless rows of these columns may be saved at `path`: there is no file, or a table of the same columns."""
    try:
        found = list(pd.read_csv(path, nrows=0).columns)
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        found = [f"no table that can be read: {error}"]
    if set(found) != set(columns):
        what = f"The file holds something else ({', '.join(found[:5])}): no scores are added to it."
        raise DataError(what, where=path, hint="move or rename it, and give the same command again.")


def worst_and_best(per_image: pd.DataFrame, count: int = 3) -> pd.DataFrame:
    """The `count` images with a lesion of lowest Dice, then the `count` of highest."""
    lesions = per_image[per_image["foreground"] > 0].sort_values("dice", kind="stable")
    return pd.concat([lesions.head(count), lesions.tail(count)])


def samples_named(samples: Sequence[Sample], ids: Sequence[str]) -> list[Sample]:
    """The samples of these ids, in the ids' order."""
    by_id = {sample.id: sample for sample in samples}
    return [by_id[name] for name in np.asarray(ids)]


keep, score_split = save_scores, evaluate  # their names in version 0.1.0
