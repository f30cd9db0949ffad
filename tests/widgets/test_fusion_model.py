from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.helpers import cases, index, toy_store
from vlsm_helpers.data.samples import Sample
from vlsm_helpers.errors import DataError
from vlsm_helpers.evaluation.predictions import Prediction, PredictionStore
from vlsm_helpers.fusion.search import WeightedMean, simplex
from vlsm_helpers.fusion.weighted import WeightedFusion
from vlsm_helpers.metrics.overlap import mask_dice
from vlsm_helpers.widgets.fusion_model import FusedDice, FusionModel, Scale

LEFT = [[1, 1, 0, 0]] * 4  # a mask of 4 x 4


@pytest.fixture
def by_hand(tmp_path):
    """Two members of two images of 4 x 4, whose left half is true: makes a store of their probabilities."""

    def make(*members, truths=(LEFT, LEFT), split="val"):
        samples = []
        for number, truth in enumerate(truths):
            path = tmp_path / f"{number}.png"
            Image.fromarray(np.uint8(255 * np.array(truth))).save(path)
            samples.append(Sample(f"i{number}", path, path, {}))
        ids = [sample.id for sample in samples]
        predictions = []
        for name, maps in zip("abc", members, strict=False):
            logits = torch.logit(torch.tensor(maps, dtype=torch.float64)).numpy().astype(np.float16)
            predictions.append(Prediction(index(name, ids, split=split, sizes=((4, 4),) * len(ids)), logits))
        return PredictionStore(predictions, samples)

    return make


def half(left, right):
    """Probabilities of an image 4 x 4: `left` in its left half, `right` in its right one."""
    return [[left, left, right, right]] * 4


@pytest.fixture
def model(by_hand):
    # a is right on image 0 and predicts all of image 1 as foreground; b the other way round.
    return FusionModel(by_hand([half(0.9, 0.2), half(0.9, 0.7)], [half(0.6, 0.7), half(0.8, 0.1)]))


def test_dice_by_hand(model):
    model.image = 0
    # Equal weights: the right halves have 0.45 and 0.4, so both images are right.
    assert model.dice().tolist() == [1, 1]
    model.move("a", 0.3)  # image 0: 0.3 * 0.2 + 0.7 * 0.7 = 0.55, all is marked: 2 * 8 / (8 + 16)
    assert model.dice().tolist() == pytest.approx([2 / 3, 1])
    model.move("a", 0.8)  # image 1: 0.8 * 0.7 + 0.2 * 0.1 = 0.58
    assert model.dice().tolist() == pytest.approx([1, 2 / 3])
    np.testing.assert_allclose(model.member_dice(), [[1, 2 / 3], [2 / 3, 1]])


def test_threshold_temperature_and_kind_of_mean_by_hand(model):
    model.fusion = replace(model.fusion, threshold=0.42)  # right halves: 0.45 and 0.4
    assert model.dice().tolist() == pytest.approx([2 / 3, 1])
    # Logits of the right half of image 0: -1.386 and 0.847; of image 1: 0.847 and -2.197.
    model.fusion = replace(model.fusion, mean_of="logits", threshold=0.5)
    model.move("a", 0.3)  # 0.3 * -1.386 + 0.7 * 0.847 = 0.18
    assert model.dice().tolist() == pytest.approx([2 / 3, 1])
    model.fusion = replace(model.fusion, threshold=0.6)  # a cut at 0.405
    assert model.dice().tolist() == [1, 1]
    model.fusion = replace(model.fusion, temperature=0.4)  # 0.18 / 0.4 = 0.44 on the other side of it
    assert model.dice().tolist() == pytest.approx([2 / 3, 1])


def test_a_high_temperature_lets_the_confident_member_decide_the_mean_of_probabilities(by_hand):
    # Logits 6.9 against two times -1.39: at a low temperature they are votes, one against two; at a high one, the mean of
    # logits decides.
    confident, uncertain = [half(0.999, 0.001)], [half(0.2, 0.2)]
    model = FusionModel(by_hand(confident, uncertain, uncertain, truths=(LEFT,)))
    model.fusion = replace(model.fusion, temperature=0.1)
    assert model.dice().tolist() == [0]
    model.fusion = replace(model.fusion, temperature=10.0)
    assert model.dice().tolist() == [1]


def test_nothing_marked_where_nothing_is_counts_one(by_hand):
    model = FusionModel(by_hand([half(0.9, 0.1), half(0.1, 0.1)], truths=(LEFT, [[0] * 4] * 4)))
    assert model.dice().tolist() == [1, 1]
    model.fusion = replace(model.fusion, threshold=0.05)
    assert model.dice().tolist() == pytest.approx([2 / 3, 0])


def test_the_best_weights_and_the_order_of_images_by_hand(model):
    assert model.best().weights == {"a": 0.5, "b": 0.5}
    assert model.dice_map()[5] == 1
    assert model.points[5].tolist() == [0.5, 0.5]
    assert model.best_member == "a"  # at a threshold of 0.75 it is right on both images
    assert model.single.tolist() == [1, 1]


