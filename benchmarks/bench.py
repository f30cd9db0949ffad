"""All timings of the package: `python -m benchmarks.bench [SECTION ...]`, on two quiet cores.

Alternatives take turns in one run; medians are reported. Writes bench.json and bench.md next to this file; sections that are
not given keep their rows. With --tiny a dry run of the program, whose figures mean nothing.

Sections: start (importing, answering), pixels (decoding, augmenting), waiting (time that the light CNN waits for data), models
(a training step and an inference of each at full size, and their share of what this machine computes at most; models/NAME for
one of them), layouts (of memory, for a training step of UNet-D), memory (of ensemble A at batch 8), numbers (bfloat16 and
torch.compile: time saved, change in Dice), caches (an epoch, whole trainings), fusion (the exhaustive search), explorer (a
slider), notebooks (the course, each in a separate process).
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader

from benchmarks import features, limits, precision, weight_search, wirings
from benchmarks.rows import HERE
from benchmarks.sections import keep
from benchmarks.timing import in_a_process, interleaved, rows
from tools import rehearse
from tools.random_checkpoints import write_biomedclip, write_clip_rn50, write_clipseg
from vlsm_helpers import settings
from vlsm_helpers.course import shipped
from vlsm_helpers.course.runner import find_notebooks
from vlsm_helpers.data.dataset import SegmentationDataset
from vlsm_helpers.data.images import read_image, read_mask
from vlsm_helpers.data.pixel_cache import square_image, square_mask
from vlsm_helpers.data.samples import load_split
from vlsm_helpers.models.unet_d import UNetD
from vlsm_helpers.settings.profiles import PROFILES
from vlsm_helpers.training.acceleration import training_layout
from vlsm_helpers.training.feature_cache import VIEWS
from vlsm_helpers.training.loop import segmentation_loss
from vlsm_helpers.training.recipes import DECODER_ONLY
from vlsm_helpers.widgets.fusion_model import LARGEST_SIDE, FusedDice, Scale

THREADS = 2
MODELS = "models"  # stands for the sections of all models
FILLED = "from the cache, filling included"
Given = argparse.Namespace


def start(given: Given) -> list[dict]:
    """Seconds to start Python, the package and the command."""
    commands = {
        "python alone": ["-c", "pass"],
        "import vlsm_helpers": ["-c", "import vlsm_helpers"],
        "vlsm --help": ["-m", "vlsm_helpers", "--help"],
        "import of what trains": ["-c", "import vlsm_helpers.training.loop"],
    }
    ways = {
        name: partial(subprocess.run, [sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
        for name, words in commands.items()
    }
    wanted = {"import vlsm_helpers": "under 0.3 s", "vlsm --help": "under 0.5 s"}
    return rows("start", interleaved(ways, given.rounds), wanted)


def pixels(given: Given) -> list[dict]:
    """Seconds of 32 images: from their files, from the memory-mapped store, and with augmentation."""
    samples = load_split(given.dataset, "train")[:32]
    size = 64 if given.tiny else 352
    plain, augmented = (SegmentationDataset(samples, size, augment=augment) for augment in (False, True))

    def from_files() -> None:
        for sample in samples:
            square_image(read_image(sample.image), size)
            square_mask(read_mask(sample.mask), size)

    ways = {
        "decoded and resized from files": from_files,
        "from the memory-mapped store": lambda: [plain[k] for k in range(len(plain))],
        "from the store, augmented": lambda: [augmented[k] for k in range(len(augmented))],
    }
    return rows(f"{len(samples)} images of {given.dataset} at {size} px", interleaved(ways, given.rounds))


def waiting(given: Given) -> list[dict]:
    """The time of an epoch of the light CNN at the tiny profile: in the loader and in the network."""
    profile = PROFILES["tiny"]
    samples = load_split(given.dataset, "train")[: 16 if given.tiny else 400]
    loader = DataLoader(
        SegmentationDataset(samples, profile.image_size, augment=True), profile.batch_size, shuffle=True
    )
    network, loss_of = UNetD(profile.unet_width).to(memory_format=torch.channels_last), segmentation_loss()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    spent = {"the network": [], "waiting for images": []}
    for _ in range(given.rounds + 1):
        epoch, begin = dict.fromkeys(spent, 0.0), time.perf_counter()
        for batch in loader:
            arrived = time.perf_counter()
            images = batch["image"].contiguous(memory_format=torch.channels_last)
            loss_of(network(images, batch["prompt"]), batch["mask"]).backward()
            optimizer.step()
            optimizer.zero_grad()
            done = time.perf_counter()
            epoch["waiting for images"] += arrived - begin
            epoch["the network"] += done - arrived
            begin = done
        for name, seconds in epoch.items():
            spent[name].append(seconds)
    spent = {name: values[1:] for name, values in spent.items()}
    share = np.median(np.array(spent["waiting for images"]) / np.sum(list(spent.values()), axis=0))
    found = rows(f"an epoch of UNet-D, {len(samples)} images of {given.dataset}", spent)
    found[1]["wanted"] = f"under 10 % of the epoch: {share:.1%}"
    return found


def model(name: str, given: Given) -> list[dict]:
    """A training step and an inference of a model, ours against the published implementation, and the limit.

    Where ours stays under 40 % of the limit, the operators that take the time are named.
    """
    found = []
    with random_weights(given.tiny) as folder:
        for kind, ways in wirings.measured(name, folder, given.tiny, given.rounds, given.batch).items():
            label = f"{kind} of {name}, {wirings.MODELS[name]} px, batch {given.batch}"
            made = rows(label, {way: one.seconds for way, one in ways.items()}, WANTED.get((kind, name)))
            for row, one in zip(made, ways.values(), strict=True):
                row |= {"gigaflop": one.work.total / 1e9, "share": one.share}
                if one.share < limits.ENOUGH and row["way"] != wirings.PUBLISHED:
                    row["wanted"] = f"{row['wanted']} most time in {limits.slowest_operators(one.call)}".strip()
            found += made + _rates(label, next(iter(ways.values())).rates)
    return found


def _rates(label: str, rates: dict[str, float]) -> list[dict]:
    """The limit in float32 that was measured in the same rounds."""
    return [
        {"what": label, "way": way, "wanted": f"{rate / 1e9:.0f} GFLOP/s", "share": 1.0} for way, rate in rates.items()
    ]


WANTED = {
    (wirings.STEP, "ensemble_a"): {wirings.DECODER_ONLY: "1.5 times as fast"},
    (wirings.INFERENCE, "ensemble_a"): {wirings.IMAGES: "1.3 times as fast"},
    **{(kind, wirings.EQUAL): {wirings.IMAGES: "1.3 times as fast"} for kind in (wirings.STEP, wirings.INFERENCE)},
}


def layouts(given: Given) -> list[dict]:
    """A training step of UNet-D in both memory layouts; the one that `fit` chooses on this CPU is named."""
    found = []
    for width, size, batch in ((1 / 8, 128, 8), (1, 128, 2), (1, 224, 2))[: 1 if given.tiny else 3]:
        ways = {}
        for name, layout in LAYOUTS.items():
            model = UNetD(width).to(memory_format=layout).train()
            images = torch.rand(batch, 3, size, size).contiguous(memory_format=layout)
            ways[name] = partial(wirings.training_step, model, partial(model, images, ""), wirings.optimizer_of(model))
        chosen = training_layout(model, size, "cpu")
        wanted = {name: "chosen" for name, layout in LAYOUTS.items() if layout == chosen}
        found += rows(f"training step of UNet-D, width {width:g}, {size} px", interleaved(ways, given.rounds), wanted)
    return found


LAYOUTS = {"channels last": torch.channels_last, "contiguous": torch.contiguous_format}


def memory(given: Given) -> list[dict]:
    """Peak resident memory, in GB, of two training steps of ensemble A at batch 8, each way in a separate process."""
    found = []
    with random_weights(given.tiny) as folder:
        for way in wirings.ways_of("ensemble_a"):
            measured = wirings.peak_in_a_process("ensemble_a", way, folder, given.tiny, batch=8)
            found.append({"what": "peak memory of ensemble A, batch 8", "way": way, "gigabytes": measured["gigabytes"]})
    for row in found:
        row["times"] = found[0]["gigabytes"] / row["gigabytes"]
    found[-1]["wanted"] = "under that of the published wiring"
    return found


def numbers(given: Given) -> list[dict]:
    """Bfloat16 and torch.compile: a training step of UNet-D, and the change in Dice of trained members."""
    full = PROFILES["tiny" if given.tiny else "full"]
    found = precision.steps(PROFILES["tiny"], 8, given.rounds) + precision.steps(full, 4, given.rounds)
    images, epochs = (10, 1) if given.tiny else (100, 15)
    return found + list(precision.dice(given.dataset, images, epochs, given.rounds))


@contextmanager
def random_weights(tiny: bool) -> Iterator[Path]:
    """A folder with random weights of all encoders in the published formats; those of full size stay in the cache folder."""
    if not tiny:
        folder = settings.cache_folder() / "random_weights"
        rehearse.random_weights(folder)
        yield folder
        return
    with tempfile.TemporaryDirectory() as folder:
        for write in (write_biomedclip, write_clipseg, write_clip_rn50):
            write(Path(folder) / write.__name__.removeprefix("write_"), tiny=True)
        yield Path(folder)


def caches(given: Given) -> list[dict]:
    """An epoch of BiomedCLIPSeg's decoder with and without cached features, and whole trainings with filling the cache."""
    with tempfile.TemporaryDirectory() as folder:
        write_biomedclip(Path(folder) / "biomedclip", tiny=given.tiny)
        images = 8 if given.tiny else 96
        measured = features.seconds(Path(folder) / "biomedclip", given.dataset, images, given.rounds)
    wanted = {features.CACHED: "10 times as fast"}
    found = rows(f"an epoch, seconds per image, {images} images", measured.epochs, wanted)
    recomputed, kept = (np.median(measured.epochs[way]) for way in (features.COMPUTED, features.CACHED))
    for epochs in (10, 24, DECODER_ONLY.epochs):
        chosen = replace(DECODER_ONLY, epochs=epochs).views(VIEWS)
        for views in sorted({chosen, VIEWS}):
            taken = {"recomputed": [epochs * recomputed], FILLED: [views * measured.making + epochs * kept]}
            label = f"{epochs} epochs, seconds per image, {views} view{'s' * (views > 1)} cached"
            most = f"at most {epochs / views:.3g} times, as {views} of {epochs} encodings remain"
            found += rows(label, taken, {FILLED: "4 times as fast, chosen" if views == chosen else most})
    encoder = {"what": "encoding, of what fills a cache", "way": "BiomedCLIP", "share": measured.encoding}
    return [*found, encoder]


