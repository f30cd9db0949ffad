"""Rehearse the full profile where there is no hub: `make rehearse`, or `python -m tools.rehearse '02*'`.

The notebooks run headless at PROFILE=full, with random weights of the published size and format, a handful of images and a
few steps of training. This shows that the full profile runs, how long it takes and what memory; its scores mean nothing.
"""

import json
import os
import resource
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tools.random_checkpoints import write_biomedclip, write_clip_rn50, write_clipseg, write_resnet
from vlsm_helpers import settings
from vlsm_helpers.course.executed import Executed
from vlsm_helpers.course.runner import find_notebooks, run_course
from vlsm_helpers.data.samples import SPLITS, dataset_folder, load_split, read_entries
from vlsm_helpers.errors import CourseError, DataError, WeightsError
from vlsm_helpers.models import pretrained
from vlsm_helpers.settings.published import BIOMEDCLIP, CLIP_RN50, CLIPSEG, RESNET

NOTEBOOKS = ("*",)
REAL, PHANTOMS = "kvasir_polyp", "phantom_endoscopy"
IMAGES = 8  # of each split: fewer than a batch, so that an epoch is one step
EPOCHS = 6  # chapter 3 gives the published recipe a sixth of them
WRITERS = {
    CLIPSEG: write_clipseg,
    BIOMEDCLIP: write_biomedclip,
    CLIP_RN50: write_clip_rn50,
    RESNET: write_resnet,
}


def random_weights(root: Path) -> None:
    """Write the folders of all pretrained weights to `root`, 1.5 GB in all, unless they are there and whole."""
    for kind, write in WRITERS.items():
        try:
            pretrained.check(root / kind.name, kind)
        except WeightsError:
            shutil.rmtree(root / kind.name, ignore_errors=True)
            print(f"writing random weights: {root / kind.name} ({kind.megabytes} MB)")
            write(root / kind.name)


def write_handful(folder: Path, images: int = IMAGES) -> str:
    """Write the first `images` of each split of Kvasir-SEG, or of phantoms where that is not prepared; returns its name."""
    try:
        source, name = dataset_folder(REAL), REAL
    except DataError:
        source, name = dataset_folder(PHANTOMS), "handful"
    for part in ("images", "masks", "anns"):
        (folder / name / part).mkdir(parents=True)
    for split in SPLITS:
        entries = read_entries(source / "anns" / f"{split}.json")[:images]
        (folder / name / "anns" / f"{split}.json").write_text(json.dumps(entries), encoding="utf-8")
        for sample in load_split(source.name, split, source.parent)[:images]:
            shutil.copy(sample.image, folder / name / "images")
            shutil.copy(sample.mask, folder / name / "masks")
    return name


def rehearse(patterns: tuple[str, ...], output: Path) -> list[Executed]:
    """Run the notebooks and write their report to `output`; what they cache and train is thrown away."""
    find_notebooks(patterns)  # a glob that matches nothing fails before weights and images are written
    brought = settings.cache_folder() / "random_weights"
    random_weights(brought)
    with TemporaryDirectory() as work:
        dataset = write_handful(Path(work, "data"))
        os.environ.update({f"VLSM_{name}": str(Path(work, name.lower())) for name in ("DATA", "CACHE", "RUNS")})
        os.environ.update(VLSM_WEIGHTS=str(brought), VLSM_EPOCHS=str(EPOCHS), HF_HUB_OFFLINE="1")
        return run_course(patterns, profile="full", dataset=dataset, output=output)


def peak_gigabytes() -> float:
    """The most memory that a kernel has held, resident; the system counts in KB, on macOS in bytes."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


def main(patterns: list[str]) -> int:
    """Rehearse, say what became of each notebook; the exit status."""
    try:
        executed = rehearse(tuple(patterns) or NOTEBOOKS, settings.runs_folder() / "rehearsal")
    except CourseError as error:
        print(error, file=sys.stderr)
        return 1
    for notebook in executed:
        print(
            f"{notebook.name}: {f'failed at {notebook.failure}' if notebook.failure else 'done'}, {notebook.seconds:.0f} s"
        )
    print(f"peak memory of a kernel: {peak_gigabytes():.1f} GB")
    return int(any(notebook.failure for notebook in executed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
