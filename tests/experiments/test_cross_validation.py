import json

import pytest
from typer.testing import CliRunner

from tests.helpers import write_toy
from vlsm_helpers.cli import app
from vlsm_helpers.data.samples import SPLITS, load_split
from vlsm_helpers.errors import DataError
from vlsm_helpers.experiments import grid
from vlsm_helpers.experiments.cross_validation import ALL, BEST_MEMBER, cross_validate
from vlsm_helpers.inference.predictor import Predictor
from vlsm_helpers.metrics.statistics import bootstrap_mean, paired_difference

MEMBERS = ("clipseg", "unet_d")
COUNTS = {"train": 5, "val": 2, "test": 2}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Nine toy images of seven groups, two of them with two images."""
    root = tmp_path_factory.mktemp("rounds")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLSM_DATA", str(root / "data"))
        patch.setenv("VLSM_RUNS", str(root / "runs"))
        toy = write_toy(root / "data", entries=COUNTS)
        number = 0
        for split in SPLITS:
            path = toy / "anns" / f"{split}.json"
            rows = json.loads(path.read_text())
            for row in rows:
                row["group"] = f"patient {number % 7}"
                number += 1
            path.write_text(json.dumps(rows))
        yield root


@pytest.fixture(scope="module")
def rounds(folders):
    return cross_validate("toy", 3, epochs=1, members=MEMBERS)


def test_every_image_is_tested_once_by_every_model(rounds):
    counts = rounds.scores.groupby("model")["id"].agg(["count", "nunique"])
    assert set(counts.index) == {*MEMBERS, "late_fusion", BEST_MEMBER}
    assert (counts == 9).all(axis=None)
    assert rounds.scores.groupby("group")["fold"].nunique().max() == 1


def test_a_round_trains_on_neither_its_test_nor_its_validation_images(rounds):
    for number, ensemble in enumerate(rounds.ensembles, start=1):
        settings = json.loads((ensemble.cell.joined[0].folder / "settings.json").read_text())
        assert settings["train_images"] == len(load_split(f"toy@{number}of3", "train"))
        assert ensemble.cell.dataset == f"toy@{number}of3"


def test_the_table_pools_images_and_resamples_groups(rounds):
    table, scores = rounds.table(), rounds.scores
    for model, part in scores.groupby("model"):
        row = table[(table["fold"] == ALL) & (table["model"] == model)].iloc[0]
        expected = bootstrap_mean(part["dice"], clusters=part["group"])
        assert (row["value"], row["low"], row["high"]) == pytest.approx(expected[:3])
        assert expected.n == 7
        assert row["n"] == 9
        for fold, of_fold in part.groupby("fold"):
            found = table[(table["fold"] == str(fold)) & (table["model"] == model)].iloc[0]
            assert found["value"] == pytest.approx(of_fold["dice"].mean())
    assert set(table["metric"]) == {"dice"}  # no toy is without a lesion


def test_the_best_member_is_the_one_that_a_round_chooses_on_its_validation_images(rounds):
    scores = rounds.scores
    best = scores[scores["model"] == BEST_MEMBER].set_index("id")["dice"]
    fused = scores[scores["model"] == "late_fusion"].set_index("id")
    expected = paired_difference(100 * fused["dice"], 100 * best[fused.index], clusters=fused["group"])
    assert rounds.gain() == pytest.approx(expected)


def test_given_again_nothing_is_trained_and_the_command_saves_an_ensemble_with_both_scores(
    rounds, folders, monkeypatch
):
    train, trained = grid.train_member, []
    monkeypatch.setattr(grid, "train_member", lambda *a, **b: trained.append(a) or train(*a, **b))
    command = ["ensemble", "toy", "--save", str(folders / "saved"), "--epochs", "1", "--folds", "3"]
    outcome = CliRunner().invoke(app, [*command, "--member", "clipseg", "--member", "unet_d"])
    assert outcome.exit_code == 0, outcome.output
    assert trained == [("clipseg", "toy"), ("unet_d", "toy")]  # the saved ensemble; no round
    card = (folders / "saved" / "README.md").read_text()
    for text in (outcome.output, card):
        assert rounds.in_words() in text
    assert "7 groups" in card
    assert "fold 3" in card
    assert list(Predictor.load(folders / "saved").members) == list(MEMBERS)


def test_folds_that_cannot_be_made_are_refused_before_anything_is_trained(folders, monkeypatch):
    monkeypatch.setattr(grid, "train_member", lambda *_, **__: pytest.fail("it trained"))
    with pytest.raises(DataError, match="folds"):
        cross_validate("toy", 8, epochs=1, members=MEMBERS)
    outcome = CliRunner().invoke(app, ["ensemble", "toy", "--save", str(folders / "none"), "--folds", "2"])
    assert outcome.exit_code == 2
