"""Networks that the course ships trained, so that chapter 4 starts from an ensemble A that has learned something.

Ensemble A, two of its members and a control, trained on the endoscopy phantoms at the tiny profile with seed 0, by the recipes
of `benchmarks/hybrid_ensembles.py`; the best weights of each, in float16. `tools.tiny_hybrid` writes them. The runs behind
`measured/hybrid_ensembles.csv.gz` are others: rounding differs between machines, and training amplifies it.
"""

from importlib import resources
from pathlib import Path

import pandas as pd

from vlsm_helpers import settings as course_settings
from vlsm_helpers.errors import SettingsError
from vlsm_helpers.models import factory
from vlsm_helpers.models.segmenter import Segmenter
from vlsm_helpers.settings import Settings

FOLDER = Path(str(resources.files("vlsm_helpers").joinpath("tiny_weights", "hybrid")))
HISTORY = "history.csv"
NETWORKS = {
    "BiomedCLIPSeg": "biomedclipseg",
    "UNet-D": "unet_d",
    "A without the CNN": "ensemble_a_no_cnn",
    "A": "ensemble_a",
}
SEED = 0


def fits(settings: Settings) -> bool:
    """Whether the shipped networks are what these settings would train: the tiny profile, the phantoms of endoscopy, seed 0."""
    return (settings.profile.name, settings.dataset, settings.seed) == ("tiny", course_settings.DEFAULT_DATASET, SEED)


def network(label: str) -> Segmenter:
    """The trained network `label` of NETWORKS, in evaluation mode, on the CPU.

    Raises SettingsError for another name, and TrainingError where its file is damaged or was trained on other miniatures.

    >>> from vlsm_helpers.course import trained
    >>> trained.network("A").config["name"]
    'ensemble_a'
    """
    if label not in NETWORKS:
        raise SettingsError(f"No trained network {label!r} comes with the course.", hint=f"use {', '.join(NETWORKS)}.")
    return factory.load(FOLDER / f"{NETWORKS[label]}.safetensors")[0]


def histories() -> dict[str, pd.DataFrame]:
    """Of each network, in the order of NETWORKS, one row per epoch: what `vlsm.train` returned."""
    rows = pd.read_csv(FOLDER / HISTORY)
    return {label: rows[rows["model"] == label].drop(columns="model").reset_index(drop=True) for label in NETWORKS}
