"""Many images through a predictor: masks, overlays and uncertainties as files, and a table of them."""

import csv
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from torch import nn

from vlsm_helpers.data.images import read_image
from vlsm_helpers.errors import DataError, SettingsError
from vlsm_helpers.inference.predictor import Predictor, Segmentation
from vlsm_helpers.io import atomic
from vlsm_helpers.io.progress import tqdm
from vlsm_helpers.models.state import fingerprint
from vlsm_helpers.plots.overlays import overlay

TABLE, COLUMNS = "segmented.csv", ("image", "foreground", "uncertainty", "disagreement")
REQUEST = "segmented.json"  # the predictor and the prompt: written first
LOCK = ".segmented.lock"
FILES = ("{}.png", "{}_overlay.jpg", "{}_uncertainty.png")  # of an image: its mask, both in one picture, the entropy
ELSEWHERE = "name another folder."


def segment_files(
    predictor: Predictor, images: Sequence[Path], output: Path, prompt: str | None = None
) -> tuple[pd.DataFrame, list[DataError]]:
    """Write NAME.png (0 and 255), NAME_overlay.jpg and NAME_uncertainty.png (0 to 255: 0 to 1 bit) of each image to `output`.

    The table, also written to segmented.csv, has one row per image: image (its path), foreground (share of its pixels),
    uncertainty (mean entropy in bits), disagreement (of the members, see `Segmentation`). The second value: why images could
    not be read. Called again with the same predictor and prompt, after a stop or with more images, it resumes: an image is
    done where it has a row and three files that are newer than itself. Raises SettingsError, before anything is written, for
    two images of one name, for files of others that would be overwritten, and for an `output` that another predictor or
    prompt began; and, with what is done kept, where the disk is full. Raises BusyError where another process writes there.
    """
    images = [Path(path).absolute() for path in images]
    atomic.require_writable(output / TABLE, hint=ELSEWHERE)
    request = _request(predictor, prompt)
    _earlier_rows(output, images, request)  # refuses a folder of others before the lock is written to it
    with atomic.owned(output / LOCK, "segments images into this folder"):
        done = _begin(output, _earlier_rows(output, images, request), request)
        left, broken = [path for path in images if path not in done], []
        for path in tqdm(left, desc="segmenting", unit="image", delay=2):
            try:
                pixels = read_image(path)
            except DataError as error:
                broken.append(error)
                continue
            found = predictor(pixels, prompt)
            try:
                _write(pixels, found, output, path)
            except OSError as error:
                raise SettingsError(
                    f"The masks of {path.name} could not be written ({error.strerror}); those of earlier images are kept.",
                    where=output,
                    hint="free some space and give the same command again: it resumes.",
                ) from error
        rows = _read_rows(output).dropna(ignore_index=True)
        atomic.write_table(output / TABLE, rows, hint=ELSEWHERE)
    return rows, broken


def _request(predictor: Predictor, prompt: str | None) -> dict:
    """The JSON-able facts that masks follow from, besides their images."""
    members = {
        name: fingerprint(member.state_dict()) if isinstance(member, nn.Module) else repr(type(member))
        for name, member in predictor.members.items()
    }
    prompt = predictor.prompt if prompt is None else prompt
    return {"members": members, "fusion": asdict(predictor.fusion), "size": predictor.size, "prompt": prompt}


def _earlier_rows(output: Path, images: Sequence[Path], request: dict) -> pd.DataFrame | None:
    """The rows that earlier calls with the same request wrote; None where there was none. It writes nothing."""
    names = {file.format(path.stem): path for path in images for file in FILES}
    if len(names) < len(images) * len(FILES):
        twice, count = Counter(file.format(path.stem) for path in images for file in FILES).most_common(1)[0]
        raise SettingsError(f"{count} images would be written to {twice}.", hint="segment them to separate folders.")
    begun = (output / REQUEST).exists() and (output / TABLE).exists()
    if begun and _read_request(output) != json.loads(atomic.as_json(request)):
        what = "The folder holds masks of another ensemble, or of another prompt."
        raise SettingsError(what, where=output, hint=ELSEWHERE)
    rows = _read_rows(output) if begun else None
    _refuse_names_taken(output, names, rows)
    return rows


