"""`vlsm data`: the datasets, which there are, preparing one, checking one."""

from pathlib import Path
from typing import Annotated

import typer

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
    folder: Annotated[
        Path | None, typer.Option("--to", metavar="FOLDER", help="What holds the datasets.", show_default="VLSM_DATA")
    ] = None,
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
    images: Annotated[
        Path,
        typer.Argument(
            metavar="IMAGES", help="The folder of pictures, DICOM, NIfTI or video files, or of one folder per patient."
        ),
    ],
    masks: Annotated[Path, typer.Argument(metavar="MASKS", help="The folder of the masks, named as the images.")],
    noun: Annotated[str, typer.Option(help="What the masks show, such as tumor: it becomes the prompt.")],
    modality: Annotated[
        str | None, typer.Option(help="What the images are, such as breast ultrasound.", show_default="none")
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(
            metavar="REGEX",
            help="Which images belong together, by their names: the first bracket is the patient, as in ^(patient[0-9]+).",
            show_default="DICOM's patient, sub-folders, files of several frames, else each image by itself",
        ),
    ] = None,
    alike: Annotated[
        float | None,
        typer.Option(
            help="Near-duplicates above this thumbnail correlation go to one split; 1 disables this.",
            show_default="0.98",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the split.")] = 0,
    foreground: Annotated[
        str | None,
        typer.Option(
            metavar="VALUE|COLOUR|any",
            help="Foreground of the masks: values (1 or 1,2), colours (red or '#00ff00'), or all that is not black (any).",
            show_default="white, or 1, or the only colour",
        ),
    ] = None,
    mask_name: Annotated[
        str | None,
        typer.Option(
            metavar="RULE",
            help="How masks are named: '{stem}_lesion', where {stem} is the image's name without its ending; * is anything.",
            show_default="as the image, with or without _mask",
        ),
    ] = None,
    merge_masks: Annotated[
        bool, typer.Option("--merge-masks", help="Unite the masks of an image that has several.")
    ] = False,
    window: Annotated[
        str | None,
        typer.Option(
            metavar="CENTER,WIDTH",
            help="Intensities of DICOM and NIfTI files from black to white, such as 40,400.",
            show_default="the DICOM file's window, else percentiles",
        ),
    ] = None,
    axis: Annotated[
        str | None,
        typer.Option(metavar="axial|coronal|sagittal", help="How volumes are sliced.", show_default="axial"),
    ] = None,
    every: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Use each Nth frame, slice or page.", show_default="all")
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write a CSV table of which file each image was, beside your files.",
            show_default="none",
        ),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--to", metavar="FOLDER", help="What holds the datasets.", show_default="VLSM_DATA")
    ] = None,
) -> None:
    """Make a dataset of your own images and masks: checked, split by patient so that nothing leaks, with prompts."""
    from vlsm_helpers.data.formats import Reading, as_window
    from vlsm_helpers.data.own import adopt

    choices = {"window": window and as_window(window), "axis": axis, "every": every}
    reading = Reading(**{name: value for name, value in choices.items() if value is not None})
    options = {"modality": modality, "group": group, "seed": seed, "folder": folder, "reading": reading, "key": key}
    given = {"foreground": foreground, "mask_name": mask_name, "merge_masks": merge_masks or None, "alike": alike}
    options |= {key: value for key, value in given.items() if value is not None}
    adopted = adopt(name, images, masks, noun, **options)
    typer.echo(adopted)
    where = f"VLSM_DATA={folder} " if folder else ""
    typer.echo(f"\nTrain on it: {where}vlsm ensemble {name} --save FOLDER")
