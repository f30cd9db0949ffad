import json
import sys

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.processes import python
from vlsm_helpers.errors import WeightsError
from vlsm_helpers.io.tensors import fill, read_tensors

# In a process of its own: the peak is a process's. 200 MB, so that what the libraries take does not count.
LOAD = """
import json, re, sys, torch
from pathlib import Path
from vlsm_helpers.io.tensors import fill, read_tensors

def resident(name):
    return 1024 * int(re.search(name + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])

fill(torch.nn.Linear(2, 2, bias=False), {"weight": torch.ones(2, 2)}, Path("warm up"))
before = resident("VmRSS")
model, path = torch.nn.Linear(10_000, 5_000, bias=False), Path(sys.argv[1])
fill(model, read_tensors(path), path)
print(json.dumps({"peak": resident("VmHWM") - before, "first": model.weight[0, 0].item()}))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
@pytest.mark.parametrize("name", ["model.safetensors", "model.bin"])
def test_loading_takes_the_memory_of_the_file_once(tmp_path, name):
    path, tensors = tmp_path / name, {"weight": torch.full((5_000, 10_000), 0.5)}
    save_file(tensors, path) if name.endswith("safetensors") else torch.save(tensors, path)
    found = json.loads(python(LOAD, path))
    assert found["first"] == 0.5
    assert found["peak"] < 1.3 * path.stat().st_size


def test_tensors_may_lie_under_the_name_state_dict(tmp_path):
    torch.save({"epoch": 3, "state_dict": {"weight": torch.ones(2)}}, tmp_path / "a.pth")
    assert list(read_tensors(tmp_path / "a.pth")) == ["weight"]


def test_what_does_not_fit_is_named_and_the_model_is_left_alone(tmp_path):
    model = nn.Linear(2, 3)
    before = model.weight.clone()
    given = {"weight": torch.zeros(3, 1), "other": torch.zeros(1), "leftover": torch.zeros(1)}
    with pytest.raises(WeightsError) as failure:
        fill(model, given, tmp_path, passed_over=("leftover",))
    for part in ("bias", "other", "weight (3, 1), not (3, 2)"):
        assert part in failure.value.what
    assert "leftover" not in failure.value.what
    assert torch.equal(model.weight, before)
