import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tools.pretrain import clipseg
from tools.pretrain.scenes import SceneStore
from tools.pretrain.world import SURFACES
from vlsm_helpers.models.clipseg import CLIPSeg


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fresh")
    clipseg.write_fresh(folder, seed=0)
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLSM_CACHE", str(tmp_path_factory.mktemp("cache")))
        return SceneStore(range(40), SURFACES)


def test_an_untrained_one_marks_little_and_is_not_wild(fresh):
    logits = CLIPSeg(fresh).eval()(torch.rand(2, 3, 128, 128), "a pink bump")
    assert logits.abs().max() < 10
    assert (logits > 0).float().mean() < 0.05


def test_the_vocabulary_knows_the_words_of_the_course_whole(fresh):
    tokenizer = CLIPSeg(fresh).tokenizer
    for word in ("polyp", "tumor", "bump", "pink", "located", "image"):
        assert len(tokenizer(word)["input_ids"]) == 3, word  # with the marks of beginning and end
    assert len(tokenizer("息肉 é")["input_ids"]) > 3


def test_a_batch_has_three_prompts_an_image_and_the_masks_of_the_turned_scenes(store):
    images, prompts, targets = clipseg.draw_batch(store, np.arange(4), np.random.default_rng(0))
    assert images.shape == (4, 3, 128, 128)
    assert images.min() >= 0
    assert images.max() <= 1
    assert len(prompts) == len(targets) == 4 * clipseg.PROMPTS
    assert set(targets.unique().tolist()) <= {0.0, 1.0}


def test_pictures_and_masks_are_turned_alike():
    array = np.arange(16).reshape(4, 4)
    for turn in range(4):
        for mirror in (False, True):
            moved = clipseg._moved(array, turn, mirror)
            colour = clipseg._moved(np.stack([array] * 3, -1), turn, mirror)
            assert np.array_equal(colour[..., 0], moved)


def test_the_loss_rewards_the_right_mask_and_an_empty_one_for_nothing():
    target = torch.zeros(2, 1, 8, 8)
    target[0, :, 2:6, 2:6] = 1
    right = 20 * (2 * target - 1)
    assert clipseg.loss(right, target) < 0.01
    assert clipseg.loss(-right, target) > clipseg.loss(0 * right, target) > clipseg.loss(right, target)


def test_predictions_for_many_prompts_are_those_of_one(fresh, store):
    segmenter = CLIPSeg(fresh).eval()
    images, prompts, _ = clipseg.draw_batch(store, np.arange(2), np.random.default_rng(0))
    with torch.no_grad():
        together = clipseg.predict(segmenter, images, prompts)
        alone = torch.cat([segmenter(images[n // clipseg.PROMPTS][None], p) for n, p in enumerate(prompts)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_training_lowers_the_loss_and_leaves_a_folder_that_loads(fresh, store, tmp_path):
    torch.manual_seed(0)
    segmenter = CLIPSeg(fresh, train="encoders")
    before = {name: value.clone() for name, value in segmenter.state_dict().items()}
    lesson = replace(clipseg.LESSONS[0], steps=12)
    log = clipseg.train(segmenter, store, store, lesson, 0, lambda *_: None)
    assert log[-1]["loss"] < log[0]["loss"]
    changed = {
        name.split(".")[1] for name, value in segmenter.state_dict().items() if not torch.equal(value, before[name])
    }
    assert {"text_model", "vision_model", "text_projection"} <= changed
    clipseg.save(segmenter, fresh, tmp_path)
    clipseg.write_card(tmp_path, [lesson], [{"lesson": 1} | row for row in log], seed=0)
    for name in ("vocab.json", "merges.txt"):
        assert (tmp_path / name).read_bytes() == (fresh / name).read_bytes()
    tensors = load_file(tmp_path / "model.safetensors")
    assert {t.dtype for t in tensors.values() if t.is_floating_point()} == {torch.float16}
    images = torch.rand(1, 3, 128, 128)
    with torch.no_grad():
        loaded, kept = CLIPSeg(tmp_path).eval()(images, "bump"), segmenter.eval()(images, "bump")
    torch.testing.assert_close(loaded, kept, atol=0.05, rtol=0)
    assert json.loads((tmp_path / "config.json").read_text())["extract_layers"] == list(clipseg.TAPS)
    text = (tmp_path / "README.md").read_text()
    assert "Not for clinical use" in text
    assert f"{log[-1]['loss']:.3f}" in text


def test_the_vocabulary_is_the_same_in_every_process():
    """Of equally frequent pairs the tokenizers library takes any, unless it is told in what order letters come."""
    ask = [sys.executable, "-c", "from tools.pretrain.clipseg import _merges; print(_merges())"]
    other = subprocess.run(ask, capture_output=True, check=True, text=True)
    assert other.stdout.strip() == str(clipseg._merges())


def test_the_second_lesson_goes_on_from_the_first(tmp_path, monkeypatch):
    monkeypatch.setenv("VLSM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(clipseg, "HELD_OUT", range(10_000_000, 10_000_004))
    monkeypatch.setattr(sys, "argv", ["", str(tmp_path / "out"), "--steps", "2", "--scenes", "4"])
    clipseg.main()
    text = (tmp_path / "out" / "README.md").read_text()
    assert "4 and 4 scenes" in text
    rows = [row[:9] for row in text.splitlines() if row.startswith(("| 1 |", "| 2 |"))]
    assert rows == ["| 1 | 1 |", "| 1 | 2 |", "| 2 | 1 |", "| 2 | 2 |"]
    images = torch.rand(2, 3, 128, 128)
    assert CLIPSeg(tmp_path / "out").eval()(images, "a patch").shape == (2, 1, 128, 128)
