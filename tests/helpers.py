"""What several test modules share, besides the fixtures of conftest.py."""

import json

import numpy as np
import torch
from PIL import Image

from vlsm_helpers.data.samples import SPLITS, load_split
from vlsm_helpers.evaluation.predictions import MemberLogits, Prediction, PredictionInfo, PredictionStore
from vlsm_helpers.io.checkpoints import save_checkpoint
from vlsm_helpers.models.state import encoder_hash, trainable_state_dict
from vlsm_helpers.training.run_folder import FACTS


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


def all_samples(name="mine", folder=None):
    """The samples of all splits of a dataset."""
    return [sample for split in SPLITS for sample in load_split(name, split, folder)]


def keep(segmenter, path):
    """A checkpoint of the segmenter, as `fit` keeps the best one of images of 32 pixels; its path."""
    known = {"member": segmenter.config, "frozen_weights": encoder_hash(segmenter), "image_size": 32}
    save_checkpoint(path, trainable_state_dict(segmenter), dict.fromkeys(FACTS) | known)
    return path


def index(member="mine", ids=("a", "b", "c"), **other):
    facts = {"dataset": "toy", "split": "val", "sizes": tuple((8, 8) for _ in ids), "weights": "by hand"}
    return PredictionInfo(member=member, ids=tuple(ids), **(facts | other))


def cases(members=3, images=6, size=16, seed=0):
    """Members that see a square, each through noise of its own."""
    generator = torch.Generator().manual_seed(seed)
    masks = torch.zeros(images, size, size, dtype=torch.bool)
    for image in range(images):
        row, column = torch.randint(0, size - 8, (2,), generator=generator).tolist()
        masks[image, row : row + 8, column : column + 6] = True
    noise = torch.randn(members, images, size, size, generator=generator)
    strength = torch.tensor([2.0, 1.0, 0.3, 0.6, 1.5])[:members].view(-1, 1, 1, 1)
    logits = strength * (2 * masks.float() - 1) + noise
    return MemberLogits(logits, masks, tuple(f"member {number}" for number in range(members)))


def toy_store(split="val", count=4, seed=0, names=("unet_d", "clipseg", "biomedclipseg"), samples=None):
    """Members of random logits (16 x 16) of the images of the dataset `toy`."""
    values = np.random.default_rng(seed).normal(size=(len(names), count, 16, 16)).astype(np.float16)
    ids = [f"{split}_{number}" for number in range(count)]
    facts = [index(name, ids, split=split) for name in names]
    return PredictionStore([Prediction(one, logits) for one, logits in zip(facts, values, strict=True)], samples)
