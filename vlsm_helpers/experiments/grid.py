"""The paper's table as a program: members x datasets x prompts x seeds, each cell a run to stop, skip and share out.

A cell trains one member, scores it and stores its logits, all in runs/reproduce/; `done.json`, written last, says what was
done. A lock in the cell's folder, which the kernel releases when its process dies, keeps two processes from one cell. Late
fusion is a cell without a network: it begins when the cells of its members are done. `table` shows what is done at any moment.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import product
from pathlib import Path

import torch

from vlsm_helpers import settings
from vlsm_helpers.data.samples import dataset_folder, load_split
from vlsm_helpers.errors import BusyError, CourseError, SettingsError, TrainingError
from vlsm_helpers.evaluation.predictions import PredictionStore
from vlsm_helpers.experiments.runs import DEFAULT_PROMPT, LOGITS, PER_IMAGE, evaluate_run, predict_run, train_member
from vlsm_helpers.fusion import MemberLogits, WeightedMean
from vlsm_helpers.fusion.weighted import WeightedFusion, evaluate_fusion
from vlsm_helpers.io import atomic

FOLDER = "reproduce"  # within the runs folder
DONE, LOCK, FUSION, FUSION_SCORES = "done.json", ".lock", "fusion.json", "fusion.csv"
LATE_FUSION = "late_fusion"
FUSED = ("biomedclipseg", "clipseg", "unet_d")  # what late fusion joins: the paper's members, trained separately
MEMBERS = (*FUSED, "smp_unet", "ensemble_a", "ensemble_b", "ensemble_c", LATE_FUSION)
PAPER = ("kvasir_polyp", "clinicdb_polyp", "bkai_polyp", "busi", "chexlocalize")  # the paper's datasets


@dataclass(frozen=True)
class Cell:
    """One entry of the table. `dataset` may be several, joined by "+": their training images are pooled."""

    dataset: str
    member: str
    prompt: str
    seed: int
    root: str = FOLDER  # the folder of all cells, within the runs folder

    @property
    def name(self) -> str:
        """Its folder within `root`."""
        return f"{self.dataset}/{self.member}-{self.prompt}-seed{self.seed}"

    @property
    def folder(self) -> Path:
        return settings.runs_folder() / self.root / self.name

    @property
    def parts(self) -> list[str]:
        """The datasets whose images it is trained on."""
        return self.dataset.split("+")

    def read_done(self) -> dict | None:
        """Read done.json: `facts` of the plan that filled the cell, its `tests` and more; None where it is not filled.

        Raises SettingsError for a broken file.
        """
        path = self.folder / DONE
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            return {"facts": dict(found["facts"]), "tests": list(found["tests"])} | found
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            hint = "delete this one file: the cell is then scored again, and not trained again."
            raise SettingsError(f"The file is broken ({error}).", where=path, hint=hint) from error

    @property
    def per_image(self) -> Path:
        """Its scores, one row per image."""
        return self.folder / (FUSION_SCORES if self.joined else PER_IMAGE)

    @property
    def joined(self) -> list["Cell"]:
        """The cells that must be done before: the members of late fusion."""
        if self.member != LATE_FUSION:
            return []
        return [replace(self, member=member) for member in FUSED]


@dataclass(frozen=True)
class Plan:
    """What the table is to hold. `also_test`: datasets that every cell is scored on besides its own (domain shift).

    `epochs` and `batch_size`: of every training, by default the recipes'; `limit`: maximum training images per dataset;
    `root`: the folder of the cells, within the runs folder. Raises SettingsError for what is named twice, and for late fusion
    without its members.
    """

    datasets: tuple[str, ...]
    members: tuple[str, ...] = MEMBERS
    seeds: tuple[int, ...] = (0, 1, 2)
    prompts: tuple[str, ...] = (DEFAULT_PROMPT,)
    also_test: tuple[str, ...] = ()
    epochs: int | None = None
    batch_size: int | None = None
    limit: int | None = None
    root: str = FOLDER

    def __post_init__(self):
        for what in ("datasets", "members", "seeds", "prompts"):
            given = getattr(self, what)
            if not given or len(set(given)) < len(given):
                raise SettingsError(f"The {what} are {given!r}.", hint="name at least one, and each once.")
        if LATE_FUSION in self.members and (missing := set(FUSED) - set(self.members)):
            raise SettingsError(
                f"Late fusion joins {', '.join(FUSED)}; the plan lacks {', '.join(sorted(missing))}.",
                hint=f"name it too, or leave {LATE_FUSION} out.",
            )

    @cached_property
    def cells(self) -> list[Cell]:
        """All of them; those of one dataset, prompt and seed in a row, late fusion after its members."""
        members = sorted(self.members, key=lambda member: member == LATE_FUSION)
        return [
            self.cell(dataset, member, prompt, seed)
            for dataset, prompt, seed, member in product(self.datasets, self.prompts, self.seeds, members)
        ]

    def cell(self, dataset: str, member: str, prompt: str, seed: int) -> Cell:
        """The cell of these, in this plan's folder."""
        return Cell(dataset, member, prompt, seed, self.root)

    def shard(self, number: int, shards: int) -> list[Cell]:
        """The cells of shard `number`, from 1, of `shards`: every one is in exactly one of them.

        Raises SettingsError for a number that is not there.
        """
        if shards < 1:
            raise SettingsError(
                f"{shards} shards hold no cells.", hint="use 1/1 for all of them, 3/8 for the third of eight."
            )
        if not 1 <= number <= shards:
            raise SettingsError(
                f"There is no shard {number} of {shards}.", hint=f"use 1/{shards} to {shards}/{shards}."
            )
        return self.cells[number - 1 :: shards]

    def is_done(self, cell: Cell) -> bool:
        """Whether a cell is done, and scored on all that this plan asks for. Raises SettingsError where it was done otherwise."""
        found = cell.read_done()
        if found is None:
            return False
        wanted = self.facts(cell)
        if different := [name for name in wanted if found["facts"].get(name) != wanted[name]]:
            before, now = ({name: facts.get(name) for name in different} for facts in (found["facts"], wanted))
            raise SettingsError(
                f"It was trained with other settings: {_in_words(before)}; now {_in_words(now)}.",
                where=cell.folder,
                hint="repeat the settings that it was trained with, or name another folder in VLSM_RUNS.",
            )
        return set(self.tests(cell)) <= set(found["tests"])

    def facts(self, cell: Cell) -> dict:
        """What, besides its name, makes a cell this cell: budgets, profile and hashes of the training and validation images."""
        return self.budgets | {"data": [self._data_hash(name) for name in cell.parts]}

    @cached_property
    def budgets(self) -> dict:
        """Limits of every training of the plan, and the profile."""
        profile, _ = settings.choose_profile()
        limits = {"epochs": self.epochs, "batch_size": self.batch_size, "limit": self.limit}
        return limits | {"profile": profile.name}

    @cached_property
    def _data_hash(self) -> Callable[[str], str]:
        """`hash_of_images`, computed once per dataset and plan."""
        return lru_cache(hash_of_images)

    def tests(self, cell: Cell) -> list[str]:
        """The datasets that a cell is scored on: its own, then those of `also_test`."""
        return list(dict.fromkeys([*cell.parts, *self.also_test]))