def test_the_image_that_gains_most_from_fusion_comes_first(by_hand):
    wrong = half(0.3, 0.6)
    # a is the better one alone, but wrong on image 1, where b is more confident.
    one = [half(0.9, 0.1), half(0.4, 0.6), half(0.9, 0.1)]
    two = [wrong, half(0.9, 0.1), wrong]
    model = FusionModel(by_hand(one, two, truths=(LEFT, LEFT, LEFT)))
    assert model.best_member == "a"
    assert model.order() == [1, 0, 2]
    assert model.image == 1
    assert model.single.tolist() == pytest.approx([1, 2 / 3, 1])
    assert model.dice()[1] > 2 / 3


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 100),
    mean_of=st.sampled_from(["probabilities", "logits"]),
    temperature=st.floats(0.2, 5),
    threshold=st.floats(0.05, 0.95),
    weights=st.lists(st.integers(0, 10), min_size=3, max_size=3).filter(any),
)
def test_counting_equals_fusing_whole_images(seed, mean_of, temperature, threshold, weights):
    logits, masks, names = cases(seed=seed)
    masks[0] = False
    weights = [weight / sum(weights) for weight in weights]
    fusion = WeightedFusion(dict(zip(names, weights, strict=True)), mean_of, temperature, threshold)
    expected = mask_dice(fusion(logits) > threshold, masks)
    got = FusedDice(logits, masks)(Scale(mean_of, temperature, threshold), [weights])[0]
    # A pixel that lies on the threshold but for rounding may fall on either side.
    near = ((fusion(logits) - threshold).abs() < 1e-6).flatten(1).any(1)
    torch.testing.assert_close(torch.from_numpy(got)[~near], expected[~near])


@pytest.mark.parametrize("mean_of", ["probabilities", "logits"])
def test_the_map_is_what_the_exact_search_counts(mean_of):
    logits, masks, _ = cases(images=10)
    points = np.array(list(simplex(3, 10))) / 10
    found = FusedDice(logits, masks)(Scale(mean_of, 1.0, 0.5), points).mean(axis=1)
    for point, dice in zip(points, found, strict=True):
        rule = WeightedMean(mean_of == "logits", tuple(point))
        assert dice == pytest.approx(mask_dice(rule(logits) > 0.5, masks).mean().item(), abs=2e-3)


def test_moving_and_taking_the_best_weights(toy):
    model = FusionModel(toy_store())
    assert (model.names, model.size, len(model.points)) == (["unet_d", "clipseg", "biomedclipseg"], 16, 66)
    assert list(model.fusion.weights.values()) == pytest.approx([1 / 3] * 3)
    model.move("clipseg", 0.5)
    assert list(model.fusion.weights.values()) == pytest.approx([0.25, 0.5, 0.25])
    best = model.dice_map().max()
    model.fusion = replace(model.best(), threshold=0.5)
    assert model.dice().mean() == pytest.approx(best)
    corners = [model.points.tolist().index(corner) for corner in np.eye(3).tolist()]
    np.testing.assert_allclose(model.member_dice().mean(axis=1), model.dice_map()[corners])


def test_it_provides_what_the_explorer_shows(toy):
    model = FusionModel(toy_store())
    model.fusion = replace(model.fusion, temperature=2.0)
    model.image = 2
    assert model.pixels().shape == (32, 32, 3)
    assert model.ground_truth().shape == (32, 32)
    members = model.member_probabilities(48)
    assert members.shape == (3, 48, 48)
    expected = torch.sigmoid(model.store.logits(48, [2])[:, 0] / 2)
    np.testing.assert_allclose(members, expected, rtol=1e-6)
    np.testing.assert_array_equal(model.prediction(48), members.mean(axis=0) > 0.5)


def test_an_exported_fusion_is_loaded_again(toy, tmp_path):
    model = FusionModel(toy_store())
    model.move("unet_d", 0.7)
    model.fusion = replace(model.fusion, mean_of="logits", temperature=1.3, threshold=0.35)
    model.export(tmp_path / "fusion.json")
    assert WeightedFusion.load(tmp_path / "fusion.json") == model.fusion


def test_masks_of_the_test_split_do_not_change_what_is_chosen(toy):
    validation, test = toy_store(), toy_store("test", 5, seed=1)
    chosen = FusionModel(validation)
    fusion, order = chosen.best(), chosen.order()
    fused = fusion.probabilities(test, 32)
    samples = test.samples()
    moved = [replace(one, mask=other.mask) for one, other in zip(samples, samples[1:] + samples[:1], strict=True)]
    permuted = toy_store("test", 5, seed=1, samples=moved)
    assert fusion.score(permuted)["dice"].tolist() != fusion.score(test)["dice"].tolist()
    again = FusionModel(validation)
    assert (again.best(), again.order()) == (fusion, order)
    assert torch.equal(again.best().probabilities(permuted, 32), fused)
    with pytest.raises(DataError, match="test split.*\n.*vlsm evaluate"):
        FusionModel(test)


def test_a_split_without_foreground_is_refused(by_hand):
    with pytest.raises(DataError, match="All masks are empty"):
        FusionModel(by_hand([half(0.9, 0.1)], truths=([[0] * 4] * 4,)))
