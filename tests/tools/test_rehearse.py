import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from tests.helpers import write_toy
from tools import rehearse
from tools.notebooks import KERNEL
from vlsm_helpers.data.samples import SPLITS, load_split
from vlsm_helpers.models import pretrained
from vlsm_helpers.models.clipseg import CLIPSeg
from vlsm_helpers.settings.published import BIOMEDCLIP

ASKED = """
from vlsm_helpers.models.clipseg import CLIPSeg
from vlsm_helpers.data.samples import load_split
from vlsm_helpers.settings import runs_folder, start, writable

settings = start(PROFILE, DATASET, SEED)
member = CLIPSeg(settings.profile.clipseg_weights)
images = [len(load_split(settings.dataset, split)) for split in ("train", "val", "test")]
(writable(runs_folder()) / "trained").touch()
print(settings.profile.name, settings.profile.epochs, settings.dataset, images, member.image_size)
"""


@pytest.fixture
def small(monkeypatch):
    """Weights as tiny as the tests' own, in place of 1.4 GB."""
    written = []

    def tiny(write):
        return lambda folder: written.append(folder.name) or write(folder, tiny=True)

    monkeypatch.setattr(rehearse, "WRITERS", {kind: tiny(write) for kind, write in rehearse.WRITERS.items()})
    return written


def test_random_weights_are_written_once_and_again_when_they_are_broken(small, tmp_path):
    rehearse.random_weights(tmp_path)
    assert small == ["clipseg", "biomedclip", "clip_rn50", "resnet50"]
    CLIPSeg(tmp_path / "clipseg")
    rehearse.random_weights(tmp_path)
    assert len(small) == 4
    tensors = BIOMEDCLIP.tensors_in(tmp_path / "biomedclip")
    tensors.write_bytes(tensors.read_bytes()[:-1])
    rehearse.random_weights(tmp_path)
    assert small == ["clipseg", "biomedclip", "clip_rn50", "resnet50", "biomedclip"]
    pretrained.check(tmp_path / "biomedclip", BIOMEDCLIP)


def test_a_handful_is_the_beginning_of_each_split(tmp_path, own_data):
    write_toy(tmp_path / "data", "kvasir_polyp")
    assert rehearse.write_handful(tmp_path / "few", images=3) == "kvasir_polyp"
    for split in SPLITS:
        whole, few = load_split("kvasir_polyp", split), load_split("kvasir_polyp", split, tmp_path / "few")
        assert [sample.id for sample in few] == [sample.id for sample in whole[:3]]
        assert few[0].prompts == whole[0].prompts
        assert few[0].image.read_bytes() == whole[0].image.read_bytes()


def test_without_real_images_it_is_a_handful_of_phantoms(tmp_path, monkeypatch):
    monkeypatch.setenv("VLSM_DATA", str(tmp_path / "nothing"))
    name = rehearse.write_handful(tmp_path / "few", images=2)
    assert [len(load_split(name, split, tmp_path / "few")) for split in SPLITS] == [2, 2, 2]


@pytest.mark.notebooks
def test_notebooks_run_at_full_on_random_weights_and_a_handful(small, tmp_path, monkeypatch, capsys):
    checkout = tmp_path / "checkout"
    (checkout / "notebooks").mkdir(parents=True)
    (checkout / "vlsm_helpers").mkdir()
    parameters = new_code_cell("PROFILE = None\nDATASET = None\nSEED = None", metadata={"tags": ["parameters"]})
    for name, source in {"01_asks": ASKED, "02_fails": "1 / 0"}.items():
        notebook = new_notebook(cells=[parameters, new_code_cell(source)], metadata={"kernelspec": KERNEL})
        nbformat.write(notebook, checkout / "notebooks" / f"{name}.ipynb")
    monkeypatch.chdir(checkout)
    for variable in ("VLSM_WEIGHTS", "VLSM_EPOCHS", "VLSM_PROFILE", "HF_HUB_OFFLINE"):
        monkeypatch.setenv(variable, "")  # so that what the command sets is undone
    for variable in ("DATA", "CACHE", "RUNS"):
        monkeypatch.setenv(f"VLSM_{variable}", str(tmp_path / variable.lower()))
    write_toy(tmp_path / "data", "kvasir_polyp", {"train": 20, "val": 10, "test": 10})
    assert rehearse.main([]) == 1
    told = capsys.readouterr().out
    assert "01_asks: done" in told
    assert "02_fails: failed at In [3]: 1 / 0" in told
    assert 0.1 < float(re.search(r"peak memory of a kernel: ([\d.]+) GB", told)[1]) < 10
    executed = nbformat.read(tmp_path / "runs" / "rehearsal" / "01_asks.ipynb", as_version=4)
    printed = [output.text for output in executed.cells[-1].outputs if output.get("name") == "stdout"]
    assert f"full {rehearse.EPOCHS} kvasir_polyp [8, 8, 8] 128" in "".join(printed).splitlines()
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["rehearsal"]  # what they train is thrown away


def test_a_glob_that_matches_nothing_is_said(small, tmp_path, monkeypatch, capsys):
    for variable in ("DATA", "CACHE", "RUNS"):
        monkeypatch.setenv(f"VLSM_{variable}", str(tmp_path / variable.lower()))
    for variable in ("VLSM_WEIGHTS", "VLSM_EPOCHS", "HF_HUB_OFFLINE"):
        monkeypatch.setenv(variable, "")
    assert rehearse.main(["99*"]) == 1
    assert "No notebook matches '99*'" in capsys.readouterr().err
    assert small == []  # at once, before any weights are written
