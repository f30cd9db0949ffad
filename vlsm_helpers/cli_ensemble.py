"""`vlsm ensemble` and `vlsm segment`: an ensemble from a dataset, and masks from an ensemble."""

from pathlib import Path
from typing import Annotated

import typer

from vlsm_helpers.errors import CourseError

ensembles = typer.Typer()


@ensembles.command()
def ensemble(
    dataset: Annotated[
        str, typer.Argument(metavar="DATASET", help="Its images; `vlsm data adopt` makes one of yours.")
    ],
    save: Annotated[Path, typer.Option(metavar="FOLDER", help="A new folder for the trained ensemble.")],
    epochs: Annotated[int | None, typer.Option(min=1, help="Of every training.", show_default="the recipes'")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Images a step.", show_default="the recipes'")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Training images, at most.", show_default="all")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of weights, order and augmentation.")] = 0,
) -> None:
    """Train CLIPSeg, BiomedCLIPSeg and UNet-D apart, fuse them by weights from val, score test, save with a model card."""
    if save.exists():
        raise CourseError("There is something here already.", where=save, mend="name a new folder.")
    from vlsm_helpers.ensemble import train_ensemble
    from vlsm_helpers.paper_table import readable

    trained = train_ensemble(dataset, seed=seed, epochs=epochs, batch_size=batch_size, limit=limit)
    typer.echo(f"\n{readable(trained.table()).drop(columns='to fill it').to_string(index=False)}")
    typer.echo(trained.save(save))


@ensembles.command()
def segment(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE", help="Image files.")],
    ensemble: Annotated[Path, typer.Option("--with", metavar="FOLDER", help="What `vlsm ensemble` saved.")],
    prompt: Annotated[
        str | None, typer.Option(help="What to look for.", show_default="what it was trained with")
    ] = None,
    output: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="Where masks go.")] = Path("segmented"),
) -> None:
    """Write a mask, an overlay and the uncertainty of each image, and a table of them all. Not for clinical use.

    Nothing of others that is there is overwritten; stopped, it goes on when the same command is given again. An image that
    cannot be read does not stop the others; the command then ends with status 1.
    """
    from vlsm_helpers.predictor import Predictor
    from vlsm_helpers.segmenting import segment_files

    table, broken = segment_files(Predictor.load(ensemble), images, output, prompt)
    typer.echo(table.to_string(index=False))
    typer.echo(output / "segmented.csv")
    for error in broken:
        typer.echo(f"vlsm: {error}", err=True)
    if broken:
        raise typer.Exit(1)
