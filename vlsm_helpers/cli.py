"""The `vlsm` command. What a command needs is imported inside it: `vlsm --help` answers at once."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

from vlsm_helpers.errors import CourseError


class Commands(TyperGroup):
    """Commands whose CourseErrors are told to the user without a traceback, with exit status 1."""

    def invoke(self, ctx):
        """Run the command that `ctx` holds."""
        try:
            return super().invoke(ctx)
        except CourseError as error:
            typer.echo(f"vlsm: {error}", err=True)
            raise typer.Exit(1) from None


class ProfileName(StrEnum):
    """What --profile takes."""

    tiny = "tiny"
    full = "full"
    auto = "auto"


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # what is no CourseError is a bug, and a bug report needs the plain traceback
    help="Segment medical images with CLIP-like models, and make them better by ensembling. Not for clinical use.",
    epilog="Folders: VLSM_DATA holds datasets, VLSM_RUNS what training writes, VLSM_CACHE what is computed once.",
)
data = typer.Typer(no_args_is_help=True, help="The datasets: which there are, preparing one, checking one.")
app.add_typer(data, name="data")

DatasetName = Annotated[str, typer.Argument(metavar="NAME", help="A dataset; `vlsm data list` shows them.")]


@app.command()
def run(
    notebooks: Annotated[
        list[str] | None,
        typer.Argument(metavar="NOTEBOOKS", help="Globs such as '03*'; without one, all of them.", show_default=False),
    ] = None,
    profile: Annotated[
        ProfileName | None, typer.Option(help="tiny: minutes on a laptop; full: needs a GPU and the published weights.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(metavar="NAME", help="Images to use in place of the phantoms.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything that is random.")] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where the report goes.", show_default="runs/course")
    ] = None,
) -> None:
    """Run the course's notebooks and write a report: index.html, results.csv, pictures.

    What is not given, VLSM_PROFILE, VLSM_DATASET and VLSM_SEED decide.

    A notebook that fails does not stop the others; the command then ends with status 1.
    """
    from vlsm_helpers import report, results, runner

    executed = runner.run_course(
        notebooks or ("*",), profile=profile and profile.value, dataset=dataset, seed=seed, output=output
    )
    failed = [notebook for notebook in executed if notebook.failure is not None]
    for notebook in failed:
        typer.echo(f"\n{notebook.name} failed at {notebook.failure}", err=True)
    table = report.results_table(executed).drop(columns=["seconds", "hardware"])
    if len(table):
        typer.echo(f"\n{results.readable(table).to_string(index=False)}")
    typer.echo(f"\n{len(executed) - len(failed)} of {len(executed)} notebooks done. The report:")
    typer.echo(executed[0].path.with_name("index.html"))
    if failed:
        raise typer.Exit(1)


@data.command("list")
def list_datasets() -> None:
    """Show the datasets that the course knows, which of them are prepared here, and their terms of use."""
    from rich.console import Console
    from rich.table import Column, Table

    from vlsm_helpers import doctor
    from vlsm_helpers.data.registry import DATASETS

    names, counts = Column("name", no_wrap=True), Column("train/val/test", no_wrap=True)
    table = Table(names, "images of", "target", counts, "here", box=None, padding=(0, 2, 0, 0))
    for card in DATASETS.values():
        entries = "/".join(map(str, card.entries.values()))
        table.add_row(card.name, card.modality, card.target, entries, doctor.availability(card))
    console = Console(highlight=False)
    console.print(table, "")
    for card in DATASETS.values():
        if not card.is_phantom:
            console.print(f"[bold]{card.name}[/]: {card.terms} {card.home}")
    console.print()
    console.print("`vlsm data prepare NAME` prepares one.", style="dim")


@data.command("prepare")
def prepare_dataset(
    name: DatasetName,
    source: Annotated[
        Path | None,
        typer.Option("--from", metavar="PATH", help="The archive or folder its authors publish; else fetched."),
    ] = None,
    splits: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="A copy of the MedVLSM benchmark's splits; else fetched.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--to", metavar="FOLDER", help="What holds the datasets.", show_default="VLSM_DATA")
    ] = None,
) -> None:
    """Bring a dataset into the course's layout: download, verify, convert the masks, add splits and prompts."""
    from vlsm_helpers.data.prepare import prepare

    typer.echo(prepare(name, source=source, splits=splits, folder=folder))


@data.command("check")
def check_dataset(
    name: DatasetName,
    folder: Annotated[
        Path | None, typer.Option("--in", metavar="FOLDER", help="What holds the datasets.", show_default="VLSM_DATA")
    ] = None,
) -> None:
    """Look at every image and mask of a dataset; status 1 where something must be mended."""
    from vlsm_helpers.data.checks import check

    report = check(name, folder=folder)
    typer.echo(report)
    if not report.ok:
        raise typer.Exit(1)


