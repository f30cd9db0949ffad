"""Many images through a predictor: masks, overlays and uncertainties as files, and a table of them."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from torch import nn

from vlsm_helpers import settings
from vlsm_helpers.data.images import read_image
from vlsm_helpers.errors import DataError, SettingsError
from vlsm_helpers.inference.predictor import Predictor, Segmentation
from vlsm_helpers.io import atomic
from vlsm_helpers.io.progress import tqdm
from vlsm_helpers.models.state import fingerprint
from vlsm_helpers.plots.overlays import overlay

TABLE, COLUMNS = "segmented.csv", ("image", "foreground", "uncertainty", "disagreement")
ASKED = "segmented.json"  # who was asked, and what: written first
FILES = ("{}.png", "{}_overlay.jpg", "{}_uncertainty.png")  # of an image: its mask, both in one picture, the entropy


def segment_files(
    predictor: Predictor, images: Sequence[Path], output: Path, prompt: str | None = None
) -> tuple[pd.DataFrame, list[DataError]]:
    """Write NAME.png (0 and 255), NAME_overlay.jpg and NAME_uncertainty.png (0 to 255: 0 to 1 bit) of each image to `output`.

    The table, also written to segmented.csv, has a row an image: image (its path), foreground (share of its pixels), uncertainty
    (mean entropy in bits), disagreement (of the members, see `Segmentation`). The second value: why images could not be read.
    Asked the same again, after a stop or with more images, it goes on: an image is done where it has a row and three files
    that are newer than itself. Raises SettingsError, before anything is written, for two images of one name, for files of
    others that would be overwritten, and for an `output` that another predictor or prompt began.
    """
    images = [Path(path).absolute() for path in images]
    done = set(_begin(settings.writable(output), images, _asked(predictor, prompt))["image"])
    left, broken = [path for path in images if str(path) not in done], []
    for path in tqdm(left, desc="segmenting", unit="image", delay=2):
        try:
            pixels = read_image(path)
        except DataError as error:
            broken.append(error)
            continue
        found = predictor(pixels, prompt)
        _write(pixels, found, output, path.stem)
        _row(path, found).to_csv(output / TABLE, mode="a", header=False, index=False)
    return pd.read_csv(output / TABLE), broken


def _asked(predictor: Predictor, prompt: str | None) -> dict:
    """The JSON-able facts that masks follow from, besides their images."""
    members = {
        name: fingerprint(member.state_dict()) if isinstance(member, nn.Module) else repr(type(member))
        for name, member in predictor.members.items()
    }
    prompt = predictor.prompt if prompt is None else prompt
    return {"members": members, "fusion": asdict(predictor.fusion), "size": predictor.size, "prompt": prompt}


def _begin(output: Path, images: Sequence[Path], asked: dict) -> pd.DataFrame:
    """The rows of images that earlier calls which asked the same have done; where there were none, the mark and no rows."""
    files = [name.format(path.stem) for path in images for name in FILES]
    if twice := [name for name, count in Counter(files).items() if count > 1]:
        raise SettingsError(f"Two images would both be written to {twice[0]}.", hint="segment them to two folders.")
    if (output / ASKED).exists() and (output / TABLE).exists():
        if json.loads((output / ASKED).read_text(encoding="utf-8")) != asked:
            what = "The folder holds masks of another ensemble, or of another prompt."
            raise SettingsError(what, where=output, hint="name another folder.")
        rows = _done(output, images)
    else:
        if there := [file for name in [*files, TABLE] if (file := output / name).exists()]:
            what = f"{len(there)} files are there already, such as {there[0].name}."
            raise SettingsError(what, where=output, hint="name another folder.")
        rows = pd.DataFrame(columns=list(COLUMNS))
        atomic.write_text(output / ASKED, json.dumps(asked, indent=1))
    atomic.write_text(output / TABLE, rows.to_csv(index=False))
    return rows


def _done(output: Path, images: Sequence[Path]) -> pd.DataFrame:
    """The rows of the table but for those of `images` that must be segmented again: they, or their masks, were changed since.

    Raises SettingsError for an image whose name another one has taken.
    """
    whole = (output / TABLE).read_text(encoding="utf-8").rpartition("\n")[0] + "\n"  # a row cut short is none
    rows = pd.read_csv(StringIO(whole))
    asked = {path.stem: path for path in images}
    keep = []
    for row in rows["image"]:
        path = Path(row)
        other = asked.get(path.stem)
        if other not in (None, path):
            what, hint = f"{path.stem}.png is there already, of {path}.", "name another folder, or rename the image."
            raise SettingsError(what, where=other, hint=hint)
        masks = [output / name.format(path.stem) for name in FILES]
        keep.append(other is None or all(one.exists() and _newer(one, path) for one in masks))
    return rows[np.array(keep, bool)]


def _newer(file: Path, than: Path) -> bool:
    return than.exists() and file.stat().st_mtime_ns >= than.stat().st_mtime_ns


def _row(path: Path, found: Segmentation) -> pd.DataFrame:
    values = (str(path), found.mask.mean(), float(found.uncertainty.mean()), found.disagreement)
    return pd.DataFrame([dict(zip(COLUMNS, values, strict=True))]).round(4)


def _write(pixels: np.ndarray, found: Segmentation, output: Path, name: str) -> None:
    nothing = np.zeros_like(found.mask)
    pictures = (
        np.uint8(255 * found.mask),
        overlay(pixels, nothing, found.mask),
        np.uint8(255 * found.uncertainty + 0.5),
    )
    for file, picture in zip(FILES, pictures, strict=True):
        Image.fromarray(picture).save(output / file.format(name))
