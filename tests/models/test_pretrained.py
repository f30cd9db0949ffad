import hashlib
import json
import os
import shutil

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.no_network import run_without_network
from vlsm_helpers.errors import WeightsError
from vlsm_helpers.io import hub
from vlsm_helpers.models import pretrained
from vlsm_helpers.models.biomedclipseg import BiomedCLIPSeg
from vlsm_helpers.models.clipseg import CLIPSeg
from vlsm_helpers.models.pretrained import find, fingerprint, load_biomedclip, load_clipseg
from vlsm_helpers.settings import absolute_folders
from vlsm_helpers.settings.published import BIOMEDCLIP, BIOMEDCLIP_WEIGHTS, CLIPSEG, CLIPSEG_WEIGHTS

LOADERS = {"clipseg": load_clipseg, "biomedclip": load_biomedclip}
TENSORS = {"clipseg": "model.safetensors", "biomedclip": "open_clip_pytorch_model.bin"}
LOGITS_FROM_BOTH_PLACES = """
import os, torch
from vlsm_helpers.models.biomedclipseg import BiomedCLIPSeg
from vlsm_helpers.models.clipseg import CLIPSeg
for place in ("the folder", "the cache"):
    logits = [member(torch.rand(1, 3, 64, 64), "polyp") for member in (CLIPSeg(), BiomedCLIPSeg())]
    print(place, [tuple(one.shape) for one in logits], len(requests), "requests")
    os.environ["VLSM_WEIGHTS"] = ""
"""


@pytest.fixture(params=list(LOADERS))
def copy(request, tiny_weights, tmp_path):
    """A folder of weights of one's own: (its name in VLSM_WEIGHTS, the folder)."""
    return request.param, shutil.copytree(tiny_weights / request.param, tmp_path / request.param)


def read(path):
    return load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)


def write(tensors, path):
    if path.suffix == ".safetensors":
        save_file(tensors, path, metadata={"format": "pt"})
    else:
        torch.save(tensors, path)


def in_hub_cache(cache, hub_id, folder):
    """Lay a folder out as the hub's client caches a repository."""
    repository = cache / f"models--{hub_id.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    shutil.copytree(folder, repository / "snapshots" / ("0" * 40))


def test_published_ids_are_read_from_the_folder_that_vlsm_weights_names(tiny_weights, monkeypatch):
    monkeypatch.setenv("VLSM_WEIGHTS", str(tiny_weights))
    assert find(CLIPSEG_WEIGHTS, CLIPSEG) == tiny_weights / "clipseg"
    assert find(f"hf-hub:{BIOMEDCLIP_WEIGHTS}", BIOMEDCLIP) == tiny_weights / "biomedclip"
    assert CLIPSeg().config["weights"] == CLIPSEG_WEIGHTS  # so that a run can be loaded where the folder is another