def fusion(given: Given) -> list[dict]:
    """The exhaustive search of the weights of three members."""
    shape = (10, 32) if given.tiny else (weight_search.IMAGES, weight_search.SIZE)
    found = weight_search.measure("synthetic", weight_search.correlated_members(*shape), given.rounds)
    return [
        {
            "what": f"exact search, three members, {row['images']} images of {row['size']} px",
            "way": row["rule"],
            "seconds": row["median"],
            "fastest": row["fastest"],
            "slowest": row["slowest"],
            "wanted": "under 2 s",
        }
        for row in found
    ]


def explorer(given: Given) -> list[dict]:
    """A move of a slider: the Dice of a split of 100 images at 176 px, and the explorer's images, for the shipped split."""
    from vlsm_helpers.widgets import FusionExplorer

    shape = (10, 32) if given.tiny else (100, LARGEST_SIDE)
    members = weight_search.correlated_members(*shape)
    dice, scale = FusedDice(members.logits, members.masks), Scale("probabilities", 1.0, 0.5)
    shown = FusionExplorer(shipped.tiny_store("val"))
    weights = iter(np.tile(np.linspace(0.1, 0.8, 15), 1000))
    names = iter(list(shown.weights) * 10_000)

    def weight() -> None:
        one = next(weights)
        dice(scale, [[one, 0.9 - one, 0.1]])

    def redraw() -> None:
        shown.weights[next(names)].value = round(next(weights), 2)

    ways = {f"Dice of {shape[0]} images of {shape[1]} px": weight, "all figures redrawn": redraw}
    wanted = dict(zip(ways, ("under 50 ms", "under 100 ms"), strict=True))
    return rows("a slider, three members", interleaved(ways, 10 * given.rounds), wanted)


