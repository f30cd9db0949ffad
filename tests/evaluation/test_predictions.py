import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

from tests.helpers import index
from vlsm_helpers.data.dataset import SegmentationDataset
from vlsm_helpers.data.samples import load_split
from vlsm_helpers.errors import DataError
from vlsm_helpers.evaluation import predictions
from vlsm_helpers.evaluation.predictions import PredictionInfo, PredictionStore
from vlsm_helpers.experiments.runs import predict_run, train_member
from vlsm_helpers.models import factory


def logits(count=3, size=4, seed=0):
    return 3 * np.random.default_rng(seed).normal(size=(count, size, size)).astype(np.float32)


def test_what_is_written_is_read_in_half_precision(tmp_path):
    values = logits()
    predictions.write(tmp_path / "mine", index(), values)
    read = predictions.read(tmp_path / "mine")
    assert read.index == index()
    assert read.logits.dtype == np.float16
    np.testing.assert_allclose(read.logits, values, rtol=1e-3)


def test_logits_surer_than_half_precision_can_say_are_cut(tmp_path):
    predictions.write(tmp_path / "mine", index(ids=["a"]), np.full((1, 2, 2), 1e6))
    assert predictions.read(tmp_path / "mine").logits.max() == 65504


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_a_logit_that_is_no_number_is_refused_by_the_images_name(tmp_path, broken):
    predictions.write(tmp_path / "mine", index(), logits())
    spoilt = logits(seed=1)
    spoilt[1, 2, 2] = broken
    with pytest.raises(DataError, match="NaN or infinite.*\n.*: b"):
        predictions.write(tmp_path / "mine", index(), spoilt)
    np.testing.assert_allclose(
        predictions.read(tmp_path / "mine").logits, logits(), rtol=1e-3
    )  # what was there is kept


@pytest.mark.parametrize("count", [2, 4])
def test_another_number_of_images_is_refused(tmp_path, count):
    with pytest.raises(DataError, match=f"of {count} images, not of 3"):
        predictions.write(tmp_path / "mine", index(), logits(count))
    assert list(tmp_path.iterdir()) == []


def test_no_logits_at_all_are_refused(tmp_path):
    with pytest.raises(DataError, match="no logits"):
        predictions.write(tmp_path / "mine", index(ids=()), [])


def test_half_a_prediction_is_none(tmp_path):
    folder = tmp_path / "mine"
    predictions.write(folder, index(), logits())
    whole = (folder / predictions.LOGITS).read_bytes()
    (folder / predictions.LOGITS).write_bytes(whole[:-8])
    with pytest.raises(DataError, match="no whole prediction.*\n.*\n.*vlsm predict"):
        predictions.read(folder)
    (folder / predictions.LOGITS).write_bytes(whole)
    facts = json.loads((folder / predictions.INDEX).read_text())
    (folder / predictions.INDEX).write_text(json.dumps(facts | {"ids": ["a", "b", "d"]}))
    with pytest.raises(DataError, match="no whole prediction"):
        predictions.read(folder)
    with pytest.raises(DataError, match="no whole prediction"):
        predictions.read(tmp_path / "nowhere")


def test_a_killed_writer_leaves_what_was_there(tmp_path):
    predictions.write(tmp_path / "mine", index(), logits())
    script = """
        import os, signal, sys
        from tests.evaluation.test_predictions import logits
        from tests.helpers import index
        from vlsm_helpers.evaluation import predictions

        def dying():
            yield from logits(2, seed=1)
            os.kill(os.getpid(), signal.SIGKILL)

        predictions.write(sys.argv[1], index(), dying())
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "mine")], check=False, cwd=os.getcwd()
    )
    assert run.returncode == -9
    np.testing.assert_allclose(predictions.read(tmp_path / "mine").logits, logits(), rtol=1e-3)


def test_two_members_side_by_side(tmp_path):
    for number, name in enumerate(("one", "two")):
        predictions.write(tmp_path / name, index(name), logits(seed=number))
    both = PredictionStore.open([tmp_path / "one", tmp_path / "two"])
    assert (both.names, both.ids, len(both)) == (["one", "two"], ("a", "b", "c"), 3)
    torch.testing.assert_close(both.logits(4)[1], torch.from_numpy(logits(seed=1)), rtol=1e-3, atol=1e-3)
    assert both.logits(6, images=[2]).shape == (2, 1, 6, 6)
    assert torch.equal(both.probabilities(4), torch.sigmoid(both.logits(4)))
    alone = both.of(["two"])
    assert torch.equal(alone.logits(4)[0], both.logits(4)[1])
    with pytest.raises(DataError, match="no member 'three'"):
        both.of(["three"])


def test_members_of_different_images_are_refused_and_the_difference_is_named(tmp_path):
    others = {
        "more": (index("two", ids=["a", "b", "c", "d"]), "only two has d"),
        "other": (index("two", ids=["a", "b", "x"]), "only one has c; only two has x"),
        "order": (index("two", ids=["b", "a", "c"]), "the same ones in another order"),
        "split": (index("two", split="test"), "one: toy, val; two: toy, test"),
        "twin": (index("one"), "Duplicate member name"),
    }
    predictions.write(tmp_path / "one", index("one"), logits())
    for folder, (of, said) in others.items():
        predictions.write(tmp_path / folder, of, logits(len(of.ids)))
        with pytest.raises(DataError, match=said):
            PredictionStore.open([tmp_path / "one", tmp_path / folder])
    with pytest.raises(DataError, match="no prediction to fuse"):
        PredictionStore.open([])


def test_a_run_is_predicted_and_a_member_of_ones_own_joins_it(toy, tmp_path, own_runs):
    run = train_member("unet_d", "toy", run="cnn", size=32, width=1 / 16, epochs=1)
    folder = predict_run(run, "val")
    assert folder == run / "logits" / "toy-val"
    first = predictions.read(folder)
    assert first.index.member == "unet_d"
    segmenter, facts = factory.load(run / "best.safetensors")
    image = SegmentationDataset(load_split("toy", "val"), facts["image_size"])[2]["image"]
    with torch.no_grad():
        expected = segmenter(image[None])[0, 0]
    torch.testing.assert_close(torch.from_numpy(np.array(first.logits[2], np.float32)), expected, rtol=2e-3, atol=2e-3)
    predictions.write(
        tmp_path / "own",
        PredictionInfo("mine", "toy", "val", first.index.ids, first.index.sizes, "none"),
        logits(4, 16),
    )
    both = PredictionStore.open([folder, tmp_path / "own"])
    assert both.names == ["unet_d", "mine"]
    masks = both.masks(32)
    assert masks.shape == (4, 32, 32)
    assert all(np.array_equal(mask.numpy(), true) for mask, true in zip(masks, both.true_masks(), strict=True))
    assert both.masks(16).float().mean().item() == pytest.approx(masks.float().mean().item(), rel=0.2)


def test_an_image_that_the_dataset_no_longer_has_is_named(toy, tmp_path):
    predictions.write(tmp_path / "mine", index(), logits())
    with pytest.raises(DataError, match="no image 'a' any more"):
        PredictionStore.open([tmp_path / "mine"]).true_masks()
