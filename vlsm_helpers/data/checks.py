"""`check`: whether a prepared dataset is whole, fits its annotations, and keeps its splits apart."""

from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from vlsm_helpers.data import registry
from vlsm_helpers.data.images import read_image, read_mask
from vlsm_helpers.data.public.download import BAR_AFTER
from vlsm_helpers.data.samples import SPLITS, Sample, dataset_folder, read_entries
from vlsm_helpers.errors import DataError
from vlsm_helpers.io.progress import tqdm

MOSTLY_FOREGROUND = 0.5  # a share of the pixels that no target of the public datasets has in the mean
THUMBNAIL = 64  # pixels a side of the grey thumbnails that near-duplicates are found on
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

    `counts`, a row a split: entries, images, empty_masks, median_size (of the masks, width x height in pixels),
    foreground_share (of the pixels, mean over the masks, 0 to 1). `problems`, a row each: severity (error or warning),
    kind, split, file, detail.
    """

    name: str
    folder: Path
    counts: pd.DataFrame
    problems: pd.DataFrame

    @property
    def ok(self) -> bool:
        """Whether there are no errors; warnings do not count."""
        return not (self.problems.severity == "error").any()

    @property
    def leaks(self) -> pd.DataFrame:
        """The problems that let a split be learnt from another: images that are nearly alike, and shared names."""
        return self.problems[self.problems.kind.isin(_LEAKS)]

    def __str__(self) -> str:
        lines = [f"{self.name} in {self.folder}: {'ok' if self.ok else 'NOT ok'}", "", self.counts.to_string()]
        for (severity, kind, split), rows in self.problems.groupby(["severity", "kind", "split"]):
            lines += ["", f"{severity}, {kind}, {split}: {len(rows)}"]
            lines += [f"  {row.file}: {row.detail}" for row in rows.head(5).itertuples()]
            lines += [f"  ... and {len(rows) - 5} more"] * (len(rows) > 5)
        return "\n".join(lines)


def check(name: str, folder: Path | None = None) -> Report:
    """Decode every file of the dataset `name` and compare it with its annotations and with the other splits.

    `folder` holds the datasets, by default the one VLSM_DATA names. Every problem found is a row of the report: broken
    or missing files, an empty or unreadable annotation file, masks of another shape than their image and more than
    5 % wrong boxes are errors; single wrong boxes, other counts than the registry's, names that several splits share
    and near-duplicates across splits are warnings. Raises DataError only where the dataset is not there at all.
    """
    root = dataset_folder(name, folder)
    problems = []
    splits = {split: _samples(root, split, problems) for split in SPLITS}
    looks, counts = {}, {}
    steps = sum(len(_image_files(samples)) + len(samples) for samples in splits.values())
    with tqdm(total=steps, desc=f"checking {name}", unit="file", delay=BAR_AFTER) as bar:
        for split, samples in splits.items():
            looks[split] = _look_at_images(split, samples, problems, bar)
            masks = _look_at_masks(split, samples, problems, bar)
            counts[split] = _counts(samples, masks)
            if counts[split]["foreground_share"] > MOSTLY_FOREGROUND:
                share = f"the masks mark {counts[split]['foreground_share']:.0%} of the pixels: are they inverted?"
                problems.append(("warning", "mostly foreground", split, "masks/", share))
            problems += _wrong_shapes(split, samples, looks[split], masks)
            problems += _wrong_boxes(split, samples, masks, BOX_SHORT_SIDE.get(name))
    problems += _wrong_counts(name, splits)
    for first, second in combinations(SPLITS, 2):
        problems += _shared_names(first, splits[first], second, splits[second])
        problems += _alike(first, looks[first], second, looks[second])
    return Report(name, root, pd.DataFrame(counts).T.rename_axis("split"), pd.DataFrame(problems, columns=_COLUMNS))


def near_duplicates(
    samples_a: list[Sample], samples_b: list[Sample], threshold: float = NEAR_DUPLICATE
) -> pd.DataFrame:
    """Pairs of images, one of `samples_a` and one of `samples_b`, that look nearly alike; the most alike first.

    Columns: a, b (names of the images without extension), correlation (above `threshold`, at most 1) of the images as
    64 x 64 grey thumbnails. An image is not compared with itself. Raises DataError for an image that cannot be read.
    """
    a, b = ({path: _look(read_image(path)) for path in _image_files(samples)} for samples in (samples_a, samples_b))
    return _pairs(a, b, threshold)


@dataclass(frozen=True)
class _Look:
    """What is kept of an image: its size and its thumbnail as a vector of mean 0 and length 1."""

    width: int
    height: int
    thumbnail: np.ndarray


@dataclass(frozen=True)
class _Mask:
    """What is kept of a mask: its size, its foreground's share and the box around it (right and bottom exclusive)."""

    width: int
    height: int
    foreground: float
    box: tuple[int, int, int, int] | None


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


