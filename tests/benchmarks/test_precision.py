import json
from dataclasses import replace

import pytest
import torch

from benchmarks import bench, precision
from vlsm_helpers.models.unet_d import UNetD
from vlsm_helpers.settings.profiles import PROFILES


@pytest.fixture
def not_compiled(monkeypatch):
    """Compiling takes half a minute a network, and is the library's business."""
    asked = []
    monkeypatch.setattr(precision.torch, "compile", lambda model, dynamic: asked.append(dynamic) or model)
    return asked


def test_ways_differ_in_precision_alone(not_compiled):
    torch.manual_seed(0)
    model, seen = UNetD(1 / 16).eval(), []
    model.head.register_forward_hook(lambda module, given, logits: seen.append(logits.dtype))
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        logits = {way: call(images, "") for way, call in precision.calls(model).items()}
    assert seen == [torch.float32, torch.bfloat16] * 2
    assert not_compiled == [False]
    assert {one.dtype for one in logits.values()} == {torch.float32}
    assert torch.equal(logits[precision.FLOAT32], logits[precision.COMPILED])
    assert not torch.equal(logits[precision.FLOAT32], logits[precision.BF16])
    torch.testing.assert_close(logits[precision.FLOAT32], logits[precision.BF16], atol=0.05, rtol=0.05)


def test_the_section_says_what_changes_and_when_compiling_pays(not_compiled, toy, tmp_path, monkeypatch, own_runs):
    monkeypatch.setenv("VLSM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VLSM_PROFILE", "tiny")
    monkeypatch.setattr(bench.torch, "set_num_threads", lambda number: None)
    monkeypatch.setattr(precision, "MEMBERS", ("unet_d",))
    monkeypatch.setattr(precision, "BATCH", 2)
    small = replace(PROFILES["tiny"], image_size=32)  # bfloat16 is emulated on most CPUs, an order of magnitude slower
    monkeypatch.setitem(PROFILES, "tiny", small)
    out = tmp_path / "bench.json"
    bench.main(["numbers", "--tiny", "--rounds", "1", "--dataset", "toy", "--out", str(out)])
    rows = json.loads(out.read_text())["numbers"]["rows"]
    assert [row["way"] for row in rows] == list(precision.WAYS) * 3
    steps, scored = rows[:8], rows[8:]
    assert all("compiling took" in row["wanted"] for row in steps if "compiled" in row["way"])
    assert scored[0]["wanted"] == ""
    assert scored[2]["wanted"] == "Dice within 0.002: +0.0000, of one image at most 0.0000"
    assert not (tmp_path / "runs").exists()
