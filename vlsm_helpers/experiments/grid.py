"""The paper's table as a program: members x datasets x prompts x seeds, each cell a run to stop, skip and share out.

A cell trains one member, scores it and stores its logits, all in runs/reproduce/; `done.json`, written last, says what was
done. A lock in the cell's folder, which the kernel releases when its process dies, keeps two processes from one cell. Late
fusion is a cell without a network: it begins when the cells of its members are done. `table` shows what is done at any moment.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from vlsm_helpers import settings
from vlsm_helpers.data.samples import dataset_folder
from vlsm_helpers.errors import BusyError, CourseError, TrainingError
from vlsm_helpers.evaluation.predictions import PredictionStore
from vlsm_helpers.experiments.plan import DONE, FUSION, LOCK, Cell, Plan
from vlsm_helpers.experiments.runs import LOGITS, evaluate_run, predict_run, train_member
from vlsm_helpers.fusion import MemberLogits, ShrunkMean
from vlsm_helpers.fusion.weighted import WeightedFusion, evaluate_fusion
from vlsm_helpers.io import atomic


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
        what = f"The device has too little memory ({full})."
        raise TrainingError(what, where=cell.folder, hint="give a smaller --batch-size.")
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
    """The shrunk mean of the members' logits, fit on the validation images of its own datasets, scored on each test split."""

    def store(name: str, split: str) -> PredictionStore:
        return PredictionStore.open(_predictions(cell, name, split))

    validation = [store(name, "val") for name in cell.parts]
    size = max(one.size for one in validation)
    logits = torch.cat([one.logits(size) for one in validation], 1)
    masks = torch.cat([one.masks(size) for one in validation], 0)
    names = tuple(validation[0].names)
    fitted = ShrunkMean(of_logits=True).fit(MemberLogits(logits, masks, names))
    weights = dict(zip(names, fitted.weights, strict=True))
    WeightedFusion(weights, "logits", threshold=fitted.threshold).save(cell.folder / FUSION)
    for name in tests:
        evaluate_fusion(cell.folder / FUSION, _predictions(cell, name, "test"))


def _predictions(cell: Cell, dataset: str, split: str) -> Iterator[Path]:
    return (one.folder / LOGITS / f"{dataset}-{split}" for one in cell.joined)
