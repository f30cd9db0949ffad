import numpy as np
import pandas as pd
import pytest
import torch

from vlsm_helpers.data.dataset import SegmentationDataset
from vlsm_helpers.data.samples import load_split
from vlsm_helpers.evaluation.prompting import BATCH, PromptedImages, dice_curve
from vlsm_helpers.evaluation.scoring import evaluate
from vlsm_helpers.metrics.overlap import score
from vlsm_helpers.models.clipseg import CLIPSeg
from vlsm_helpers.models.unet_d import UNetD
from vlsm_helpers.models.vision_language import average_prompts


@pytest.fixture(scope="module")
def clipseg(tiny_weights):
    return CLIPSeg(tiny_weights / "clipseg").eval()


@pytest.fixture
def dataset(toy):
    return SegmentationDataset(load_split("toy", "test"), 128)


def test_decoding_from_kept_features_is_the_call(clipseg):
    count = BATCH + 3  # more than a batch, and not a whole one at the end
    pixels = np.random.default_rng(0).integers(0, 256, (count, 64, 64, 3), np.uint8)
    images = PromptedImages(clipseg, pixels, [np.zeros((64, 64), bool)] * count)
    prompts = [f"a {colour} bump" for colour in ("pink", "red", "brown")] * (count // 3) + ["", "polyp"][: count % 3]
    with torch.no_grad():
        called = clipseg(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255, prompts)[:, 0]
    assert called.std() > 1e-3
    torch.testing.assert_close(images.logits(prompts), called, atol=1e-5, rtol=0)
    torch.testing.assert_close(images.decode(images.embed(prompts)[7:8], [7]), called[7:8], atol=1e-5, rtol=0)


def test_images_are_encoded_once_however_many_prompts_are_asked(clipseg, dataset, monkeypatch):
    asked = []
    encode = clipseg.encode_images
    monkeypatch.setattr(clipseg, "encode_images", lambda images: asked.append(len(images)) or encode(images))
    images = PromptedImages.of(clipseg, dataset)
    for prompt in ("polyp", "a pink bump", ""):
        images.logits(prompt)
    assert asked == [len(dataset)]


def test_kept_features_are_the_encoders(clipseg, dataset):
    images = PromptedImages.of(clipseg, dataset)
    pixels = torch.from_numpy(dataset.images[[3, 1]]).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        expected = clipseg.encode_images(pixels)
    for kept, computed in zip(images.features([3, 1]), expected, strict=True):
        torch.testing.assert_close(kept, computed, atol=1e-5, rtol=0)


def test_an_average_of_prompts_serves_all_images(clipseg, dataset):
    images = PromptedImages.of(clipseg, dataset)
    mean = average_prompts(clipseg, ["polyp", "a pink bump"])
    assert images.decode(mean).shape == (len(dataset), 128, 128)
    assert not torch.allclose(images.decode(mean), images.logits("polyp"))


def test_scores_are_those_of_the_split(clipseg, dataset):
    images = PromptedImages.of(clipseg, dataset)
    prompts = [sample.prompt("p1") for sample in dataset.samples]
    logits = images.logits(prompts)
    threshold = float(torch.sigmoid(logits).median())
    expected = evaluate(clipseg, dataset, threshold=threshold)
    assert expected["dice"].between(0.05, 0.95).any()
    pd.testing.assert_frame_equal(images.score(logits, threshold), expected, atol=1e-5)
    np.testing.assert_allclose(images.dice(logits, threshold), expected["dice"], atol=1e-5)
    curves = images.dice_curves(logits, [0.0, threshold, 1.0])
    np.testing.assert_allclose(curves[1], expected["dice"], atol=1e-5)
    assert (curves[2] == 0).all()


def test_dice_is_measured_at_the_masks_own_size():
    logits = torch.full((2, 2), -9.0)
    logits[:, 0] = 9
    mask = np.zeros((4, 8), bool)
    mask[:, :4] = True
    np.testing.assert_allclose(dice_curve(logits, mask, [0.5]), [1.0])


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_curve_is_the_rulers_dice_at_each_threshold(share):
    generator = np.random.default_rng(0)
    logits, mask = torch.from_numpy(generator.normal(size=(9, 9))).float(), generator.random((9, 9)) < share
    thresholds = [0.9999, 0.2, 0.5, 0.8]  # in any order
    expected = [score((torch.sigmoid(logits) > cut).numpy(), mask)["dice"] for cut in thresholds]
    np.testing.assert_allclose(dice_curve(logits, mask, thresholds), expected, atol=1e-6)


def test_nothing_marked_where_nothing_is_counts_one():
    curve = dice_curve(torch.zeros(4, 4), np.zeros((4, 4), bool), [0.4, 0.6])
    assert curve.tolist() == [0.0, 1.0]


def test_the_marked_share_of_each_image(clipseg, dataset):
    images = PromptedImages.of(clipseg, dataset)
    logits = torch.full((len(dataset), 4, 4), -1.0)
    logits[0, :2] = 1
    assert images.marked(logits).tolist() == [0.5, 0, 0, 0, 0]


def test_a_member_that_cannot_read_gives_one_answer(dataset):
    images = PromptedImages.of(UNetD(1 / 32), dataset)
    assert torch.equal(images.logits("polyp"), images.logits("a white star"))


def test_images_and_masks_must_fit(clipseg):
    with pytest.raises(ValueError, match="2 images, 1 masks and 2 ids"):
        PromptedImages(clipseg, np.zeros((2, 8, 8, 3), np.uint8), [np.zeros((8, 8), bool)])