def _in_words(facts: dict) -> str:
    """Settings in words: a budget that is not given is the recipe's own."""
    return ", ".join(f"{name} {'of the recipe' if value is None else value}" for name, value in facts.items())


def paper_plan(**changes) -> Plan:
    """The plan of the present profile: at full the paper's datasets with three seeds, at tiny endoscopy phantoms with one."""
    profile, _ = settings.choose_profile()
    if profile.name == "full":
        defaults = {"datasets": PAPER}
    else:
        defaults = {"datasets": (settings.DEFAULT_DATASET,), "seeds": (0,), "limit": profile.max_train_images}
    return Plan(**(defaults | {name: value for name, value in changes.items() if value is not None}))


def as_shard(text: str) -> tuple[int, int]:
    """The number and the count of "3/8". Raises SettingsError for anything else."""
    number, slash, shards = text.partition("/")
    if not (slash and number.isdecimal() and shards.isdecimal()):
        raise SettingsError(f"The shard is {text!r}.", hint="write 3/8 for the third of eight.")
    return int(number), int(shards)


def run(plan: Plan, cells: Sequence[Cell], report: Callable[[str], None] = print) -> dict[Cell, CourseError]:
    """Fill the cells that are not done yet, one after another; those that could not be filled, with their reasons.

    A cell that fails does not stop the others. One that another process is running, or whose members are not done, is reported
    and skipped. Then every late fusion of the plan whose members are done by now is filled, whichever shard it belongs to.
    """
    failed: dict[Cell, CourseError] = {}
    for number, cell in enumerate(cells, start=1):
        name = f"[{number}/{len(cells)}] {cell.name}"
        report(f"{name}: {_fill(plan, cell, failed, lambda name=name: report(f'{name}: begins'))}")
    for cell in plan.cells:
        waits = cell.joined and cell not in failed and not cell.read_done()
        if waits and all(one.read_done() for one in cell.joined):
            report(f"{cell.name}: {_fill(plan, cell, failed)}")
    return failed


