"""`vlsm train`, `evaluate`, `predict` and `reproduce`: commands that make runs and use them."""

from pathlib import Path
from typing import Annotated

import typer

from vlsm_helpers.cli.options import (
    LARGEST_SEED,
    BatchSize,
    Epochs,
    Limit,
    OldRunName,
    Parts,
    Prompt,
    RecipeName,
    RunName,
    Seed,
    Size,
    WarmStart,
    Weights,
    Width,
    given,
)
from vlsm_helpers.errors import CourseError

runs = typer.Typer()


@runs.command()
def train(
    member: Annotated[str, typer.Argument(metavar="MEMBER", help="A segmenter, such as unet_d.")],
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="Its images; `vlsm data list` shows them.")],
    name: RunName = None,
    run: OldRunName = None,
    recipe: RecipeName = None,
    parts: Parts = None,
    weights: Weights = None,
    warm_start: WarmStart = None,
    size: Size = None,
    width: Width = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    limit: Limit = None,
    prompt: Prompt = None,
    seed: Seed = 0,
) -> None:
    """Train a segmenter, choose its best epoch on the val split and score the test split.

    A run that was stopped resumes when the same command is given again.
    """
    from vlsm_helpers import settings
    from vlsm_helpers.course.results import readable
    from vlsm_helpers.experiments.runs import evaluate_run, train_member

    options = given(run=name or run, recipe=recipe, warm_start=warm_start, train=parts, weights=weights, width=width)
    options |= given(size=size, epochs=epochs, batch_size=batch_size, limit=limit, prompt=prompt)
    folder = train_member(member, dataset, seed=seed, **options)
    if not settings.process().is_main_process:  # of several that `accelerate launch` started, one scores
        return
    typer.echo(readable(evaluate_run(folder)).to_string(index=False))
    typer.echo(folder)


@runs.command()
def evaluate(
    run: Annotated[
        str,
        typer.Argument(metavar="RUN", help="A run's name in VLSM_RUNS, or its folder; or a file of fusion weights."),
    ],
    predictions: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="PREDICTION",
            help="After a file of weights: the folders that `vlsm predict` wrote.",
            show_default=False,
        ),
    ] = None,
    split: Annotated[str | None, typer.Option(help="train, val or test.", show_default="test")] = None,
    dataset: Annotated[
        str | None, typer.Option(metavar="NAME", help="Score another dataset.", show_default="its own")
    ] = None,
) -> None:
    """Score a trained run on a split: means over images with 95 % bootstrap intervals.

    Of images with several classes it also shows Dice by class, and Dice of each class's prompt against every other class.
    `vlsm evaluate fusion.json PREDICTION PREDICTION` scores members' predictions fused by the weights in fusion.json.
    """
    from vlsm_helpers.course.results import readable

    classes = None
    if predictions or run.endswith(".json"):
        table = _evaluated_fusion(Path(run), predictions or [], split or dataset)
    else:
        folder = _run_folder(run)
        from vlsm_helpers.experiments.runs import evaluate_run, evaluate_run_classes

        table = evaluate_run(folder, split=split or "test", dataset=dataset)
        classes = evaluate_run_classes(folder, split or "test", dataset)
    typer.echo(readable(table).to_string(index=False))
    if classes is not None:
        typer.echo(_by_class(classes))


@runs.command()
def predict(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's name in VLSM_RUNS, or its folder.")],
    split: Annotated[list[str] | None, typer.Option(help="Repeat it for each split.", show_default="val, test")] = None,
    dataset: Annotated[
        str | None, typer.Option(metavar="NAME", help="Another dataset.", show_default="its own")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The member's name when it is fused.", show_default="as it was built")
    ] = None,
) -> None:
    """Write a trained run's logits to its folder, so that fusing it with others loads no network."""
    folder = _run_folder(run)
    from vlsm_helpers.experiments.runs import predict_run

    for one in split or ["val", "test"]:
        typer.echo(predict_run(folder, one, dataset, name))


