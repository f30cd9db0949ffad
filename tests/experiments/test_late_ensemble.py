import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from tests.helpers import write_toy
from vlsm_helpers.cli import app
from vlsm_helpers.data.formats import Reading
from vlsm_helpers.data.images import read_image
from vlsm_helpers.data.samples import load_split
from vlsm_helpers.errors import SettingsError, TrainingError
from vlsm_helpers.evaluation.predictions import PredictionStore
from vlsm_helpers.experiments import grid
from vlsm_helpers.experiments.late_ensemble import Ensemble, train_ensemble
from vlsm_helpers.experiments.members import FUSED
from vlsm_helpers.inference.predictor import Predictor
from vlsm_helpers.models import imagenet

PROJECT = Path(__file__).parents[2]


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


@pytest.fixture
def no_training(monkeypatch):
    monkeypatch.setattr(grid, "train_member", lambda *_, **__: pytest.fail("it trained"))


def test_what_is_saved_predicts_what_the_table_was_made_of(trained, folders):
    """The predictor, asked about a test image, gives the stored logits' fusion but for what float16 rounds."""
    predictor = Predictor.load(trained.save(folders / "saved"))
    folders_of = [one.folder / "logits" / "toy-test" for one in trained.cell.joined]
    store = PredictionStore.open(folders_of)
    for number, sample in enumerate(load_split("toy", "test")):
        stored = trained.fusion.probabilities(store, read_image(sample.image).shape[:2], [number])[0].numpy()
        np.testing.assert_allclose(predictor(sample.image).probability, stored, atol=5e-3)
    assert predictor.prompt == "square"


def test_the_card_says_what_it_is_how_it_scores_and_what_decides_its_worth(trained, folders):
    card = (trained.save(folders / "with_card") / "README.md").read_text()
    assert "Not for clinical use" in card
    assert "on 12 images" in card
    assert "4 validation images" in card
    assert "5 test images" in card
    value = trained.table().set_index("model").loc["late_fusion", "value"]
    assert f"| late_fusion | {100 * value:.1f} |" in card
    assert 'Predictor.load("with_card")' in card
    assert "biomedclipseg tiny" in card
    assert f"unet_imagenet started from {imagenet.ATTRIBUTION}" in card
    assert "- Split: as the dataset comes. Empty masks: 0 of 4 in validation, 0 of 5 in test" in card
    assert "- Training: profile tiny, 1 epochs at most" in card


def test_the_table_has_every_member_and_their_fusion(trained):
    table = trained.table()
    assert list(table["model"]) == ["biomedclipseg", "clipseg", "unet_d", "unet_imagenet", "late_fusion"]
    assert table["value"].notna().all()


def test_asked_again_nothing_is_trained(trained, no_training):
    assert train_ensemble("toy", epochs=1).fusion == trained.fusion


def test_an_ensemble_of_version_0_1_0_resumes_in_its_folder(trained, folders, monkeypatch, tmp_path):
    """It stands in runs/reproduce, done but for its last member: that one alone is trained, there."""
    runs, again, fusion = tmp_path / "runs", [], trained.fusion
    shutil.copytree(folders / "runs" / "ensembles", runs / "reproduce")
    monkeypatch.setenv("VLSM_RUNS", str(runs))
    unfinished = next(cell.folder.name for cell in trained.plan.cells if cell.member == "unet_d")
    shutil.rmtree(runs / "reproduce" / "toy" / unfinished)
    train_member = grid.train_member
    monkeypatch.setattr(grid, "train_member", lambda name, *a, **o: again.append(name) or train_member(name, *a, **o))
    resumed = train_ensemble("toy", epochs=1)
    assert again == ["unet_d"]
    assert resumed.cell.folder.is_relative_to(runs / "reproduce")
    assert not (runs / "ensembles").exists()
    assert resumed.fusion == fusion


@pytest.fixture
def without_imagenet(tmp_path, monkeypatch):
    """A machine that has EfficientNet-Lite0's weights neither in the Python package nor elsewhere."""
    monkeypatch.setattr(imagenet, "PACKAGE", "no_such_package")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))


def test_without_imagenets_weights_the_papers_members_are_joined(trained, folders, without_imagenet, no_training):
    command = ["ensemble", "toy", "--save", str(folders / "three"), "--epochs", "1"]
    outcome = CliRunner().invoke(app, command)
    assert outcome.exit_code == 0, outcome.output
    assert "unet_imagenet is left out" in outcome.output
    assert imagenet.DISTRIBUTION in outcome.output
    assert list(Predictor.load(folders / "three").members) == list(FUSED)


def test_an_ensemble_with_the_light_cnn_is_used_where_its_weights_are_not(trained, folders, without_imagenet):
    predictor = Predictor.load(trained.save(folders / "four"))
    assert list(predictor.members) == [*FUSED, "unet_imagenet"]
    assert predictor(load_split("toy", "test")[0].image).mask.shape == (32, 32)


