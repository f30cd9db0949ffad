"""Options that several commands share, each declared once."""

from typing import Annotated

import typer

LARGEST_SEED = 2**32 - 1  # what NumPy takes

Epochs = Annotated[int | None, typer.Option(min=1, help="Maximum epochs per training.", show_default="the recipe's")]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Images per step.", show_default="the recipe's")]
Limit = Annotated[int | None, typer.Option(min=1, help="Maximum training images.", show_default="all")]
Seed = Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Of weights, order and augmentation.")]
Prompt = Annotated[str | None, typer.Option(help="The prompt's key, p0 to p9.", show_default="p1")]
