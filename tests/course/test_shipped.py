"""The predictions that the package ships."""

import json
import shutil

import numpy as np
import pytest
import torch

from tests.no_network import run_without_network
from tools import tiny_predictions
from vlsm_helpers.course import shipped
from vlsm_helpers.data.dataset import SegmentationDataset
from vlsm_helpers.data.phantoms.rendering import GENERATOR_VERSION
from vlsm_helpers.data.samples import load_split
from vlsm_helpers.errors import DataError
from vlsm_helpers.experiments.runs import train_member
from vlsm_helpers.metrics.overlap import mask_dice
from vlsm_helpers.models import factory
from vlsm_helpers.models.mean_mask import MeanMask
from vlsm_helpers.models.state import encoder_hash
from vlsm_helpers.settings import DEFAULT_DATASET
from vlsm_helpers.settings.profiles import PROFILES

TINY = PROFILES["tiny"]
NAMES = ["biomedclipseg", "clipseg", "unet_d"]
READ = """
import sys
from vlsm_helpers.course.shipped import tiny_store
print(len(tiny_store("val")), len(requests), "requests")
"""


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """A copy of the shipped folder, which a test may damage."""
    folder = shutil.copytree(shipped.FOLDER, tmp_path / "tiny_predictions")
    monkeypatch.setattr(shipped, "FOLDER", folder)
    return folder


def index():
    return json.loads((shipped.FOLDER / shipped.INDEX).read_text())


@pytest.mark.parametrize("split", ["val", "test"])
def test_they_are_of_the_images_that_this_machine_draws(split):
    store = shipped.tiny_store(split)
    assert (store.names, store.dataset, store.split) == (NAMES, DEFAULT_DATASET, split)
    samples = load_split(DEFAULT_DATASET, split)
    assert store.ids == tuple(sample.id for sample in samples)
    masks = store.true_masks()
    assert store.sizes == tuple(mask.shape for mask in masks)
    assert store.logits(TINY.image_size).shape == (3, len(samples), TINY.image_size, TINY.image_size)


def test_every_member_looks_at_its_images():
    """Each is better than one guess for all images: were they in another order, none would be."""
    store = shipped.tiny_store("test")
    masks = store.masks(TINY.image_size)
    floor = MeanMask(SegmentationDataset(load_split(DEFAULT_DATASET, "train"), TINY.image_size).masks)
    guess = floor(torch.zeros(len(store), 3, TINY.image_size, TINY.image_size))[:, 0]
    least = mask_dice(guess > 0, masks).mean().item()
    for name, logits in zip(store.names, store.logits(TINY.image_size), strict=True):
        assert mask_dice(logits > 0, masks).mean().item() > least + 0.1, name
        assert mask_dice(logits.roll(1, 0) > 0, masks).mean().item() < least + 0.1, name


def test_they_are_small_and_have_a_card():
    files = list(shipped.FOLDER.iterdir())
    assert sum(file.stat().st_size for file in files) < 5e6
    assert {file.name for file in files} == {"README.md", shipped.INDEX, *index()["files"]}
    card = (shipped.FOLDER / "README.md").read_text(encoding="utf-8").lower()
    for word in ("not for clinical use", "python -m tools.tiny_predictions", "seed 0", "rounding", "apache-2.0"):
        assert word in card, f"the card does not say: {word}"


def test_they_are_younger_than_the_phantoms_and_the_miniatures():
    """Who changes either makes the predictions anew: `python -m tools.tiny_predictions`."""
    assert index()["phantom_generator"] == GENERATOR_VERSION
    frozen = {name: encoder_hash(factory.build(name, TINY)) for name in NAMES}
    for name, facts in index()["files"].items():
        assert facts["frozen_weights"] == frozen[facts["index"]["member"]], name


def test_reading_them_needs_no_network():
    assert run_without_network(READ, HF_HUB_OFFLINE="1") == ["60 0 requests"]


@pytest.mark.parametrize("split", ["train", "tset"])
def test_a_split_that_is_not_shipped_is_refused(split):
    with pytest.raises(DataError, match=f"'{split}'.*\n.*val or test"):
        shipped.tiny_store(split)


def spoil(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: spoil(folder / "val-unet_d.png"), "val-unet_d.png is not the file"),
        (lambda folder: (folder / "val-unet_d.png").unlink(), "val-unet_d.png"),
        (lambda folder: (folder / shipped.INDEX).write_text("{"), "damaged"),
        (lambda folder: (folder / shipped.INDEX).write_text("[]"), "damaged"),
        (lambda folder: (folder / shipped.INDEX).unlink(), shipped.INDEX),
    ],
)
def test_damaged_files_are_refused_by_name(copied, damage, said):
    damage(copied)
    with pytest.raises(DataError, match=f"(?s){said}.*where: .*hint: install the package again"):
        shipped.tiny_store("val")


@pytest.mark.parametrize(("largest", "steps"), [(40, 8), (16, 8), (7.9, 16), (0.9, 128)])
def test_logits_survive_but_for_half_a_step_and_none_changes_sides(largest, steps):
    logits = np.random.default_rng(0).uniform(-largest, largest, (3, 16, 16)).astype(np.float16)
    logits[0, 0, :3] = (0.0, 1e-3, -1e-3)
    logits[0, 1, 0] = largest
    png, chosen = tiny_predictions.encode(logits)
    assert chosen == steps
    read = shipped.decode(png, steps)
    assert (read.dtype, read.shape) == (np.float16, logits.shape)
    assert np.abs(read - logits.clip(-128 / steps, 128 / steps)).max() <= 0.5 / steps + 1e-3
    assert np.array_equal(read > 0, logits >= 0)


def test_the_tool_writes_what_is_read(toy, tmp_path, monkeypatch, own_runs):
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "shipped")
    run = train_member("unet_d", "toy", size=32, width=1 / 16, epochs=1)
    exact = tiny_predictions.write(shipped.FOLDER, {"UNet-D": run})
    card = tiny_predictions.card(shipped.FOLDER, {"UNet-D": run}, exact)
    for split, [prediction] in exact.items():
        [read] = shipped.tiny_predictions(split)
        assert read.index == prediction.index
        assert np.array_equal(read.logits > 0, prediction.logits >= 0)
    name, before, after, most = next(tiny_predictions.changes(exact))
    assert name == "unet_d"
    assert f"| unet_d | {100 * before:.2f} | {100 * after:.2f} | {100 * most:.2f} |" in card
