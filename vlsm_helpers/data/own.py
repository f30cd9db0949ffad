"""A dataset of one's own: images and masks, as people have them, in the course's layout, split so that nothing leaks."""

import json
import re
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from vlsm_helpers.data import alike as near
from vlsm_helpers.data import registry
from vlsm_helpers.data.annotations import labels as labelling
from vlsm_helpers.data.annotations.classes import Classes
from vlsm_helpers.data.checks import Report, check
from vlsm_helpers.data.files import kind, passed_over
from vlsm_helpers.data.folds import CLUSTER
from vlsm_helpers.data.formats import AS_FILED, Reading
from vlsm_helpers.data.frames import Frame, hashed
from vlsm_helpers.data.images import bit_depth
from vlsm_helpers.data.intake import read_all
from vlsm_helpers.data.labels import Labels
from vlsm_helpers.data.masks import parse
from vlsm_helpers.data.pairing import patients
from vlsm_helpers.data.samples import FACTS
from vlsm_helpers.data.splits import SHARES, split_groups
from vlsm_helpers.data.staging import Record, Staging, staging
from vlsm_helpers.errors import DataError, SettingsError, some_of
from vlsm_helpers.io.atomic import require_writable, write_table
from vlsm_helpers.settings import data_folder, writable

ALIKE = 0.98  # images whose thumbnails correlate more are put into one group; `check` tells of more than 0.95

Grouping = str | Callable[[str], str] | None


@dataclass(frozen=True)
class Adopted:
    """What `adopt` made: its folder, the number of images per group, near-duplicates that joined groups, what was passed over in
    both folders, what else the user should know (`notes`), and what `check` found."""

    folder: Path
    sizes: list[int]
    joined: list[tuple[str, str]]
    passed_over: list[str]
    report: Report
    notes: list[str] = field(default_factory=list)

    @property
    def groups(self) -> int:
        """The number of groups."""
        return len(self.sizes)

    def __str__(self) -> str:
        twins = some_of([f"{one} and {other}" for one, other in self.joined])
        least, most = min(self.sizes), max(self.sizes)
        sizes = f"{least} to {most} images" if least < most else f"{most} image{'s' * (most > 1)}"
        lines = [str(self.report), "", *self.notes, f"{self.groups} groups of {sizes}, none of them in two splits"]
        lines += self.passed_over
        return "\n".join([*lines, *[f"near-duplicates, kept together: {twins}"] * bool(self.joined)])


