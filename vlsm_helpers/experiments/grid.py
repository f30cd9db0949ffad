"""The paper's table as a program: members x datasets x prompts x seeds, each cell a run to stop, skip and share out.

A cell trains one member, scores it and keeps its logits, all in runs/reproduce/; `done.json`, written last, says what was
done. A lock in the cell's folder, which the kernel frees when its process dies, keeps two processes from one cell. Late fusion
is a cell without a network: it begins when the cells of its members are done. `table` reads what is there at any moment.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import product
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from vlsm_helpers import settings
from vlsm_helpers.data.samples import dataset_folder, load_split
from vlsm_helpers.errors import CourseError, SettingsError, TrainingError
from vlsm_helpers.evaluation.predictions import PredictionStore
from vlsm_helpers.experiments.members import FUSED, LATE_FUSION, MEMBERS, PAPER, at_hand
from vlsm_helpers.experiments.runs import DEFAULT_PROMPT, LOGITS, PER_IMAGE, evaluate_run, predict_run, train_member
from vlsm_helpers.fusion import MemberLogits, WeightedMean
from vlsm_helpers.fusion.weighted import WeightedFusion, evaluate_fusion
from vlsm_helpers.io import atomic

FOLDER = "reproduce"  # within the runs folder
DONE, LOCK, FUSION, FUSION_SCORES = "done.json", ".lock", "fusion.json", "fusion.csv"


@dataclass(frozen=True)
class Cell:
    """One entry of the table. `dataset` may be several, joined by "+": their training images are pooled."""

    dataset: str
    member: str
    prompt: str
    seed: int
    fused: tuple[str, ...] = FUSED  # the members that late fusion joins; of no meaning for another cell

    @property
    def name(self) -> str:
        """Its folder within runs/reproduce/; late fusion of members other than the paper's has its own."""
        others = f"-of-{'-'.join(self.fused)}" if self.joined and self.fused != FUSED else ""
        return f"{self.dataset}/{self.member}{others}-{self.prompt}-seed{self.seed}"

    @property
    def folder(self) -> Path:
        return settings.runs_folder() / FOLDER / self.name

    @property
    def parts(self) -> list[str]:
        """The datasets whose images it is trained on."""
        return self.dataset.split("+")

    @property
    def done(self) -> dict | None:
        """What was done, where it is: `facts` of the plan that filled it, with its `tests` and more; None where it is not."""
        path = self.folder / DONE
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    @property
    def per_image(self) -> Path:
        """Its scores, a row an image."""
        return self.folder / (FUSION_SCORES if self.joined else PER_IMAGE)

    @property
    def joined(self) -> list["Cell"]:
        """The cells that must be done before: the members of late fusion."""
        if self.member != LATE_FUSION:
            return []
        return [Cell(self.dataset, member, self.prompt, self.seed) for member in self.fused]


