"""What benchmarks share: the draw that a seed sees, and a table of rows that grows measurement by measurement."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from vlsm_helpers import settings
from vlsm_helpers.data import phantoms, registry
from vlsm_helpers.experiments.runs import PER_IMAGE

HERE = Path(__file__).parent
SEEDS = (0, 1, 2)
DRAWN = [card.name for card in registry.DATASETS.values() if card.is_phantom]  # measured unless others are named


def draw_of(dataset: str, seed: int) -> str:
    """The name of the dataset as this seed sees it: phantoms get training and validation images of their own."""
    if seed == 0 or not registry.find(dataset).is_phantom:
        return dataset
    return phantoms.ensure(dataset, settings.data_folder(), draw=seed).name


def of_test(run: Path, dataset: str) -> pd.DataFrame:
    """What `evaluate_run` kept of each test image of `dataset`; the run may have been scored on other datasets, too."""
    rows = pd.read_csv(run / PER_IMAGE, dtype={"id": str})
    return rows[(rows["dataset"] == dataset) & (rows["split"] == "test")]


def keep(rows: pd.DataFrame, path: Path, keys: Sequence[str], table: Callable[[pd.DataFrame], str]) -> None:
    """Add `rows` of one measurement to the CSV file `path`, in place of older ones that agree with them in `keys`.

    Of what is then in it, `table` makes the Markdown, which goes to a file beside it, of the same name with the ending .md.
    """
    if path.exists():
        older = pd.read_csv(path, dtype={"id": str}).fillna({"prompt": ""})  # an empty prompt is one, too
        same = (older[keys].astype(str) == rows[keys].astype(str).iloc[0]).all(axis=1)
        rows = pd.concat([older[~same], rows])
    zipped = {"method": "gzip", "mtime": 0} if path.suffix == ".gz" else None  # the same rows, the same file
    rows.to_csv(path, index=False, compression=zipped)
    (path.parent / f"{path.name.partition('.')[0]}.md").write_text(table(rows) + "\n", encoding="utf-8")