def notebooks(given: Given) -> list[dict]:
    """Each notebook at the tiny profile, alone and with empty runs: seconds and the peak memory of its processes."""
    found = []
    for path in find_notebooks(["00*"] if given.tiny else ["*"]):
        with tempfile.TemporaryDirectory() as folder:
            measured = in_a_process("benchmarks.timing", path.stem, folder)
        found.append({"what": "the course at the tiny profile", "way": path.stem} | measured)
    if not given.tiny:
        whole = sum(row["seconds"] for row in found)
        found.append(
            {"what": "the course at the tiny profile", "way": "all", "seconds": whole, "wanted": "under 600 s"}
        )
    return found


SECTIONS: dict[str, Callable[[Given], list[dict]]] = {
    "start": start,
    "pixels": pixels,
    "waiting": waiting,
    **{f"{MODELS}/{name}": partial(model, name) for name in wirings.MODELS},
    "layouts": layouts,
    "memory": memory,
    "numbers": numbers,
    "caches": caches,
    "fusion": fusion,
    "explorer": explorer,
    "notebooks": notebooks,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the given sections; both files are written after each of them."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument(
        "sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}, {MODELS}; default all"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--dataset", default=settings.DEFAULT_DATASET, help="dataset of the sections pixels, waiting and caches"
    )
    parser.add_argument("--batch", type=int, default=wirings.BATCH, help="images of a batch in the section models")
    parser.add_argument("--tiny", action="store_true", help="a quick dry run")
    parser.add_argument(
        "--out", type=Path, help="by default bench.json next to this file; with --tiny a temporary file"
    )
    given = parser.parse_args(arguments)
    if MODELS in given.sections:
        given.sections = [name for name in SECTIONS if name in given.sections or name.startswith(MODELS)]
    if unknown := set(given.sections) - set(SECTIONS):
        parser.error(f"unknown section {', '.join(sorted(unknown))}")
    out = given.out or (Path(tempfile.mkdtemp()) if given.tiny else HERE) / "bench.json"
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    for name in given.sections or SECTIONS:
        print(keep(out, name, SECTIONS[name](given), given.rounds, SECTIONS), flush=True)


if __name__ == "__main__":
    main()
