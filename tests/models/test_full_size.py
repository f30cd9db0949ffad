"""Checkpoints of the published size and format, with random weights: what they hold, give and take of memory."""

import json
import math
import shutil
import sys
from pathlib import Path

import pytest

from tests.processes import python
from tools.rehearse import WRITERS
from vlsm_helpers.models import pretrained
from vlsm_helpers.settings.published import BIOMEDCLIP, CLIPSEG

PARAMETERS = json.loads((Path(__file__).parents[1] / "golden" / "biomedclipseg.params.json").read_text())
# In a process of its own, for the peak is a process's; /proc has it, the libraries' mapped files included.
USE = """
import gc, json, re, sys, torch
from pathlib import Path
from vlsm_helpers.models import factory, pretrained

member, kind, folder = sys.argv[1:]
status = Path("/proc/self/status")

def resident(name):
    return 1024 * int(re.search(name + r":\\s+(\\d+) kB", status.read_text())[1])

found = {"sizes": [], "peak": None}
if status.exists():
    load = {"clipseg": pretrained.load_clipseg, "biomedclip": pretrained.load_biomedclip}[kind]
    load("tiny")  # all libraries are imported
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    loaded = load(folder)
    found["loading"] = resident("VmHWM") - before
    del loaded
    gc.collect()
member = factory.build(member, weights=folder).eval()
found["parameters"] = sum(parameter.numel() for parameter in member.parameters())
found["decoder"] = sum(parameter.numel() for parameter in member.decoder.parameters())
for size in (224, 352):
    with torch.no_grad():
        logits = member(torch.rand(1, 3, size, size), "polyp")
    assert logits.isfinite().all()
    found["sizes"].append([str(logits.dtype), *logits.shape])
if status.exists():
    found["peak"] = resident("VmHWM")
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """2 GB, which pytest would keep for three sessions."""
    made = tmp_path_factory.mktemp("full")
    for kind, write in WRITERS.items():
        write(made / kind.name)
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module", params=[("clipseg", CLIPSEG), ("biomedclipseg", BIOMEDCLIP)], ids=lambda pair: pair[0])
def used(request, folder):
    """A member, its weights' file, and what was found in a process that loaded them, then predicted with them."""
    member, kind = request.param
    printed = python(USE, member, kind.name, folder / kind.name)
    return member, kind.tensors_in(folder / kind.name), json.loads(printed.splitlines()[-1])


@pytest.mark.parametrize("kind", WRITERS, ids=lambda kind: kind.name)
def test_the_files_are_as_large_as_those_published(folder, kind):
    pretrained.check(folder / kind.name, kind)
    assert round(kind.tensors_in(folder / kind.name).stat().st_size / 1e6) == kind.megabytes


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_loading_takes_less_than_a_third_more_memory_than_the_file(used):
    _, file, found = used
    assert 0 < found["loading"] < 1.3 * file.stat().st_size


EXPECTED = {  # parameters, bytes of memory
    "clipseg": (150_747_746, 2.0e9),
    "biomedclipseg": (sum(math.prod(shape) for shape in PARAMETERS.values()), 2.5e9),
}


def test_they_predict_at_both_sizes_within_the_memory_of_a_small_machine(used):
    member, _, found = used
    parameters, limit = EXPECTED[member]
    assert found["sizes"] == [["torch.float32", 1, 1, size, size] for size in (224, 352)]
    assert found["parameters"] == parameters
    assert found["decoder"] == 1_127_009
    if found["peak"] is None:
        pytest.skip("this system does not say how much memory a process took at its peak")
    assert found["peak"] < limit, f"{found['peak'] / 1e9:.2f} GB at its peak"
