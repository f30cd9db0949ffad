"""Weights from the hub, against the stand-in of `tests.hub_server`, laid out file for file as the hub holds them."""

import errno
import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants, snapshot_download
from safetensors.torch import load_file, save_file

from tests.hub_server import Fault, serve_hub
from tools.random_checkpoints import write_resnet
from vlsm_helpers.data.dataset import SegmentationDataset
from vlsm_helpers.data.samples import load_split
from vlsm_helpers.errors import WeightsError
from vlsm_helpers.experiments import late_ensemble
from vlsm_helpers.io import hub as hub_files
from vlsm_helpers.models import pretrained
from vlsm_helpers.models.biomedclipseg import BiomedCLIPSeg
from vlsm_helpers.models.clipseg import CLIPSeg
from vlsm_helpers.models.pretrained import find, revision_of
from vlsm_helpers.models.smp_unet import SMPUNet
from vlsm_helpers.settings.published import BIOMEDCLIP, BIOMEDCLIP_WEIGHTS, CLIPSEG, CLIPSEG_WEIGHTS, RESNET_WEIGHTS
from vlsm_helpers.training.loop import fit
from vlsm_helpers.training.recipes import DECODER_ONLY
from vlsm_helpers.training.run_folder import SETTINGS

BIN = "open_clip_pytorch_model.bin"
BESIDE = {"README.md": b"a card", "biomed_clip_example.ipynb": b"{}", "example_data/a.txt": b"not asked for"}