def test_nothing_is_requested_once_the_weights_are_there(tiny_weights, tmp_path):
    """In VLSM_WEIGHTS and in the hub's cache, even where HF_HUB_OFFLINE is not set."""
    in_hub_cache(tmp_path, CLIPSEG_WEIGHTS, tiny_weights / "clipseg")
    in_hub_cache(tmp_path, BIOMEDCLIP_WEIGHTS, tiny_weights / "biomedclip")
    variables = {"VLSM_WEIGHTS": str(tiny_weights), "HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    logits = "[(1, 1, 64, 64), (1, 1, 64, 64)] 0 requests"
    printed = run_without_network(LOGITS_FROM_BOTH_PLACES, **variables)
    assert printed == [f"the folder {logits}", f"the cache {logits}"]


def test_a_relative_vlsm_weights_means_one_folder_wherever_a_kernel_starts(tiny_weights, monkeypatch):
    monkeypatch.chdir(tiny_weights.parent)
    monkeypatch.setenv("VLSM_WEIGHTS", tiny_weights.name)
    absolute_folders()
    monkeypatch.chdir("/")
    assert find(CLIPSEG_WEIGHTS, CLIPSEG) == tiny_weights / "clipseg"


def test_tiny_is_what_the_package_ships_and_never_the_hubs(tiny_weights, tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "list_files", lambda *args: pytest.fail("the hub was asked"))
    monkeypatch.setattr(pretrained, "SHIPPED", tiny_weights)
    (tmp_path / "tiny").mkdir()
    monkeypatch.chdir(tmp_path)  # a folder of that name stands in for nothing
    assert find("tiny", BIOMEDCLIP) == tiny_weights / "biomedclip"
    assert CLIPSeg("tiny").config["weights"] == "tiny"
    monkeypatch.setattr(pretrained, "SHIPPED", tmp_path)
    with pytest.raises(WeightsError, match="folder does not exist") as failure:
        find("tiny", CLIPSEG)
    assert failure.value.where == tmp_path / "clipseg"
    assert "restore clipseg/" in failure.value.hint


def test_the_fingerprint_is_of_the_tensors(copy):
    name, folder = copy
    kind = {"clipseg": CLIPSEG, "biomedclip": BIOMEDCLIP}[name]
    before = fingerprint(folder, kind)
    assert before == hashlib.sha256((folder / TENSORS[name]).read_bytes()).hexdigest()[:12]
    (folder / "README.md").write_text("a card")
    assert fingerprint(folder, kind) == before


def test_a_folder_may_be_named_in_several_ways(tiny_weights, monkeypatch):
    monkeypatch.chdir(tiny_weights)
    for source in ("biomedclip", "./biomedclip", "local-dir:biomedclip", tiny_weights / "biomedclip"):
        member = BiomedCLIPSeg(source)
        assert member.config["weights"] == str(tiny_weights / "biomedclip")


def test_loading_changes_nothing_in_the_folder(copy):
    name, folder = copy
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for path in folder.iterdir():
        path.chmod(0o444)
    LOADERS[name](folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_weights_stored_in_half_precision_are_loaded_in_float32(copy):
    name, folder = copy
    path = folder / TENSORS[name]
    tensors = read(path)
    write({key: value.half() if value.is_floating_point() else value for key, value in tensors.items()}, path)
    model = LOADERS[name](folder)[0]
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, tensors[key], atol=2e-3, rtol=2e-3)


def test_a_text_is_pooled_at_its_end_though_the_config_says_2(tiny_weights):
    """The published config's `eos_token_id` is no id of the vocabulary's end; padding repeats the end."""
    model, tokenizer, _ = load_clipseg(tiny_weights / "clipseg")
    assert model.config.text_config.eos_token_id == 2
    alone = tokenizer(["polyp"], return_tensors="pt")
    padded = tokenizer(["polyp", "a large red polyp on the left"], padding=True, return_tensors="pt")
    assert padded["input_ids"].shape[1] > alone["input_ids"].shape[1]
    with torch.no_grad():
        expected = model.clip.get_text_features(**alone).pooler_output[0]
        torch.testing.assert_close(model.clip.get_text_features(**padded).pooler_output[0], expected)


@pytest.mark.parametrize(
    ("file", "size"),
    [
        ("preprocessor_config.json", 96),
        ("preprocessor_config.json", {"shortest_edge": 96}),
        ("processor_config.json", {"height": 96, "width": 96}),
    ],
)
def test_a_preprocessor_is_read_as_older_libraries_and_as_todays_save_it(tiny_weights, tmp_path, file, size):
    folder = shutil.copytree(tiny_weights / "clipseg", tmp_path / "clipseg")
    saved = json.loads((folder / "preprocessor_config.json").read_text()) | {"size": size}
    (folder / "preprocessor_config.json").unlink()
    (folder / file).write_text(json.dumps({"image_processor": saved} if file == "processor_config.json" else saved))
    preprocessing = load_clipseg(folder)[2]
    assert (preprocessing.size, preprocessing.mean) == (96, (0.485, 0.456, 0.406))


def test_a_missing_file_is_named(copy):
    name, folder = copy
    for file in ("tokenizer.json", "vocab.json", "vocab.txt"):
        (folder / file).unlink(missing_ok=True)
    with pytest.raises(WeightsError, match="Files are missing: tokenizer.json or vocab"):
        LOADERS[name](folder)


# What a clone leaves that did not fetch large files, or a page that was saved in their place.
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 603047096\n"


@pytest.mark.parametrize("left", [slice(0), slice(5), slice(10_000), POINTER], ids=["none", "5", "10,000", "pointer"])
def test_a_truncated_file_and_a_pointer_to_one_are_named(copy, left):
    name, folder = copy
    path = folder / TENSORS[name]
    path.write_bytes(path.read_bytes()[left] if isinstance(left, slice) else left)
    with pytest.raises(WeightsError, match="broken") as failure:
        LOADERS[name](folder)
    assert failure.value.where == path


def test_a_broken_configuration_is_an_error_that_says_where(copy):
    name, folder = copy
    (folder / ("config.json" if name == "clipseg" else "open_clip_config.json")).write_text("{")
    with pytest.raises(WeightsError) as failure:
        LOADERS[name](folder)
    assert failure.value.where == folder


def test_tensors_that_do_not_fit_are_named(copy):
    name, folder = copy
    path = folder / TENSORS[name]
    tensors = read(path)
    key = max(tensors, key=lambda key: tensors[key].ndim)
    lacking = {other: tensors[other] for other in tensors if other != key}
    for changed in (tensors | {key: tensors[key][:1].clone()}, lacking, tensors | {"some.other": torch.zeros(1)}):
        write(changed, path)
        with pytest.raises(WeightsError) as failure:
            LOADERS[name](folder)
        assert failure.value.where == path
        assert ("some.other" if "some.other" in changed else key) in failure.value.what


@pytest.mark.parametrize("file", BIOMEDCLIP.tensors)
def test_biomedclip_is_read_from_each_of_open_clips_names(tiny_weights, tmp_path, file):
    folder = shutil.copytree(tiny_weights / "biomedclip", tmp_path / "biomedclip")
    expected = load_biomedclip(folder)[0].state_dict()
    tensors = read(folder / TENSORS["biomedclip"])
    (folder / TENSORS["biomedclip"]).unlink()
    write(tensors, folder / file)
    for later in BIOMEDCLIP.tensors[BIOMEDCLIP.tensors.index(file) + 1 :]:
        (folder / later).write_bytes(b"a later name: not looked at")
    loaded = load_biomedclip(folder)[0].state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in expected.items())


