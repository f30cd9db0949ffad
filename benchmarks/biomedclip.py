"""What the miniature BiomedCLIP has learned: `python -m benchmarks.biomedclip [FOLDER] [--before FOLDER]`; see biomedclip.md.

On held-out phantoms: retrieval of captions beside chance, attributes beside the commonest answer, Dice of a fresh decoder on
its frozen taps beside the miniature CLIPSeg's, the cosine of its weights to CLIPSeg's, and whether open_clip alone loads it.
FOLDER: by default the shipped miniature; --before: an earlier one to compare with. Minutes on one thread. Each measurement is
kept in biomedclip.csv with a hash of the weights, and is not repeated.
"""

import argparse
import contextlib
import hashlib
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd

from benchmarks.rows import DRAWN, HERE, SEEDS
from tools.pretrain.biomedclip import Plan
from tools.pretrain.captioned import HELD_OUT, VIEWS, Corpus, corpus, training_seeds
from tools.pretrain.captions import MODALITIES
from tools.pretrain.dense_probe import IMAGES, STEPS, VALIDATION, dense_probe
from tools.pretrain.embedder import embedder_of
from tools.pretrain.general_start import cosine_to
from tools.pretrain.probe import AMONG, ATTRIBUTES, NOUNS, embed, linear, nearest_caption, retrieval
from vlsm_helpers.experiments.table import markdown
from vlsm_helpers.models.biomedclipseg import BiomedCLIPSeg
from vlsm_helpers.models.clipseg import CLIPSeg
from vlsm_helpers.models.pretrained import BIOMEDCLIP, find
from vlsm_helpers.settings import cache_folder
from vlsm_helpers.settings.profiles import PROFILES

TINY = PROFILES["tiny"]
CLIPSEG, NOW, BEFORE = "CLIPSeg", "BiomedCLIP", "BiomedCLIP before"
TRAINING_PHANTOMS = 300  # of each modality, for the linear probe
COLUMNS = ["weights", "part", "item", "seed", "score", "value"]
PLAIN = """
import open_clip, torch
clip = open_clip.create_model("local-dir:.").eval()
tokenizer = open_clip.get_tokenizer("local-dir:.")
with torch.no_grad():
    scores = clip.encode_image(torch.zeros(1, 3, 128, 128)) @ clip.encode_text(tokenizer(["a polyp"])).T
print(type(clip).__module__, type(clip).__name__, tuple(scores.shape))
"""


class Measured:
    """The table of measurements in the CSV file `path`, one row per score."""

    def __init__(self, path: Path):
        self.path = path
        self.rows = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=COLUMNS)

    def of(self, weights: str, part: str) -> pd.DataFrame:
        """The rows of a part for these weights."""
        return self.rows[(self.rows["weights"] == weights) & (self.rows["part"] == part)]

    def ensure(self, weights: str, part: str, item: str, seed: int, scores: Callable[[], Mapping]) -> None:
        """Measure what is not there yet: `scores` gives, by item, a mapping of scores; `item` is one of them."""
        known = self.of(weights, part)
        if ((known["item"] == item) & (known["seed"] == seed)).any():
            return
        measured = [
            (weights, part, one, seed, score, round(value, 4))
            for one, own in scores().items()
            for score, value in own.items()
        ]
        more = pd.DataFrame(measured, columns=COLUMNS)
        self.rows = pd.concat([self.rows, more]) if len(self.rows) else more
        self.rows.to_csv(self.path, index=False)
        print(*measured, sep="\n", flush=True)


def fingerprint(folder: Path) -> str:
    """Twelve digits of the hash of a miniature's tensors."""
    return hashlib.sha256(BIOMEDCLIP.tensors_in(folder).read_bytes()).hexdigest()[:12]


def corpora(seeds: range, count: int | None = None) -> list[Corpus]:
    """The first `count` phantoms of `seeds` of each modality, drawn on first use."""
    drawn = [corpus(name, seeds, cache_folder() / "pretraining") for name in MODALITIES]
    rows = slice(count and count * VIEWS)
    return [replace(own, images=own.images[rows], descriptions=own.descriptions[rows]) for own in drawn]


