import json
from dataclasses import replace

import pandas as pd
import pytest
from filelock import FileLock
from safetensors.torch import load_file

from tests.helpers import write_toy
from vlsm_helpers import settings
from vlsm_helpers.errors import BusyError, SettingsError, TrainingError
from vlsm_helpers.experiments.runs import evaluate_run, fitting_recipe, train_member
from vlsm_helpers.models import factory
from vlsm_helpers.models.clipseg import CLIPSeg
from vlsm_helpers.models.cris import CLIP, CRIS
from vlsm_helpers.settings.profiles import PROFILES
from vlsm_helpers.training.recipes import CNN, DECODER_ONLY, FULL, FULL_LIGHT, FULL_TENTH
from vlsm_helpers.training.run_folder import LOCK

VLSM = {"size": 32, "epochs": 2, "batch_size": 4}
OPTIONS = {"size": 32, "width": 1 / 32, "epochs": 2, "batch_size": 4}


pytestmark = pytest.mark.usefixtures("own_runs")


def test_a_run_is_trained_scored_and_kept(toy):
    run = train_member("unet_d", "toy", **OPTIONS)
    summary = evaluate_run(run)
    assert summary.set_index("metric").loc["dice", "n"] == 5
    assert run.name == "toy-unet_d-cnn-32px-seed0"
    table = pd.read_csv(run / "per_image.csv")
    assert len(table) == 5
    assert set(table["split"]) == {"test"}
    assert json.loads((run / "settings.json").read_text())["recipe"]["epochs"] == 2


def test_another_split_or_dataset_is_added_to_the_table_once(toy):
    write_toy(toy.parent, "other", {"test": 3}, seed=9)
    run = train_member("unet_d", "toy", run="named", **OPTIONS)
    evaluate_run(run)
    summary = evaluate_run(run, "test", "other")
    assert set(summary["dataset"]) == {"other"}
    assert summary.set_index("metric").loc["dice", "n"] == 3
    evaluate_run(run, "val")
    evaluate_run(run, "val")
    assert pd.read_csv(run / "per_image.csv").groupby(["dataset", "split"]).size().to_dict() == {
        ("toy", "test"): 5,
        ("toy", "val"): 4,
        ("other", "test"): 3,
    }


def test_a_limit_takes_the_first_images(toy):
    run = train_member("unet_d", "toy", limit=6, **OPTIONS)
    assert json.loads((run / "settings.json").read_text())["train_images"] == 6


def test_an_unknown_recipe_is_refused_with_the_known_ones(toy):
    with pytest.raises(SettingsError, match="cnn, cnn_pretrained, cnn_imagenet, published, decoder_only"):
        train_member("unet_d", "toy", recipe="theirs")


@pytest.fixture
def tiny_profile(tiny_weights, monkeypatch):
    """The tiny profile, on random weights whose decoders have other widths."""
    profile = replace(
        PROFILES["tiny"],
        clipseg_weights=str(tiny_weights / "clipseg"),
        biomedclip_weights=str(tiny_weights / "biomedclip"),
        decoder_mlp_dim=64,
    )
    monkeypatch.setitem(PROFILES, "tiny", profile)
    return profile


def read_settings(run):
    return json.loads((run / "settings.json").read_text())


def test_a_decoder_learns_from_cached_features(toy, tiny_profile, capsys):
    run = train_member("clipseg", "toy", **VLSM)
    assert run.name == "toy-clipseg-decoder-decoder_only-32px-seed0"
    assert "caching the features of 12 views of 12 images" in capsys.readouterr().out
    kept = read_settings(run)
    assert (kept["recipe"]["name"], kept["views"], kept["member"]["weights"]) == (
        "decoder_only",
        1,
        tiny_profile.clipseg_weights,
    )
    assert not any("clip." in name for name in load_file(run / "best.safetensors"))
    assert evaluate_run(run).set_index("metric").loc["dice", "n"] == 5
    assert train_member("clipseg", "toy", **VLSM) == run
    assert "caching" not in capsys.readouterr().out


