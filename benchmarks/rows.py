"""What benchmarks share: the dataset of a seed, a table that grows with each measurement, and intervals in words."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from vlsm_helpers import settings
from vlsm_helpers.data import phantoms, registry
from vlsm_helpers.experiments.runs import PER_IMAGE
from vlsm_helpers.metrics.statistics import bootstrap_seeds

HERE = Path(__file__).parent
SEEDS = (0, 1, 2)
DRAWN = [card.name for card in registry.DATASETS.values() if card.is_phantom]  # the default datasets


def draw_of(dataset: str, seed: int) -> str:
    """The name of the dataset for this seed: phantoms have different training and validation images for each seed."""
    if seed == 0 or not registry.find(dataset).is_phantom:
        return dataset
    return phantoms.ensure(dataset, settings.data_folder(), draw=seed).name


def of_test(run: Path, dataset: str) -> pd.DataFrame:
    """The rows of `evaluate_run` for the test images of `dataset`; the run may also have rows of other datasets."""
    rows = pd.read_csv(run / PER_IMAGE, dtype={"id": str})
    return rows[(rows["dataset"] == dataset) & (rows["split"] == "test")]


def keep(rows: pd.DataFrame, path: Path, keys: Sequence[str], table: Callable[[pd.DataFrame], str]) -> None:
    """Add `rows` of one measurement to the CSV file `path`, in place of older ones with the same `keys`.

    `table` formats all rows as Markdown, written next to it with the suffix .md.
    """
    if path.exists():
        older = pd.read_csv(path, dtype={"id": str}).fillna({"prompt": ""})  # the empty prompt is a prompt
        same = (older[keys].astype(str) == rows[keys].astype(str).iloc[0]).all(axis=1)
        rows = pd.concat([older[~same], rows])
    write(rows, path, table)


def write(rows: pd.DataFrame, path: Path, table: Callable[[pd.DataFrame], str]) -> None:
    """Write `rows` to the CSV file `path` and, formatted as Markdown by `table`, next to it with the suffix .md."""
    zipped = {"method": "gzip", "mtime": 0} if path.suffix == ".gz" else None  # the same rows, the same file
    rows.to_csv(path, index=False, compression=zipped)
    (path.parent / f"{path.name.partition('.')[0]}.md").write_text(table(rows) + "\n", encoding="utf-8")


def mean_in_words(dice: pd.DataFrame) -> str:
    """The mean of Dice (seeds, images) in %, with its 95 % interval over both: "54.0 (49.0 to 58.8)"."""
    mean, low, high, _ = bootstrap_seeds(100 * dice.to_numpy())
    return f"{mean:.1f} ({low:.1f} to {high:.1f})"


def gain_in_words(first: pd.DataFrame, second: pd.DataFrame) -> str:
    """The mean of `first` minus `second`, Dice (seeds, images) paired by both, in points: "+4.9 (+1.8 to +8.3)".

    Seeds that one of them lacks do not count. With the same seeds it is the interval of `paired_gain`.
    """
    mean, low, high, _ = bootstrap_seeds(100 * (first - second)[first.columns].dropna().to_numpy())
    return f"{mean:+.1f} ({low:+.1f} to {high:+.1f})"
