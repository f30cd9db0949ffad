"""What all tests share: folders of their own, and a toy dataset that a network learns in seconds."""

import json
import os

import numpy as np
import pytest
from PIL import Image

# Set before anything is imported: kernels and child processes that a test starts inherit them.
os.environ["VLSM_PROFILE"] = "tiny"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"


@pytest.fixture(autouse=True, scope="session")
def own_folders(tmp_path_factory):
    """Caches and runs of a test session go to its own folder, never to the user's."""
    root = tmp_path_factory.mktemp("vlsm")
    for variable, name in (("VLSM_CACHE", "cache"), ("VLSM_RUNS", "runs")):
        os.environ[variable] = str(root / name)
    return root


@pytest.fixture(autouse=True)
def the_same_profile():
    """What a test decides on the profile (`settings.start` tells the environment) ends with it."""
    yield
    os.environ["VLSM_PROFILE"] = "tiny"


def draw_toy(generator: np.random.Generator, size: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """A noisy image with a bright square, and the square."""
    mask = np.zeros((size, size), bool)
    row, column = generator.integers(2, size - 14, 2)
    mask[row : row + 12, column : column + 12] = True
    image = generator.normal(60, 10, (size, size, 3)) + 120 * mask[..., None]
    return image.clip(0, 255).astype(np.uint8), mask


def write_toy(folder, name="toy", entries=None, seed=0):
    """A dataset of toys in the layout on disk; returns its folder."""
    generator = np.random.default_rng(seed)
    root = folder / name
    for part in ("images", "masks", "anns"):
        (root / part).mkdir(parents=True, exist_ok=True)
    for split, count in (entries or {"train": 12, "val": 4, "test": 5}).items():
        rows = []
        for number in range(count):
            image, mask = draw_toy(generator)
            file = f"{split}_{number}.png"
            Image.fromarray(image).save(root / "images" / file)
            Image.fromarray(mask.astype(np.uint8) * 255).save(root / "masks" / file)
            prompts = {"p0": "", "p1": "square", "p2": ["bright square", "white square"], "p6": "square on the left"}
            rows.append({"img_name": file, "mask_name": file, "prompts": prompts})
        (root / "anns" / f"{split}.json").write_text(json.dumps(rows))
    return root


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """The folder of a toy dataset that `load_split("toy", ...)` finds."""
    monkeypatch.setenv("VLSM_DATA", str(tmp_path / "data"))
    return write_toy(tmp_path / "data")


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory):
    """A folder for VLSM_WEIGHTS with tiny random CLIPSeg, BiomedCLIP and CLIP checkpoints; tests copy what they change."""
    import torch

    from tools.random_checkpoints import write_biomedclip, write_clip_rn50, write_clipseg

    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    write_clipseg(folder / "clipseg", tiny=True)
    write_biomedclip(folder / "biomedclip", tiny=True)
    write_clip_rn50(folder / "clip_rn50", tiny=True)
    return folder