@app.command()
def train(
    member: Annotated[str, typer.Argument(metavar="MEMBER", help="A segmenter, such as unet_d.")],
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="Its images; `vlsm data list` shows them.")],
    run: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The run's folder in VLSM_RUNS.", show_default="told by its settings"),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="ours (a CNN), features (a decoder on frozen encoders), finetune (encoders too), finetune_gently (large "
            "encoders), or the authors' (published).",
            show_default="what fits the member",
        ),
    ] = None,
    parts: Annotated[
        str | None,
        typer.Option(
            "--train",
            metavar="WHAT",
            help="What of a vision-language segmenter learns: decoder, encoders (both), or, of clipseg, lora.",
            show_default="decoder",
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="Its pretrained weights: a folder, a hub id or tiny.", show_default="the profile's"),
    ] = None,
    warm_start: Annotated[
        bool | None,
        typer.Option(
            "--warm-start/--no-warm-start",
            help="Whether biomedclipseg's decoder starts from clipseg's.",
            show_default="warm",
        ),
    ] = None,
    size: Annotated[
        int | None, typer.Option(help="Pixels a side of the training images.", show_default="the profile's")
    ] = None,
    width: Annotated[
        float | None, typer.Option(help="UNet-D's channels times this.", show_default="the profile's")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="At most so many.", show_default="the recipe's")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images a step.", show_default="the recipe's")] = None,
    limit: Annotated[int | None, typer.Option(help="Training images, at most.", show_default="all")] = None,
    prompt: Annotated[str | None, typer.Option(help="The prompt's key, p0 to p9.", show_default="p1")] = None,
    seed: Annotated[int, typer.Option(help="Of weights, order and augmentation.")] = 0,
) -> None:
    """Train a segmenter, choose its best epoch on the val split and score the test split.

    A run that was stopped goes on when the same command is given again.
    """
    from vlsm_helpers.results import readable
    from vlsm_helpers.runs import evaluate_run, train_member

    options = dict(run=run, recipe=recipe, size=size, epochs=epochs, batch_size=batch_size, limit=limit, prompt=prompt)
    options |= dict(warm_start=warm_start, train=parts, weights=weights, width=width)
    given = {name: value for name, value in options.items() if value is not None}
    folder = train_member(member, dataset, seed=seed, **given)
    typer.echo(readable(evaluate_run(folder)).to_string(index=False))
    typer.echo(folder)


@app.command()
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

    `vlsm evaluate fusion.json PREDICTION PREDICTION` scores members' predictions fused by the weights in fusion.json.
    """
    from vlsm_helpers.results import readable

    if predictions or run.endswith(".json"):
        table = _evaluated_fusion(Path(run), predictions or [], split or dataset)
    else:
        folder = _run_folder(run)
        from vlsm_helpers.runs import evaluate_run

        table = evaluate_run(folder, split=split or "test", dataset=dataset)
    typer.echo(readable(table).to_string(index=False))


@app.command()
def predict(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's name in VLSM_RUNS, or its folder.")],
    split: Annotated[list[str] | None, typer.Option(help="Give it for each split.", show_default="val, test")] = None,
    dataset: Annotated[
        str | None, typer.Option(metavar="NAME", help="Another dataset.", show_default="its own")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="What the member is called when it is fused.", show_default="as it was built")
    ] = None,
) -> None:
    """Write a trained run's logits to its folder, so that fusing it with others loads no network."""
    folder = _run_folder(run)
    from vlsm_helpers.runs import predict_run

    for one in split or ["val", "test"]:
        typer.echo(predict_run(folder, one, dataset, name))


@app.command("doctor")
def examine() -> None:
    """Show what this machine offers: versions, device, folders, datasets, weights, and the profile `auto` picks."""
    from rich.console import Console

    from vlsm_helpers import doctor

    console = Console()
    problems = doctor.report(console)
    for problem in problems:
        console.print(f"[red]✗[/] {problem}")
    if problems:
        raise typer.Exit(1)


def _evaluated_fusion(weights: Path, predictions: list[Path], chosen: str | None):
    """The table of a fusion. Raises CourseError for a split or a dataset, which the predictions have already."""
    if chosen:
        mend = "leave --split and --dataset out, and name the predictions of that split."
        raise CourseError(f"{chosen!r} cannot be chosen: predictions are of one dataset and one split.", mend=mend)
    from vlsm_helpers.fusion.weighted import evaluate_fusion

    return evaluate_fusion(weights, predictions)


def _run_folder(run: str) -> Path:
    """The folder of the run named so, or given by its path. Raises CourseError, naming the runs, where it is not."""
    from vlsm_helpers.settings import runs_folder

    folder = Path(run) if Path(run).is_dir() else runs_folder() / run
    if not folder.is_dir():
        names = sorted(path.parent.name for path in runs_folder().glob("*/metrics.csv"))
        mend = f"choose among {', '.join(names)}." if names else "train one first: `vlsm train unet_d DATASET`."
        raise CourseError(f"There is no run {run!r}.", where=runs_folder(), mend=mend)
    return folder
