"""`check`: whether a prepared dataset is complete, fits its annotations, and keeps its splits apart."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from vlsm_helpers.data import registry, small
from vlsm_helpers.data.alike import correlations, thumbnail
from vlsm_helpers.data.decode import decode
from vlsm_helpers.data.images import as_rgb, read_image
from vlsm_helpers.data.masks import find_foreground
from vlsm_helpers.data.samples import FACTS, SPLITS, Sample, dataset_folder, read_entries
from vlsm_helpers.data.seen import SeenImage, SeenMask
from vlsm_helpers.errors import DataError
from vlsm_helpers.io.progress import tqdm

MOSTLY_FOREGROUND = 0.5  # a share of the pixels that no target of the public datasets has in the mean
FEW_GREYS = 16  # of 256: an image with so few levels of grey has lost its contrast
NEAR_DUPLICATE = 0.95  # correlation of two thumbnails
BOX_TOLERANCE = 1  # pixels on each side, of the size the boxes were measured at
MAX_WRONG_BOXES = 0.05  # of a split's boxes: some masks have a stray pixel, more means masks of other images
MAX_ASPECT = 0.02  # relative difference of width / height between an image and its mask
# MedVLSM measured CheXlocalize's boxes on masks resized to this shorter side (a box ends at 624 = 2828 * 512 / 2320).
BOX_SHORT_SIDE = {"chexlocalize": 512}

_COLUMNS = ["severity", "kind", "split", "file", "detail"]
_LEAKS = ["near-duplicate", "shared name"]


@dataclass(frozen=True)
class Report:
    """What `check` found.

    `counts`, one row per split: entries, images, empty_masks, median_size (of the masks, width x height in pixels),
    foreground_share (of the pixels, mean over the masks, 0 to 1). `problems`, one row each: severity (error or warning),
    kind, split, file, detail. `outlook`: what a score will be worth, of a small dataset.
    """

    name: str
    folder: Path
    counts: pd.DataFrame
    problems: pd.DataFrame
    outlook: str = ""

    @property
    def ok(self) -> bool:
        """Whether there are no errors; warnings do not count."""
        return not (self.problems.severity == "error").any()

    @property
    def leaks(self) -> pd.DataFrame:
        """The problems by which one split leaks into another: near-duplicate images, and shared names."""
        return self.problems[self.problems.kind.isin(_LEAKS)]

    def __str__(self) -> str:
        lines = [f"{self.name} in {self.folder}: {'ok' if self.ok else 'NOT ok'}", "", self.counts.to_string()]
        for (severity, kind, split), rows in self.problems.groupby(["severity", "kind", "split"]):
            lines += ["", f"{severity}, {kind}, {split}: {len(rows)}"]
            lines += [f"  {row.file}: {row.detail}" for row in rows.head(5).itertuples()]
            lines += [f"  ... and {len(rows) - 5} more"] * (len(rows) > 5)
        lines += ["", self.outlook] if self.outlook else []
        return "\n".join(lines)


def check(name: str, folder: Path | None = None, seen: Mapping[str, SeenImage | SeenMask] | None = None) -> Report:
    """Decode every file of the dataset `name` and compare it with its annotations and with the other splits.

    `folder` holds the datasets, by default the one VLSM_DATA names; `seen`: what has been decoded already, by file
    ("images/x.png").
    Every problem found is one row of the report: broken or missing files, an empty or unreadable annotation file, masks of
    another shape than their image and more than 5 % wrong boxes are errors; single wrong boxes, other counts than the registry's,
    images with hardly any contrast, masks that may be inverted, EXIF turns that a mask does not share, names that several splits
    share, near-duplicates across splits and what small datasets suffer from (`small.suspicions`) are warnings. Raises DataError
    only where the dataset is not there at all.
    """
    root = dataset_folder(name, folder)
    problems = []
    splits = {split: _samples(root, split, problems) for split in SPLITS}
    images, masks, counts = {}, {}, {}
    steps = sum(len(_image_files(samples)) + len(samples) for samples in splits.values())
    with tqdm(total=steps, desc=f"checking {name}", unit="file", delay=2) as bar:
        for split, samples in splits.items():
            images[split] = _look("image", split, _image_files(samples), _see_image, problems, bar, seen or {})
            files = [sample.mask for sample in samples]
            masks[split] = _look("mask", split, files, _see_mask, problems, bar, seen or {})
            counts[split] = _counts(samples, masks[split])
            problems += _without_contrast(split, images[split])
            problems += _inverted(split, counts[split]["foreground_share"], masks[split])
            problems += _wrong_shapes(split, samples, images[split], masks[split])
            if not (root / FACTS).exists():  # `adopt` has told of them, and has turned the masks
                problems += _turned(split, samples, images[split], masks[split])
            problems += _wrong_boxes(split, samples, masks[split], BOX_SHORT_SIDE.get(name))
    problems += small.suspicions(splits, masks)
    problems += _wrong_counts(name, splits)
    for first, second in combinations(SPLITS, 2):
        problems += _shared_names(first, splits[first], second, splits[second])
        problems += _alike(first, images[first], second, images[second])
    table, rows = pd.DataFrame(counts).T.rename_axis("split"), pd.DataFrame(problems, columns=_COLUMNS)
    return Report(name, root, table, rows, small.outlook(splits))


def near_duplicates(
    samples_a: list[Sample], samples_b: list[Sample], threshold: float = NEAR_DUPLICATE
) -> pd.DataFrame:
    """Pairs of images, one of `samples_a` and one of `samples_b`, that look nearly alike; the most alike first.

    Columns: a, b (names of the images without extension), correlation (above `threshold`, at most 1) of the images as
    64 x 64 grey thumbnails. An image is not compared with itself. Raises DataError for an image that cannot be read.
    """
    a, b = ({path: thumbnail(read_image(path)) for path in _image_files(samples)} for samples in (samples_a, samples_b))
    files_a, files_b = list(a), list(b)
    rows = [
        (files_a[place].stem, files_b[start + row].stem, float(block[row, place]))
        for start, block in correlations(list(a.values()), list(b.values()))
        for row, place in np.argwhere(block > threshold)
        if files_a[place] != files_b[start + row]
    ]
    found = pd.DataFrame(rows, columns=["a", "b", "correlation"])
    return found.sort_values("correlation", ascending=False, ignore_index=True, kind="stable")


def _samples(root: Path, split: str, problems: list) -> list[Sample]:
    """The samples of a split; unlike `load_split` it goes on where files are missing (reading them will tell)."""
    try:
        entries = read_entries(root / "anns" / f"{split}.json")
    except DataError as error:
        problems.append(("error", "annotations", split, f"anns/{split}.json", error.what))
        return []
    if not entries:
        problems.append(("error", "empty split", split, f"anns/{split}.json", "it has no entries"))
    images, masks = ({path.stem: path for path in (root / kind).glob("*")} for kind in ("images", "masks"))
    return [
        Sample(
            id=Path(entry["mask_name"]).stem,
            image=images.get(Path(entry["img_name"]).stem, root / "images" / entry["img_name"]),
            mask=masks.get(Path(entry["mask_name"]).stem, root / "masks" / entry["mask_name"]),
            prompts=entry["prompts"],
            attributes=entry,
        )
        for entry in entries
    ]


def _image_files(samples: list[Sample]) -> list[Path]:
    return list(dict.fromkeys(sample.image for sample in samples))  # CheXlocalize has several findings an image


def _look(kind: str, split: str, paths: list[Path], see: Callable, problems: list, bar: tqdm, seen: Mapping) -> dict:
    """What is kept of each file, by its path; one that cannot be decoded becomes a row of `problems`."""
    found = {}
    for path in paths:
        bar.update()
        file = f"{kind}s/{path.name}"
        try:
            found[path] = seen[file] if file in seen else see(file, path)
        except DataError as error:
            problems.append(("error", kind, split, file, error.what))
    return found


def _see_image(file: str, path: Path) -> SeenImage:
    raster = decode(path)
    return SeenImage.of(file, as_rgb(raster, path), raster.turn)


def _see_mask(file: str, path: Path) -> SeenMask:
    found = find_foreground(path)
    return SeenMask.of(file, found.mask, found.turn)


def _without_contrast(split: str, images: dict[Path, SeenImage]) -> list:
    problems = []
    for image in images.values():
        if image.greys < FEW_GREYS:
            plain = "black" if image.brightest == 0 else "one grey" if image.greys == 1 else "hardly any contrast"
            detail = f"{plain}: {image.greys} levels of grey, the brightest {image.brightest} of 255"
            problems.append(("warning", "no contrast", split, image.file, detail))
    return problems


def _inverted(split: str, share: float, masks: dict[Path, SeenMask]) -> list:
    problems = []
    if share > MOSTLY_FOREGROUND:
        detail = f"the masks mark {share:.0%} of the pixels: are they inverted?"
        problems.append(("warning", "mostly foreground", split, "masks/", detail))
    for mask in masks.values():
        if mask.foreground > MOSTLY_FOREGROUND or mask.corners:
            where = ", its four corners among them" if mask.corners else ""
            detail = f"it marks {mask.foreground:.0%} of the pixels{where}: is it inverted?"
            problems.append(("warning", "inverted mask", split, mask.file, detail))
    return problems


def _turned(split: str, samples: list[Sample], images: dict[Path, SeenImage], masks: dict[Path, SeenMask]) -> list:
    problems = []
    for sample in samples:
        image, mask = images.get(sample.image), masks.get(sample.mask)
        if image and mask and image.turn != 1 and mask.turn == 1:
            detail = f"turned as its EXIF orientation ({image.turn}) says; its mask has none: check that they fit"
            problems.append(("warning", "turned image", split, image.file, detail))
    return problems


def _counts(samples: list[Sample], masks: dict[Path, SeenMask]) -> dict:
    seen = list(masks.values())
    size = np.median([[mask.width, mask.height] for mask in seen], axis=0) if seen else (np.nan, np.nan)
    return {
        "entries": len(samples),
        "images": len(_image_files(samples)),
        "empty_masks": sum(mask.box is None for mask in seen),
        "median_size": f"{size[0]:.0f} x {size[1]:.0f}" if seen else "",
        "foreground_share": round(float(np.mean([mask.foreground for mask in seen])), 4) if seen else np.nan,
    }


def _wrong_shapes(
    split: str, samples: list[Sample], images: dict[Path, SeenImage], masks: dict[Path, SeenMask]
) -> list:
    problems = []
    for sample in samples:
        image, mask = images.get(sample.image), masks.get(sample.mask)
        if image and mask and abs(image.width * mask.height / (image.height * mask.width) - 1) > MAX_ASPECT:
            detail = f"{mask.width} x {mask.height}, its image {image.width} x {image.height}"
            problems.append(("error", "shape", split, f"masks/{sample.mask.name}", detail))
    return problems


def _wrong_boxes(split: str, samples: list[Sample], masks: dict[Path, SeenMask], short_side: int | None) -> list:
    """Masks whose bounding box is not the one their entry gives; an empty mask's has its right and bottom at 0."""
    boxed = [sample for sample in samples if "bbox" in sample.attributes and sample.mask in masks]
    wrong = []
    for sample in boxed:
        mask, expected = masks[sample.mask], sample.attributes["bbox"]
        scale = short_side / min(mask.width, mask.height) if short_side else 1.0
        if not _box_agrees(mask.box, expected, scale):
            found = [round(edge * scale) for edge in mask.box] if mask.box else "none, it is empty"
            wrong.append((f"masks/{sample.mask.name}", f"box {found}, annotated {expected}"))
    severity = "error" if len(wrong) > MAX_WRONG_BOXES * len(boxed) else "warning"
    return [(severity, "box", split, file, detail) for file, detail in wrong]


