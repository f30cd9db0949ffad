"""Cross-validation folds as datasets: `mine@2of5` is the dataset `mine` with the second of five folds as its test split.

All images of its three splits are dealt to the folds, groups whole. Fold 2 is tested, fold 3 (after the last one, fold 1) is
val, the others are train: over all folds every image is tested once. Nothing is copied, so a fold is as old as its dataset.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

from vlsm_helpers.data.images import read_mask
from vlsm_helpers.data.splits import split_groups
from vlsm_helpers.errors import DataError

LEAST = 3  # folds: one for each split
CLUSTER = "cluster"  # of an entry: the number of its group after near-duplicates were joined


class Grouped(Protocol):
    """What of a sample tells its fold (see `samples.Sample`)."""

    id: str
    mask: Path
    attributes: dict


AnySample = TypeVar("AnySample", bound=Grouped)


class Fold(NamedTuple):
    """Fold `number`, from 1, of `folds` of a dataset."""

    dataset: str
    number: int
    folds: int

    @property
    def name(self) -> str:
        """The name under which `load_split` finds it."""
        return f"{self.dataset}@{self.number}of{self.folds}"

    @classmethod
    def parse(cls, name: str) -> "Fold | None":
        """The fold that a dataset's name means; None for the name of a whole dataset. Raises DataError for no such fold."""
        found = re.fullmatch(r"(.+)@(\d+)of(\d+)", name)
        if found is None:
            return None
        fold = cls(found[1], int(found[2]), int(found[3]))
        if fold.folds < LEAST or not 1 <= fold.number <= fold.folds:
            hint = f"give {LEAST} folds or more, and count them from 1, as in {fold.dataset}@1of5."
            raise DataError(f"There is no fold {fold.number} of {fold.folds}.", where=name, hint=hint)
        return fold

    def split_of(self, dealt: int) -> str:
        """The split, in this fold's round, of an image that was dealt to fold `dealt`, from 1."""
        return {0: "test", 1: "val"}.get((dealt - self.number) % self.folds, "train")


def group_of(sample: Grouped) -> object:
    """What is never in two folds: the sample's group, with near-duplicates that `adopt` joined; without groups the image."""
    return sample.attributes.get(CLUSTER, sample.attributes.get("group", sample.id))


def in_fold(fold: Fold, samples: Sequence[AnySample], split: str) -> list[AnySample]:
    """The samples of a split in this fold's round, of all `samples` of the dataset.

    Raises DataError for fewer groups than folds, for fewer groups with a lesion than folds, and for two samples of one name.
    """
    repeated = {sample.id for sample in samples}
    if len(repeated) < len(samples):
        what = f"Names of images are used several times ({len(samples) - len(repeated)}): the dataset has no folds."
        hint = f"`vlsm data check {fold.dataset}` lists shared names; remove or rename these images."
        raise DataError(what, where=fold.dataset, hint=hint)
    keys = tuple((sample.mask, sample.mask.stat().st_mtime_ns, group_of(sample)) for sample in samples)
    dealt = _deal(keys, fold.dataset, fold.folds)
    return [sample for sample, number in zip(samples, dealt, strict=True) if fold.split_of(number) == split]


@lru_cache(maxsize=8)  # it decodes all masks
def _deal(keys: tuple[tuple[Path, int, object], ...], dataset: str, folds: int) -> list[int]:
    """The fold, from 1, of each image, by its mask's file and its group."""
    numbers: dict[object, int] = {}
    groups = [numbers.setdefault(group, len(numbers)) for _, _, group in keys]
    lesions = [bool(read_mask(mask).any()) for mask, _, _ in keys]
    with_lesion = {group for group, lesion in zip(groups, lesions, strict=True) if lesion}
    for count, what in ((len(numbers), "groups of images"), (len(with_lesion), "groups with foreground")):
        if count < folds:
            hint = f"give {max(count, LEAST)} folds or fewer, or add images of more patients."
            raise DataError(f"{count} {what} make no {folds} folds: a group is never split.", where=dataset, hint=hint)
    shares = {str(number): 1 / folds for number in range(1, folds + 1)}
    return [int(number) for number in split_groups(groups, lesions, shares=shares)]
