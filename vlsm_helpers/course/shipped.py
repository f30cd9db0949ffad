"""Predictions that the package ships: logits of three tiny members on the endoscopy phantoms, so that fusion needs no training.

Each prediction is one PNG with the images stacked vertically: its 256 grey levels are logits in steps of 1/8, or finer if they
are small. A step ends at 0, so rounding moves no pixel across a probability of 0.5. `tools.tiny_predictions` writes them.
"""

import hashlib
import json
from importlib import resources
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from vlsm_helpers.errors import DataError
from vlsm_helpers.evaluation.predictions import Prediction, PredictionInfo, PredictionStore

FOLDER = Path(str(resources.files("vlsm_helpers").joinpath("tiny_predictions")))
INDEX = "index.json"
LEVELS, COARSEST = 256, 8  # COARSEST: the grey levels that a logit of 1 takes at least


def tiny_store(split: str) -> PredictionStore:
    """BiomedCLIPSeg, CLIPSeg and UNet-D at the tiny profile on the val or test images of phantom_endoscopy, which each machine
    draws for itself.

    Raises DataError for a split that is not shipped, and for files that are missing or damaged.

    >>> import vlsm_helpers as vlsm
    >>> val = vlsm.tiny_store("val")
    >>> val.names, len(val), val.size
    (['biomedclipseg', 'clipseg', 'unet_d'], 60, 128)
    """
    return PredictionStore(tiny_predictions(split))


def tiny_predictions(split: str) -> list[Prediction]:
    """The same, one by one, for a store with members of one's own beside them. Raises DataError as `tiny_store` does."""
    try:
        files = json.loads((FOLDER / INDEX).read_text(encoding="utf-8"))["files"]
        found = [_read(name, facts) for name, facts in files.items() if facts["index"]["split"] == split]
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = f"The predictions that come with the package are damaged ({error})."
        hint = "install the package again, or, in a checkout, `git checkout -- vlsm_helpers/tiny_predictions`."
        raise DataError(what, where=FOLDER, hint=hint) from error
    if not found:
        raise DataError(f"No predictions of the split {split!r} come with the package.", hint="use val or test.")
    return found


def decode(png: bytes, steps: int) -> np.ndarray:
    """Logits float16 (N, S, S), the middle of each step, from what `tools.tiny_predictions.encode` wrote.

    Raises ValueError or OSError for other bytes.
    """
    levels = np.asarray(Image.open(BytesIO(png)), np.float32)
    side = levels.shape[1]
    return ((levels.reshape(-1, side, side) + 0.5 - LEVELS / 2) / steps).astype(np.float16)


def _read(name: str, facts: dict) -> Prediction:
    content = (FOLDER / name).read_bytes()
    if hashlib.sha256(content).hexdigest() != facts["sha256"]:
        raise ValueError(f"{name} is not the file that {INDEX} names")
    return Prediction(PredictionInfo.of(facts["index"]), decode(content, facts["steps"]))
