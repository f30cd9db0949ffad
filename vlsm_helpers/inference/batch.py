"""Many images through a predictor: masks, overlays and uncertainties as files, and a table of them."""

import csv
import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image
from torch import nn

from vlsm_helpers.data.files import stem
from vlsm_helpers.data.formats import Reading
from vlsm_helpers.data.frames import Frame, frames
from vlsm_helpers.errors import DataError, SettingsError
from vlsm_helpers.inference.predictor import Predictor, Segmentation, label_map
from vlsm_helpers.io import atomic
from vlsm_helpers.io.ahead import ahead
from vlsm_helpers.io.progress import tqdm
from vlsm_helpers.models.state import fingerprint
from vlsm_helpers.plots.overlays import label_overlay, overlay

NUMBERS = ("foreground", "uncertainty", "disagreement", "area_px", "area_mm2")
TABLE, COLUMNS = "segmented.csv", ("image", "prompt", *NUMBERS)
OLD_COLUMNS = ("image", *NUMBERS[:3])  # of version 0.2.0
REQUEST = "segmented.json"  # the predictor and the prompt: written first
LOCK = ".segmented.lock"
ELSEWHERE = "name another folder."


def segment_files(
    predictor: Predictor, images: Sequence[Path], output: Path, prompt: str | Sequence[str] | None = None
) -> tuple[pd.DataFrame, list[DataError]]:
    """Write NAME.png (0 and 255), NAME_overlay.jpg and NAME_uncertainty.png (0 to 255: 0 to 1 bit) of each image to `output`.

    `images`: files, of one frame or several: pictures, DICOM, NIfTI and video files, which `predictor.reading` windows and cuts.
    NAME is the id of a frame: a picture's name without its ending; of DICOM files a hash (see `frames`). Of several prompts, each
    has its mask and its uncertainty, NAME_PROMPT.png and NAME_PROMPT_uncertainty.png, and NAME_labels.png holds them in one map
    (see `label_map`), which the overlay shows.

    The table, also written to segmented.csv, has one row per frame and prompt: image (a picture's path, else the frame's id),
    prompt, foreground (share of its pixels), uncertainty (mean entropy in bits), disagreement (of the members, see
    `Segmentation`), area_px (number of foreground pixels) and area_mm2 (empty where the spacing of pixels is not known). The
    second value: why images could not be read. Called again with the same predictor and prompts, after a stop or with more
    images, it resumes: an image is done where it has its rows, and files that are newer than itself. Raises SettingsError,
    before anything is written, for two images or prompts of one name, for files of others that would be overwritten, and for an
    `output` that another predictor or prompt began; and, with what is done kept, where the disk is full. Raises BusyError where
    another process writes there.
    """
    prompts = [predictor.prompt] if prompt is None else [prompt] if isinstance(prompt, str) else [*prompt]
    atomic.require_writable(output / TABLE, hint=ELSEWHERE)
    images, broken = open_frames([Path(path).absolute() for path in images], predictor.reading)
    request = _request(predictor, prompts)
    _earlier_rows(output, images, prompts, request)  # refuses a folder of others before the lock is written to it
    with atomic.owned(output / LOCK, "segments images into this folder"):
        done = _begin(output, _earlier_rows(output, images, prompts, request), prompts, request)
        left = [frame for frame in images if not _is_done(frame, done, output, prompts)]
        found = zip(left, predictor.stream(left, prompts), strict=True)
        written = ahead(partial(_write, output), found, depth=1)
        broken += [error for error in tqdm(written, "segmenting", len(left), unit="image", delay=2) if error]
        rows = _whole(_read_rows(output))
        atomic.write_table(output / TABLE, rows, hint=ELSEWHERE)
    return rows, broken


def open_frames(paths: Sequence[Path], reading: Reading) -> tuple[list[Frame], list[DataError]]:
    """The frames of files, and why some cannot be opened."""
    found, broken = [], []
    for path in tqdm(paths, desc="opening", unit="file", delay=2):
        try:
            found += frames([path], reading)
        except DataError as error:
            broken.append(error)
    return found, broken


