import json
import os
import shutil
import subprocess
import sys

import open_clip
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError
from safetensors.torch import load_file, save_file

from vlsm_helpers.errors import WeightsError
from vlsm_helpers.models.biomedclipseg import BiomedCLIPSeg
from vlsm_helpers.models.clipseg import CLIPSeg
from vlsm_helpers.models.weights import BIOMEDCLIP, CLIPSEG, find, load_biomedclip, load_clipseg
from vlsm_helpers.settings import BIOMEDCLIP_WEIGHTS, CLIPSEG_WEIGHTS

LOADERS = {"clipseg": load_clipseg, "biomedclip": load_biomedclip}
TENSORS = {"clipseg": "model.safetensors", "biomedclip": "open_clip_model.safetensors"}
NO_NETWORK = """
import os, socket
requests = []
def refuse(*args, **kwargs):
    requests.append(args)
    raise OSError("no network")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
import torch
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


def rewrite(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


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
    done = subprocess.run(
        [sys.executable, "-c", NO_NETWORK], env=os.environ | variables, capture_output=True, text=True
    )
    logits = "[(1, 1, 64, 64), (1, 1, 64, 64)] 0 requests"
    assert done.stdout.splitlines() == [f"the folder {logits}", f"the cache {logits}"], done.stderr


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
    tensors = load_file(path)
    halves = {key: value.half() if value.is_floating_point() else value for key, value in tensors.items()}
    save_file(halves, path, metadata={"format": "pt"})
    model = LOADERS[name](folder)[0]
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, tensors[key], atol=2e-3, rtol=2e-3)


def test_a_preprocessor_as_todays_library_saves_it_is_read(tiny_weights, tmp_path):
    folder = shutil.copytree(tiny_weights / "clipseg", tmp_path / "clipseg")
    published = json.loads((folder / "preprocessor_config.json").read_text())
    published["size"] = {"height": 96, "width": 96}
    (folder / "preprocessor_config.json").unlink()
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": published}))
    preprocessing = load_clipseg(folder)[2]
    assert preprocessing.size == 96
    assert preprocessing.mean == (0.485, 0.456, 0.406)


def test_the_key_that_old_releases_of_the_library_saved_does_not_stop_biomedclip(tiny_weights, tmp_path):
    folder = shutil.copytree(tiny_weights / "biomedclip", tmp_path / "biomedclip")
    path = folder / TENSORS["biomedclip"]
    extra = {"text.transformer.embeddings.position_ids": torch.arange(32)[None]}
    save_file(load_file(path) | extra, path)
    load_biomedclip(folder)


def test_a_tokenizer_may_be_a_list_of_word_pieces(tiny_weights, tmp_path):
    folder = shutil.copytree(tiny_weights / "biomedclip", tmp_path / "biomedclip")
    (folder / "tokenizer.json").unlink()
    theirs, ours = load_biomedclip(tiny_weights / "biomedclip")[1], load_biomedclip(folder)[1]
    assert ours("A Polyp, no xyz")["input_ids"] == theirs("A Polyp, no xyz")["input_ids"]


def test_the_text_towers_shape_is_bert_bases_where_the_folder_does_not_say(tiny_weights, tmp_path, monkeypatch):
    """The published folder has no config.json: open_clip would ask the hub for another repository's."""
    seen = {}

    def create(name, load_weights, vision_cfg, text_cfg):
        with open(f"{text_cfg['hf_model_name']}/config.json", encoding="utf-8") as file:
            seen.update(json.load(file))
        raise RuntimeError("that will do")

    folder = shutil.copytree(tiny_weights / "biomedclip", tmp_path / "biomedclip")
    (folder / "config.json").unlink()
    monkeypatch.setattr(open_clip, "create_model", create)
    with pytest.raises(WeightsError, match="that will do"):
        load_biomedclip(folder)
    assert (seen["vocab_size"], seen["hidden_size"], seen["num_hidden_layers"]) == (30522, 768, 12)


def test_vision_towers_of_one_name_and_other_shapes_live_side_by_side(tiny_weights, tmp_path):
    folder = shutil.copytree(tiny_weights / "biomedclip", tmp_path / "biomedclip")
    tensors = load_file(folder / TENSORS["biomedclip"])
    kept = {key: value for key, value in tensors.items() if ".blocks.11." not in key}
    save_file(kept, folder / TENSORS["biomedclip"])
    rewrite(folder / "open_clip_config.json", lambda config: config["timm_model_args"].update(depth=11))
    assert len(load_biomedclip(folder)[0].visual.trunk.blocks) == 11
    assert len(load_biomedclip(tiny_weights / "biomedclip")[0].visual.trunk.blocks) == 12