def adopt(
    name: str,
    images: Path,
    masks: Path,
    noun: str | None = None,
    *,
    labels: str | None = None,
    modality: str | None = None,
    group: Grouping = None,
    alike: float = ALIKE,
    seed: int = 0,
    folder: Path | None = None,
    foreground: str | None = None,
    mask_name: str | None = None,
    merge_masks: bool = False,
    reading: Reading = AS_FILED,
    key: Path | None = None,
) -> Adopted:
    """Make the dataset `name` of the images in one folder and their masks in another (or in the same); copies are made.

    Images are pictures, or frames of DICOM, NIfTI, multi-page TIFF and video files, which `reading` windows, slices and thins out
    (see `frames`). `masks` is a folder of pictures, found by name and `mask_name`, several per image united with `merge_masks`
    (see `labels.find`), or what an annotation tool wrote (see `annotations.find`). `foreground` says which values or colours of
    masks count (see `masks.find_foreground`). `noun` ("tumor") and `modality` ("breast ultrasound") make the prompts; p1 is the
    noun for every image, so that it does not tell which masks are empty. `labels` ("1=polyp,2=instrument", see `Classes.parse`)
    takes the noun's place for several classes: each image has one sample per class, with an empty mask where it does not show it.

    `group` says which images belong together (one patient, one video): a function of the image's name without extension, or a
    regular expression whose first bracket is the group; without it, a DICOM file's PatientID (else its StudyInstanceUID), a
    sub-folder, or a file of several frames is a group. Names of DICOM files and what is found in them are written as hashes.
    Images whose grey thumbnails correlate by more than `alike` belong together anyhow (at 1 none do). 60 % of the images become
    train, 20 % val, 20 % test, drawn with `seed`; no group is split. Pictures with 8 bits per channel keep their bytes, others
    and frames become PNG files, by one scale that dataset.json keeps.
    The dataset appears only if all of it can be used; an interrupted call, given again, goes on. `key`: a CSV file of which image
    came from which file. Raises DataError, naming files, for images and masks without a partner, files that cannot be
    read or have another shape than their partner, ambiguous masks, names that `group` does not fit, too few groups, and a name
    that is taken; SettingsError for options that are none; BusyError while another process makes the same.
    """
    target = writable(folder or data_folder()) / name
    _refuse(name, target, alike, foreground, key)
    images, masks = Path(images), Path(masks)
    rules = {"foreground": foreground, "mask_name": mask_name, "merge": merge_masks, "reading": reading}
    classes = None if labels is None else Classes.parse(labels)
    found, labelled = labelling.find(images, masks, noun, classes, **rules)
    named = _groups(found, group)
    depth = bit_depth([frame for frame in found if kind(frame.source) in ("picture", "pages")])
    options = (str(images.resolve()), str(masks.resolve()), noun, classes, modality, depth, *sorted(rules.items()))
    facts = {"bit_depth": depth, "foreground": foreground, "window": reading.window, "axis": reading.axis}
    with staging(target, repr(options)) as stage:
        records = read_all(stage, found, labelled, modality, depth)
        numbers, joined = near.join([one.image.thumbnail for one in records], named, alike)
        splits = split_groups(numbers, [one.has_lesion for one in records], seed)
        _finish(stage, facts, found, records, list(zip(named, numbers, splits, strict=True)))
    if key is not None:
        write_table(key, _key_table(found), "name another file with --key.")
    report = check(name, folder=target.parent, seen={file: one for record in records for file, one in record.seen})
    twins = [(found[one].id, found[other].id) for one, other in joined]
    told = _passed_over(images, masks, labelled)
    notes = _notes(found, records, depth, grouped=group is not None)
    return Adopted(target, sorted(Counter(numbers).values()), twins, told, report, notes)


def _passed_over(images: Path, masks: Path, labelled: Labels) -> list[str]:
    """What is not read of both folders, in words; of a folder of annotations all is."""
    folders = [images, masks] if not isinstance(labelled, labelling.ToolAnnotations) else [images] * (images != masks)
    return [told for folder in dict.fromkeys(folders) if (told := passed_over(folder))]


def _key_table(found: Sequence[Frame]) -> pd.DataFrame:
    """Which image came from which frame of which file."""
    return pd.DataFrame([{"image": one.id, "file": str(one.source), "frame": one.index} for one in found])


def _refuse(name: str, target: Path, alike: float, foreground: str | None, key: Path | None) -> None:
    """Raise SettingsError or DataError for what is wrong before any file is opened."""
    if not 0 < alike <= 1:
        raise SettingsError(f"Images cannot be alike by {alike}.", hint="give a correlation such as 0.99, or 1.")
    if foreground is not None:
        parse(foreground)
    if key is not None:
        require_writable(Path(key), "name another file with --key.")
    if not re.fullmatch(r"[A-Za-z0-9][\w-]*", name):
        raise DataError(f"A dataset cannot be called {name!r}.", hint="use letters, digits, - and _.")
    if name in registry.DATASETS:
        raise DataError(f"The name {name!r} is that of a dataset of the course.", hint="choose another name.")
    if (target / "anns").is_dir():
        hint = "choose another name, or move that folder away."
        raise DataError(f"There is a dataset {name!r} already.", where=target, hint=hint)
    if target.exists():
        what = f"The dataset {name!r} would be written to a folder that holds something else."
        raise DataError(what, where=target, hint="choose another name, or another folder with --to.")