def test_a_run_that_another_process_trains_is_refused_before_features_are_computed(toy, tiny_profile, capsys):
    folder = settings.runs_folder() / "busy"
    folder.mkdir(parents=True)
    with FileLock(folder / LOCK), pytest.raises(BusyError) as caught:
        train_member("clipseg", "toy", run="busy", **VLSM)
    assert caught.value.where == folder
    assert "caching" not in capsys.readouterr().out
    assert list(folder.glob("[!.]*")) == []


@pytest.mark.parametrize(("train", "recipe"), [("decoder", DECODER_ONLY), ("encoders", FULL), ("lora", FULL)])
def test_the_shipped_miniatures_need_not_be_gentle_with_their_encoders(train, recipe):
    assert fitting_recipe(CLIPSeg("tiny", train=train)) is recipe


def test_an_ensemble_is_trained_as_the_cnn_in_it():
    options = {"weights": "tiny", "width": 1 / 16}
    assert fitting_recipe(factory.build("ensemble_b", **options)) is CNN
    assert fitting_recipe(factory.build("ensemble_b", train="encoders", **options)) is FULL
    assert fitting_recipe(factory.build("ensemble_a_no_cnn", **options)) is DECODER_ONLY


@pytest.mark.parametrize(("train", "recipe"), [("encoders", "full_low_lr"), ("lora", "full")])
def test_encoders_learn_without_a_cache(toy, tiny_profile, capsys, train, recipe):
    run = train_member("clipseg", "toy", train=train, **VLSM)
    assert run.name == f"toy-clipseg-{train}-{recipe}-32px-seed0"
    assert "caching" not in capsys.readouterr().out
    assert read_settings(run)["views"] is None
    assert any("clip." in name for name in load_file(run / "best.safetensors"))
    assert evaluate_run(run).set_index("metric").loc["dice", "n"] == 5


def test_biomedclipsegs_decoder_starts_from_clipsegs_unless_told_otherwise(toy, tiny_weights, tiny_profile):
    options = VLSM | {"reduce_dim": 16}
    warm = train_member("biomedclipseg", "toy", **options)
    assert read_settings(warm)["started_from"] == tiny_profile.clipseg_weights
    with pytest.raises(TrainingError, match="started_from"):
        train_member("biomedclipseg", "toy", warm_start=False, **options)
    fresh = train_member("biomedclipseg", "toy", warm_start=False, train="encoders", **options)
    assert read_settings(fresh)["started_from"] is None
    assert read_settings(fresh)["recipe"]["name"] == "full_low_lr"
    with pytest.raises(SettingsError, match="no-warm-start"):
        train_member("biomedclipseg", "toy", reduce_dim=32, run="other", **VLSM)


def test_an_option_that_the_member_does_not_have_is_refused(toy, tiny_profile):
    with pytest.raises(SettingsError, match="clipseg has no option 'width'"):
        train_member("clipseg", "toy", width=1.0)
    with pytest.raises(SettingsError, match="Only a decoder of biomedclipseg"):
        train_member("clipseg", "toy", warm_start=True)


def test_cris_is_trained_as_its_encoders_need(tiny_weights):
    published = CRIS(tiny_weights / "clip_rn50")
    light = CRIS(tiny_weights / "clipseg", image_encoder="efficientnet_lite0", image_weights="none")
    assert (fitting_recipe(published), fitting_recipe(light)) == (FULL_TENTH, FULL_LIGHT)
    assert fitting_recipe(CRIS(tiny_weights / "clip_rn50", train="decoder")) is DECODER_ONLY


@pytest.mark.parametrize("train", ["decoder", "encoders"])
def test_cris_trains_is_scored_and_is_loaded_again(toy, tiny_weights, train):
    run = train_member(
        "cris",
        "toy",
        epochs=1,
        size=64,
        train=train,
        image_size=64,
        weights=tiny_weights / "clip_rn50",
        image_encoder=CLIP,
    )
    segmenter, facts = factory.load(run / "best.safetensors")
    assert (facts["member"]["train"], segmenter.started_from) == (train, None)
    assert evaluate_run(run).set_index("metric").loc["dice", "n"] == 5
