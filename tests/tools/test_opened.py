import os
import shutil
import subprocess
import sys

from tools import opened

USES = """
import vlsm_helpers as vlsm
vlsm.tiny_store("val")
vlsm.build("clipseg", "tiny")
vlsm.build("biomedclipseg", "tiny")
import subprocess, sys
subprocess.run([sys.executable, "-c", "import vlsm_helpers as vlsm; vlsm.measured('late_fusion')"], check=True)
"""


def test_files_that_a_process_and_its_children_open_are_recorded_weights_as_their_folder():
    before = dict(os.environ)
    with opened.recorded() as found:
        subprocess.run([sys.executable, "-c", USES], check=True)
    assert dict(os.environ) == before
    predictions = {name for name in found if name.startswith("tiny_predictions/")}
    assert found - predictions == {"tiny_weights/clipseg", "tiny_weights/biomedclip", "measured/late_fusion.csv.gz"}
    assert "tiny_predictions/index.json" in predictions
    assert len([name for name in predictions if name.endswith(".png")]) == 3  # those of val, not of test


def test_a_hash_follows_from_the_contents_of_a_file_and_of_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(opened, "SHIPPED", tmp_path)
    assert opened.hash_of("tiny_weights/clipseg") is None
    (tmp_path / "tiny_weights" / "clipseg").mkdir(parents=True)
    (tmp_path / "tiny_weights" / "clipseg" / "model.safetensors").write_bytes(b"weights")
    first = opened.hash_of("tiny_weights/clipseg")
    (tmp_path / "tiny_weights" / "clipseg" / "README.md").write_bytes(b"a card")
    assert opened.hash_of("tiny_weights/clipseg") == first
    shutil.copy(tmp_path / "tiny_weights" / "clipseg" / "model.safetensors", tmp_path / "one")
    (tmp_path / "tiny_weights" / "clipseg" / "model.safetensors").write_bytes(b"others")
    assert opened.hash_of("tiny_weights/clipseg") != first
    assert opened.hash_of("one") != opened.hash_of("tiny_weights/clipseg")