def _notes(found: Sequence[Frame], records: Sequence[Record], depth: int, grouped: bool) -> list[str]:
    notes = []
    several = {frame.source for frame in found if not frame.plain}
    if (frames := sum(frame.source in several for frame in found)) > len(several):
        notes.append(f"{frames} images are frames of {len(several)} files (pages, slices or moments of a clip)")
    if deep := sum(one.deep for one in records):
        notes.append(f"{deep} images have 16 bits per channel: scaled from {depth} bits to 8, and stored as PNG")
    files = Counter(note for note, _ in {(one.note, one.source) for one in found} if note)
    notes += [f"{count} {note}" for note, count in sorted(files.items())]
    if turned := [one.image.file for one in records if one.turned]:
        what = "were turned as their EXIF orientation says, but their masks have none: check that they fit"
        notes.append(f"{len(turned)} images, such as {turned[0]}, {what}")
    if not grouped and not any(one.group for one in found) and (looks := patients([one.name for one in found])):
        notes.append(
            f"the names look like images of {looks[1]} patients, which may now be in two splits: "
            f"if so, adopt again with --group '{looks[0]}'"
        )
    return notes


def _groups(found: Sequence[Frame], group: Grouping) -> list[str]:
    """The group of each image. Raises DataError for an expression that does not fit them all, and for one group of all."""
    names = [frame.name for frame in found]
    if group is None:
        groups = [frame.group or frame.id for frame in found]
    else:
        groups = [str(group(name)) for name in names] if callable(group) else _matched(names, group)
        salt = secrets.token_bytes(16)
        groups = [
            one if frame.id == frame.name else hashed(one, salt) for one, frame in zip(groups, found, strict=True)
        ]
    if len(set(groups)) == 1:
        hint = "say what tells patients apart, or leave the group out: each image is then a patient of its own."
        raise DataError(f"All {len(names)} images are in one group, {groups[0]!r}.", hint=hint)
    return groups


def _matched(names: Sequence[str], group: str) -> list[str]:
    """What the expression finds in each name: its first bracket, or all of it where it has none."""
    hint = r"write an expression such as ^(patient\d+)_, whose first bracket is the group"
    try:
        matches = [re.search(group, name) for name in names]
    except re.error as error:
        raise DataError(f"The group {group!r} is no regular expression ({error}).", hint=f"{hint}.") from None
    found = [match and (match[1] if match.re.groups else match[0]) for match in matches]
    if others := [name for name, one in zip(names, found, strict=True) if not one]:
        raise DataError(
            f"The group {group!r} fits {len(names) - len(others)} of {len(names)} names; not, for example, {others[0]!r}.",
            hint=f"{hint}, or leave it out: each image is then a patient of its own, and scores may be too high.",
        )
    return found


def _finish(
    stage: Staging,
    facts: dict,
    found: Sequence[Frame],
    records: Sequence[Record],
    placed: Sequence[tuple[str, int, str]],
) -> None:
    """Write what the dataset was made of, and its annotations: one entry per image and class.

    `placed`: of each frame its group, the number of its group after near-duplicates were joined, and its split.
    """
    stage.keep_only({file for one in records for file, _ in one.seen})
    (stage.folder / FACTS).write_text(json.dumps(facts, indent=1), encoding="utf-8")
    entries: dict[str, list[dict]] = {split: [] for split in SHARES}
    for frame, one, (group, cluster, split) in zip(found, records, placed, strict=True):
        shared = {"group": group, CLUSTER: cluster} | ({"spacing": frame.spacing} if frame.spacing else {})
        for name, mask in one.masks.items():
            files = {"img_name": Path(one.image.file).name, "mask_name": Path(mask.file).name}
            several = {"class": name} if len(one.masks) > 1 else {}
            entries[split].append(files | {"prompts": one.prompts[name]} | shared | several)
    (stage.folder / "anns").mkdir(exist_ok=True)
    for split, rows in entries.items():
        (stage.folder / "anns" / f"{split}.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