@pytest.fixture
def no_other_host(monkeypatch):
    """Any host but 127.0.0.1 is refused, and its name kept."""
    asked, look_up = [], socket.getaddrinfo

    def refuse_others(host, *args, **options):
        if host not in ("127.0.0.1", b"127.0.0.1"):
            asked.append(host)
            raise OSError(f"{host} must not be asked")
        return look_up(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", refuse_others)
    yield asked
    assert asked == []


@pytest.fixture
def hub(tiny_weights, tmp_path, monkeypatch, no_other_host):
    """The stand-in with both published repositories, an empty cache, and nothing in VLSM_WEIGHTS."""
    monkeypatch.setenv("VLSM_WEIGHTS", "")
    with serve_hub() as hub:
        for name, value in {
            "ENDPOINT": hub.url,
            "HF_HUB_OFFLINE": False,
            "HF_HUB_CACHE": str(tmp_path / "cache"),
        }.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", hub.url)
        monkeypatch.setattr("time.sleep", lambda seconds: None)
        hub.commit(BIOMEDCLIP_WEIGHTS, published(tiny_weights / "biomedclip"))
        hub.commit(CLIPSEG_WEIGHTS, published(tiny_weights / "clipseg"))
        yield hub


def published(folder):
    """The files of a folder, and what else lies in the hub's repository."""
    return BESIDE | {path.name: path.read_bytes() for path in folder.iterdir()}


def offline(hub, monkeypatch):
    hub.requests.clear()
    hub.faults.append(Fault(".", status=500))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def test_the_first_use_fetches_what_is_needed_and_one_file_of_tensors(hub, tiny_weights, capfd):
    member = BiomedCLIPSeg(mlp_dim=64, reduce_dim=16)
    assert member.config["weights"] == BIOMEDCLIP_WEIGHTS
    names = {path.name for path in (tiny_weights / "biomedclip").iterdir()}
    assert set(hub.fetched()) == names
    assert hub.fetched().count(BIN) == 1
    assert "B/s" in capfd.readouterr().err  # progress in bytes
    here, there = member.clip.state_dict(), pretrained.load_biomedclip(tiny_weights / "biomedclip")[0].state_dict()
    assert all(torch.equal(here[name], value) for name, value in there.items())


def test_a_second_use_offline_makes_no_request(hub, monkeypatch):
    first = CLIPSeg()(torch.ones(1, 3, 32, 32), "polyp")
    offline(hub, monkeypatch)
    assert torch.equal(CLIPSeg()(torch.ones(1, 3, 32, 32), "polyp"), first)
    assert hub.requests == []


def test_a_download_that_was_interrupted_goes_on_where_it_stopped(hub, tiny_weights):
    size = (tiny_weights / "biomedclip" / BIN).stat().st_size
    hub.faults.append(Fault(f"storage.*{BIN}", cut_after=size // 3, times=1))
    hub.faults.append(Fault(f"storage.*{BIN}", status=500))
    with pytest.raises(WeightsError) as failure:  # the line breaks, and then the storage fails for good
        find(BIOMEDCLIP_WEIGHTS, BIOMEDCLIP)
    assert "hub" in failure.value.what
    hub.faults.clear()
    folder = find(BIOMEDCLIP_WEIGHTS, BIOMEDCLIP)
    assert hub.sent[BIN] == size  # no byte twice
    assert (folder / BIN).read_bytes() == (tiny_weights / "biomedclip" / BIN).read_bytes()


def test_a_line_that_breaks_again_and_again_is_taken_up_again_and_again(hub, tiny_weights):
    size = (tiny_weights / "biomedclip" / BIN).stat().st_size
    hub.faults.append(Fault(f"storage.*{BIN}", cut_after=size // 20, times=12))
    folder = find(BIOMEDCLIP_WEIGHTS, BIOMEDCLIP)
    assert hub.sent[BIN] == size
    assert (folder / BIN).stat().st_size == size


def test_a_killed_process_loses_nothing_of_what_came(hub, tiny_weights, tmp_path):
    """A process of its own, told of the hub by HF_ENDPOINT alone, that ends in the midst of the download."""
    size = (tiny_weights / "biomedclip" / BIN).stat().st_size
    code = f"""
import os
from vlsm_helpers.io import hub
from vlsm_helpers.settings.published import BIOMEDCLIP
append, count = hub.tqdm.update, [0]
def update(bar, n=1):
    count[0] += n
    if count[0] > {size // 2}:
        os._exit(9)
    return append(bar, n)
hub.tqdm.update = update
listing = hub.list_files({BIOMEDCLIP_WEIGHTS!r})
hub.download({BIOMEDCLIP_WEIGHTS!r}, listing.commit, {BIN!r}, BIOMEDCLIP.others_among(listing.names))
"""
    variables = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HUB_CACHE": constants.HF_HUB_CACHE}
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | variables, capture_output=True, text=True)
    assert done.returncode == 9, done.stderr
    sent = hub.sent.pop(BIN)
    find(BIOMEDCLIP_WEIGHTS, BIOMEDCLIP)
    assert size // 2 - 2**18 <= size - hub.sent[BIN] <= sent  # but for what was on its way to the disk


def test_main_that_moved_changes_nothing_here_until_it_is_asked_for(hub, tiny_weights, monkeypatch):
    old = hub.resolve(CLIPSEG_WEIGHTS, "main")
    assert find(CLIPSEG_WEIGHTS, CLIPSEG).name == old
    new = hub.commit(CLIPSEG_WEIGHTS, published(tiny_weights / "clipseg") | {"merges.txt": b"#version: 0.2\n"})
    hub.requests.clear()
    assert find(CLIPSEG_WEIGHTS, CLIPSEG).name == old
    assert hub.requests == []
    assert find(f"{CLIPSEG_WEIGHTS}@{new}", CLIPSEG).name == new
    assert "model.safetensors" not in hub.fetched()  # the same tensors are not fetched twice
    offline(hub, monkeypatch)
    assert find(f"{CLIPSEG_WEIGHTS}@{new}", CLIPSEG).name == new
    assert find(CLIPSEG_WEIGHTS, CLIPSEG).name == old
    assert hub.requests == []


def test_main_that_moved_during_a_download_gives_the_files_of_one_commit(hub, tiny_weights):
    hub.faults.append(Fault("storage", status=500))
    with pytest.raises(WeightsError):
        find(CLIPSEG_WEIGHTS, CLIPSEG)
    changed = published(tiny_weights / "clipseg") | {"merges.txt": b"#version: 0.2\n"}
    new = hub.commit(CLIPSEG_WEIGHTS, changed)
    hub.faults.clear()
    folder = find(CLIPSEG_WEIGHTS, CLIPSEG)
    assert folder.name == new
    assert (folder / "merges.txt").read_bytes() == changed["merges.txt"]


def test_the_revision_is_known_to_whoever_loads(hub):
    commit = hub.resolve(BIOMEDCLIP_WEIGHTS, "main")
    assert revision_of(BIOMEDCLIP_WEIGHTS, BIOMEDCLIP) is None  # not downloaded yet
    member = BiomedCLIPSeg(mlp_dim=64, reduce_dim=16)
    assert member.weights_revision == commit
    pinned = BiomedCLIPSeg(f"{BIOMEDCLIP_WEIGHTS}@{commit}", mlp_dim=64, reduce_dim=16)
    assert pinned.config["weights"] == f"{BIOMEDCLIP_WEIGHTS}@{commit}"
    assert BiomedCLIPSeg("tiny").weights_revision is None


def test_the_revision_stands_in_a_runs_settings_and_in_the_model_card(hub, toy, tmp_path):
    member = CLIPSeg()
    train, val = (SegmentationDataset(load_split("toy", split), 32, prompt="p1") for split in ("train", "val"))
    fit(member, train, val, tmp_path / "run", replace(DECODER_ONLY, epochs=1))
    commit = hub.resolve(CLIPSEG_WEIGHTS, "main")
    written = json.loads((tmp_path / "run" / SETTINGS).read_text())
    assert written["weights_revisions"] == {CLIPSEG_WEIGHTS: commit}
    assert commit in late_ensemble._pretrained(member)


def test_a_folder_of_hf_download_stands_in_and_tells_its_revision(hub, tmp_path, monkeypatch):
    """`hf download ID --local-dir weights/clipseg` is this call."""
    snapshot_download(CLIPSEG_WEIGHTS, local_dir=tmp_path / "weights" / "clipseg")
    commit = hub.resolve(CLIPSEG_WEIGHTS, "main")
    monkeypatch.setenv("VLSM_WEIGHTS", str(tmp_path / "weights"))
    other = hub.commit(CLIPSEG_WEIGHTS, hub.commits[CLIPSEG_WEIGHTS][commit], branch="next")
    hub.requests.clear()
    assert find(CLIPSEG_WEIGHTS, CLIPSEG) == tmp_path / "weights" / "clipseg"
    assert find(f"{CLIPSEG_WEIGHTS}@{commit}", CLIPSEG) == tmp_path / "weights" / "clipseg"
    assert revision_of(CLIPSEG_WEIGHTS, CLIPSEG) == commit
    assert hub.requests == []
    assert find(f"{CLIPSEG_WEIGHTS}@{other}", CLIPSEG).name == other  # the folder says that it is another one


def test_a_repository_without_safetensors_is_read_from_its_pickle(hub, tiny_weights):
    model = pretrained.load_clipseg(tiny_weights / "clipseg")[0]
    leftover = {"clip.vision_model.embeddings.position_ids": torch.arange(3)[None]}
    files = published(tiny_weights / "clipseg")
    del files["model.safetensors"]
    torch.save(model.state_dict() | leftover, tiny_weights.parent / "pytorch_model.bin")
    files["pytorch_model.bin"] = (tiny_weights.parent / "pytorch_model.bin").read_bytes()
    hub.commit("someone/clipseg", files)
    loaded = pretrained.load_clipseg("someone/clipseg")[0].state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in model.state_dict().items())


def test_the_encoder_of_the_baseline_comes_from_the_hub_too(hub, tmp_path):
    write_resnet(tmp_path / "resnet50", tiny=True)  # a ResNet-18
    commit = hub.commit(RESNET_WEIGHTS, published(tmp_path / "resnet50"))
    member = SMPUNet("resnet18", RESNET_WEIGHTS)
    assert member.weights_revision == commit
    tensors = load_file(tmp_path / "resnet50" / "model.safetensors")
    assert torch.equal(member.network.encoder.conv1.weight, tensors["conv1.weight"])


def test_of_a_repository_with_both_the_safetensors_alone_are_fetched(hub, tiny_weights, tmp_path):
    """What the conversion bot adds has this name."""
    both = published(tiny_weights / "biomedclip")
    save_file(pretrained.load_biomedclip(tiny_weights / "biomedclip")[0].state_dict(), tmp_path / "added")
    both["open_clip_pytorch_model.safetensors"] = (tmp_path / "added").read_bytes()
    hub.commit(BIOMEDCLIP_WEIGHTS, both)
    find(BIOMEDCLIP_WEIGHTS, BIOMEDCLIP)
    assert [name for name in hub.fetched() if name.endswith((".bin", ".safetensors"))] == [
        "open_clip_pytorch_model.safetensors"
    ]


def test_what_the_hub_does_not_know_or_hides(hub):
    with pytest.raises(WeightsError) as failure:  # the hub answers 401
        find("CIDAS/clipseg-rd65", CLIPSEG)
    assert failure.value.where == "CIDAS/clipseg-rd65"
    assert CLIPSEG_WEIGHTS in failure.value.hint
    assert "hf auth login" in failure.value.hint


@pytest.mark.parametrize(
    ("status", "hint"), [(404, "hf auth"), (401, "hf auth"), (403, "hf auth"), (500, "hf download")]
)
@pytest.mark.parametrize("path", ["/api/models/", "/resolve/.*config.json", "/storage/"])
def test_a_hub_that_refuses_or_fails(hub, status, hint, path, monkeypatch):
    hub.faults.append(Fault(path, status=status))
    monkeypatch.setattr("huggingface_hub.file_download._ETAG_RETRY_TIMEOUT", 0.1)
    with pytest.raises(WeightsError) as failure:
        find(CLIPSEG_WEIGHTS, CLIPSEG)
    assert CLIPSEG_WEIGHTS in str(failure.value.where)
    assert hint in failure.value.hint
    hub.faults.clear()
    find(CLIPSEG_WEIGHTS, CLIPSEG)  # nothing broken is left behind


def test_a_revision_that_there_is_not(hub):
    with pytest.raises(WeightsError, match="revision") as failure:
        find(f"{CLIPSEG_WEIGHTS}@{'0' * 40}", CLIPSEG)
    assert failure.value.where == f"{CLIPSEG_WEIGHTS}@{'0' * 40}"


@pytest.mark.parametrize("path", ["/api/models/", "/resolve/", "/resolve-cache/", "/storage/"])
def test_a_page_of_html_in_place_of_an_answer(hub, path):
    """What a hotel's network answers to everything, with status 200."""
    fault = Fault(path, page=b"<html>Please sign in</html>")
    hub.faults.append(fault)
    with pytest.raises(WeightsError) as failure:
        find(CLIPSEG_WEIGHTS, CLIPSEG)
    assert "hf download" in failure.value.hint
    hub.faults.clear()
    CLIPSeg()


def test_files_that_changed_on_the_way_are_not_kept(hub, tiny_weights):
    commit = hub.resolve(BIOMEDCLIP_WEIGHTS, "main")
    files = hub.commits[BIOMEDCLIP_WEIGHTS][commit]
    right = files[BIN]
    cache = constants.HF_HUB_CACHE
    hub.faults.append(Fault("storage", cut_after=1000, times=1))
    hub.faults.append(Fault("storage", status=500))
    with pytest.raises(WeightsError):
        find(BIOMEDCLIP_WEIGHTS, BIOMEDCLIP)
    partial = next(path for path in Path(cache).rglob("*.incomplete"))
    partial.write_bytes(b"x" * partial.stat().st_size)
    hub.faults.clear()
    with pytest.raises(WeightsError, match="announced"):
        find(BIOMEDCLIP_WEIGHTS, BIOMEDCLIP)
    assert (find(BIOMEDCLIP_WEIGHTS, BIOMEDCLIP) / BIN).read_bytes() == right


def test_a_disk_with_too_little_room_is_said_before_anything_large_comes(hub, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    with pytest.raises(WeightsError, match="disk is full") as failure:
        find(BIOMEDCLIP_WEIGHTS, BIOMEDCLIP)
    assert "HF_HUB_CACHE" in failure.value.hint
    assert BIN not in hub.sent


def test_a_disk_that_fills_on_the_way_keeps_what_came(hub, tiny_weights, monkeypatch):
    size = (tiny_weights / "biomedclip" / BIN).stat().st_size
    update, count = hub_files.tqdm.update, [0]

    def full(bar, n=1):
        count[0] += n
        if count[0] > size // 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return update(bar, n)

    monkeypatch.setattr(hub_files.tqdm, "update", full)
    with pytest.raises(WeightsError, match="disk is full"):
        find(BIOMEDCLIP_WEIGHTS, BIOMEDCLIP)
    monkeypatch.setattr(hub_files.tqdm, "update", update)
    find(BIOMEDCLIP_WEIGHTS, BIOMEDCLIP)
    assert hub.sent[BIN] < 2 * size


def test_other_files_than_expected_are_named_before_anything_is_fetched(hub):
    hub.commit("someone/else", {"config.json": b"{}", "README.md": b""})
    with pytest.raises(WeightsError, match=r"model.safetensors or pytorch_model.bin") as failure:
        find("someone/else", CLIPSEG)
    assert failure.value.where.startswith("someone/else@")
    assert hub.fetched() == []


def test_a_config_of_the_whole_model_is_not_the_text_towers(hub, tiny_weights, tmp_path):
    """A proposed change on the hub adds a config.json of another model type, for code of its author."""
    folder = shutil.copytree(tiny_weights / "biomedclip", tmp_path / "biomedclip")
    (folder / "config.json").write_text(json.dumps({"model_type": "biomed_clip", "auto_map": {"AutoModel": "x.py--X"}}))
    with pytest.raises(
        WeightsError, match="tensors do not fit"
    ):  # the miniature's text tower is smaller than BERT base
        pretrained.load_biomedclip(folder)
