"""Many images through a predictor: masks, overlays and uncertainties as files, and a table of them."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from vlsm_helpers import settings, stamped
from vlsm_helpers.data.images import read_image
from vlsm_helpers.errors import DataError, SettingsError
from vlsm_helpers.pictures import overlay
from vlsm_helpers.predictor import Predictor, Segmentation

TABLE, COLUMNS = "segmented.csv", ("image", "foreground", "uncertainty", "disagreement")
FILES = ("{}.png", "{}_overlay.jpg", "{}_uncertainty.png")  # of an image: its mask, both in one picture, the entropy


def segment_files(
    predictor: Predictor, images: Sequence[Path], output: Path, prompt: str | None = None
) -> tuple[pd.DataFrame, list[DataError]]:
    """Write NAME.png (0 and 255), NAME_overlay.jpg and NAME_uncertainty.png (0 to 255: 0 to 1 bit) of each image to `output`.

    The table, also written to segmented.csv, has a row an image: image, foreground (share of its pixels), uncertainty (mean
    entropy in bits), disagreement (of the members, see `Segmentation`). The second value: why images could not be read. Raises
    SettingsError, before anything is written, for two images of one name and for files that would be overwritten.
    """
    _refuse_overwriting(images, settings.writable(output))
    rows, broken = [], []
    try:
        for path in tqdm(images, desc="segmenting", unit="image", delay=2):
            try:
                pixels = read_image(path)
            except DataError as error:
                broken.append(error)
                continue
            found = predictor(pixels, prompt)
            _write(pixels, found, output, path.stem)
            rows.append(_row(path, found))
    finally:  # a stop in the middle keeps the rows of what is there
        table = pd.DataFrame(rows, columns=list(COLUMNS)).round(4)
        stamped.write_text(output / TABLE, table.to_csv(index=False))
    return table, broken


def _row(path: Path, found: Segmentation) -> dict:
    values = (str(path), found.mask.mean(), float(found.uncertainty.mean()), found.disagreement)
    return dict(zip(COLUMNS, values, strict=True))


def _refuse_overwriting(images: Sequence[Path], output: Path) -> None:
    files = [name.format(path.stem) for path in images for name in FILES]
    twice = [name for name, count in Counter(files).items() if count > 1]
    if twice:
        raise SettingsError(f"Two images would both be written to {twice[0]}.", mend="segment them to two folders.")
    there = [file for name in [*files, TABLE] if (file := output / name).exists()]
    if there:
        raise SettingsError(
            f"{len(there)} files are there already, such as {there[0].name}.", where=output, mend="name another folder."
        )


def _write(pixels: np.ndarray, found: Segmentation, output: Path, name: str) -> None:
    nothing = np.zeros_like(found.mask)
    pictures = (
        np.uint8(255 * found.mask),
        overlay(pixels, nothing, found.mask),
        np.uint8(255 * found.uncertainty + 0.5),
    )
    for file, picture in zip(FILES, pictures, strict=True):
        Image.fromarray(picture).save(output / file.format(name))
