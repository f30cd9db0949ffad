"""Samples and splits as they lie on disk: NAME/{images,masks}/ and NAME/anns/{train,val,test}.json.

The layout and the entries (`img_name`, `mask_name`, `prompts`) are those of the MedVLSM benchmark (Poudel et al., MIDL
2024), so that its splits and prompts drop in.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from vlsm_helpers.data import phantoms, registry
from vlsm_helpers.data.folds import Fold, in_fold
from vlsm_helpers.data.formats import Reading
from vlsm_helpers.errors import DataError, some_of, unknown
from vlsm_helpers.settings import cache_folder, data_folder

SPLITS = ("train", "val", "test")
FACTS = "dataset.json"  # of an adopted dataset: bit_depth and foreground of the files that it was made of


@dataclass(frozen=True)
class Sample:
    """One image with its mask and its prompts, p0 (empty) to p9: a text each, or several to draw from."""

    id: str
    image: Path
    mask: Path
    prompts: dict[str, str | tuple[str, ...]]
    dataset: str = ""
    attributes: dict = field(default_factory=dict)  # what else its entry says, such as a phantom's difficulty

    def prompt(self, key: str, generator: np.random.Generator | None = None) -> str:
        """The prompt `key`; of several, one that `generator` draws, or the first where there is none (evaluation).

        Raises DataError for a key this sample does not have.
        """
        if key not in self.prompts:
            raise unknown("prompt", key, self.prompts, error=DataError, where=self.image)
        choices = self.prompts[key]
        if isinstance(choices, str):
            return choices
        return choices[0 if generator is None else int(generator.integers(len(choices)))]


def load_split(name: str, split: str, folder: Path | None = None) -> list[Sample]:
    """The samples of `split` (train, val or test) of the dataset `name`, in the order of its annotation file.

    `folder` holds the datasets, by default the one that VLSM_DATA names; phantoms are drawn on first use into the cache.
    `name` may be a fold of a dataset, such as `mine@2of5` (see `data.folds`).
    Names in annotations may differ from those on disk in their extension. Raises DataError for an unknown dataset or
    split, one that is not there, an empty split, and for every image or mask that is missing.

    >>> import vlsm_helpers as vlsm
    >>> samples = vlsm.load_split("phantom_endoscopy", "test")
    >>> len(samples), samples[0].prompt("p1")
    (100, 'polyp')
    """
    root = dataset_folder(name, folder)
    if split not in SPLITS:
        raise unknown("split", split, SPLITS, error=DataError, where=root)
    if fold := Fold.parse(name):
        samples = [sample for one in SPLITS for sample in load_split(fold.dataset, one, folder)]
        return [replace(sample, dataset=name) for sample in in_fold(fold, samples, split)]
    entries = read_entries(root / "anns" / f"{split}.json")
    if not entries:
        raise DataError("The split is empty.", where=root / "anns" / f"{split}.json", hint="prepare the dataset again.")
    images, masks = _by_stem(root / "images"), _by_stem(root / "masks")
    missing = [f"images/{e['img_name']}" for e in entries if _stem(e["img_name"]) not in images]
    missing += [f"masks/{e['mask_name']}" for e in entries if _stem(e["mask_name"]) not in masks]
    if missing:
        what = f"{len(missing)} files that {split}.json names are missing: {some_of(missing)}."
        raise DataError(what, where=root, hint=f"put them there, or run `vlsm data prepare {name}` again.")
    return [_sample(name, e, images[_stem(e["img_name"])], masks[_stem(e["mask_name"])]) for e in entries]


def has_classes(samples: Sequence[Sample]) -> bool:
    """Whether these are samples of images with several classes, one sample per image and class."""
    return len({sample.attributes.get("class") for sample in samples}) > 1


def dataset_folder(name: str, folder: Path | None = None) -> Path:
    """Where the dataset `name` lies (phantoms are drawn there first), or the one it is a fold of. Raises DataError where it is
    not."""
    name = _whole(name)
    if name in registry.DATASETS and registry.find(name).is_phantom:
        return phantoms.ensure(name, cache_folder() / "phantoms")
    root = (folder or data_folder()) / name
    if not (root / "anns").is_dir():
        own = [path.parent.name for path in sorted(root.parent.glob("*/anns"))]
        card = registry.find(name, own)  # an unknown name that is not on disk either: say which names there are
        hint = f"run `vlsm data prepare {name}`, or set VLSM_DATA to the folder that holds {name}/."
        raise DataError(f"The dataset {card.title} is not prepared.", where=root, hint=hint)
    return root


def dataset_facts(name: str, folder: Path | None = None) -> dict:
    """What dataset.json says of the files that an adopted dataset was made of; empty for any other dataset."""
    try:
        facts = json.loads(((folder or data_folder()) / _whole(name) / FACTS).read_text(encoding="utf-8"))
        return facts if isinstance(facts, dict) else {}
    except (OSError, ValueError):
        return {}


def source_facts(facts: Mapping) -> dict:
    """bit_depth and reading (see `Reading`) of the facts of a dataset, or of what was trained on it; None and the default where
    they say nothing, as those of version 0.2.0. Raises ValueError, TypeError or KeyError for others."""
    window = facts.get("window")
    return {
        "bit_depth": None if facts.get("bit_depth") is None else int(facts["bit_depth"]),
        "reading": Reading(
            None if window is None else (float(window[0]), float(window[1])), facts.get("axis") or "axial"
        ),
    }


def read_entries(path: Path) -> list[dict]:
    """The entries of an annotation file. Raises DataError where it is missing or is not what the benchmark writes."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError("The annotation file is missing.", where=path, hint="prepare the dataset again.") from None
    except ValueError as error:
        what = f"The annotation file is not JSON ({error})."
        raise DataError(what, where=path, hint="prepare the dataset again.") from None
    for number, entry in enumerate(entries if isinstance(entries, list) else [None]):
        if not isinstance(entry, dict) or not {"img_name", "mask_name", "prompts"} <= entry.keys():
            what = f"Entry {number} lacks img_name, mask_name or prompts."
            raise DataError(what, where=path, hint="prepare the dataset again.")
        if not all(isinstance(entry[key], str) and _stem(entry[key]) for key in ("img_name", "mask_name")):
            what = f"In entry {number}, img_name or mask_name is no file name."
            raise DataError(what, where=path, hint="write names of files.")
        if not isinstance(entry["prompts"], dict) or not all(map(_is_prompt, entry["prompts"].values())):
            hint = 'write them as {"p0": "", "p1": "polyp", "p2": ["round polyp", "flat polyp"]}.'
            raise DataError(f"In entry {number}, the prompts are no texts by name.", where=path, hint=hint)
    return entries


def _whole(name: str) -> str:
    """The dataset's name without its fold."""
    fold = Fold.parse(name)
    return fold.dataset if fold else name


def _is_prompt(value: object) -> bool:
    """Whether it is a text, or a list of at least one."""
    return isinstance(value, str) or (
        isinstance(value, list) and bool(value) and all(isinstance(text, str) for text in value)
    )


def _sample(dataset: str, entry: dict, image: Path, mask: Path) -> Sample:
    prompts = {key: text if isinstance(text, str) else tuple(text) for key, text in entry["prompts"].items()}
    known = ("img_name", "mask_name", "prompts", "sentences", "sentences_num")
    return Sample(
        id=_stem(entry["mask_name"]),  # CheXlocalize has several findings, so several masks, an image
        image=image,
        mask=mask,
        prompts=prompts,
        dataset=dataset,
        attributes={key: value for key, value in entry.items() if key not in known},
    )


def _stem(name: str) -> str:
    return Path(name).stem


def _by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise DataError("The folder is missing.", where=folder, hint="prepare the dataset again.")
    return {path.stem: path for path in sorted(folder.iterdir()) if not path.name.startswith(".")}
