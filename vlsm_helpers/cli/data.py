"""`vlsm data`: the datasets, which there are, preparing one, checking one."""

from pathlib import Path
from typing import Annotated

import typer

from vlsm_helpers.cli.options import (
    AdoptedImages,
    AdoptedMasks,
    Alike,
    Axis,
    DataFolder,
    Every,
    Foreground,
    Group,
    KeyTable,
    Labels,
    MaskName,
    MergeMasks,
    Modality,
    Noun,
    Window,
    given,
)

data = typer.Typer(no_args_is_help=True, help="The datasets: which there are, preparing one, checking one.")

DatasetName = Annotated[str, typer.Argument(metavar="NAME", help="A dataset; `vlsm data list` shows them.")]


@data.command("list")
def list_datasets() -> None:
    """Show the datasets that the course knows, which of them are prepared here, and their terms of use."""
    from rich.console import Console
    from rich.table import Column, Table

    from vlsm_helpers.data.registry import DATASETS, availability, own_datasets

    names, counts = Column("name", no_wrap=True), Column("train/val/test", no_wrap=True)
    table = Table(names, "images of", "target", counts, "here", box=None, padding=(0, 2, 0, 0))
    for card in DATASETS.values():
        entries = "/".join(map(str, card.entries.values()))
        table.add_row(card.name, card.modality, card.target, entries, availability(card))
    for name in own_datasets():
        table.add_row(name, "", "", "", "your own")
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
    folder: DataFolder = None,
) -> None:
    """Bring a dataset into the course's layout: download, verify, convert the masks, add splits and prompts."""
    from vlsm_helpers.data.public.prepare import prepare

    typer.echo(prepare(name, source=source, splits=splits, folder=folder))


@data.command("check")
def check_dataset(
    name: DatasetName,
    folder: Annotated[
        Path | None, typer.Option("--in", metavar="FOLDER", help="What holds the datasets.", show_default="VLSM_DATA")
    ] = None,
) -> None:
    """Check every image and mask of a dataset; exit status 1 if there are errors."""
    from vlsm_helpers.data.checks import check

    report = check(name, folder=folder)
    typer.echo(report)
    if not report.ok:
        raise typer.Exit(1)


@data.command("adopt")
def adopt_dataset(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name of the new dataset.")],
    images: AdoptedImages,
    masks: AdoptedMasks,
    noun: Noun = None,
    labels: Labels = None,
    modality: Modality = None,
    group: Group = None,
    alike: Alike = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the split.")] = 0,
    foreground: Foreground = None,
    mask_name: MaskName = None,
    merge_masks: MergeMasks = False,
    window: Window = None,
    axis: Axis = None,
    every: Every = None,
    key: KeyTable = None,
    folder: DataFolder = None,
) -> None:
    """Make a dataset of your own images and masks: checked, split by patient so that nothing leaks, with prompts."""
    from vlsm_helpers.data.formats import Reading, as_window
    from vlsm_helpers.data.own import adopt

    reading = Reading(**given(window=window and as_window(window), axis=axis, every=every))
    options = {"modality": modality, "group": group, "seed": seed, "folder": folder, "reading": reading}
    options |= given(labels=labels, key=key, foreground=foreground, mask_name=mask_name, alike=alike)
    adopted = adopt(name, images, masks, noun, **options, **given(merge_masks=merge_masks or None))
    typer.echo(adopted)
    where = f"VLSM_DATA={folder} " if folder else ""
    typer.echo(f"\nTrain on it: {where}vlsm ensemble {name} --save FOLDER")
