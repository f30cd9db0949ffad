"""`vlsm segment`: masks of new images, from a saved ensemble, a trained run, or CLIPSeg zero-shot."""

import glob
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlsm_helpers.cli.options import Every, given
from vlsm_helpers.errors import CourseError

if TYPE_CHECKING:
    import pandas as pd

segments = typer.Typer()
SHOWN = 10  # rows of a table
SHOWN_COLUMNS = ["image", "foreground", "uncertainty", "disagreement"]


Images = Annotated[
    list[str],
    typer.Argument(metavar="IMAGE", help="Files, folders or globs: pictures, DICOM, NIfTI, video.", show_default=False),
]
Model = Annotated[
    str,
    typer.Option(
        "--with", metavar="MODEL", help="What `vlsm ensemble` saved; a run; or zero-shot: clipseg, a folder, a hub id."
    ),
]
Prompts = Annotated[
    list[str] | None,
    typer.Option(
        help="The target, in words. Give it for each of several targets.", show_default="that of its training"
    ),
]
Output = Annotated[Path, typer.Option("--to", metavar="FOLDER", help="The folder for masks.")]
Forms = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FORM,...", help="Write masks also as coco (JSON), dicom-seg or nifti.", show_default="PNG alone"
    ),
]
Window = Annotated[
    str | None,
    typer.Option(metavar="CENTER,WIDTH", help="Of DICOM and NIfTI intensities.", show_default="as in its training"),
]
Axis = Annotated[
    str | None,
    typer.Option(metavar="axial|coronal|sagittal", help="How volumes are sliced.", show_default="as in its training"),
]


@segments.command()
def segment(
    images: Images,
    model: Model,
    prompt: Prompts = None,
    output: Output = Path("segmented"),
    also: Forms = None,
    window: Window = None,
    axis: Axis = None,
    every: Every = None,
) -> None:
    """Write a mask, an overlay and the uncertainty of each image, and a table of them all. Not for clinical use.

    Of several prompts, each gives a mask NAME_PROMPT.png, and NAME_labels.png holds them in one map, numbered from 1 in the
    order of the prompts.

    Files of others are not overwritten. Stopped, it resumes when the same command is given again. An image that cannot be
    read does not stop the others; the command then ends with status 1.
    """
    if output.exists() and not output.is_dir():
        raise CourseError("This is a file.", where=output, hint="name a folder for the masks.")
    files = _files(images, output)
    from vlsm_helpers.cli.sources import predictor_from
    from vlsm_helpers.data.formats import as_window
    from vlsm_helpers.inference.batch import open_frames, segment_files
    from vlsm_helpers.inference.exports import check_forms, export

    forms = [form for one in also or [] for form in one.split(",")]
    check_forms(forms, files, output)
    predictor = predictor_from(model, prompted=bool(prompt))
    chosen = given(window=window and as_window(window), axis=axis, every=every)
    predictor.reading = replace(predictor.reading, **chosen)
    prompts = prompt or [predictor.prompt]
    if predictor.trained_on and (untested := [text for text in prompts if text not in predictor.trained_on]):
        shown, words = (", ".join(map(repr, texts)) for texts in (predictor.trained_on[:3], untested))
        what = f"It was trained and scored with the prompt {shown}; other words were not tested: {words}."
        typer.echo(what, err=True)
    table, broken = segment_files(predictor, files, output, prompts)
    _show(table, prompts, output)
    written, failed = export(forms, open_frames(files, predictor.reading)[0] if forms else [], output, prompts)
    for path in written[:SHOWN]:
        typer.echo(path)
    for error in broken + failed:
        typer.echo(f"vlsm: {error}", err=True)
    if broken or failed:
        raise typer.Exit(1)


def _show(table: "pd.DataFrame", prompts: list[str], output: Path) -> None:
    """Print the first rows, and where all of them are."""
    if len(table):
        columns = SHOWN_COLUMNS if len(prompts) == 1 else ["image", "prompt", *SHOWN_COLUMNS[1:]]
        typer.echo(table.head(SHOWN)[columns].to_string(index=False))
    if len(prompts) > 1 and (table.groupby("image")[["area_px", "uncertainty"]].nunique() == 1).all(axis=None):
        typer.echo("All prompts gave the same masks: CNNs ignore the prompt.", err=True)
    more = f"{len(table) - SHOWN} more rows in " if len(table) > SHOWN else ""
    typer.echo(f"{more}{output / 'segmented.csv'}")


def _files(images: list[str], output: Path) -> list[Path]:
    """The files that are meant: of a folder those that can be read, without what was written to `output`; of a glob its matches.

    A file that is named twice counts once. Raises CourseError for what is not there.
    """
    from vlsm_helpers.data.files import image_paths

    found = []
    for name in images:
        path = Path(name)
        if path.is_dir():
            found += [file for file in image_paths(path) if output.absolute() not in file.absolute().parents]
        elif path.exists():
            found.append(path)
        elif matches := sorted(glob.glob(name, recursive=True)):  # where the shell has not expanded it
            found += [Path(match) for match in matches if not Path(match).is_dir()]
        else:
            raise CourseError("There is no such file.", where=name, hint="check the folder and the ending.")
    return list(dict.fromkeys(path.absolute() for path in found))
