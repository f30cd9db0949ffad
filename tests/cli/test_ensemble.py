import pytest


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_trained(vlsm, toy, monkeypatch, tmp_path):
    monkeypatch.setattr(
        "vlsm_helpers.experiments.late_ensemble.train_ensemble", lambda *_, **__: pytest.fail("it trained")
    )
    monkeypatch.setattr(
        "vlsm_helpers.io.atomic.TemporaryFile", lambda **_: (_ for _ in ()).throw(PermissionError(13, "no"))
    )
    outcome = vlsm("ensemble", "toy", "--save", tmp_path / "x" / "y")
    assert outcome.exit_code == 1
    assert "--save" in outcome.stderr
    assert "VLSM" not in outcome.stderr
