from dataclasses import replace

import pandas as pd
import pytest
import torch

from tests.helpers import write_toy
from vlsm_helpers.data.dataset import SegmentationDataset
from vlsm_helpers.data.images import read_mask
from vlsm_helpers.evaluation.scoring import evaluate
from vlsm_helpers.experiments import prompt_effect as effects_of
from vlsm_helpers.experiments.late_ensemble import train_ensemble
from vlsm_helpers.experiments.prompt_effect import mean_mask_dice, prompt_effect
from vlsm_helpers.metrics.overlap import mask_dice
from vlsm_helpers.models import factory


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("effect")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLSM_DATA", str(root / "data"))
        patch.setenv("VLSM_RUNS", str(root / "runs"))
        write_toy(root / "data", entries={"train": 4, "val": 2, "test": 3})
        yield train_ensemble("toy", epochs=1, members=("clipseg", "unet_d"))


def test_only_members_with_text_input_have_an_empty_prompt_and_both_scores_are_those_of_evaluate(trained):
    effects = prompt_effect(trained).set_index("model")
    assert list(effects.index) == ["clipseg", "late_fusion"]
    member, facts = factory.load(trained.checkpoints["clipseg"])
    for column, key in (("dice", "p1"), ("empty", "p0")):
        images = SegmentationDataset(trained.samples("test"), facts["image_size"], prompt=key)
        expected = evaluate(member, images)["dice"].mean()
        assert effects.loc["clipseg", column] == pytest.approx(expected, abs=5e-3)  # logits are kept in half precision
    fused = trained.table().set_index("model").loc["late_fusion", "value"]
    assert effects.loc["late_fusion", "dice"] == pytest.approx(fused)
    assert (effects["low"] <= effects["value"] + 1e-9).all()
    assert (effects["value"] - 100 * (effects["dice"] - effects["empty"])).abs().max() < 1e-9


@pytest.mark.parametrize(("low", "told"), [(-0.1, True), (0.0, True), (0.2, False)])
def test_a_prompt_that_does_not_beat_the_empty_one_is_told(trained, monkeypatch, low, told):
    row = {"model": "clipseg", "dice": 0.5, "empty": 0.49, "value": 1.0, "low": low, "high": 2.0, "n": 3}
    monkeypatch.setattr(effects_of, "prompt_effect", lambda ensemble: pd.DataFrame([row]))
    said = effects_of.in_words(trained)
    assert "+1.0 points" in said
    assert ("does not beat" in said) is told


def test_the_mean_of_one_training_mask_is_that_mask(trained):
    one = replace(trained, plan=replace(trained.plan, limit=1))
    mask = read_mask(trained.samples("train")[0].mask)
    expected = [
        mask_dice(torch.from_numpy(mask)[None], torch.from_numpy(read_mask(sample.mask))[None]).item()
        for sample in trained.samples("test")
    ]
    assert mean_mask_dice(one) == pytest.approx(sum(expected) / 3, abs=0.03)  # at 128 pixels and back
    assert f"{100 * mean_mask_dice(trained):.1f} %" in effects_of.in_words(trained)
