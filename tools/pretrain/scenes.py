"""Scenes of the general world, drawn once and kept in memory-mapped files."""

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from tools.pretrain import grounds, world
from tools.pretrain.world import SIZE, Scene, Thing, World, draw
from vlsm_helpers.io import atomic
from vlsm_helpers.settings import cache_folder, writable

HELD_OUT = range(10_000_000, 10_000_300)  # seeds that no training takes
_FILES = ("images.npy", "masks.npy", "things.json")


class SceneStore(Sequence):
    """The scenes `seeds` of a world, by their place in it. They are drawn on first use, some 15 milliseconds each."""

    def __init__(self, seeds: range, of: World):
        source = b"".join(Path(module.__file__).read_bytes() for module in (grounds, world))
        key = hashlib.sha256(source + repr((seeds, of)).encode()).hexdigest()[:16]
        folder = writable(cache_folder() / "world") / key
        if not folder.is_dir():
            _write(seeds, of, folder)
        self.images, self.masks = (np.load(folder / name, mmap_mode="r") for name in _FILES[:2])
        self.things = json.loads((folder / _FILES[2]).read_text())

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Scene:
        things = []
        for row, facts in self.things[index]:
            mask = np.unpackbits(self.masks[row]).reshape(SIZE, SIZE).astype(bool)
            things.append(Thing(mask, **facts))
        return Scene(np.asarray(self.images[index]), tuple(things))


def _write(seeds: range, of: World, folder: Path) -> None:
    """Draw the scenes into a new folder, which appears whole."""
    with atomic.new_folder(folder) as fresh:
        images = np.lib.format.open_memmap(fresh / _FILES[0], "w+", np.uint8, (len(seeds), SIZE, SIZE, 3))
        masks, things = [], []
        with ProcessPoolExecutor() as pool:
            scenes = pool.map(partial(draw, world=of), seeds, chunksize=50)
            for row, scene in enumerate(tqdm(scenes, total=len(seeds), desc="drawing scenes", unit="scene")):
                images[row] = scene.image
                facts = [{k: v for k, v in asdict(thing).items() if k != "mask"} for thing in scene.things]
                things.append([(len(masks) + number, fact) for number, fact in enumerate(facts)])
                masks += [np.packbits(thing.mask) for thing in scene.things]
        images.flush()
        np.save(fresh / _FILES[1], np.array(masks))
        (fresh / _FILES[2]).write_text(json.dumps(things))
