"""Which format a file or folder of annotations has, and which of its images is which file."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from vlsm_helpers.data.annotations import coco, cvat, dicom_seg, labelme, yolo
from vlsm_helpers.data.annotations.regions import AnnotatedImage
from vlsm_helpers.data.decode import is_image_name
from vlsm_helpers.data.files import is_hidden, stem
from vlsm_helpers.errors import DataError, some_of

Frames = Sequence[tuple[Path, int]]  # the files of images, and the number of the frame in a file that has several


@dataclass(frozen=True)
class Source:
    """Annotations that were recognised: the format's name, and what gives the annotated image of each frame."""

    format: str
    path: Path
    read: Callable[[Frames], list[AnnotatedImage]]


def find(path: Path) -> Source | None:
    """The annotations at `path`, a file or a folder, None where it is none of these formats: a folder of pictures, for example.

    Formats: COCO (JSON), LabelMe (a folder of JSON files), CVAT (XML), YOLO (a folder of text files), DICOM segmentations.
    Raises DataError for a JSON or XML file, and for a folder of such files, in another format.
    """
    path = Path(path)
    if path.is_dir():
        return _of_folder(path)
    if path.suffix.lower() == ".json":
        return _of_json(path)
    if path.suffix.lower() == ".xml":
        return Source("CVAT", path, lambda frames: matched(cvat.read(path), frames, path))
    if path.is_file() and path.suffix.lower() in (".dcm", "") and dicom_seg.is_segmentation(path):
        return Source("DICOM-SEG", path, lambda frames: dicom_seg.read([path], frames))
    return None


def matched(images: Sequence[AnnotatedImage], frames: Frames, where: Path) -> list[AnnotatedImage]:
    """The annotated image of each frame, by the names of files, whose endings and case may differ; of several with one name
    the one whose folders agree best. A frame of a file of several has the file's name with the frame's number, from 0, behind it.

    Raises DataError, naming files, for images without an annotation, for annotations without an image, and for names that
    fit several.
    """
    counts = Counter(path for path, _ in frames)
    by_stem, by_number = defaultdict(list), defaultdict(list)
    for place, image in enumerate(images):
        name = _parts(image.name)[-1]
        by_stem[name].append(place)
        by_number[_without_zeros(name)].append(place)
    found: list[int] = []
    lonely, doubtful = [], []
    for file, number in frames:
        path = file if counts[file] == 1 else file.with_name(f"{stem(file)}_{number}")
        places = (by_stem if path == file else by_number).get(_parts(str(path))[-1], [])
        common = [_common(_parts(images[place].name), _parts(str(path))) for place in places]
        best = [place for place, length in zip(places, common, strict=True) if length == max(common)]
        (lonely if not best else doubtful if len(best) > 1 else found).append(path.name if len(best) != 1 else best[0])
    if lonely:
        what = f"Images that the annotations do not list ({len(lonely)}): {some_of(lonely)}."
        hint = "annotate them (in most formats an image without regions says that there is nothing), or remove them."
        raise DataError(what, where=where, hint=hint)
    twice = [Path(images[place].name).name for place, count in Counter(found).items() if count > 1]
    if doubtful or twice:
        what = f"Names that several images or annotations share ({len(doubtful) + len(twice)}): {some_of(doubtful + twice)}."
        raise DataError(what, where=where, hint="give each image a name of its own, or adopt folder by folder.")
    if strangers := [image.name for place, image in enumerate(images) if place not in set(found)]:
        what = f"Annotations of images that are not here ({len(strangers)}): {some_of(strangers)}."
        raise DataError(what, where=where, hint="put these images into the folder, or export only what is there.")
    return [images[place] for place in found]


def _parts(name: str) -> list[str]:
    """The folders and the name without its ending, for names written on any system."""
    path = PureWindowsPath(name)
    return [part.casefold() for part in (*path.parts[:-1], stem(Path(path.name)))]


def _without_zeros(name: str) -> str:
    """The name with the number at its end as it is counted: clip_0030 is clip_30."""
    return re.sub(r"0*(\d+)$", r"\1", name)


def _common(one: list[str], other: list[str]) -> int:
    """How many of the last parts agree."""
    pairs = zip(reversed(one), reversed(other), strict=False)
    return next((count for count, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _of_folder(folder: Path) -> Source | None:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not is_hidden(path, folder)]
    endings = Counter(path.suffix.lower() for path in files)
    if endings[".json"] and any(_json_kind(path) == "LabelMe" for path in files if path.suffix.lower() == ".json"):
        return Source("LabelMe", folder, lambda frames: matched(labelme.read(folder), frames, folder))
    has_pictures = any(map(is_image_name, files))
    texts = [path for path in files if path.suffix.lower() == ".txt"]
    named = any((folder / name).is_file() for name in yolo.CONFIG)
    if texts and (named or (not has_pictures and (yolo.find_config(folder) or any(map(yolo.is_labels, texts))))):
        return Source("YOLO", folder, lambda frames: matched(yolo.read(folder), frames, folder))
    single = [path for path in files if path.suffix.lower() in (".json", ".xml")]
    if len(single) == 1 and not has_pictures:
        return find(single[0])
    dicom = [path for path in files if path.suffix.lower() == ".dcm"]
    if dicom and (segmentations := [path for path in dicom if dicom_seg.is_segmentation(path)]):
        return Source("DICOM-SEG", folder, lambda frames: dicom_seg.read(segmentations, frames))
    return None


def _of_json(path: Path) -> Source:
    kind = _json_kind(path)
    if kind == "COCO":
        return Source(kind, path, lambda frames: matched(coco.read(path), frames, path))
    if kind == "LabelMe":
        return Source(kind, path, lambda frames: matched(labelme.read(path), frames, path))
    hint = "give COCO's JSON (images, annotations, categories) or a folder of LabelMe's JSON files (shapes)."
    raise DataError("The JSON file is neither COCO's nor LabelMe's.", where=path, hint=hint)


def _json_kind(path: Path) -> str | None:
    """COCO or LabelMe, by what is in the file; None for another one. Raises DataError for one that is not JSON."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        hint = "export the annotations again."
        raise DataError(f"The annotation file is not JSON ({error}).", where=path, hint=hint) from None
    keys = content.keys() if isinstance(content, dict) else set()
    if keys & {"annotations", "categories"}:
        return "COCO"
    return "LabelMe" if "shapes" in keys else None
