"""The `vlsm` command. What a command needs is imported inside it: `vlsm --help` answers at once."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

from vlsm_helpers.cli.data import data
from vlsm_helpers.cli.ensemble import ensembles
from vlsm_helpers.cli.options import LARGEST_SEED
from vlsm_helpers.cli.runs import runs
from vlsm_helpers.cli.segment import segments
from vlsm_helpers.errors import CourseError


class Commands(TyperGroup):
    """Commands whose CourseErrors are printed without a traceback, with exit status 1, whatever the terminal can show."""

    def invoke(self, ctx):
        """Run the command that `ctx` holds."""
        # On Windows, a file or a pipe takes cp1252: a ✗ or a Chinese name is no crash.
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="replace")
        try:
            return super().invoke(ctx)
        except CourseError as error:
            typer.echo(f"vlsm: {error}", err=True)
            raise typer.Exit(1) from None
        except KeyboardInterrupt as stop:
            typer.echo(f"\nvlsm: stopped; what is finished is kept. {stop}".rstrip(), err=True)
            raise typer.Exit(130) from None


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
    help="Segment medical images with vision-language models and ensembles of them. Not for clinical use.",
    epilog="Folders: VLSM_DATA holds datasets, VLSM_RUNS what training writes, VLSM_CACHE what is computed once.",
)


@app.command()
def run(
    notebooks: Annotated[
        list[str] | None,
        typer.Argument(metavar="NOTEBOOKS", help="Globs such as '03*'; without one, all of them.", show_default=False),
    ] = None,
    profile: Annotated[
        ProfileName | None, typer.Option(help="tiny: minutes on a laptop; full: needs a GPU and the published weights.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(metavar="NAME", help="A dataset in place of the phantoms.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, max=LARGEST_SEED, help="Of everything that is random.")] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="The report's folder.", show_default="runs/course")
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Notebooks run at once.",
            show_default="one per core, 4 at most; 1 on a GPU or at full",
        ),
    ] = None,
) -> None:
    """Run the course's notebooks and write a report: index.html, results.csv, pictures.

    Defaults come from VLSM_PROFILE, VLSM_DATASET and VLSM_SEED.

    A notebook that fails does not stop the others; the command then ends with status 1.
    """
    from vlsm_helpers.course import report, results, runner

    executed = runner.run_course(
        notebooks or ("*",),
        profile=profile and profile.value,
        dataset=dataset,
        seed=seed,
        output=output,
        jobs=jobs,
        exporter="vlsm_helpers.widgets.export.ExplorableHTML",  # imported when the first notebook is done
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


app.add_typer(data, name="data")
app.add_typer(runs)
app.add_typer(ensembles)
app.add_typer(segments)


@app.command("doctor")
def examine() -> None:
    """Show what this machine offers: versions, device, folders, datasets, weights, and the profile `auto` picks."""
    from rich.console import Console

    from vlsm_helpers.cli import doctor

    console = Console()
    problems = doctor.report(console)
    for problem in problems:
        console.print(f"[red]✗[/] {problem}")
    if problems:
        raise typer.Exit(1)
