import sys

import pytest
import torch

from tests.processes import on_a_full_disk
from vlsm_helpers.errors import TrainingError
from vlsm_helpers.io.checkpoints import (
    flatten_optimizer,
    load_checkpoint,
    part,
    prefixed,
    restore_optimizer,
    save_checkpoint,
)


def test_what_is_saved_is_loaded(tmp_path):
    save_checkpoint(tmp_path / "a.safetensors", {"w": torch.arange(6).reshape(2, 3).T}, {"epoch": 3, "name": "x"})
    tensors, facts = load_checkpoint(tmp_path / "a.safetensors")
    assert tensors["w"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert facts == {"epoch": 3, "name": "x"}


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(TrainingError, match="missing.*\n.*nowhere.safetensors"):
        load_checkpoint(tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint at all", b"\x80\x04pickle"])
def test_a_broken_checkpoint_is_named(tmp_path, content):
    (tmp_path / "broken.safetensors").write_bytes(content)
    with pytest.raises(TrainingError, match="broken.safetensors"):
        load_checkpoint(tmp_path / "broken.safetensors")


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files with setrlimit")
def test_a_full_disk_keeps_the_old_checkpoint(tmp_path):
    path = tmp_path / "last.safetensors"
    save_checkpoint(path, {"w": torch.zeros(3)}, {"epoch": 1})
    code = (
        "import sys, torch; from pathlib import Path; from vlsm_helpers.io.checkpoints import save_checkpoint\n"
        "save_checkpoint(Path(sys.argv[1]), {'w': torch.zeros(1_000_000)}, {'epoch': 2})"
    )
    assert "TrainingError: The checkpoint could not be written" in on_a_full_disk(code, path)
    assert load_checkpoint(path)[1] == {"epoch": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["last.safetensors"]


@pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused, as on a GPU"])
def test_an_optimizer_goes_on_where_it_was(tmp_path, fused):
    def step(weight, optimizer, times):
        for _ in range(times):
            optimizer.zero_grad()
            (weight**2).sum().backward()
            optimizer.step()

    whole = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([whole], lr=0.1, fused=fused)
    step(whole, optimizer, 3)
    save_checkpoint(tmp_path / "o.safetensors", flatten_optimizer(optimizer), {})
    again = torch.nn.Parameter(whole.detach().clone())
    restored = torch.optim.AdamW([again], lr=0.1, fused=fused)
    restore_optimizer(restored, load_checkpoint(tmp_path / "o.safetensors")[0])
    step(whole, optimizer, 4)
    step(again, restored, 4)
    assert torch.equal(whole, again)


def test_kinds_of_tensors_share_a_file_under_their_prefixes():
    one, two = {"weight": torch.ones(1)}, {"weight": torch.zeros(2), "model.weight": torch.ones(3)}
    file = prefixed("model.", one) | prefixed("optimizer.", two)
    assert set(file) == {"model.weight", "optimizer.weight", "optimizer.model.weight"}
    assert part(file, "model.") == one
    assert part(file, "optimizer.") == two
