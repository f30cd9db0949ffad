import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.conftest import write_toy
from vlsm_helpers import reproduce
from vlsm_helpers.cli import app
from vlsm_helpers.data.images import read_image
from vlsm_helpers.data.samples import load_split
from vlsm_helpers.ensemble import train_ensemble
from vlsm_helpers.errors import SettingsError, TrainingError
from vlsm_helpers.predictor import Predictor
from vlsm_helpers.store import Store

PROJECT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folders of this module's own in the environment, with a toy dataset in them."""
    root = tmp_path_factory.mktemp("ensemble")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLSM_DATA", str(root / "data"))
        patch.setenv("VLSM_RUNS", str(root / "runs"))
        write_toy(root / "data")
        yield root


@pytest.fixture(scope="module")
def trained(folders):
    return train_ensemble("toy", epochs=1)


def test_what_is_saved_predicts_what_the_table_was_made_of(trained, folders):
    """The predictor, asked about a test image, gives the stored logits' fusion but for what float16 rounds."""
    predictor = Predictor.load(trained.save(folders / "saved"))
    folders_of = [one.folder / "logits" / "toy-test" for one in trained.cell.joined]
    store = Store.open(folders_of)
    for number, sample in enumerate(load_split("toy", "test")):
        stored = trained.fusion.probabilities(store, read_image(sample.image).shape[:2], [number])[0].numpy()
        np.testing.assert_allclose(predictor(sample.image).probability, stored, atol=5e-3)
    assert predictor.prompt == "square"


def test_the_card_says_what_it_is_and_how_it_scores(trained, folders):
    card = (trained.save(folders / "with_card") / "README.md").read_text()
    assert "Not for clinical use" in card
    assert "trained apart on 12 images" in card
    assert "4 validation images" in card
    assert "5 test images" in card
    value = trained.table().set_index("model").loc["late_fusion", "value"]
    assert f"| late_fusion | {100 * value:.1f} |" in card
    assert 'Predictor.load("with_card")' in card
    assert "biomedclipseg tiny" in card


def test_the_table_has_every_member_and_their_fusion(trained):
    table = trained.table()
    assert list(table["model"]) == ["biomedclipseg", "clipseg", "unet_d", "late_fusion"]
    assert table["value"].notna().all()


def test_asked_again_nothing_is_trained(trained, monkeypatch):
    monkeypatch.setattr(reproduce, "train_member", lambda *_, **__: pytest.fail("trained again"))
    assert train_ensemble("toy", epochs=1).fusion == trained.fusion


def test_other_budgets_are_not_mistaken_for_what_is_there(trained):
    with pytest.raises(SettingsError, match="The cell was done with other settings"):
        train_ensemble("toy", epochs=2)


def test_several_datasets_are_refused_before_anything_is_trained(trained):
    with pytest.raises(SettingsError, match="An ensemble is of one dataset"):
        train_ensemble("toy+toy")


def test_a_card_says_how_many_images_were_used_and_that_texts_differ(trained):
    fewer = replace(trained, plan=replace(trained.plan, limit=7))
    assert "trained apart on 7 images" in fewer.card("x")
    assert "a new image is always told" not in fewer.card("x")
    fewer.texts.update(["no square"])
    assert "had one of 2 texts each" in fewer.card("x")


def test_a_member_that_cannot_be_trained_is_told(folders, monkeypatch):
    def fails(*_, **__):
        raise TrainingError("The loss became nan.")

    monkeypatch.setattr(reproduce, "train_member", fails)
    with pytest.raises(TrainingError, match="The loss became nan"):
        train_ensemble("toy", seed=1)


def test_from_the_command_line_in_a_process_of_its_own(trained, folders):
    """`vlsm ensemble` finds everything trained; `vlsm segment` knows nothing but the folder."""
    outcome = CliRunner().invoke(app, ["ensemble", "toy", "--save", str(folders / "by_command"), "--epochs", "1"])
    assert outcome.exit_code == 0, outcome.output
    assert "late_fusion" in outcome.output
    images = [str(sample.image) for sample in load_split("toy", "test")[:2]]
    command = [sys.executable, "-m", "vlsm_helpers", "segment", *images, "--with", str(folders / "by_command")]
    command += ["--prompt", "square", "--to", str(folders / "out")]
    child = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    assert (folders / "out" / "test_0_overlay.jpg").exists()
    assert child.stdout.count("test_") == 2


def test_a_folder_that_is_there_is_refused_before_anything_is_trained(folders, monkeypatch):
    monkeypatch.setattr(reproduce, "train_member", lambda *_, **__: pytest.fail("it trained"))
    outcome = CliRunner().invoke(app, ["ensemble", "toy", "--save", str(folders), "--seed", "7"])
    assert outcome.exit_code == 1
    assert "something here already" in outcome.output


def test_a_predictor_that_is_none_is_told(folders):
    with pytest.raises(SettingsError, match="There is no predictor here"):
        Predictor.load(folders)