def test_a_vision_tower_that_nothing_describes_is_an_error(tiny_weights, tmp_path):
    folder = shutil.copytree(tiny_weights / "biomedclip", tmp_path / "biomedclip")
    rewrite(folder / "open_clip_config.json", lambda config: config.pop("timm_model_args"))
    with pytest.raises(WeightsError, match="timm does not know 'vit_random_patch16_128'"):
        load_biomedclip(folder)


def test_a_missing_file_is_named(copy):
    name, folder = copy
    for file in ("tokenizer.json", "vocab.json", "vocab.txt"):
        (folder / file).unlink(missing_ok=True)
    with pytest.raises(WeightsError, match="Files are missing: tokenizer.json or vocab"):
        LOADERS[name](folder)


@pytest.mark.parametrize("length", [0, 5, 10_000])
def test_a_truncated_file_is_named(copy, length):
    name, folder = copy
    path = folder / TENSORS[name]
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(WeightsError, match="broken or not all there") as failure:
        LOADERS[name](folder)
    assert failure.value.where == path


def test_a_broken_configuration_is_an_error_that_says_where(copy):
    name, folder = copy
    (folder / ("config.json" if name == "clipseg" else "open_clip_config.json")).write_text("{")
    with pytest.raises(WeightsError) as failure:
        LOADERS[name](folder)
    assert failure.value.where == folder


def test_weights_that_lack_a_tensor_or_have_another_shape_are_refused(copy):
    name, folder = copy
    path = folder / TENSORS[name]
    tensors = load_file(path)
    key = max(tensors, key=lambda key: tensors[key].ndim)
    for wrong in ({key: tensors[key][:1].clone()}, None):
        changed = tensors | wrong if wrong else {other: tensors[other] for other in tensors if other != key}
        save_file(changed, path, metadata={"format": "pt"})
        with pytest.raises(WeightsError):
            LOADERS[name](folder)


def test_pickled_weights_are_not_opened(copy):
    name, folder = copy
    (folder / TENSORS[name]).rename(folder / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="pickle can run any code"):
        LOADERS[name](folder)


def test_a_pickle_beside_safetensors_does_no_harm(copy):
    name, folder = copy
    (folder / "pytorch_model.bin").write_bytes(b"not looked at")
    LOADERS[name](folder)


@pytest.mark.parametrize("source", ["/nowhere/weights", "no such thing!", "a/b/c"])
def test_what_is_neither_a_folder_nor_an_id_is_said_to_be(source):
    with pytest.raises(WeightsError, match="neither a folder that exists nor the id"):
        load_clipseg(source)


def test_an_offline_machine_without_the_weights_says_how_to_bring_them(monkeypatch, tmp_path):
    monkeypatch.delenv("VLSM_WEIGHTS", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match="hub cannot be reached") as failure:
        load_biomedclip(BIOMEDCLIP_WEIGHTS)  # the tests run with HF_HUB_OFFLINE=1
    assert f"hf download {BIOMEDCLIP_WEIGHTS} --local-dir weights/biomedclip" in failure.value.mend
    assert "VLSM_WEIGHTS" in failure.value.mend


def hub_that_fails_with(error):
    def snapshot_download(hub_id, allow_patterns, local_files_only=False):
        raise LocalEntryNotFoundError("not in the cache") if local_files_only else error

    return snapshot_download


def test_an_id_that_the_hub_does_not_know(monkeypatch):
    error = RepositoryNotFoundError.__new__(RepositoryNotFoundError)
    monkeypatch.setattr("huggingface_hub.snapshot_download", hub_that_fails_with(error))
    with pytest.raises(WeightsError, match="hub has no such weights") as failure:
        load_clipseg("CIDAS/clipseg-rd65")
    assert failure.value.where == "CIDAS/clipseg-rd65"


def test_a_download_that_breaks_off(monkeypatch):
    error = ConnectionResetError("the line went dead")
    monkeypatch.setattr("huggingface_hub.snapshot_download", hub_that_fails_with(error))
    with pytest.raises(WeightsError, match="the line went dead"):
        load_clipseg("someone/clipseg")


def test_what_a_download_brings_is_checked_too(monkeypatch, tmp_path):
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", lambda hub_id, allow_patterns, local_files_only=False: tmp_path
    )
    with pytest.raises(WeightsError, match="Files are missing: model.safetensors, config.json"):
        load_clipseg("someone/clipseg")
