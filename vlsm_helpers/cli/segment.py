"""`vlsm segment`: masks of new images from a saved ensemble."""

from pathlib import Path
from typing import Annotated

import typer

from vlsm_helpers.errors import CourseError

segments = typer.Typer()
SHOWN = 10  # rows of a table


@segments.command()
def segment(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE", help="Image files.")],
    ensemble: Annotated[Path, typer.Option("--with", metavar="FOLDER", help="What `vlsm ensemble` saved.")],
    prompt: Annotated[
        str | None, typer.Option(help="The target, in words.", show_default="the prompt of its training")
    ] = None,
    output: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="The folder for masks.")] = Path("segmented"),
) -> None:
    """Write a mask, an overlay and the uncertainty of each image, and a table of them all. Not for clinical use.

    Files of others are not overwritten. Stopped, it resumes when the same command is given again. An image that cannot be
    read does not stop the others; the command then ends with status 1.
    """
    _refuse_early(images, ensemble, output)
    from vlsm_helpers.inference.batch import segment_files
    from vlsm_helpers.inference.predictor import Predictor

    predictor = Predictor.load(ensemble)
    if prompt is not None and prompt != predictor.prompt:
        typer.echo(
            f"It was trained and scored with the prompt {predictor.prompt!r}: other words were not tested.", err=True
        )
    table, broken = segment_files(predictor, images, output, prompt)
    if len(table):
        typer.echo(table.head(SHOWN).to_string(index=False))
    more = f"{len(table) - SHOWN} more rows in " if len(table) > SHOWN else ""
    typer.echo(f"{more}{output / 'segmented.csv'}")
    for error in broken:
        typer.echo(f"vlsm: {error}", err=True)
    if broken:
        raise typer.Exit(1)


def _refuse_early(images: list[Path], ensemble: Path, output: Path) -> None:
    """Raise CourseError for what is seen to be wrong before torch is imported and a network loaded."""
    if not (ensemble / "predictor.json").is_file():
        raise CourseError(
            "There is no predictor here.", where=ensemble, hint="name a folder that `vlsm ensemble` wrote."
        )
    for path in images:
        if path.is_dir():
            raise CourseError("This is a folder.", where=path, hint=f"name its files, such as {path}/*.png.")
        if not path.exists():
            raise CourseError("There is no such file.", where=path, hint="check the folder and the ending.")
    if output.exists() and not output.is_dir():
        raise CourseError("This is a file.", where=output, hint="name a folder for the masks.")