class Names(NamedTuple):
    """The names of an image's files; see `segment_files`."""

    masks: dict[str, str]  # by prompt
    uncertainties: dict[str, str]  # by prompt
    overlay: str
    labels: str | None  # of several prompts

    @classmethod
    def of(cls, name: str, prompts: Sequence[str]) -> "Names":
        """Those of the image `name`."""
        stems = {prompts[0]: name} if len(prompts) == 1 else {prompt: f"{name}_{_plain(prompt)}" for prompt in prompts}
        masks = {prompt: f"{stem}.png" for prompt, stem in stems.items()}
        uncertainties = {prompt: f"{stem}_uncertainty.png" for prompt, stem in stems.items()}
        return cls(masks, uncertainties, f"{name}_overlay.jpg", f"{name}_labels.png" if len(prompts) > 1 else None)

    def all(self) -> list[str]:
        """Every one of them."""
        return [*self.masks.values(), self.overlay, *self.uncertainties.values()] + [self.labels] * bool(self.labels)


def _plain(prompt: str) -> str:
    """A prompt as part of a file's name: letters, digits, hyphens and underscores."""
    return re.sub(r"[^\w-]+", "_", prompt).strip("_") or "empty"


def _request(predictor: Predictor, prompts: Sequence[str]) -> dict:
    """The JSON-able facts that masks follow from, besides their images."""
    members = {
        name: fingerprint(member.state_dict()) if isinstance(member, nn.Module) else repr(type(member))
        for name, member in predictor.members.items()
    }
    prompt = prompts[0] if len(prompts) == 1 else list(prompts)
    depth = {"bit_depth": predictor.bit_depth} if predictor.bit_depth else {}
    shown = {"window": predictor.reading.window, "axis": predictor.reading.axis}
    reading = {} if predictor.reading == Reading(every=predictor.reading.every) else {"reading": shown}
    whole = {"members": members, "fusion": asdict(predictor.fusion), "size": predictor.size, "prompt": prompt}
    return whole | depth | reading  # as version 0.2.0 wrote it, where images are plain pictures


def _earlier_rows(output: Path, images: Sequence[Frame], prompts: Sequence[str], request: dict) -> pd.DataFrame | None:
    """The rows that earlier calls with the same request wrote; None where there was none. It writes nothing."""
    counts = Counter(file for frame in images for file in Names.of(frame.id, prompts).all())
    twice, count = max(counts.items(), key=lambda item: item[1], default=("", 1))
    if count > 1:
        raise SettingsError(f"{count} images or prompts would be written to {twice}.", hint="segment them separately.")
    begun = (output / REQUEST).exists() and (output / TABLE).exists()
    if begun and _read_request(output) != json.loads(atomic.as_json(request)):
        what = "The folder holds masks of another ensemble, or of another prompt or window."
        raise SettingsError(what, where=output, hint=ELSEWHERE)
    rows = _read_rows(output) if begun else None
    _refuse_names_taken(output, images, prompts, rows)
    return rows


def _begin(output: Path, rows: pd.DataFrame | None, prompts: Sequence[str], request: dict) -> set[str]:
    """Write the request and a table of these rows; the images, as the table names them, that have all their rows."""
    for ending in ("*.png", "*.jpg"):  # of killed calls: this one owns the folder
        atomic.sweep(output, ending, age=0)
    if rows is None:
        rows = pd.DataFrame(columns=list(COLUMNS))
        atomic.write_text(output / REQUEST, atomic.as_json(request, indent=1), hint=ELSEWHERE)
    atomic.write_table(output / TABLE, rows, hint=ELSEWHERE)
    counts = _whole(rows)["image"].value_counts()
    return set(counts.index[counts == len(prompts)])


def _is_done(frame: Frame, done: set[str], output: Path, prompts: Sequence[str]) -> bool:
    files = Names.of(frame.id, prompts).all()
    return in_table(frame) in done and all(_newer(output / file, frame.source) for file in files)


def in_table(frame: Frame) -> str:
    """How the table names a frame: a picture by its path, any other by its id, for its file's name may be a patient's."""
    return str(frame.source) if frame.plain else frame.id


