import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from benchmarks import late_fusion
from benchmarks.hybrid_ensembles import MEMBERS
from benchmarks.late_fusion import AVERAGED, BEST_SINGLE, MIRRORED, PIXEL_ORACLE, Flipped, measure, table
from vlsm_helpers.experiments.runs import PER_IMAGE, evaluate_run
from vlsm_helpers.fusion import RULES

SEEDS = (0, 1)


@pytest.fixture
def runs(toy, narrow_cnns):
    """Trained on images that are larger than the networks'."""
    for path in [*toy.glob("images/*"), *toy.glob("masks/*")]:
        Image.open(path).resize((48, 40), 0).save(path)
    return narrow_cnns(late_fusion)


def test_every_rule_and_control_is_judged_on_every_image_as_a_run_is(toy, runs):
    rows = measure("toy", 1, SEEDS)
    assert set(rows["rule"]) == {*MEMBERS, *(rule.name for rule in RULES), PIXEL_ORACLE, MIRRORED, AVERAGED}
    assert set(rows["seed"]) == {1}
    dice = rows.pivot(index="id", columns="rule", values="dice")
    assert dice.shape == (5, len(set(rows["rule"])))
    for label in MEMBERS:
        run = runs("toy", label, 1)
        evaluate_run(run)
        expected = pd.read_csv(run / PER_IMAGE).set_index("id")["dice"]
        np.testing.assert_allclose(dice[label], expected[dice.index], atol=6e-4)  # logits are kept in half precision
    assert (dice[PIXEL_ORACLE] >= dice[list(MEMBERS)].max(axis=1) - 1e-9).all()


def test_of_one_seed_there_is_no_mean(toy, runs):
    assert AVERAGED not in set(measure("toy", 0, [0])["rule"])


def test_test_labels_change_no_fitted_rule(toy, runs, monkeypatch):
    """The test masks are dealt anew: every score changes, no rule and no control does."""
    judged, judge = [], late_fusion.judge
    monkeypatch.setattr(late_fusion, "judge", lambda rules, test: judged.append(rules) or judge(rules, test))
    before = measure("toy", 0, SEEDS)
    masks = sorted(toy.glob("masks/test_*"))
    contents = [path.read_bytes() for path in masks]
    for path, content in zip(masks, contents[1:] + contents[:1], strict=True):
        path.write_bytes(content)
    after = measure("toy", 0, SEEDS)
    first, second = ([rule for rules in part for rule in rules.items()] for part in (judged[:3], judged[3:]))
    assert len(first) == len(MEMBERS) + len(RULES) + 2
    logits = 3 * torch.randn(3, 2, 8, 8)
    for (name, one), (same, other) in zip(first, second, strict=True):
        assert (name, one.threshold) == (same, other.threshold)
        assert torch.equal(one(logits), other(logits)), name
    assert not np.allclose(before["dice"], after["dice"])


def test_a_mirrored_view_is_mirrored_back():
    images = torch.rand(2, 3, 16, 16)

    class Brightness(nn.Module):
        def forward(self, images, prompts):
            return images.mean(1, keepdim=True) + torch.arange(16) / 16  # and something that knows left from right

    seen = Flipped(Brightness(), (-1,))(images, ["", ""])
    expected = images.mean(1, keepdim=True) + torch.arange(16).flip(0) / 16
    torch.testing.assert_close(seen, expected)


def made_up(rule, dice, seed=0):
    ids = [f"{number}" for number in range(len(dice))]
    return pd.DataFrame({"id": ids, "dice": dice, "rule": rule, "dataset": "phantom_skin", "seed": seed})


def test_the_table_pairs_images_and_seeds_and_first_says_whether_fusing_can_work():
    hard = np.linspace(0.2, 0.9, 40)
    parts = []
    for seed in (0, 1):
        shift = 0.02 * seed
        parts += [made_up(label, hard + 0.01 * number, seed) for number, label in enumerate(MEMBERS)]
        parts += [made_up(PIXEL_ORACLE, np.ones(40), seed), made_up(BEST_SINGLE, hard + shift, seed)]
        parts += [made_up(MIRRORED, hard + 0.01 + shift, seed)]
        parts += [made_up("majority vote", hard + 0.05 + shift, seed)]
    lines = table(pd.concat(parts)).splitlines()
    assert lines[2] == "| phantom_skin | 55.0 | 56.0 | 57.0 | 57.0 | 100.0 | 1.00, 1.00, 1.00 | 0 % | 0 % | 100 % |"
    vote = "| phantom_skin | majority vote | 61.0 ± 1.4 | 2 | +5.0 (+5.0 to +5.0) | +4.0 (+4.0 to +4.0) |  |"
    assert vote in lines
    assert "| phantom_skin | best single member | 56.0 ± 1.4 | 2 |  | -1.0 (-1.0 to -1.0) |  |" in lines