def test_members_can_be_chosen(trained, no_training):
    two = train_ensemble("toy", epochs=1, members=("clipseg", "unet_imagenet"))
    assert list(two.fusion.weights) == ["clipseg", "unet_imagenet"]


def test_other_budgets_are_not_mistaken_for_what_is_there(trained):
    with pytest.raises(SettingsError, match="trained with other settings: epochs 1; now epochs 2"):
        train_ensemble("toy", epochs=2)


def test_several_datasets_are_refused_before_anything_is_trained(trained):
    with pytest.raises(SettingsError, match="An ensemble is of one dataset"):
        train_ensemble("toy+toy")


def test_a_card_says_how_many_images_were_used_and_that_texts_differ(trained):
    fewer = replace(trained, plan=replace(trained.plan, limit=7))
    assert "on 7 images" in fewer.card("x")
    assert "a new image gets" not in fewer.card("x")
    fewer.texts.update(["no square"])
    assert "had one of 2 prompts each" in fewer.card("x")


def test_a_member_that_cannot_be_trained_is_told(folders, monkeypatch):
    def fails(*_, **__):
        raise TrainingError("The loss became nan.")

    monkeypatch.setattr(grid, "train_member", fails)
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


def test_a_folder_that_is_there_is_refused_before_anything_is_trained(folders, no_training):
    outcome = CliRunner().invoke(app, ["ensemble", "toy", "--save", str(folders), "--seed", "7"])
    assert outcome.exit_code == 1
    assert "something here already" in outcome.output


def scores(trained, monkeypatch, **values):
    """The ensemble, with these Dice of its members and of itself over all images and over lesions."""
    rows = [
        {"metric": metric, "model": name, "value": value}
        for name, pair in values.items()
        for metric, value in zip(("dice", "dice, lesion only"), pair, strict=True)
    ]
    monkeypatch.setattr(Ensemble, "table", lambda self: pd.DataFrame(rows))
    return trained


def test_an_ensemble_that_is_below_a_member_says_so_and_not_one_that_is_level_with_it(trained, monkeypatch):
    worse = scores(trained, monkeypatch, one=(0.2, 0.4), two=(0.3, 0.51), late_fusion=(0.31, 0.188))
    assert worse.warning.startswith("On test the ensemble is below its member two (lesion only 18.8 against 51.0 %)")
    assert "on 4 validation images" in worse.warning
    assert scores(trained, monkeypatch, one=(0.2, 0.4), two=(0.3, 0.51), late_fusion=(0.31, 0.505)).warning == ""


def test_a_member_that_was_damaged_is_told_with_the_right_cure(trained, folders):
    saved = trained.save(folders / "damaged")
    tensors = saved / "clipseg.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1])
    with pytest.raises(SettingsError, match="A member is missing or broken") as failure:
        Predictor.load(saved)
    assert failure.value.where == tensors
    assert "copy the ensemble's folder again" in failure.value.hint


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"--with": "nowhere"}, "There is no predictor here"),
        ({"image": "nothing/*.png"}, "There is no such file"),
        ({"image": "glance"}, "There is no image in the folder"),
        ({"--to": "a_file"}, "This is a file"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_wrong_at_a_glance_is_told_before_a_network_is_loaded(folders, monkeypatch, change, what):
    monkeypatch.chdir(folders)
    (folders / "a_file").touch()
    (folders / "glance").mkdir(exist_ok=True)
    (folders / "glance" / "predictor.json").touch()
    monkeypatch.setattr(Predictor, "load", lambda folder: pytest.fail("it was loaded"))
    given = {"image": "a_file", "--with": "glance", "--to": "out_of_it"} | change
    outcome = CliRunner().invoke(
        app, ["segment", given.pop("image"), *(word for pair in given.items() for word in pair)]
    )
    assert outcome.exit_code == 1
    assert what in outcome.output
    assert not (folders / "out_of_it").exists()


def test_a_prompt_that_it_was_not_trained_with_is_told(trained, folders):
    saved, image = trained.save(folders / "told"), str(load_split("toy", "test")[0].image)
    for prompt, told in (("a bicycle", True), ("square", False)):
        command = ["segment", image, "--with", str(saved), "--prompt", prompt, "--to", str(folders / prompt)]
        outcome = CliRunner().invoke(app, command)
        assert outcome.exit_code == 0, outcome.output
        assert ("'square'" in outcome.output) is told


def test_what_is_saved_remembers_its_prompts_and_how_its_images_were_made(trained, folders):
    facts = folders / "data" / "toy" / "dataset.json"
    facts.write_text('{"bit_depth": 12, "window": [40, 400], "axis": "coronal", "foreground": null}')
    try:
        found = Predictor.load(trained.save(folders / "remembers"))
        ready = trained.predictor()
    finally:
        facts.unlink()
    assert found.trained_on == ("square",)
    for one in (found, ready):
        assert (one.bit_depth, one.reading) == (12, Reading((40, 400), "coronal"))