@runs.command()
def reproduce(
    datasets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="DATASETS",
            help="Several joined by + are pooled. Without one, the paper's (at tiny, phantoms).",
            show_default=False,
        ),
    ] = None,
    member: Annotated[list[str] | None, typer.Option(help="Repeat it for each member.", show_default="all")] = None,
    fuse: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MEMBER",
            help="Members that late fusion joins; repeat it for each.",
            show_default="biomedclipseg, clipseg and unet_d, as in the paper",
        ),
    ] = None,
    seed: Annotated[
        list[int] | None,
        typer.Option(min=0, max=LARGEST_SEED, help="Repeat it for each seed.", show_default="0, 1, 2; at tiny 0"),
    ] = None,
    prompt: Annotated[
        list[str] | None, typer.Option(help="Repeat it for each prompt's key.", show_default="p1")
    ] = None,
    also_test: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Score each run on this dataset too.", show_default="none")
    ] = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    limit: Limit = None,
    shard: Annotated[
        str, typer.Option(metavar="K/N", help="Fill the K-th of N shares only: for a cluster's array of jobs.")
    ] = "1/1",
    table_only: Annotated[bool, typer.Option("--table", help="Train nothing; show what is there.")] = False,
) -> None:
    """Fill the paper's table: datasets x members x seeds, each a run of its own; what is done is skipped.

    Stop it at any moment, start it again, start it on several machines with the same VLSM_RUNS: no cell is trained twice. The
    table of the cells done so far goes to reproduce/table.csv and table.md in the runs folder. At the tiny profile --limit is
    200 by default.
    """
    from vlsm_helpers.experiments import table as paper_table
    from vlsm_helpers.experiments.grid import run
    from vlsm_helpers.experiments.members import left_out
    from vlsm_helpers.experiments.plan import as_shard, paper_plan

    fused = sorted(set(fuse or []))  # an order of their own: it is in the name of the folder
    lists = {"datasets": datasets, "members": member, "seeds": seed, "prompts": prompt, "also_test": also_test}
    chosen = {name: tuple(values) for name, values in (lists | {"fused": fused}).items() if values}
    plan = paper_plan(**chosen, epochs=epochs, batch_size=batch_size, limit=limit)
    if not member and (missing := left_out(plan.members)):
        typer.echo(missing)
    failed = {} if table_only else run(plan, plan.shard(*as_shard(shard)), typer.echo)
    shown = paper_table.readable(paper_table.write(plan))
    typer.echo(f"\n{shown.to_string(index=False)}")
    if failed:
        typer.echo(f"\n{len(failed)} cells failed: {', '.join(cell.name for cell in failed)}.", err=True)
        raise typer.Exit(1)


def _by_class(rows) -> str:
    """Dice by class, and the confusion of prompts and classes, as text in percent."""
    from vlsm_helpers.experiments.classes import by_class, confusion

    table, crossed = by_class(rows), confusion(rows)
    shares = ["dice", "low", "high", "silent"]
    table[shares] = table[shares].map(_percent)
    return (
        "\nDice by class (silent: the share of the images without the class in which nothing is predicted)\n"
        f"{table.to_string(index=False)}\n\nDice of each prompt (row) against each class (column)\n"
        f"{crossed.map(_percent).rename_axis(index=None, columns=None).to_string()}"
    )


def _percent(share: float) -> str:
    return "–" if share != share else f"{100 * share:.1f} %"


def _evaluated_fusion(weights: Path, predictions: list[Path], chosen: str | None):
    """The table of a fusion. Raises CourseError for a split or a dataset, which the predictions have already."""
    if chosen:
        hint = "leave --split and --dataset out, and name the predictions of that split."
        raise CourseError(f"{chosen!r} cannot be chosen: predictions are of one dataset and one split.", hint=hint)
    from vlsm_helpers.fusion.weighted import evaluate_fusion

    return evaluate_fusion(weights, predictions)


def _run_folder(run: str) -> Path:
    """The folder of the run named so, or given by its path. Raises CourseError, naming the runs, where it is not."""
    from vlsm_helpers.settings import runs_folder

    folder = Path(run) if Path(run).is_dir() else runs_folder() / run
    if not folder.is_dir():
        names = sorted(path.parent.name for path in runs_folder().glob("*/metrics.csv"))
        hint = f"choose among {', '.join(names)}." if names else "train one first: `vlsm train unet_d DATASET`."
        raise CourseError(f"There is no run {run!r}.", where=runs_folder(), hint=hint)
    return folder
