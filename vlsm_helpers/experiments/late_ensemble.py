"""From a dataset to an ensemble: members trained and fused, reported with intervals, saved with a model card."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pandas as pd

from vlsm_helpers import settings
from vlsm_helpers.data.folds import group_of
from vlsm_helpers.data.images import read_mask
from vlsm_helpers.data.samples import SPLITS, Sample, dataset_facts, dataset_folder, load_split, source_facts
from vlsm_helpers.errors import BusyError, SettingsError
from vlsm_helpers.evaluation.predictions import PredictionStore
from vlsm_helpers.experiments import table as paper_table
from vlsm_helpers.experiments.grid import run
from vlsm_helpers.experiments.members import LATE_FUSION, members_for
from vlsm_helpers.experiments.plan import FOLDER as OLD_FOLDER
from vlsm_helpers.experiments.plan import FUSION, Cell, Plan
from vlsm_helpers.experiments.runs import DEFAULT_PROMPT, LOGITS
from vlsm_helpers.fusion.weighted import WeightedFusion
from vlsm_helpers.inference.predictor import Predictor, write_predictor
from vlsm_helpers.models.segmenter import Segmenter
from vlsm_helpers.models.state import weights_revisions
from vlsm_helpers.training.run_folder import BEST, LAST, SETTINGS

FOLDER = "ensembles"  # within the runs folder
MOST_PROMPTS = 100  # that a saved ensemble remembers of its training

CARD = """\
# An ensemble for {noun}: `{dataset}`

**Not for clinical use.** A research and teaching model, no medical device.

Members: {members}, trained separately on {train} images; their logits are averaged with the weights {weights} and cut at the
probability {threshold:g}. Weights, threshold and each member's best epoch were chosen on {val} validation images, and the
scores below come from {test} test images that were used for nothing else.

{table}
{warning}One seed ({seed}): another training may score differently by more than the interval, which is over
test images, those of one group (a patient, a video) together. {empty}{texts}
{remark}
- Split: {split_by}. Empty masks: {empty_val} of {val} in validation, {empty_test} of {test} in test
- Training: profile {profile}, {epochs}
- Prompt: `{prompt}`, images shown at {size} x {size} pixels. The scores are for this prompt; other words were not tested
- Hardware: {hardware}; {versions}
- Frozen encoders are not in this folder: {weights_of}{attributions}

