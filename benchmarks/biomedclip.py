"""What the miniature BiomedCLIP has learned: `python -m benchmarks.biomedclip [FOLDER] [--before FOLDER]`; see biomedclip.md.

On held-out phantoms: retrieval of captions beside chance, attributes beside the commonest answer, Dice of a fresh decoder on
its frozen taps beside the miniature CLIPSeg's, the cosine of its weights to CLIPSeg's, and whether open_clip alone loads it.
FOLDER: by default the shipped miniature; --before: an earlier one to compare with. Minutes on one thread.
"""

import argparse
import contextlib
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
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
TRAINING_PHANTOMS = 500  # of each modality, for the linear probe
PLAIN = """
import open_clip, torch
clip = open_clip.create_model("local-dir:.").eval()
tokenizer = open_clip.get_tokenizer("local-dir:.")
with torch.no_grad():
    scores = clip.encode_image(torch.zeros(1, 3, 128, 128)) @ clip.encode_text(tokenizer(["a polyp"])).T
print(type(clip).__module__, type(clip).__name__, tuple(scores.shape))
"""


def corpora(seeds: range, count: int | None = None) -> list[Corpus]:
    """The first `count` phantoms of `seeds` of each modality, drawn on first use."""
    drawn = [corpus(name, seeds, cache_folder() / "pretraining") for name in MODALITIES]
    rows = slice(count and count * VIEWS)
    return [replace(own, images=own.images[rows], descriptions=own.descriptions[rows]) for own in drawn]


def learned(
    folders: Mapping[str, Path], held_out: Sequence[Corpus], training: Sequence[Corpus]
) -> tuple[pd.DataFrame, ...]:
    """Two tables, retrieval and attributes in %, with columns for each of the `folders`."""
    found, told = {}, {}
    for name, folder in folders.items():
        embedder = embedder_of(folder)
        views = embed(embedder, held_out)
        whole = embed(embedder, held_out, every=VIEWS)
        found[name] = retrieval(embedder, whole)
        told[name] = nearest_caption(embedder, views), linear(embed(embedder, training), views)
    return pd.DataFrame(list(_retrieval_rows(found))), pd.DataFrame(list(_attribute_rows(told)))


def _retrieval_rows(found: Mapping[str, Mapping]) -> Iterator[dict]:
    for among in ("mixed", *MODALITIES):
        row = {f"{AMONG} captions": among, "chance": f"{100 * next(iter(found.values()))[among]['chance']:.1f}"}
        for name, scores in found.items():
            one = scores[among]
            row[f"{name}: first"] = f"{100 * one['top1']:.1f}"
            row[f"{name}: times chance"] = f"{one['top1'] / one['chance']:.1f}"
            row[f"{name}: in the first five"] = f"{100 * one['top5']:.1f}"
        yield row


def _attribute_rows(told: Mapping[str, tuple[Mapping, Mapping]]) -> Iterator[dict]:
    for attribute in ATTRIBUTES:
        row = {"attribute": attribute}
        for name, (nearest, fitted) in told.items():
            row["commonest answer"] = f"{100 * nearest[attribute]['usual']:.1f}"
            row[f"{name}: nearest caption"] = f"{100 * nearest[attribute]['accuracy']:.1f}"
            row[f"{name}: linear probe"] = f"{100 * fitted[attribute]['accuracy']:.1f}"
        yield row


def cosines(folders: Mapping[str, Path]) -> pd.DataFrame:
    """How near the weight matrices of each vision tower are to those of the miniature CLIPSeg's."""
    general = CLIPSeg(TINY.clipseg_weights).clip.vision_model
    rows = []
    for name, folder in folders.items():
        values = list(cosine_to(embedder_of(folder).clip.visual.trunk, general).values())
        row = {"mean": np.mean(values), "smallest": min(values), "largest": max(values)}
        rows.append({"BiomedCLIP": name} | {key: f"{value:.3f}" for key, value in row.items()})
    return pd.DataFrame(rows)


def dense(folders: Mapping[str, Path], datasets: Sequence[str] = DRAWN, steps: int = STEPS) -> pd.DataFrame:
    """Validation Dice in % of a fresh decoder on frozen taps, with the same budget for each tower, over SEEDS."""
    towers = {"CLIPSeg": CLIPSeg(TINY.clipseg_weights)}
    towers |= {name: BiomedCLIPSeg(folder, mlp_dim=TINY.decoder_mlp_dim) for name, folder in folders.items()}
    rows = []
    for dataset in datasets:
        row = {"dataset": dataset}
        for name, tower in towers.items():
            dice = [100 * dense_probe(tower, dataset, NOUNS[dataset], seed, steps) for seed in SEEDS]
            row[name] = f"{np.mean(dice):.1f} ± {np.std(dice, ddof=1):.1f}"
        rows.append(row)
        print(row, flush=True)
    return pd.DataFrame(rows)


def plain_load(folder: Path) -> str:
    """What a process says that loads the miniature with open_clip alone, the folder being its working folder."""
    with contextlib.chdir(folder):
        done = subprocess.run([sys.executable, "-c", PLAIN], capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).strip().splitlines()[-1]


def report(folders: Mapping[str, Path]) -> str:
    """biomedclip.md."""
    found, told = learned(folders, corpora(HELD_OUT), corpora(training_seeds(Plan.phantoms), TRAINING_PHANTOMS))
    loads = "\n".join(f"- {name}: `{plain_load(folder)}`" for name, folder in folders.items())
    return f"""# What the miniature BiomedCLIP has learned

`python -m benchmarks.biomedclip`; phantoms that neither pretraining nor the course uses, {len(HELD_OUT)} of each modality.

## Retrieval: images to captions

Share of images, in %, whose most similar caption is true of them, among the full captions (kind, size, colour, shape, number,
place, modality) of {AMONG} images: of all modalities (mixed), and of one. Chance: the share of captions that are true.

{markdown(found)}

## Attributes

Accuracy in %, means over the modalities, on whole images and parts of them. Nearest caption: the most similar of one caption per
answer. Linear probe: logistic regression on the class token, fitted on {TRAINING_PHANTOMS} phantoms of each modality.

{markdown(told)}

## Image encoder: cosine similarity of its weight matrices to the miniature CLIPSeg's

{markdown(cosines(folders))}

## A fresh decoder on frozen taps

Dice in % on {VALIDATION} validation images, a decoder with random weights trained for {STEPS} steps on {IMAGES} images, the
noun as the prompt; mean and standard deviation of {len(SEEDS)} seeds (weights and order of the images).

{markdown(dense(folders))}

## open_clip without this package

`open_clip.create_model("local-dir:.")`, in a process whose working folder is the miniature's:

{loads}
"""


def main() -> None:
    """Measure and write biomedclip.md."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", default=find(TINY.biomedclip_weights, BIOMEDCLIP))
    parser.add_argument("--before", type=Path, help="an earlier miniature, to compare with")
    given = parser.parse_args()
    folders = {"before": given.before.absolute()} if given.before else {}
    text = report(folders | {"now": given.folder.absolute()})
    (HERE / "biomedclip.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