def learned(measured: Measured, folder: Path, held_out: Sequence[Corpus], training: Sequence[Corpus]) -> None:
    """Retrieval on whole images, attributes on them and on parts of them."""
    weights, embedder = fingerprint(folder), embedder_of(folder)

    def attributes() -> dict[str, dict[str, float]]:
        views = embed(embedder, held_out)
        nearest, fitted = nearest_caption(embedder, views), linear(embed(embedder, training), views)
        return {name: nearest[name] | {"linear": fitted[name]["accuracy"]} for name in ATTRIBUTES}

    def found() -> dict[str, dict[str, float]]:
        return retrieval(embedder, embed(embedder, held_out, every=VIEWS))

    measured.ensure(weights, "retrieval", "mixed", 0, found)
    measured.ensure(weights, "attributes", "place", 0, attributes)


def moved(measured: Measured, folder: Path) -> None:
    """Cosine similarity of each weight matrix of the vision tower to the miniature CLIPSeg's."""
    general = CLIPSeg(TINY.clipseg_weights).clip.vision_model
    trunk = embedder_of(folder).clip.visual.trunk

    def cosines() -> dict[str, dict[str, float]]:
        return {name: {"cosine": value} for name, value in cosine_to(trunk, general).items()}

    measured.ensure(fingerprint(folder), "weights", "patch_embed.proj.weight", 0, cosines)


def dense(
    measured: Measured,
    folder: Path | None,
    datasets: Sequence[str] = DRAWN,
    seeds: Sequence[int] = SEEDS,
    steps: int = STEPS,
) -> None:
    """Dice of a fresh decoder on the frozen taps of the miniature in `folder`, or of the miniature CLIPSeg if it is None."""
    tower = BiomedCLIPSeg(folder, mlp_dim=TINY.decoder_mlp_dim) if folder else CLIPSeg(TINY.clipseg_weights)
    weights = fingerprint(folder) if folder else CLIPSEG

    def probed(name: str, seed: int) -> dict[str, dict[str, float]]:
        return {name: {"Dice": dense_probe(tower, name, NOUNS[name], seed, steps)}}

    for seed in seeds:
        for dataset in datasets:
            measured.ensure(weights, "decoder", dataset, seed, partial(probed, dataset, seed))


def plain_load(folder: Path) -> str:
    """What a process says that loads the miniature with open_clip alone, the folder being its working folder."""
    with contextlib.chdir(folder):
        done = subprocess.run([sys.executable, "-c", PLAIN], capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).strip().splitlines()[-1]


def retrieval_table(measured: Measured, folders: Mapping[str, Path]) -> pd.DataFrame:
    """One row per choice of captions."""
    scores = {name: _by_item(measured, folder, "retrieval", ("mixed", *MODALITIES)) for name, folder in folders.items()}
    rows = []
    for among in ("mixed", *MODALITIES):
        row = {f"{AMONG} captions": among, "chance": _percent(scores[NOW].loc[among, "chance"])}
        for name, found in scores.items():
            one = found.loc[among]
            row[name] = f"{_percent(one['top1'])} ({one['top1'] / one['chance']:.1f} times chance)"
            row[f"{name}: in the first five"] = _percent(one["top5"])
        rows.append(row)
    return pd.DataFrame(rows)


def attribute_table(measured: Measured, folders: Mapping[str, Path]) -> pd.DataFrame:
    """One row per attribute; what is not measured yet is left empty."""
    scores = {name: _by_item(measured, folder, "attributes", ATTRIBUTES) for name, folder in folders.items()}
    usual = pd.concat([told["usual"] for told in scores.values()], axis=1).bfill(axis=1).iloc[:, 0]
    rows = []
    for attribute in ATTRIBUTES:
        row = {"attribute": attribute, "commonest answer": _percent(usual[attribute])}
        for name, told in scores.items():
            row[f"{name}: nearest caption"] = _percent(told.loc[attribute, "accuracy"])
            row[f"{name}: linear probe"] = _percent(told.loc[attribute, "linear"])
        rows.append(row)
    return pd.DataFrame(rows)