def _look_at_images(split: str, samples: list[Sample], problems: list, bar: tqdm) -> dict[Path, _Look]:
    looks = {}
    for path in _image_files(samples):
        bar.update()
        try:
            looks[path] = _look(read_image(path))
        except DataError as error:
            problems.append(("error", "image", split, f"images/{path.name}", error.what))
    return looks


def _look_at_masks(split: str, samples: list[Sample], problems: list, bar: tqdm) -> dict[Path, _Mask]:
    masks = {}
    for sample in samples:
        bar.update()
        try:
            mask = read_mask(sample.mask)
        except DataError as error:
            problems.append(("error", "mask", split, f"masks/{sample.mask.name}", error.what))
            continue
        box = Image.fromarray(mask).getbbox()
        masks[sample.mask] = _Mask(mask.shape[1], mask.shape[0], float(mask.mean()), box)
    return masks


def _look(image: np.ndarray) -> _Look:
    small = Image.fromarray(image).convert("L").resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BILINEAR)
    values = np.asarray(small, np.float32).ravel()
    values = values - values.mean()
    length = np.linalg.norm(values)
    return _Look(image.shape[1], image.shape[0], values / length if length > 0 else values)


def _counts(samples: list[Sample], masks: dict[Path, _Mask]) -> dict:
    seen = list(masks.values())
    size = np.median([[mask.width, mask.height] for mask in seen], axis=0) if seen else (np.nan, np.nan)
    return {
        "entries": len(samples),
        "images": len(_image_files(samples)),
        "empty_masks": sum(mask.box is None for mask in seen),
        "median_size": f"{size[0]:.0f} x {size[1]:.0f}" if seen else "",
        "foreground_share": round(float(np.mean([mask.foreground for mask in seen])), 4) if seen else np.nan,
    }


def _wrong_shapes(split: str, samples: list[Sample], looks: dict[Path, _Look], masks: dict[Path, _Mask]) -> list:
    problems = []
    for sample in samples:
        image, mask = looks.get(sample.image), masks.get(sample.mask)
        if image and mask and abs(image.width * mask.height / (image.height * mask.width) - 1) > MAX_ASPECT:
            detail = f"{mask.width} x {mask.height}, its image {image.width} x {image.height}"
            problems.append(("error", "shape", split, f"masks/{sample.mask.name}", detail))
    return problems


def _wrong_boxes(split: str, samples: list[Sample], masks: dict[Path, _Mask], short_side: int | None) -> list:
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


def _alike(first: str, looks_a: dict[Path, _Look], second: str, looks_b: dict[Path, _Look]) -> list:
    """A row for each image of the second split that has near-duplicates in the first, with the nearest of them."""
    files = {path.stem: path.name for path in looks_b}
    problems = []
    for name, pairs in _pairs(looks_a, looks_b, NEAR_DUPLICATE).groupby("b", sort=False):
        nearest = pairs.iloc[0]
        others = f" and {len(pairs) - 1} more" if len(pairs) > 1 else ""
        detail = f"correlation {nearest.correlation:.3f} with {first} {nearest.a}{others}"
        problems.append(("warning", "near-duplicate", second, f"images/{files[name]}", detail))
    return problems


def _pairs(looks_a: dict[Path, _Look], looks_b: dict[Path, _Look], threshold: float) -> pd.DataFrame:
    if not looks_a or not looks_b:
        return pd.DataFrame(columns=["a", "b", "correlation"])
    a, b = (np.stack([look.thumbnail for look in looks.values()]) for looks in (looks_a, looks_b))
    correlation = (a @ b.T).clip(max=1)  # rounding may leave a copy's above 1
    files_a, files_b = list(looks_a), list(looks_b)
    rows = [
        (files_a[i].stem, files_b[j].stem, float(correlation[i, j]))
        for i, j in np.argwhere(correlation > threshold)
        if files_a[i] != files_b[j]
    ]
    pairs = pd.DataFrame(rows, columns=["a", "b", "correlation"])
    return pairs.sort_values("correlation", ascending=False, ignore_index=True, kind="stable")
