"""Frames and their masks, decoded, compared and written to a new dataset one at a time."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from vlsm_helpers.data.annotations.classes import slug_of
from vlsm_helpers.data.checks import MAX_ASPECT
from vlsm_helpers.data.frames import Frame, together
from vlsm_helpers.data.images import as_rgb
from vlsm_helpers.data.labels import Labels, MaskFiles
from vlsm_helpers.data.masks import HINT
from vlsm_helpers.data.prompts import ladder
from vlsm_helpers.data.seen import SeenImage, SeenMask
from vlsm_helpers.data.staging import Record, Staging
from vlsm_helpers.errors import DataError
from vlsm_helpers.io.progress import tqdm

PROMPT_SIDE = 512  # pixels


def read_all(stage: Staging, found: Sequence[Frame], labels: Labels, modality: str | None, depth: int) -> list[Record]:
    """Read each frame once, unless an earlier call has, and write it to the new folder. Raises DataError for all broken ones."""
    records, broken = [], []
    for frame in tqdm(found, desc="reading", unit="image", delay=2):
        try:
            signature = _signature(frame, labels)
            record = stage.done(frame.id, signature)
            if record is None:
                record = _read(stage.folder, frame, labels, modality, depth)
                stage.add(record, signature)
            records.append(record)
        except DataError as error:
            broken.append(error)
    if broken:
        raise together(
            broken, f"fix or remove them; masks need their image's proportions. If masks are ambiguous, {HINT}"
        )
    if isinstance(labels, MaskFiles):
        labels.check_levels([one.level for one in records])
    if len(labels.classes) > 1:
        _refuse_absent(labels.classes, records)
    return records


def _refuse_absent(classes: Sequence[str], records: Sequence[Record]) -> None:
    absent = [name for name in classes if not any(record.masks[name].box for record in records)]
    if absent:
        what = f"Classes that none of the {len(records)} images shows: {', '.join(absent)}."
        raise DataError(what, hint="check their values and names in --labels, or leave them out.")


def _signature(frame: Frame, labels: Labels) -> str:
    """What changes if one of the frame's files does: their sizes and times."""
    try:
        facts = [path.stat() for path in (frame.source, *labels.files(frame))]
    except OSError as error:
        what = f"The file cannot be read ({error.strerror})."
        raise DataError(what, where=error.filename, hint="restore it, and give the command again.") from error
    return " ".join(f"{one.st_size}-{one.st_mtime_ns}" for one in facts)


def _read(root: Path, frame: Frame, labels: Labels, modality: str | None, depth: int) -> Record:
    """Decode a frame, compare it with its masks, and write both."""
    raster = frame.decode()
    image = as_rgb(raster, frame.source, depth)
    found, several = labels.masks(frame, image.shape[:2]), len(labels.classes) > 1
    for mask in found.masks.values():
        _refuse_other_shape(found.where, image, mask, raster.turn if found.turn == 1 else 1)
    copied = frame.plain and raster.bits <= 8
    image_file = f"{frame.id}{frame.source.suffix if copied else '.png'}"
    if copied:
        shutil.copyfile(frame.source, root / "images" / image_file)
    else:
        Image.fromarray(image).save(root / "images" / image_file)
    masks, prompts = {}, {}
    for name, mask in found.masks.items():
        mask_file = f"{frame.id}_{slug_of(name)}.png" if several else f"{frame.id}.png"
        Image.fromarray(mask).save(root / "masks" / mask_file)
        prompts[name] = ladder(*_smaller(image, mask), name, modality=modality) | {"p1": name}
        masks[name] = SeenMask.of(f"masks/{mask_file}", mask)
    turned = raster.turn != 1 and found.turn == 1
    seen = SeenImage.of(f"images/{image_file}", image)
    return Record(frame.id, seen, masks, prompts, found.level, turned, raster.bits > 8)


def _smaller(image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The image at its mask's size, both with at most PROMPT_SIDE pixels a side: words on shape and colour need no more."""
    step = max(1, -(-max(mask.shape) // PROMPT_SIDE))
    few = mask[::step, ::step]
    few = few if few.any() or not mask.any() else mask  # a target that would vanish
    size = few.shape[::-1]
    fits = image.shape[:2] == few.shape
    return image if fits else np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)), few


def _refuse_other_shape(where: Path, image: np.ndarray, mask: np.ndarray, turn: int) -> None:
    (height, width), (mask_height, mask_width) = image.shape[:2], mask.shape
    if abs(width * mask_height / (height * mask_width) - 1) <= MAX_ASPECT:
        return
    what = f"{mask_width} x {mask_height}, its image {width} x {height}"
    if turn >= 5 and abs(height * mask_height / (width * mask_width) - 1) <= MAX_ASPECT:
        what += f" after its EXIF orientation ({turn}) turned it; the mask fits the image before that turn"
    raise DataError(what, where=where, hint="save image and mask with the same proportions.")