```python
import vlsm_helpers as vlsm

found = vlsm.Predictor.load("{folder}")("image.png")
found.mask, found.probability, found.uncertainty
```
"""
EMPTY = "An empty mask predicted empty counts 1; the rows 'lesion only' leave those images out."
TEXTS = " The test images had one of {texts} prompts each; a new image gets the most frequent one, and may score lower."


@dataclass(frozen=True)
class Ensemble:
    """Members of one dataset that are trained and fused; `train_ensemble` makes it."""

    plan: Plan
    data: Path | None = None  # the folder of its dataset; None: the one that VLSM_DATA names

    def samples(self, split: str) -> list[Sample]:
        """The images of a split of its dataset."""
        return load_split(self.cell.dataset, split, self.data)

    def predictions(self, split: str) -> PredictionStore:
        """The members' logits of the val or test split. Raises DataError for another one."""
        folders = [one.folder / LOGITS / f"{self.cell.dataset}-{split}" for one in self.cell.joined]
        return PredictionStore.open(folders, self.samples(split))

    @property
    def cell(self) -> Cell:
        """The late fusion."""
        return self.plan.cells[-1]

    @property
    def fusion(self) -> WeightedFusion:
        return WeightedFusion.load(self.cell.folder / FUSION)

    @cached_property
    def texts(self) -> Counter[str]:
        """The training images' prompts, and how often each occurs."""
        return Counter(sample.prompt(self.cell.prompt) for sample in self.samples("train"))

    @property
    def prompt(self) -> str:
        """The most frequent of `texts`: the prompt for a new image."""
        return self.texts.most_common(1)[0][0]

    @property
    def images(self) -> dict:
        """How the dataset's images became pictures of 8 bits, so that new images of the same source do, too."""
        facts = dataset_facts(self.cell.dataset, self.data)
        return {name: facts[name] for name in ("bit_depth", "window", "axis") if name in facts}

    @property
    def checkpoints(self) -> dict[str, Path]:
        return {one.member: one.folder / BEST for one in self.cell.joined}

    @property
    def test_groups(self) -> dict[str, object]:
        """The patient or other group of each test image, by its id: what intervals resample."""
        return {one.id: group_of(one) for one in self.samples("test")}

    def table(self) -> pd.DataFrame:
        """Dice on test of each member and of the ensemble, with intervals over `test_groups`; see `paper_table.table`."""
        return paper_table.table(self.plan, self.test_groups)

    @property
    def warning(self) -> str:
        """A sentence where the ensemble is more than a percentage point of Dice below one of its members on test, over all images
        or over lesions alone; else nothing. Fitted on few images, weights and threshold may be worse than none."""
        table = self.table().pivot(index="metric", columns="model", values="value") * 100
        members = table.drop(columns=LATE_FUSION)
        behind = members.max(axis=1) - table[LATE_FUSION]
        if not behind.max() > 1:  # not a number where a member has no score
            return ""
        metric = behind.idxmax()
        what = "" if metric == "dice" else metric.removeprefix("dice, ") + " "
        best, own, most = members.loc[metric].idxmax(), table.loc[metric, LATE_FUSION], members.loc[metric].max()
        return (
            f"On test the ensemble is below its member {best} ({what}{own:.1f} against {most:.1f} %): weights and threshold were "
            f"chosen on {len(self.samples('val'))} validation images, which may be too few."
        )

    def predictor(self) -> Predictor:
        """The ensemble, ready to use."""
        return Predictor.of_checkpoints(self.checkpoints, self.fusion, self.prompt, **source_facts(self.images))

    def save(self, folder: Path, remark: str = "") -> Path:
        """Write it to a new folder, with its model card (see `card`), for `Predictor.load`. Raises SettingsError as
        `write_predictor` does."""
        facts = {
            "dataset": self.cell.dataset,
            "seed": self.cell.seed,
            "prompts": [text for text, _ in self.texts.most_common(MOST_PROMPTS)],
        }
        facts |= self.images | self.plan.budgets
        card = self.card(Path(folder).name, remark)
        return write_predictor(folder, self.checkpoints, self.fusion, prompt=self.prompt, card=card, facts=facts)

    def card(self, folder: str, remark: str = "") -> str:
        """The model card of a copy in `folder`, Markdown: what it is, its training data, its scores, how to use it.

        `remark`: Markdown that follows the scores, such as those of a cross-validation.
        """
        predictor, fusion = self.predictor(), self.fusion
        counts = {split: len(self.samples(split)) for split in SPLITS}
        counts["train"] = min(counts["train"], self.plan.limit or counts["train"])
        table = self.table()
        shown = paper_table.readable(table)[["model", "Dice, %", "± over images", "95 % interval", "images"]]
        has_empty = (table["metric"] != "dice").any()
        empty = {split: sum(not read_mask(one.mask).any() for one in self.samples(split)) for split in SPLITS}
        warning = f"**{self.warning}** " if self.warning else ""
        pretrained = {name: _pretrained(member) for name, member in predictor.members.items()}
        return CARD.format(
            **counts,
            folder=folder,
            dataset=self.cell.dataset,
            noun=self.prompt or "any prompt",
            members=", ".join(fusion.weights),
            weights=", ".join(f"{weight:.2f}" for weight in fusion.weights.values()),
            threshold=fusion.threshold,
            table=paper_table.markdown(shown),
            warning=warning,
            split_by=self._split_by(),
            empty_val=empty["val"],
            empty_test=empty["test"],
            profile=self.plan.budgets["profile"],
            epochs=f"{self.plan.epochs} epochs at most" if self.plan.epochs else "as many epochs as the recipes say",
            seed=self.cell.seed,
            empty=EMPTY if has_empty else "",
            remark=f"\n{remark}\n" if remark else "",
            texts="" if len(self.texts) == 1 else TEXTS.format(texts=len(self.texts)),
            prompt=self.prompt,
            size=predictor.size,
            hardware=settings.hardware(),
            versions=settings.versions(),
            weights_of=", ".join(f"{name} {weights}" for name, weights in pretrained.items()),
            attributions="".join(f"\n- {name} started from {text}" for name, text in self._attributions(predictor)),
        )

    def _attributions(self, predictor: Predictor) -> Iterator[tuple[str, str]]:
        """Each member that started from pretrained weights which its checkpoint holds by now, with their credit and licence."""
        for one in self.cell.joined:
            attribution = predictor.members[one.member].attribution
            if attribution and json.loads((one.folder / SETTINGS).read_text(encoding="utf-8"))["started_from"]:
                yield one.member, attribution

    def _split_by(self) -> str:
        """What was kept in one split, in words."""
        samples = [sample for split in SPLITS for sample in self.samples(split)]
        groups = {sample.attributes.get("group") for sample in samples}
        if groups == {None}:
            return "as the dataset comes"
        if len(groups) == len(samples):
            return "by image; one patient may be in several splits, and scores may be too high"
        return f"by {len(groups)} groups of images, none in two splits"


