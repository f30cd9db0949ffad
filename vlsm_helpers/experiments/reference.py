"""Numbers to compare with: what the benchmarks measured, what was published, and the BibTeX of it."""

from importlib import resources
from pathlib import Path

import pandas as pd

from vlsm_helpers.errors import CourseError

PACKAGE = Path(str(resources.files("vlsm_helpers")))
MEASURED = PACKAGE / "measured"  # written by benchmarks/, shipped for the notebooks


def measured(benchmark: str) -> pd.DataFrame:
    """The rows that `benchmarks/BENCHMARK.py` wrote: one per test image, with dataset, model, seed, id and dice, a fraction.

    `real_curves` has one row per epoch instead: the CPU `minutes` until its end and the best Dice on validation so far.
    Raises CourseError, naming those there are, for one that ships none.

    >>> import vlsm_helpers as vlsm
    >>> rows = vlsm.measured("hybrid_ensembles")
    >>> sorted(rows["model"].unique())[:3]
    ['A', 'A without the CNN', 'B']
    """
    path = MEASURED / f"{benchmark}.csv.gz"
    if not path.exists():
        there = ", ".join(sorted(found.name.partition(".")[0] for found in MEASURED.glob("*.csv.gz")))
        raise CourseError(f"No measurements {benchmark!r} are shipped.", where=MEASURED, hint=f"there are: {there}.")
    return pd.read_csv(path, dtype={"id": str})


def literature() -> pd.DataFrame:
    """Published Dice on the paper's datasets, in %: source, trained_on, dataset, model, dice_percent, address.

    Copied from the tables of MedVLSM and VLSM-Adapter, which share the course's splits and not its protocol: they score at
    network size, train without augmentation, and give one run (MedVLSM) or the mean of three (VLSM-Adapter). The cells of
    VLSM-Ensemble's own table are not among them: copy them from arXiv 2509.05154.
    """
    return pd.read_csv(PACKAGE / "literature.csv")


def references() -> str:
    """BibTeX of the paper, its models and the benchmark."""
    return (PACKAGE / "references.bib").read_text(encoding="utf-8")
