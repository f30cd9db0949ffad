"""One phantom from its seed, and which seeds belong to which split."""

from dataclasses import dataclass

import numpy as np

from vlsm_helpers.data import registry
from vlsm_helpers.data.phantoms import endoscopy, skin, ultrasound, xray
from vlsm_helpers.data.phantoms.drawing import DIFFICULTIES, streams
from vlsm_helpers.errors import DataError, unknown

GENERATOR_VERSION = 2  # increase it with every change of a pixel: datasets on disk are then generated again

FIRST_SEEDS = {"train": 10_000, "val": 20_000, "test": 30_000}
PRETRAINING_SEEDS = range(1_000_000, 2_000_000)  # in no split: for pretraining other models

_MODALITIES = {
    "phantom_endoscopy": endoscopy.draw,
    "phantom_ultrasound": ultrasound.draw,
    "phantom_skin": skin.draw,
    "phantom_xray": xray.draw,
}


@dataclass(frozen=True)
class Phantom:
    """An image and its ground truth: image uint8 (size, size, 3), mask bool (size, size), empty for the kind `normal`."""

    image: np.ndarray
    mask: np.ndarray
    noun: str  # the word for the target in prompts: polyp, tumor, skin lesion; on X-rays the finding's name
    kind: str  # sessile, flat, pedunculated; benign, malignant, normal; even, variegated, faint; or the finding
    difficulty: str


def render(name: str, seed: int, difficulty: str = "medium", size: int = 128) -> Phantom:
    """The phantom `seed` of the dataset `name`, `size` pixels per side; the same image on every machine.

    A harder picture of the same seed shows the same scene; a larger one shows it with finer detail, not another one.
    Raises DataError for a name that is no phantom dataset, an unknown difficulty, a negative seed or a size below 32.
    """
    if name not in _MODALITIES:
        raise unknown("phantom", name, _MODALITIES, error=DataError)
    if difficulty not in DIFFICULTIES:
        raise unknown("difficulty", difficulty, DIFFICULTIES, error=DataError)
    _refuse_undrawable(seed, size)
    drawing = _MODALITIES[name](streams(name, seed), size, DIFFICULTIES[difficulty])
    return Phantom(_rounded(drawing.image), drawing.mask, drawing.noun, drawing.kind, difficulty)


def render_label_map(seed: int, size: int = 128, instruments: float = 0.8) -> tuple[np.ndarray, np.ndarray]:
    """The endoscopy phantom `seed` with two targets: image uint8 (size, size, 3), label map uint8 (size, size).

    Labels: 0 background, 1 polyp, 2 instrument, which hides what is behind it and is there at the probability `instruments`.
    Raises DataError for a negative seed or a size below 32.
    """
    _refuse_undrawable(seed, size)
    drawing, instrument = endoscopy.draw_two(
        streams("phantom_endoscopy", seed), size, DIFFICULTIES["medium"], instruments
    )
    return _rounded(drawing.image), np.where(instrument, 2, drawing.mask).astype(np.uint8)


def _rounded(image: np.ndarray) -> np.ndarray:
    return np.floor(np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


def _refuse_undrawable(seed: int, size: int) -> None:
    if seed < 0 or size < 32:
        raise DataError(f"Seed {seed} at {size} px cannot be drawn.", hint="use a seed from 0 and a size from 32 px.")


def seeds(name: str, split: str, draw: int = 0) -> range:
    """The seeds of a split (train, val or test), as many as the dataset's registry entry says; splits share no seed.

    Another `draw`, 0 to 9, has other seeds for train and val, and the same for test: how much a score hangs on the images
    that were trained on. Raises DataError for an unknown dataset or split and for a draw there is not.
    """
    if split not in FIRST_SEEDS:
        raise unknown("split", split, FIRST_SEEDS, error=DataError)
    if draw not in range(10):
        raise DataError(f"There is no draw {draw} of the phantoms.", hint="use a number from 0 to 9.")
    first = FIRST_SEEDS[split] + (0 if split == "test" else 1000 * draw)
    return range(first, first + registry.find(name).entries[split])