@dataclass(frozen=True)
class Plan:
    """What the table is to hold. `also_test`: datasets that every cell is scored on besides its own (domain shift).

    `epochs` and `batch_size`: of every training, by default the recipes'; `limit`: training images of a dataset, at most so many.
    Raises SettingsError for what is named twice, and for late fusion without its members.
    """

    datasets: tuple[str, ...]
    members: tuple[str, ...] = MEMBERS
    seeds: tuple[int, ...] = (0, 1, 2)
    prompts: tuple[str, ...] = (DEFAULT_PROMPT,)
    also_test: tuple[str, ...] = ()
    epochs: int | None = None
    batch_size: int | None = None
    limit: int | None = None
    fused: tuple[str, ...] = FUSED  # the members that late fusion joins

    def __post_init__(self):
        for what in ("datasets", "members", "seeds", "prompts"):
            given = getattr(self, what)
            if not given or len(set(given)) < len(given):
                raise SettingsError(f"The {what} are {given!r}.", hint="name at least one, and each once.")
        if LATE_FUSION in self.members and (missing := set(self.fused) - set(self.members)):
            raise SettingsError(
                f"Late fusion joins {', '.join(self.fused)}, but {', '.join(sorted(missing))} is not asked for.",
                hint=f"ask for it, too, or leave {LATE_FUSION} out.",
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
        """One of them; late fusion joins the plan's members."""
        return Cell(dataset, member, prompt, seed, self.fused if member == LATE_FUSION else FUSED)

    def shard(self, number: int, shards: int) -> list[Cell]:
        """The cells of shard `number`, from 1, of `shards`: every one is in exactly one of them.

        Raises SettingsError for a number that is not there.
        """
        if not 1 <= number <= shards:
            raise SettingsError(
                f"There is no shard {number} of {shards}.", hint=f"use 1/{shards} to {shards}/{shards}."
            )
        return self.cells[number - 1 :: shards]

    def is_done(self, cell: Cell) -> bool:
        """Whether a cell is done, and scored on all that this plan asks for. Raises SettingsError where it was done otherwise."""
        found = cell.done
        if found is None:
            return False
        wanted = self.facts(cell)
        if different := [name for name in wanted if found["facts"].get(name) != wanted[name]]:
            before, now = ({name: facts.get(name) for name in different} for facts in (found["facts"], wanted))
            raise SettingsError(
                f"It was trained with other settings: {_told(before)}; now {_told(now)}.",
                where=cell.folder,
                hint="ask for the same as then, delete the folder, or name another one in VLSM_RUNS.",
            )
        return set(self.tests(cell)) <= set(found["tests"])

    def facts(self, cell: Cell) -> dict:
        """What, besides its name, makes a cell this cell: budgets, profile and hashes of the images that it learns from."""
        return self.budgets | {"data": [self._hash_of(name) for name in cell.parts]}

    @cached_property
    def budgets(self) -> dict:
        """What every training of the plan may spend, and the profile."""
        profile, _ = settings.choose_profile()
        spent = {"epochs": self.epochs, "batch_size": self.batch_size, "limit": self.limit}
        return spent | {"profile": profile.name}

    @cached_property
    def _hash_of(self) -> Callable[[str], str]:
        """The hash of a dataset, computed once for a plan."""
        return lru_cache(_hash_of)

    def tests(self, cell: Cell) -> list[str]:
        """The datasets that a cell is scored on: its own, then those of `also_test`."""
        return list(dict.fromkeys([*cell.parts, *self.also_test]))


def _told(facts: dict) -> str:
    """Facts in words: a budget that is not given is the recipe's own."""
    return ", ".join(f"{name} {'of the recipe' if value is None else value}" for name, value in facts.items())


def paper_plan(**changes) -> Plan:
    """The plan of the present profile: at full the paper's datasets with three seeds, at tiny endoscopy phantoms with one."""
    profile, _ = settings.choose_profile()
    if profile.name == "full":
        defaults = {"datasets": PAPER}
    else:
        defaults = {"datasets": (settings.DEFAULT_DATASET,), "seeds": (0,), "limit": profile.max_train_images}
    defaults["members"] = at_hand(MEMBERS)
    return Plan(**(defaults | {name: value for name, value in changes.items() if value is not None}))


def as_shard(text: str) -> tuple[int, int]:
    """The number and the count of "3/8". Raises SettingsError for anything else."""
    number, slash, shards = text.partition("/")
    if not (slash and number.isdecimal() and shards.isdecimal()):
        raise SettingsError(f"The shard is {text!r}.", hint="write 3/8 for the third of eight.")
    return int(number), int(shards)


def run(plan: Plan, cells: Sequence[Cell], tell: Callable[[str], None] = print) -> dict[Cell, CourseError]:
    """Fill the cells that are not done yet, one after another; those that could not be filled, with their reasons.

    A cell that fails does not stop the others. One that another process is at, or whose members are not done, is told of and
    left alone. Then every late fusion of the plan whose members are done by now is filled, whichever shard it belongs to.
    """
    failed: dict[Cell, CourseError] = {}
    for number, cell in enumerate(cells, start=1):
        name = f"[{number}/{len(cells)}] {cell.name}"
        tell(f"{name}: {_fill(plan, cell, failed, lambda name=name: tell(f'{name}: begins'))}")
    for cell in plan.cells:
        if cell.joined and cell not in failed and not cell.done and all(one.done for one in cell.joined):
            tell(f"{cell.name}: {_fill(plan, cell, failed)}")
    return failed


def _fill(plan: Plan, cell: Cell, failed: dict[Cell, CourseError], begin: Callable[[], None] = lambda: None) -> str:
    """Do what a cell asks for, and call `begin` before anything is trained; what became of it, in a few words."""
    try:
        for name in plan.tests(cell):
            dataset_folder(name)  # what is not prepared is said before anything is trained
        if plan.is_done(cell):
            return "done before"
        if waiting := [one for one in cell.joined if not plan.is_done(one)]:
            return f"waits for {', '.join(one.member for one in waiting)}"
        with FileLock(settings.writable(cell.folder) / LOCK, timeout=0):
            if plan.is_done(cell):  # while this process came to it, another one finished it
                return "done before"
            begin()
            _do(plan, cell)
    except Timeout:
        return "another process is at it"
    except CourseError as error:
        failed[cell] = error.with_traceback(None)  # which would keep the network alive
        return f"failed\n{error}"
    return "done"


def _do(plan: Plan, cell: Cell) -> None:
    """Train and score, or fuse and score, and leave the mark. Raises TrainingError where the device's memory is too small."""
    begin, before = time.monotonic(), cell.done or {"tests": [], "seconds": 0}
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
    atomic.write_text(cell.folder / DONE, json.dumps(mark, indent=1))


def _train(plan: Plan, cell: Cell, tests: Sequence[str]) -> None:
    train_member(
        cell.member,
        cell.dataset,
        run=f"{FOLDER}/{cell.name}",
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
    """The weighted mean of the members' logits, fit on the validation images of its own datasets, judged on each test split."""

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


def _hash_of(dataset: str) -> str:
    """A hash of the images and masks that are learned from: names, sizes of the images' files, contents of the masks."""
    digest = hashlib.sha256()
    for split in ("train", "val"):
        for sample in load_split(dataset, split):
            digest.update(f"{split} {sample.id} {sample.image.stat().st_size}\n".encode())
            digest.update(sample.mask.read_bytes())
    return digest.hexdigest()[:12]