def _box_agrees(box: tuple | None, expected: list, scale: float) -> bool:
    if box is None or expected[2] == expected[3] == 0:
        return box is None and expected[2] == expected[3] == 0
    tolerance = BOX_TOLERANCE + (scale != 1.0)  # resizing moves an edge by up to a pixel more
    return bool(np.abs(np.multiply(box, scale) - expected).max() <= tolerance)


def _wrong_counts(name: str, splits: dict[str, list[Sample]]) -> list:
    """Splits of another length than the registry's; of a dataset that is only on disk nothing is known."""
    expected = registry.DATASETS[name].entries if name in registry.DATASETS else {}
    return [
        ("warning", "count", split, f"anns/{split}.json", f"{len(splits[split])} entries, the registry says {number}")
        for split, number in expected.items()
        if len(splits[split]) != number
    ]


def _shared_names(first: str, samples_a: list[Sample], second: str, samples_b: list[Sample]) -> list:
    names = {path.stem for path in _image_files(samples_a)}
    return [
        ("warning", "shared name", second, f"images/{path.name}", f"is in {first} too")
        for path in _image_files(samples_b)
        if path.stem in names
    ]


def _alike(first: str, images_a: dict[Path, SeenImage], second: str, images_b: dict[Path, SeenImage]) -> list:
    """One row for each image of the second split that has near-duplicates in the first, with the nearest of them."""
    files_a, files_b = list(images_a), list(images_b)
    looks = ([image.thumbnail for image in images.values()] for images in (images_a, images_b))
    places, problems = {file: place for place, file in enumerate(files_a)}, []
    for start, block in correlations(*looks):
        for row, values in enumerate(block):
            if (same := places.get(files_b[start + row])) is not None:  # one file in both splits is a shared name
                values[same] = -1
            alike = int((values > NEAR_DUPLICATE).sum())
            if not alike:
                continue
            nearest = int(values.argmax())
            others = f" and {alike - 1} more" if alike > 1 else ""
            detail = f"correlation {values[nearest]:.3f} with {first} {files_a[nearest].stem}{others}"
            problems.append((float(values[nearest]), f"images/{files_b[start + row].name}", detail))
    ordered = sorted(problems, key=lambda one: -one[0])
    return [("warning", "near-duplicate", second, file, detail) for _, file, detail in ordered]
