"""Options of the commands on runs, each declared once."""

from typing import Annotated

import typer

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
    float | None,
    typer.Option(min=0.01, max=8, help="Factor of UNet-D's channel counts.", show_default="the profile's"),
]
