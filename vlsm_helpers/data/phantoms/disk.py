"""Phantom datasets on disk, in the layout of the MedVLSM benchmark: NAME/{images,masks}/ and NAME/anns/SPLIT.json."""

import json
import os
import tempfile
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from vlsm_helpers.data import prompts
from vlsm_helpers.data.phantoms.rendering import FIRST_SEEDS, GENERATOR_VERSION, render, seeds
from vlsm_helpers.io import atomic
from vlsm_helpers.settings import writable

_STAMP = "drawn.json"  # written last; a folder without it, or with another one's contents, is drawn again
_SPOKEN_KINDS = ("benign", "malignant")  # the kinds that the benchmark's prompts name


def ensure(name: str, folder: Path, draw: int = 0) -> Path:
    """`folder`/NAME with the phantom dataset `name` (all splits, 128 px, medium), drawn if it is not there yet.

    Another `draw` (see `seeds`) lies in `folder`/NAME_drawN, a dataset of its own. Each is drawn beside its place and moved
    there whole, so that a stopped run leaves nothing that passes for a dataset and processes that draw at once agree: the
    first one's stays. Takes five to ten seconds. Raises DataError for a name that is no phantom dataset or a draw there is
    not, SettingsError for a folder that cannot be written to.
    """
    target = folder / (f"{name}_draw{draw}" if draw else name)
    if _is_whole(target, name):
        return target
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=writable(folder)) as beside:
        fresh = _draw(name, draw, Path(beside) / "fresh")
        atomic.swap(fresh, target, lambda there: _is_whole(there, name))  # another process may have been faster
    return target


def _is_whole(target: Path, name: str) -> bool:
    """Whether `target` holds all of the dataset, drawn by this version of the generator."""
    try:
        stamp = json.loads((target / _STAMP).read_text(encoding="utf-8"))
        pictures = [len(os.listdir(target / kind)) for kind in ("images", "masks")]
    except (OSError, ValueError):
        return False
    return stamp == _stamp(name) and pictures == [sum(stamp["entries"].values())] * 2


def _stamp(name: str) -> dict:
    return {"generator": GENERATOR_VERSION, "entries": {split: len(seeds(name, split)) for split in FIRST_SEEDS}}


def _draw(name: str, draw: int, root: Path) -> Path:
    for part in ("images", "masks", "anns"):
        (root / part).mkdir(parents=True)
    every = [(split, seed) for split in FIRST_SEEDS for seed in seeds(name, split, draw)]
    entries = {split: [] for split in FIRST_SEEDS}
    for split, seed in tqdm(every, desc=f"drawing {name}", unit="image"):
        entries[split].append(_write(name, seed, root))
    for split, written in entries.items():
        (root / "anns" / f"{split}.json").write_text(json.dumps(written, indent=1), encoding="utf-8")
    (root / _STAMP).write_text(json.dumps(_stamp(name)), encoding="utf-8")
    return root


def _write(name: str, seed: int, root: Path) -> dict:
    """Draw one phantom into the folder `root`; its entry for the annotation file."""
    phantom = render(name, seed)
    file = f"{seed}.png"
    Image.fromarray(phantom.image).save(root / "images" / file)
    Image.fromarray(phantom.mask).save(root / "masks" / file)
    kind = phantom.kind if phantom.kind in _SPOKEN_KINDS else None
    return {
        "img_name": file,
        "mask_name": file,
        "prompts": prompts.ladder(phantom.image, phantom.mask, phantom.noun, kind),
        "kind": phantom.kind,
        "difficulty": phantom.difficulty,
    }
