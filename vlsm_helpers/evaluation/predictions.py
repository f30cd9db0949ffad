"""Logits on disk: each member's output for each image of a split, so that fusing, statistics and figures load no network.

A prediction is a folder, written whole or not at all: logits.npy, float16 (N, S, S) at network size, and index.json with the
member's name, the dataset, the split, the images' ids and original sizes, and the hash of the weights. Anything that can
write such a folder (`write`) is a member, a custom network among them.
"""

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tokenize import TokenError
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vlsm_helpers.data.images import read_mask
from vlsm_helpers.data.samples import Sample, load_split
from vlsm_helpers.errors import DataError, some_of, unknown
from vlsm_helpers.io import atomic
from vlsm_helpers.models.segmenter import resize

LOGITS, INDEX = "logits.npy", "index.json"
NO_HEAD = (SyntaxError, TokenError)  # what NumPy raises for a broken head of a .npy file
LARGEST = float(np.finfo(np.float16).max)  # larger logits are clipped: their probability is 0 or 1 anyway


@dataclass(frozen=True)
class PredictionInfo:
    """What a prediction is of."""

    member: str
    dataset: str
    split: str
    ids: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]  # (height, width) of each image's true mask
    weights: str  # a hash of the member's weights, or any word for a custom member

    @classmethod
    def of(cls, facts: dict) -> "PredictionInfo":
        """That of its JSON."""
        return cls(**facts | {"ids": tuple(facts["ids"]), "sizes": tuple(map(tuple, facts["sizes"]))})


class MemberLogits(NamedTuple):
    """Logits of members on the same images, with the true masks: what a fusion rule is fit on."""

    logits: Tensor  # float (M, N, S, S), finite
    masks: Tensor  # bool (N, S, S)
    names: tuple[str, ...]  # of the M members


@dataclass(frozen=True)
class Prediction:
    """One member's logits of one split."""

    index: PredictionInfo
    logits: np.ndarray  # float16 (N, S, S), memory-mapped


def write(folder: Path, index: PredictionInfo, logits: Iterable[np.ndarray]) -> None:
    """Write a prediction to `folder`, in place of another one of the same member.

    `logits`: N arrays (S, S), one per image, in the order of `index.ids`; they are written as they come. Raises DataError for
    a NaN or an infinite logit, naming the image, and for another number of images, and SettingsError where it cannot be
    written or the folder holds something else; what was there before is then kept.
    """
    atomic.write(Path(folder), _key(index), partial(_fill, index, iter(logits)))


def read(folder: Path) -> Prediction:
    """The prediction in `folder`. Raises DataError where there is none, or half of one."""
    folder = Path(folder)
    try:
        facts = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        index = PredictionInfo.of(facts)
        if not atomic.is_complete(folder, _key(index)):
            raise ValueError("its files are not as long as their stamp says")
        logits = np.load(folder / LOGITS, mmap_mode="r")
        if logits.ndim != 3 or len(logits) != len(index.ids) or logits.dtype != np.float16:
            raise ValueError(f"logits of the kind {logits.dtype} {logits.shape} for {len(index.ids)} images")
    except (OSError, ValueError, KeyError, TypeError, *NO_HEAD) as error:
        what = f"There is no whole prediction here ({error})."
        raise DataError(what, where=folder, hint="make it again: `vlsm predict RUN`.") from error
    return Prediction(index, logits)


