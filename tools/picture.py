"""Draw the README's picture, notebooks/phantoms.jpg: phantoms of every modality with the outlines of their targets."""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from vlsm_helpers.data.phantoms import render, seeds
from vlsm_helpers.data.registry import DATASETS
from vlsm_helpers.plots.images import image_grid

PICTURE = Path(__file__).resolve().parents[1] / "notebooks" / "phantoms.jpg"


def main(path: Path = PICTURE) -> None:
    """Write the picture to `path`."""
    cards = [card for card in DATASETS.values() if card.is_phantom]
    phantoms = [(card, render(card.name, seed)) for card in cards for seed in seeds(card.name, "train")[3:9]]
    figure = image_grid(
        [phantom.image for _, phantom in phantoms],
        [phantom.mask for _, phantom in phantoms],
        [f"{card.modality}: {phantom.kind}" for card, phantom in phantoms],
    )
    figure.savefig(path, dpi=100, pil_kwargs={"quality": 85, "optimize": True})


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
