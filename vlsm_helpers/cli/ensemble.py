"""`vlsm ensemble`: an ensemble from a dataset."""

from pathlib import Path
from typing import Annotated

import typer

from vlsm_helpers.cli.options import BatchSize, Epochs, Limit, Seed
from vlsm_helpers.errors import CourseError

ensembles = typer.Typer()


@ensembles.command()
def ensemble(
    dataset: Annotated[
        str, typer.Argument(metavar="DATASET", help="Its images; `vlsm data adopt` makes one of yours.")
    ],
    save: Annotated[Path, typer.Option(metavar="FOLDER", help="A new folder for the trained ensemble.")],
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    limit: Limit = None,
    seed: Seed = 0,
    member: Annotated[
        list[str] | None,
        typer.Option(help="Give it for each member.", show_default="all four; without ImageNet weights three"),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(min=3, help="Also cross-validate with so many folds, for a small dataset.", show_default="none"),
    ] = None,
) -> None:
    """Train members separately, fuse them by weights from val, score test, save with a model card.

    Beside the scores stand those of an empty prompt, which show whether the prompt is used, and of the mean training mask.

    The members: CLIPSeg, BiomedCLIPSeg, UNet-D, and unet_imagenet, a light CNN that starts from ImageNet, where its weights
    are on this machine. Stopped, it resumes when the same command is given again: what is trained is kept in ensembles/ in
    the runs folder.

    --folds 5 scores a small dataset more reliably: all its images are dealt to five folds, groups whole; in each of five
    rounds one fold is tested, the next one is val, the others are train. Every image is tested once, and training takes six
    times as long. The saved ensemble is the same as without folds: trained on the train split, fused on val. The model card
    has both scores.
    """
    if save.exists():
        raise CourseError("There is something here already.", where=save, hint="name a new folder.")
    from vlsm_helpers.io.atomic import require_writable

    require_writable(save, hint="name a folder elsewhere with --save.")  # before hours of training, not after
    from vlsm_helpers.experiments import prompt_effect
    from vlsm_helpers.experiments.late_ensemble import train_ensemble
    from vlsm_helpers.experiments.members import left_out, members_for
    from vlsm_helpers.experiments.table import readable

    members = member or members_for(dataset)
    missing = "" if member else left_out(members)
    typer.echo(f"Members: {', '.join(members)}." + (f"\n{missing}" if missing else ""))
    options = {"seed": seed, "epochs": epochs, "batch_size": batch_size, "limit": limit, "members": members}
    rounds = _cross_validated(dataset, folds, options) if folds else ""
    trained = train_ensemble(dataset, **options)
    shown = readable(trained.table())[["model", "Dice, %", "± over images", "95 % interval", "images"]]
    typer.echo(f"\n{shown.to_string(index=False)}")
    weights = ", ".join(f"{name} {weight:.2f}" for name, weight in trained.fusion.weights.items())
    typer.echo(f"\nWeights: {weights}.")
    if trained.warning:
        typer.echo(f"\n{trained.warning}", err=True)
    remarks = "\n\n".join(filter(None, [prompt_effect.in_words(trained), rounds]))
    typer.echo(f"\n{remarks}")
    typer.echo(f"\n{trained.save(save, remarks)}: use it by `vlsm segment IMAGE --with {save} --to FOLDER`")


def _cross_validated(dataset: str, folds: int, options: dict) -> str:
    """The scores of a cross-validation, Markdown."""
    from vlsm_helpers.experiments.cross_validation import cross_validate

    return cross_validate(dataset, folds, report=typer.echo, **options).in_words()