def cosine_table(measured: Measured, folders: Mapping[str, Path]) -> pd.DataFrame:
    """One row per miniature."""
    found = {name: measured.of(fingerprint(folder), "weights")["value"] for name, folder in folders.items()}
    return pd.DataFrame(
        {"miniature": name, "mean": f"{own.mean():.3f}", "smallest": f"{own.min():.3f}", "largest": f"{own.max():.3f}"}
        for name, own in found.items()
    )


def decoder_table(measured: Measured, folders: Mapping[str, Path]) -> pd.DataFrame:
    """One row per dataset, one column per tower."""
    towers = {CLIPSEG: CLIPSEG} | {name: fingerprint(folder) for name, folder in folders.items()}
    return pd.DataFrame(
        {"dataset": dataset}
        | {name: _spread(measured.of(weights, "decoder"), dataset) for name, weights in towers.items()}
        for dataset in DRAWN
    )


def _by_item(measured: Measured, folder: Path, part: str, items: Sequence[str]) -> pd.DataFrame:
    """One row per item; NaN where nothing is measured."""
    found = measured.of(fingerprint(folder), part).pivot(index="item", columns="score", values="value")
    scores = {"retrieval": ("top1", "top5", "chance"), "attributes": ("accuracy", "linear", "usual")}[part]
    return found.reindex(index=list(items), columns=list(scores)).astype(float)


def _percent(share: float) -> str:
    return "" if pd.isna(share) else f"{100 * share:.1f}"


def _spread(rows: pd.DataFrame, dataset: str) -> str:
    dice = 100 * rows[rows["item"] == dataset]["value"]
    return f"{dice.mean():.1f} ± {dice.std():.1f}" if len(dice) else ""


def report(measured: Measured, folders: Mapping[str, Path]) -> str:
    """biomedclip.md."""
    loads = "\n".join(f"- {name}: `{plain_load(folder)}`" for name, folder in folders.items())
    return f"""# What the miniature BiomedCLIP has learned

`python -m benchmarks.biomedclip`; phantoms that neither pretraining nor the course uses, {len(HELD_OUT)} of each modality.
Empty cells are not measured yet; the same command continues.

## Retrieval: images to captions

Share of images, in %, whose most similar caption is true of them, among the full captions (kind, size, colour, shape, number,
place, modality) of {AMONG} images: of all modalities (mixed), and of one. Chance: the share of captions that are true.

{markdown(retrieval_table(measured, folders))}
## Attributes

Accuracy in %, means over the modalities, on whole images and parts of them. Nearest caption: the most similar of one caption per
answer. Linear probe: logistic regression on the image embedding, fitted on {TRAINING_PHANTOMS} phantoms of each modality.

{markdown(attribute_table(measured, folders))}
## Image encoder: cosine similarity of its weight matrices to the miniature CLIPSeg's

{markdown(cosine_table(measured, folders))}
## A fresh decoder on frozen taps

Dice in % on {VALIDATION} validation images, a decoder with random weights trained for {STEPS} steps on {IMAGES} images, the
noun as the prompt; mean and standard deviation of {len(SEEDS)} seeds (weights and order of the images).

{markdown(decoder_table(measured, folders))}
## open_clip without this package

`open_clip.create_model("local-dir:.")`, in a process whose working folder is the miniature's:

{loads}
"""


def main() -> None:
    """Measure what is not measured yet, and write biomedclip.md."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", default=find(TINY.biomedclip_weights, BIOMEDCLIP))
    parser.add_argument("--before", type=Path, help="an earlier miniature, to compare with")
    given = parser.parse_args()
    folders = {NOW: given.folder.absolute()} | ({BEFORE: given.before.absolute()} if given.before else {})
    measured = Measured(HERE / "biomedclip.csv")
    held_out, training = corpora(HELD_OUT), corpora(training_seeds(Plan.phantoms), TRAINING_PHANTOMS)
    for folder in folders.values():
        learned(measured, folder, held_out, training)
        moved(measured, folder)
    for folder in (None, *folders.values()):
        dense(measured, folder)
    text = report(measured, folders)
    (HERE / "biomedclip.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