def _read_request(output: Path) -> dict:
    try:
        return json.loads((output / REQUEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        what = f"The file is no record of `vlsm segment` ({error})."
        raise SettingsError(what, where=output / REQUEST, hint=ELSEWHERE) from error


def _read_rows(output: Path) -> pd.DataFrame:
    """The rows of the table, the last one of each image and prompt; one that was cut short has no numbers."""
    try:
        text = (output / TABLE).read_text(encoding="utf-8")
        whole, _, cut = text.rpartition("\n")
        options = {"keep_default_na": False, "na_values": {name: [""] for name in NUMBERS}}
        rows = pd.read_csv(StringIO(whole + "\n"), dtype={"image": str, "prompt": str}, **options)
        if tuple(rows.columns) not in (COLUMNS, OLD_COLUMNS):
            raise ValueError(f"its columns are {', '.join(map(str, rows.columns))}")
    except (OSError, ValueError) as error:
        what = f"The file is no table of `vlsm segment` ({error})."
        raise SettingsError(what, where=output / TABLE, hint=ELSEWHERE) from error
    rows = rows.reindex(columns=list(COLUMNS))  # rows of version 0.2.0 have no area: such images are segmented again
    if cut:
        rows.loc[len(rows), "image"] = next(csv.reader([cut]))[0]
    return rows.drop_duplicates(["image", "prompt"], keep="last", ignore_index=True)


def _whole(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that were not cut short."""
    return rows.dropna(subset=list(NUMBERS[:-1]), ignore_index=True).astype({"area_px": int})


def _refuse_names_taken(
    output: Path, images: Sequence[Frame], prompts: Sequence[str], rows: pd.DataFrame | None
) -> None:
    """Raise SettingsError where a file is there that no earlier call made of the same image: only those are replaced."""
    segmented = [] if rows is None else rows["image"].unique()
    owners = {file: image for image in segmented for file in Names.of(stem(Path(image)), prompts).all()}
    names = {file: frame for frame in images for file in Names.of(frame.id, prompts).all()}
    for name, frame in names.items():
        if owners.get(name, in_table(frame)) != in_table(frame):
            what, hint = f"{name} is there already, of {owners[name]}.", "name another folder, or rename the image."
            raise SettingsError(what, where=frame.source if frame.plain else frame.id, hint=hint)
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


def _write(
    output: Path, result: tuple[Frame, tuple[np.ndarray, dict[str, Segmentation]] | DataError]
) -> DataError | None:
    """Write an image's files and rows; or return why it could not be read."""
    frame, found = result
    if isinstance(found, DataError):
        return found
    try:
        _write_files(output, _pictures(frame.id, *found), _rows(frame, found[1]))
    except OSError as error:
        name = Path(in_table(frame)).name
        what = f"The masks of {name} could not be written ({error.strerror}); those of earlier images are kept."
        hint = "free some space and give the same command again: it resumes."
        raise SettingsError(what, where=output, hint=hint) from error


def _pictures(name: str, pixels: np.ndarray, found: Mapping[str, Segmentation]) -> dict[str, np.ndarray]:
    """What is drawn of an image, uint8 (H, W) or (H, W, 3), by its file's name."""
    names = Names.of(name, list(found))
    pictures = {names.masks[prompt]: np.uint8(255) * one.mask for prompt, one in found.items()}
    if names.labels:
        pictures[names.labels] = label_map(found)
        pictures[names.overlay] = label_overlay(pixels, pictures[names.labels])
    else:
        mask = next(iter(found.values())).mask
        pictures[names.overlay] = overlay(pixels, np.zeros_like(mask), mask)
    return pictures | {
        names.uncertainties[prompt]: np.uint8(255 * one.uncertainty + 0.5) for prompt, one in found.items()
    }


def _rows(frame: Frame, found: Mapping[str, Segmentation]) -> str:
    """The rows of a frame, as CSV."""
    pixel = frame.spacing and frame.spacing[0] * frame.spacing[1]
    rows = [
        (
            *(in_table(frame), prompt, one.mask.mean(), float(one.uncertainty.mean()), one.disagreement),
            *(one.mask.sum(), pixel and one.mask.sum() * pixel),
        )
        for prompt, one in found.items()
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS)).round(4).to_csv(header=False, index=False, lineterminator="\n")


def _write_files(output: Path, pictures: Mapping[str, np.ndarray], rows: str) -> None:
    """Write an image's pictures and its rows, in an order that a kill at any moment leaves resumable.

    The rows come before the files have their names: a file without a row is somebody else's, rows without files are redone.
    """
    partial = {atomic.sibling(output / name): output / name for name in pictures}
    try:
        for file, picture in zip(partial, pictures.values(), strict=True):
            with file.open("wb") as opened:
                if picture.ndim == 3:
                    Image.fromarray(picture).save(opened, "JPEG")
                else:  # compressed a little: more takes five times as long and saves a fifth
                    Image.fromarray(picture).save(opened, "PNG", compress_level=1)
        with (output / TABLE).open("a", encoding="utf-8", newline="") as table:
            table.write(rows)
        for file, target in partial.items():
            os.replace(file, target)
    finally:
        for file in partial:
            file.unlink(missing_ok=True)
