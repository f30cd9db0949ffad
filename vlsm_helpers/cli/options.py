"""Options of several commands, and of commands with many, each declared once."""

from pathlib import Path
from typing import Annotated

import typer


def given(**options: object) -> dict[str, object]:
    """The options that are not None."""
    return {name: value for name, value in options.items() if value is not None}


LARGEST_SEED = 2**32 - 1  # what NumPy takes

Epochs = Annotated[int | None, typer.Option(min=1, help="Maximum epochs per training.", show_default="the recipe's")]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Images per step.", show_default="the recipe's")]
Limit = Annotated[int | None, typer.Option(min=1, help="Maximum training images.", show_default="all")]
Seed = Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Of weights, order and augmentation.")]
Prompt = Annotated[str | None, typer.Option(help="The prompt's key, p0 to p9.", show_default="p1")]

# What only `vlsm train` takes.
RunName = Annotated[
    str | None,
    typer.Option("--name", metavar="NAME", help="The run's folder in VLSM_RUNS.", show_default="from its settings"),
]
OldRunName = Annotated[str | None, typer.Option("--run", hidden=True)]  # torchrun takes it for its own --run-path
RecipeName = Annotated[
    str | None,
    typer.Option(
        help="cnn, cnn_pretrained, cnn_imagenet (a light one), decoder_only (on frozen encoders), full (encoders too), "
        "full_low_lr (large encoders), full_tenth and full_light (CRIS), or published (the authors').",
        show_default="what fits the member",
    ),
]
Parts = Annotated[
    str | None,
    typer.Option(
        "--train",
        metavar="PARTS",
        help="Parts to train: decoder, encoders (plus decoder), or lora (CLIPSeg only).",
        show_default="decoder; of cris encoders",
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(help="Its pretrained weights: a folder, a hub id, ID@REVISION or tiny.", show_default="the profile's"),
]
WarmStart = Annotated[
    bool | None,
    typer.Option(
        "--warm-start/--no-warm-start",
        help="Whether biomedclipseg's decoder starts from clipseg's.",
        show_default="warm",
    ),
]
Size = Annotated[
    int | None,
    typer.Option(min=16, max=4096, help="Pixels per side of the training images.", show_default="the profile's"),
]
Width = Annotated[
    float | None, typer.Option(min=0.01, max=8, help="Factor of UNet-D's channel counts.", show_default="the profile's")
]

# What only `vlsm data adopt` takes.
AdoptedImages = Annotated[
    Path,
    typer.Argument(
        metavar="IMAGES", help="The folder of pictures, DICOM, NIfTI or video files, or of one folder per patient."
    ),
]
AdoptedMasks = Annotated[
    Path,
    typer.Argument(
        metavar="MASKS",
        help="The folder of the masks, named as the images; or annotations: COCO, LabelMe, CVAT, YOLO, DICOM-SEG.",
    ),
]
Noun = Annotated[
    str | None,
    typer.Option(help="What the masks show, such as tumor: it becomes the prompt.", show_default="the classes"),
]
Labels = Annotated[
    str | None,
    typer.Option(
        metavar="VALUE=NAME,...|FILE",
        help="Several classes: values or colours of label maps (1=polyp,2=instrument), or names in annotations (polyp=); "
        "or a CSV or JSON file.",
        show_default="one target, or the annotations' own",
    ),
]
Modality = Annotated[
    str | None, typer.Option(help="What the images are, such as breast ultrasound.", show_default="none")
]
Group = Annotated[
    str | None,
    typer.Option(
        metavar="REGEX",
        help="Which images belong together, by their names: the first bracket is the patient, as in ^(patient[0-9]+).",
        show_default="DICOM's patient, sub-folders, files of several frames, else each image by itself",
    ),
]
Alike = Annotated[
    float | None,
    typer.Option(
        help="Near-duplicates above this thumbnail correlation go to one split; 1 disables this.", show_default="0.98"
    ),
]
Foreground = Annotated[
    str | None,
    typer.Option(
        metavar="VALUE|COLOUR|any",
        help="Foreground of the masks: values (1 or 1,2), colours (red or '#00ff00'), or all that is not black (any).",
        show_default="white, or 1, or the only colour",
    ),
]
MaskName = Annotated[
    str | None,
    typer.Option(
        metavar="RULE",
        help="How masks are named: '{stem}_lesion', where {stem} is the image's name without its ending; * is anything.",
        show_default="as the image, with or without _mask",
    ),
]
MergeMasks = Annotated[bool, typer.Option("--merge-masks", help="Unite the masks of an image that has several.")]
Window = Annotated[
    str | None,
    typer.Option(
        metavar="CENTER,WIDTH",
        help="Intensities of DICOM and NIfTI files from black to white, such as 40,400.",
        show_default="the DICOM file's window, else percentiles",
    ),
]
Axis = Annotated[
    str | None, typer.Option(metavar="axial|coronal|sagittal", help="How volumes are sliced.", show_default="axial")
]
Every = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Use each Nth frame, slice or page.", show_default="all")
]
KeyTable = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Write a CSV table of which file each image was, beside your files.", show_default="none"
    ),
]
DataFolder = Annotated[
    Path | None, typer.Option("--to", metavar="FOLDER", help="What holds the datasets.", show_default="VLSM_DATA")
]