def test_the_order_of_names_is_open_clips_own(tmp_path):
    for file in reversed(BIOMEDCLIP.tensors):
        (tmp_path / file).touch()
        assert open_clip.factory._find_checkpoint_in_dir(tmp_path) == str(BIOMEDCLIP.tensors_in(tmp_path))


def test_a_file_of_pytorchs_older_format_is_read(tiny_weights, tmp_path):
    folder = shutil.copytree(tiny_weights / "biomedclip", tmp_path / "biomedclip")
    path = folder / TENSORS["biomedclip"]
    tensors = read(path)
    torch.save(tensors, path, _use_new_zipfile_serialization=False)
    loaded = load_biomedclip(folder)[0].state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in tensors.items() if key in loaded)


class Attack:
    """Pickled, it is a call of os.system."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize("forced", ["0", "1"])
def test_a_pickle_that_would_run_code_is_refused_and_runs_none(copy, tmp_path, monkeypatch, new_format, forced):
    """Whatever the environment says: TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD makes torch.load unpickle anything by default."""
    name, folder = copy
    (folder / TENSORS[name]).unlink()
    kind = {"clipseg": CLIPSEG, "biomedclip": BIOMEDCLIP}[name]
    file = next(file for file in kind.tensors if file.endswith(".bin"))
    attack = {"weight": torch.zeros(2), "more": Attack(tmp_path / "written")}
    torch.save(attack, folder / file, _use_new_zipfile_serialization=new_format)
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", forced)
    with pytest.raises(WeightsError, match="more than tensors") as failure:
        LOADERS[name](folder)
    assert failure.value.where == folder / file
    assert not (tmp_path / "written").exists()
    torch.load(folder / file, weights_only=False)  # it is an attack indeed
    assert (tmp_path / "written").exists()


@pytest.mark.parametrize("content", [{"weight": [1, 2]}, [torch.zeros(1)], torch.zeros(1), {"weight": "text"}])
def test_a_pickle_of_something_else_is_no_weights(copy, content):
    name, folder = copy
    path = folder / TENSORS[name].replace("model.safetensors", "pytorch_model.bin")
    (folder / TENSORS[name]).unlink()
    torch.save(content, path)
    with pytest.raises(WeightsError) as failure:
        LOADERS[name](folder)
    assert failure.value.where == path


@pytest.mark.parametrize("source", ["/nowhere/weights", "no such thing!", "a/b/c"])
def test_what_is_neither_a_folder_nor_an_id_is_said_to_be(source):
    with pytest.raises(WeightsError, match="neither a folder that exists nor the id"):
        load_clipseg(source)


def test_an_offline_machine_without_the_weights_says_how_to_bring_them(monkeypatch, tmp_path):
    monkeypatch.delenv("VLSM_WEIGHTS", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match="could not be downloaded") as failure:
        load_biomedclip(BIOMEDCLIP_WEIGHTS)  # the tests run with HF_HUB_OFFLINE=1
    assert f"hf download {BIOMEDCLIP_WEIGHTS} --local-dir weights/biomedclip" in failure.value.hint
    assert "VLSM_WEIGHTS" in failure.value.hint