def _fill(plan: Plan, cell: Cell, failed: dict[Cell, CourseError], begin: Callable[[], None] = lambda: None) -> str:
    """Fill a cell, calling `begin` before anything is trained; the outcome in a few words."""
    try:
        for name in plan.tests(cell):
            dataset_folder(name)  # raises, before anything is trained, where it is not prepared
        if plan.is_done(cell):
            return "done before"
        if waiting := [one for one in cell.joined if not plan.is_done(one)]:
            return f"waits for {', '.join(one.member for one in waiting)}"
        with atomic.owned(settings.writable(cell.folder) / LOCK, "runs this cell"):
            if plan.is_done(cell):  # another process has finished it in the meantime
                return "done before"
            begin()
            _do(plan, cell)
    except BusyError:
        return "another process is running it"
    except CourseError as error:
        failed[cell] = error.with_traceback(None)  # which would keep the network alive
        return f"failed\n{error}"
    return "done"


def _do(plan: Plan, cell: Cell) -> None:
    """Train and score, or fuse and score, and leave the mark. Raises TrainingError where the device's memory is too small."""
    begin, before = time.monotonic(), cell.read_done() or {"tests": [], "seconds": 0}
    tests = [name for name in plan.tests(cell) if name not in before["tests"]]
    full = None
    try:
        (_fuse if cell.joined else _train)(plan, cell, tests)
    except torch.OutOfMemoryError as error:
        full = str(error).partition("\n")[0]  # the error itself would keep the network, and so the memory
    if full is not None:
        torch.cuda.empty_cache()
        raise TrainingError(
            f"The device has too little memory ({full}).", where=cell.folder, hint="give a smaller --batch-size."
        )
    mark = {
        "facts": plan.facts(cell),
        "tests": before["tests"] + tests,
        "seconds": round(before["seconds"] + time.monotonic() - begin, 1),
        "hardware": settings.hardware(),
        "versions": settings.versions(),
    }
    atomic.write_text(cell.folder / DONE, atomic.as_json(mark, indent=1))


def _train(plan: Plan, cell: Cell, tests: Sequence[str]) -> None:
    train_member(
        cell.member,
        cell.dataset,
        run=f"{cell.root}/{cell.name}",
        prompt=cell.prompt,
        seed=cell.seed,
        epochs=plan.epochs,
        batch_size=plan.batch_size,
        limit=plan.limit,
    )
    for name in tests:
        evaluate_run(cell.folder, "test", name)
        for split in ("val", "test") if name in cell.parts else ("test",):
            predict_run(cell.folder, split, name)


def _fuse(plan: Plan, cell: Cell, tests: Sequence[str]) -> None:
    """The weighted mean of the members' logits, fit on the validation images of its own datasets, scored on each test split."""

    def store(name: str, split: str) -> PredictionStore:
        return PredictionStore.open(_predictions(cell, name, split))

    validation = [store(name, "val") for name in cell.parts]
    size = max(one.size for one in validation)
    logits = torch.cat([one.logits(size) for one in validation], 1)
    masks = torch.cat([one.masks(size) for one in validation], 0)
    names = tuple(validation[0].names)
    fitted = WeightedMean(of_logits=True).fit(MemberLogits(logits, masks, names))
    weights = dict(zip(names, fitted.weights, strict=True))
    WeightedFusion(weights, "logits", threshold=fitted.threshold).save(cell.folder / FUSION)
    for name in tests:
        evaluate_fusion(cell.folder / FUSION, _predictions(cell, name, "test"))


def _predictions(cell: Cell, dataset: str, split: str) -> Iterator[Path]:
    return (one.folder / LOGITS / f"{dataset}-{split}" for one in cell.joined)


def hash_of_images(dataset: str) -> str:
    """A hash of the training and validation images: names, sizes of the images' files, contents of the masks."""
    digest = hashlib.sha256()
    for split in ("train", "val"):
        for sample in load_split(dataset, split):
            digest.update(f"{split} {sample.id} {sample.image.stat().st_size}\n".encode())
            digest.update(sample.mask.read_bytes())
    return digest.hexdigest()[:12]