class PredictionStore:
    """Several members' predictions of the same images: `names`, `ids`, and logits, probabilities and masks of them all."""

    def __init__(self, predictions: Sequence[Prediction], samples: Sequence[Sample] | None = None):
        """`samples`: the images, for a dataset that `load_split` does not find.

        Raises DataError for no member, for two of one name, and, saying what differs, for members of different images.
        """
        if not predictions:
            raise DataError("There is no prediction to fuse.", hint="make some first: `vlsm predict RUN`.")
        first = predictions[0].index
        for other in predictions[1:]:
            _check_same_images(first, other.index)
        self.names = [prediction.index.member for prediction in predictions]
        if len(set(self.names)) < len(self.names):
            what = f"Duplicate member name: {', '.join(self.names)}."
            raise DataError(what, hint="`vlsm predict RUN --name NAME` renames one.")
        self.dataset, self.split, self.ids, self.sizes = first.dataset, first.split, first.ids, first.sizes
        self._predictions, self._samples = list(predictions), samples

    @classmethod
    def open(cls, folders: Iterable[Path], samples: Sequence[Sample] | None = None) -> "PredictionStore":
        """The store of the predictions in `folders`."""
        return cls([read(folder) for folder in folders], samples)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def size(self) -> int:
        """Pixels a side of the largest member's logits."""
        return max(one.logits.shape[-1] for one in self._predictions)

    def of(self, names: Sequence[str]) -> "PredictionStore":
        """The store of some of its members, in this order. Raises DataError, with the nearest name, for one there is not."""
        by_name = dict(zip(self.names, self._predictions, strict=True))
        if missing := [name for name in names if name not in by_name]:
            raise unknown("member", missing[0], self.names, error=DataError)
        return PredictionStore([by_name[name] for name in names], self._samples)

    def logits(self, size: int | tuple[int, int], images: Sequence[int] | None = None) -> Tensor:
        """Logits float32 (M, n, size, size), or of `size` = (H, W), of the images `images` (all by default), bilinear."""
        shape = (size, size) if isinstance(size, int) else size
        chosen = slice(None) if images is None else list(images)
        each = [torch.from_numpy(np.array(one.logits[chosen], np.float32)) for one in self._predictions]
        return torch.stack([resize(one.unsqueeze(1), shape).squeeze(1) for one in each])

    def probabilities(self, size: int, images: Sequence[int] | None = None) -> Tensor:
        """Probabilities float32 (M, n, size, size)."""
        return torch.sigmoid(self.logits(size, images))

    def validation(self, size: int) -> MemberLogits:
        """What a rule is fit on: logits float32 (M, N, size, size), true masks bool (N, size, size), and the members' names.

        Raises DataError as `samples` does.

        >>> import vlsm_helpers as vlsm
        >>> val = vlsm.tiny_store("val").of(["clipseg", "unet_d"])
        >>> logits, masks, names = val.validation(128)
        >>> logits.shape, masks.shape, names
        (torch.Size([2, 60, 128, 128]), torch.Size([60, 128, 128]), ('clipseg', 'unet_d'))
        """
        return MemberLogits(self.logits(size), self.masks(size), tuple(self.names))

    def with_member(self, name: str, logits: np.ndarray | Tensor) -> "PredictionStore":
        """The store with one more member: any network's logits, float (N, S, S), in the order of `ids`.

        They stay in memory; `write` keeps them in a folder. Raises DataError for another number of images, a NaN or an
        infinite logit, and a name that is taken.

        >>> import numpy as np
        >>> import vlsm_helpers as vlsm
        >>> val = vlsm.tiny_store("val")
        >>> val.with_member("nothing found", np.full((len(val), 32, 32), -5.0)).names[-1]
        'nothing found'
        """
        logits = np.asarray(logits)
        if logits.ndim != 3 or len(logits) != len(self):
            what = f"The logits are {logits.shape}, but the store has {len(self)} images."
            hint = "give an array (N, S, S), one map per image, in the order of `store.ids`."
            raise DataError(what, where=name, hint=hint)
        index = PredictionInfo(name, self.dataset, self.split, self.ids, self.sizes, "in memory")
        checked = np.stack([_checked(one, image) for one, image in zip(logits, self.ids, strict=True)])
        return PredictionStore([*self._predictions, Prediction(index, checked)], self._samples)

    def samples(self) -> list[Sample]:
        """The images, in the order of `ids`. Raises DataError where one is missing from the dataset."""
        samples = load_split(self.dataset, self.split) if self._samples is None else self._samples
        by_id = {sample.id: sample for sample in samples}
        if missing := [name for name in self.ids if name not in by_id]:
            what = f"The dataset has no image {missing[0]!r} any more ({len(missing)} in all)."
            hint = "predict again with the dataset as it is now."
            raise DataError(what, where=f"{self.dataset}, {self.split}", hint=hint)
        return [by_id[name] for name in self.ids]

    def true_masks(self) -> list[np.ndarray]:
        """The true masks, bool (H, W) at their original sizes. Raises DataError as `samples` does."""
        return [read_mask(sample.mask) for sample in self.samples()]

    def masks(self, size: int) -> Tensor:
        """The true masks, bool (N, size, size): a pixel is foreground where at least half of its area is."""
        each = [torch.from_numpy(mask).float()[None, None] for mask in self.true_masks()]
        return torch.cat([torch.nn.functional.adaptive_avg_pool2d(mask, size)[0] >= 0.5 for mask in each])


def _fill(index: PredictionInfo, logits: Iterator[np.ndarray], folder: Path) -> None:
    """Write both files to a new folder."""
    first = next(logits, None)
    if first is None or np.ndim(first) != 2:
        raise DataError("There are no logits (S, S).", where=index.member, hint="give one array per image.")
    shape, given = (len(index.ids), *np.shape(first)), 0
    with atomic.array_file(folder / LOGITS, np.dtype(np.float16), shape) as file:
        for given, one in enumerate(itertools.chain([first], logits), start=1):
            if given > len(index.ids):
                break
            file.write(_checked(np.asarray(one, np.float32), index.ids[given - 1]).tobytes())
    if given != len(index.ids):
        raise DataError(f"There are logits of {given} images, not of {len(index.ids)}.", where=index.member)
    (folder / INDEX).write_text(atomic.as_json(asdict(index)), encoding="utf-8")


def _checked(logits: np.ndarray, name: str) -> np.ndarray:
    if not np.isfinite(logits).all():
        what = "A logit is NaN or infinite."
        raise DataError(what, where=name, hint="look at the member's weights and its training.")
    return logits.clip(-LARGEST, LARGEST).astype(np.float16)


def _key(index: PredictionInfo) -> str:
    return json.dumps(json.loads(atomic.as_json(asdict(index))), sort_keys=True)


def _check_same_images(first: PredictionInfo, other: PredictionInfo) -> None:
    if (first.dataset, first.split) != (other.dataset, other.split):
        here, there = (f"{index.member}: {index.dataset}, {index.split}" for index in (first, other))
        raise DataError(f"The members predicted different images ({here}; {there}).", hint="predict the same split.")
    if first.ids == other.ids:
        return
    extra = [(index.member, sorted(set(index.ids) - set(rest.ids))) for index, rest in ((first, other), (other, first))]
    found = "; ".join(f"only {name} has {some_of(ids, 3)}" for name, ids in extra if ids)
    what = f"The members predicted different images ({found or 'the same ones in another order'})."
    raise DataError(what, hint="predict again with one of them as it is now.")