def _begin(output: Path, rows: pd.DataFrame | None, request: dict) -> set[Path]:
    """Write the request and a table of these rows; the images that are done."""
    for ending in ("*.png", "*.jpg"):  # of killed calls: this one owns the folder
        atomic.sweep(output, ending, age=0)
    if rows is None:
        rows = pd.DataFrame(columns=list(COLUMNS))
        atomic.write_text(output / REQUEST, atomic.as_json(request, indent=1), hint=ELSEWHERE)
    atomic.write_table(output / TABLE, rows, hint=ELSEWHERE)
    whole = [Path(image) for image in rows.dropna()["image"]]
    return {path for path in whole if all(_newer(output / file.format(path.stem), path) for file in FILES)}


def _read_request(output: Path) -> dict:
    try:
        return json.loads((output / REQUEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"The file is no record of `vlsm segment` ({error}).", where=output / REQUEST, hint=ELSEWHERE
        ) from error


def _read_rows(output: Path) -> pd.DataFrame:
    """The rows of the table, the last one of each image; one that was cut short has no numbers."""
    try:
        text = (output / TABLE).read_text(encoding="utf-8")
        whole, _, cut = text.rpartition("\n")
        rows = pd.read_csv(StringIO(whole + "\n"), dtype={"image": str}, keep_default_na=False, na_values=[""])
        if tuple(rows.columns) != COLUMNS:
            raise ValueError(f"its columns are {', '.join(map(str, rows.columns))}")
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"The file is no table of `vlsm segment` ({error}).", where=output / TABLE, hint=ELSEWHERE
        ) from error
    if cut:
        rows.loc[len(rows), "image"] = next(csv.reader([cut]))[0]
    return rows.drop_duplicates("image", keep="last", ignore_index=True)


def _refuse_names_taken(output: Path, names: Mapping[str, Path], rows: pd.DataFrame | None) -> None:
    """Raise SettingsError where a file is there that no earlier call made of the same image: only those are replaced."""
    segmented = [] if rows is None else [Path(image) for image in rows["image"]]
    owners = {file.format(path.stem): path for path in segmented for file in FILES}
    for name, path in names.items():
        if owners.get(name, path) != path:
            what, hint = f"{name} is there already, of {owners[name]}.", "name another folder, or rename the image."
            raise SettingsError(what, where=path, hint=hint)
    mine = {*owners, TABLE} if rows is not None else set()
    if there := [name for name in (*names, TABLE) if name not in mine and (output / name).exists()]:
        what = f"{len(there)} files are there already, such as {there[0]}."
        raise SettingsError(what, where=output, hint=ELSEWHERE)


def _newer(file: Path, than: Path) -> bool:
    """Whether `file` is there and not older than `than`; an image that was moved away since asks for nothing."""
    try:
        return file.stat().st_mtime_ns >= than.stat().st_mtime_ns
    except FileNotFoundError:
        return False


def _write(pixels: np.ndarray, found: Segmentation, output: Path, path: Path) -> None:
    """Write an image's three files and its row, in an order that a kill at any moment leaves resumable.

    The row comes before the files have their names: a file without a row is somebody else's, a row without files is redone.
    """
    nothing = np.zeros_like(found.mask)
    pictures = (
        np.uint8(255 * found.mask),
        overlay(pixels, nothing, found.mask),
        np.uint8(255 * found.uncertainty + 0.5),
    )
    targets = [output / file.format(path.stem) for file in FILES]
    partial = [atomic.sibling(target) for target in targets]
    try:
        for file, target, picture in zip(partial, targets, pictures, strict=True):
            with file.open("wb") as opened:
                Image.fromarray(picture).save(opened, "JPEG" if target.suffix == ".jpg" else "PNG")
        values = (str(path), found.mask.mean(), float(found.uncertainty.mean()), found.disagreement)
        row = pd.DataFrame([dict(zip(COLUMNS, values, strict=True))]).round(4)
        with (output / TABLE).open("a", encoding="utf-8", newline="") as table:
            table.write(row.to_csv(header=False, index=False, lineterminator="\n"))
        for file, target in zip(partial, targets, strict=True):
            os.replace(file, target)
    finally:
        for file in partial:
            file.unlink(missing_ok=True)
