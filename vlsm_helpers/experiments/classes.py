"""Several classes in one image: whether the prompt chooses the class, as Dice of each prompt against each class."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from vlsm_helpers.data.dataset import SegmentationDataset
from vlsm_helpers.data.images import read_mask
from vlsm_helpers.data.samples import has_classes
from vlsm_helpers.errors import DataError
from vlsm_helpers.evaluation.scoring import predict
from vlsm_helpers.metrics.overlap import mask_dice
from vlsm_helpers.metrics.statistics import bootstrap_mean
from vlsm_helpers.models.segmenter import Segmenter, resize


def evaluate_classes(segmenter: Segmenter, dataset: SegmentationDataset, *, threshold: float = 0.5) -> pd.DataFrame:
    """Each sample's prediction against the ground truth of every class of its image, one row per pair.

    Columns: id (of the sample), prompted (its class, which its prompt names), truth (the class compared with), dice in [0, 1],
    present (whether the image shows that class) and predicted (the share of foreground pixels). `confusion` and `by_class` make
    tables of it. Raises DataError for samples without classes.
    """
    if not has_classes(dataset.samples):
        hint = "adopt images with several classes: `vlsm data adopt ... --labels 1=polyp,2=instrument`."
        raise DataError("The samples have no classes.", where=dataset.samples[0].image.parent, hint=hint)
    masks: dict[Path, dict[str, Path]] = defaultdict(dict)
    for sample in dataset.samples:
        masks[sample.image][sample.attributes["class"]] = sample.mask
    rows = []
    for sample, logits in predict(segmenter, dataset):
        for name, path in masks[sample.image].items():
            truth = read_mask(path)
            prediction = torch.sigmoid(resize(logits, truth.shape)) > threshold
            dice = mask_dice(prediction[None], torch.from_numpy(truth)[None])[0].item()
            facts = {"id": sample.id, "prompted": sample.attributes["class"], "truth": name, "dice": dice}
            rows.append(facts | {"present": bool(truth.any()), "predicted": float(prediction.float().mean())})
    return pd.DataFrame(rows)


def confusion(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean Dice of the masks that each class's prompt gives (rows) against the ground truth of each class (columns).

    Over images that show the column's class. The diagonal is Dice by class; what is off it is Dice with the prompts swapped.

    >>> import pandas as pd
    >>> pairs = {"prompted": ["a", "a", "b", "b"], "truth": ["a", "b"] * 2, "dice": [0.9, 0.1, 0.2, 0.8]}
    >>> confusion(pd.DataFrame(pairs | {"present": True}))
    truth       a    b
    prompted
    a         0.9  0.1
    b         0.2  0.8
    """
    shown = rows[rows["present"]]
    names = list(dict.fromkeys(rows["prompted"]))
    table = shown.pivot_table(index="prompted", columns="truth", values="dice", aggfunc="mean")
    return table.reindex(index=names, columns=names).rename_axis(index="prompted", columns="truth")


def by_class(rows: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Dice by class, one row per class.

    Columns: class, dice (mean over the images that show it), low and high (of its 95 % bootstrap interval), n (these images),
    absent (the other images) and silent (of those, the share in which nothing is predicted, NaN without any).
    """
    own = rows[rows["prompted"] == rows["truth"]]
    table = []
    for name, group in own.groupby("prompted", sort=False):
        shown, other = group[group["present"]], group[~group["present"]]
        dice, low, high, n = bootstrap_mean(shown["dice"], seed=seed)
        silent = float((other["predicted"] == 0).mean()) if len(other) else np.nan
        table.append(dict(zip(("class", "dice", "low", "high", "n"), (name, dice, low, high, n), strict=True)))
        table[-1] |= {"absent": len(other), "silent": silent}
    return pd.DataFrame(table)
