"""Cells and plans: what the paper's table is to hold, and where each entry of it is stored."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import product
from pathlib import Path

from vlsm_helpers import settings
from vlsm_helpers.data.samples import load_split
from vlsm_helpers.errors import SettingsError
from vlsm_helpers.experiments.members import FUSED, LATE_FUSION, MEMBERS, PAPER, at_hand
from vlsm_helpers.experiments.runs import DEFAULT_PROMPT, PER_IMAGE

FOLDER = "reproduce"  # within the runs folder
DONE, LOCK, FUSION, FUSION_SCORES = "done.json", ".lock", "fusion.json", "fusion.csv"


@dataclass(frozen=True)
class Cell:
    """One entry of the table. `dataset` may be several, joined by "+": their training images are pooled."""

    dataset: str
    member: str
    prompt: str
    seed: int
    root: str = FOLDER  # the folder of all cells, within the runs folder
    fused: tuple[str, ...] = FUSED  # the members that late fusion joins; of no meaning for another cell

    @property
    def name(self) -> str:
        """Its folder within `root`; late fusion of members other than the paper's has its own."""
        others = f"-of-{'-'.join(self.fused)}" if self.joined and self.fused != FUSED else ""
        return f"{self.dataset}/{self.member}{others}-{self.prompt}-seed{self.seed}"

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
        return [replace(self, member=member, fused=FUSED) for member in self.fused]


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
    fused: tuple[str, ...] = FUSED  # the members that late fusion joins

    def __post_init__(self):
        for what in ("datasets", "members", "seeds", "prompts"):
            given = getattr(self, what)
            if not given or len(set(given)) < len(given):
                raise SettingsError(f"The {what} are {given!r}.", hint="name at least one, and each once.")
        if LATE_FUSION in self.members and (missing := set(self.fused) - set(self.members)):
            what = f"Late fusion joins {', '.join(self.fused)}; the plan lacks {', '.join(sorted(missing))}."
            raise SettingsError(what, hint=f"name it too, or leave {LATE_FUSION} out.")

    @cached_property
    def cells(self) -> list[Cell]:
        """All of them; those of one dataset, prompt and seed in a row, late fusion after its members."""
        members = sorted(self.members, key=lambda member: member == LATE_FUSION)
        return [
            self.cell(dataset, member, prompt, seed)
            for dataset, prompt, seed, member in product(self.datasets, self.prompts, self.seeds, members)
        ]

    def cell(self, dataset: str, member: str, prompt: str, seed: int) -> Cell:
        """The cell of these, in this plan's folder; late fusion joins the plan's members."""
        return Cell(dataset, member, prompt, seed, self.root, self.fused if member == LATE_FUSION else FUSED)

    def shard(self, number: int, shards: int) -> list[Cell]:
        """The cells of shard `number`, from 1, of `shards`: every one is in exactly one of them.

        Raises SettingsError for a number that is not there.
        """
        if shards < 1:
            what = f"{shards} shards hold no cells."
            raise SettingsError(what, hint="use 1/1 for all of them, 3/8 for the third of eight.")
        if not 1 <= number <= shards:
            what = f"There is no shard {number} of {shards}."
            raise SettingsError(what, hint=f"use 1/{shards} to {shards}/{shards}.")
        return self.cells[number - 1 :: shards]

    def is_done(self, cell: Cell) -> bool:
        """Whether a cell is done, and scored on all that this plan asks for. Raises SettingsError where it was done otherwise."""
        found = cell.read_done()
        if found is None:
            return False
        wanted = self.facts(cell)
        if different := [name for name in wanted if found["facts"].get(name) != wanted[name]]:
            before, now = ({name: facts.get(name) for name in different} for facts in (found["facts"], wanted))
            what = f"It was trained with other settings: {_in_words(before)}; now {_in_words(now)}."
            hint = "repeat the settings that it was trained with, or name another folder in VLSM_RUNS."
            raise SettingsError(what, where=cell.folder, hint=hint)
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
    defaults["members"] = at_hand(MEMBERS)
    return Plan(**(defaults | {name: value for name, value in changes.items() if value is not None}))


def as_shard(text: str) -> tuple[int, int]:
    """The number and the count of "3/8". Raises SettingsError for anything else."""
    number, slash, shards = text.partition("/")
    if not (slash and number.isdecimal() and shards.isdecimal()):
        raise SettingsError(f"The shard is {text!r}.", hint="write 3/8 for the third of eight.")
    return int(number), int(shards)


def hash_of_images(dataset: str) -> str:
    """A hash of the training and validation images: names, sizes of the images' files, contents of the masks."""
    digest = hashlib.sha256()
    for split in ("train", "val"):
        for sample in load_split(dataset, split):
            digest.update(f"{split} {sample.id} {sample.image.stat().st_size}\n".encode())
            digest.update(sample.mask.read_bytes())
    return digest.hexdigest()[:12]