def _pretrained(member: Segmenter) -> str:
    """The pretrained weights of a member, with the hub's commit where it is known."""
    source = member.config.get("weights", "none")
    revision = weights_revisions(member).get(source)
    return f"{source}, revision {revision}" if revision and revision not in source else source


def train_ensemble(
    dataset: str,
    *,
    folder: Path | None = None,
    seed: int = 0,
    epochs: int | None = None,
    batch_size: int | None = None,
    limit: int | None = None,
    prompt: str = DEFAULT_PROMPT,
    members: Sequence[str] | None = None,
) -> Ensemble:
    """Train members separately, predict, and fit the fusion on validation; what is done already is kept.

    `folder`: holds the dataset, as for `load_split`; by default the one that VLSM_DATA names. `epochs` and `batch_size`: of
    every training, by default the recipes'; `limit`: maximum number of training images. `members`: their names, by default
    `members_for(dataset)`. It is stored in runs/ensembles/DATASET; one that version 0.1.0 began in runs/reproduce/DATASET
    resumes there. Raises SettingsError for several datasets, the CourseError of the first member that could not be trained,
    and BusyError where another process is training one.

    With a dataset `mine` that `vlsm data adopt` made:

    >>> import vlsm_helpers as vlsm
    >>> ensemble = vlsm.train_ensemble("mine", epochs=1)
    [1/...
    >>> folder = ensemble.save("my_ensemble")
    >>> segmentation = vlsm.Predictor.load("my_ensemble")("image.png")
    >>> segmentation.mask.shape, segmentation.mask.dtype
    ((32, 32), dtype('bool'))
    """
    if "+" in dataset:
        raise SettingsError("An ensemble is of one dataset.", hint="adopt all images as one dataset first.")
    with settings.datasets_in(folder):
        dataset_folder(dataset)  # what is missing, or was done otherwise, is reported once and before any training
        limits = {"epochs": epochs, "batch_size": batch_size, "limit": limit}
        fused = tuple(members_for(dataset) if members is None else members)
        plan = Plan((dataset,), (*fused, LATE_FUSION), (seed,), (prompt,), fused=fused, **limits, root=FOLDER)
        plan = _in_its_folder(plan)
        for cell in plan.cells:
            plan.is_done(cell)
        failed = run(plan, plan.cells)
        if failed:
            raise next(iter(failed.values()))
        ensemble = Ensemble(plan, folder)
        if not plan.is_done(ensemble.cell):
            what = "A member is being trained by another process."
            raise BusyError(what, where=ensemble.cell.folder, hint="wait, then run the command again.")
    return ensemble


def _in_its_folder(plan: Plan) -> Plan:
    """The plan in runs/ensembles, or in runs/reproduce, where version 0.1.0 began it and nothing was begun since."""
    old, new = replace(plan, root=OLD_FOLDER), replace(plan, root=FOLDER)
    begun = any((cell.folder / SETTINGS).exists() for cell in new.cells)
    return old if not begun and any(_was_begun(old, cell) for cell in old.cells) else new


def _was_begun(plan: Plan, cell: Cell) -> bool:
    """Whether the cell's folder holds what the plan asks for, done or unfinished."""
    done = cell.read_done()
    if done is not None:
        return done["facts"] == plan.facts(cell)
    path = cell.folder / SETTINGS
    if not (cell.folder / LAST).exists() or not path.exists():
        return False
    found = json.loads(path.read_text(encoding="utf-8"))
    images = len(load_split(cell.dataset, "train")[: plan.limit])
    same = {"epochs": plan.epochs, "batch_size": plan.batch_size}
    return found["train_images"] == images and all(
        value in (None, found["recipe"][name]) for name, value in same.items()
    )
