import json
from dataclasses import replace

import pandas as pd
import pytest

from tests.training.test_loop import SHORT, Killed, datasets, killed, network
from vlsm_helpers.errors import BusyError, TrainingError
from vlsm_helpers.training.loop import fit
from vlsm_helpers.training.recipes import CNN
from vlsm_helpers.training.run_folder import BEST, LAST, METRICS


def test_a_finished_run_is_not_trained_again(toy, tmp_path):
    first = fit(network(), *datasets(), tmp_path / "run", SHORT)
    written = (tmp_path / "run" / LAST).stat().st_mtime_ns
    pd.testing.assert_frame_equal(fit(network(), *datasets(), tmp_path / "run", SHORT), first)
    assert (tmp_path / "run" / LAST).stat().st_mtime_ns == written


def test_a_folder_of_another_run_is_refused_and_what_differs_is_named(toy, tmp_path):
    fit(network(), *datasets(), tmp_path / "run", SHORT)
    with pytest.raises(TrainingError, match=r"other settings \(seed: there 0, asked for 5\)"):
        fit(network(), *datasets(), tmp_path / "run", SHORT, seed=5)
    with pytest.raises(TrainingError) as failure:
        fit(network(), *datasets(), tmp_path / "run", replace(SHORT, batch_size=2, name="other"))
    named = "recipe.name: there cnn, asked for other; recipe.batch_size: there 4, asked for 2"
    assert f"({named})" in failure.value.what
    assert "--name" in failure.value.hint


def test_a_run_of_version_0_1_0_resumes(toy, tmp_path):
    """Its settings hold the words of then: `ours` for the recipe, `epochs_a_view` for a number of it."""
    whole = fit(network(), *datasets(), tmp_path / "whole", SHORT)
    with pytest.raises(Killed):
        fit(killed(9), *datasets(), tmp_path / "run", SHORT)
    path = tmp_path / "run" / "settings.json"
    old = path.read_text().replace('"name": "cnn"', '"name": "ours"').replace("epochs_per_view", "epochs_a_view")
    assert old != path.read_text()
    path.write_text(old)
    pd.testing.assert_frame_equal(fit(network(), *datasets(), tmp_path / "run", SHORT), whole)


@pytest.mark.parametrize("leave", ["settings", "settings cut short by a power failure", "settings and best weights"])
def test_a_start_that_saved_no_epoch_is_begun_anew(toy, tmp_path, leave):
    """Out of memory, a wrong prompt, a kill: the same name with other settings then starts from nothing."""
    run = tmp_path / "run"
    with pytest.raises(Killed):
        fit(killed(1), *datasets(), run, SHORT)
    assert (run / "settings.json").exists()
    if "power" in leave:
        (run / "settings.json").write_bytes(b"\0" * 40)
    if "best" in leave:
        (run / BEST).write_bytes(b"weights of other settings")
    (run / ".last.safetensors.partial-0").write_bytes(b"half")
    recipe = replace(SHORT, batch_size=2)
    found = fit(network(), *datasets(), run, recipe, seed=3)
    pd.testing.assert_frame_equal(found, fit(network(), *datasets(), tmp_path / "whole", recipe, seed=3))
    assert not list(run.glob("*.partial-*"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("settings.json", '{"editor.tabSize": 2}'),
        ("settings.json", "// comment"),
        (METRICS, "my,own\n1,2\n"),
        (BEST, "weights without a run"),
        (LAST, "weights without a run"),
    ],
)
def test_files_of_others_in_the_folder_are_left_as_they_are(toy, tmp_path, name, content):
    """A folder of the user's own, named by mistake: an editor's settings, somebody's table, weights without a run."""
    (tmp_path / name).write_text(content)
    with pytest.raises(TrainingError):
        fit(network(), *datasets(), tmp_path, SHORT)
    assert (tmp_path / name).read_text() == content
    assert {path.name for path in tmp_path.glob("[!.]*")} == {name, "data"}


def test_a_run_without_its_last_checkpoint_keeps_its_best_one(toy, tmp_path):
    """Deleted to free space, perhaps: beginning anew would replace the weights that are left."""
    run = tmp_path / "run"
    fit(network(), *datasets(), run, SHORT)
    (run / LAST).unlink()
    best = (run / BEST).read_bytes()
    with pytest.raises(TrainingError, match="no last.safetensors"):
        fit(network(), *datasets(), run, SHORT)
    assert (run / BEST).read_bytes() == best


def test_of_two_that_train_one_run_the_second_is_refused(toy, tmp_path):
    """Though it wants the very same: each holds a lock of its own on the file, as two processes do."""
    run, model, refused = tmp_path / "run", network(), []

    def second(*_):
        if not refused:
            with pytest.raises(BusyError) as failure:
                fit(network(), *datasets(), run, SHORT)
            refused.append(failure.value)

    model.register_forward_pre_hook(second)
    history = fit(model, *datasets(), run, SHORT)
    assert refused[0].where == run
    assert len(history) == SHORT.epochs
    assert (run / METRICS).read_text() == history.to_csv(index=False)


def test_settings_say_what_was_trained(toy, tmp_path):
    fit(network(), *datasets(), tmp_path / "run", replace(SHORT, epochs=1))
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert settings["dataset"] == ["toy"]
    assert settings["member"]["name"] == "unet_d"
    assert settings["train_images"] == 12
    assert settings["recipe"]["learning_rate"] == CNN.learning_rate
