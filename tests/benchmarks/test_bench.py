import json
from contextlib import nullcontext

import pytest
import torch

from benchmarks import bench, limits, wirings
from benchmarks.timing import clock, in_a_process, interleaved, peak_gigabytes, rows


@pytest.fixture(autouse=True)
def threads_as_they_are(monkeypatch):
    monkeypatch.setattr(bench.torch, "set_num_threads", lambda number: None)


def test_ways_take_turns_and_the_first_turn_does_not_count():
    calls = []
    taken = interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=3)
    assert calls == ["a", "b"] * 4
    assert {name: len(values) for name, values in taken.items()} == {"a": 3, "b": 3}
    assert all(value >= 0 for values in taken.values() for value in values)


def test_rows_say_how_many_times_as_fast_as_the_first_way():
    slow, fast = rows("what", {"slow": [4.0, 5.0, 6.0], "fast": [1.0, 2.0, 9.0]}, {"fast": "twice"})
    assert (slow["seconds"], slow["times"], slow["wanted"]) == (5.0, 1.0, "")
    assert (fast["seconds"], fast["times"], fast["wanted"]) == (2.0, 2.5, "twice")
    assert (fast["fastest"], fast["slowest"]) == (1.0, 9.0)


def test_what_a_process_of_its_own_prints_last_is_read(tmp_path):
    (tmp_path / "facts.json").write_text('{"gigabytes": 2.5}')
    assert in_a_process("json.tool", "--compact", str(tmp_path / "facts.json")) == {"gigabytes": 2.5}
    assert 0.01 < peak_gigabytes() < 100


@pytest.mark.parametrize("section", ["start", "pixels", "waiting", "layouts", "caches", "fusion", "explorer"])
def test_a_section_runs_and_is_kept_with_its_hardware(section, toy, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench.features, "SIZE", 64)
    monkeypatch.setattr(bench, "interleaved", lambda ways, rounds: {name: [clock(way)] for name, way in ways.items()})
    out = tmp_path / "bench.json"
    bench.main([section, "--tiny", "--rounds", "1", "--dataset", "toy", "--out", str(out)])
    facts = json.loads(out.read_text())[section]
    assert facts["rows"]
    assert facts["hardware"]
    assert all(row["seconds"] > 0 for row in facts["rows"] if "share" not in row)
    assert capsys.readouterr().out.strip().endswith(out.with_suffix(".md").read_text().strip())


def test_models_name_what_takes_the_time_where_they_stay_far_from_the_limit(tmp_path, monkeypatch):
    rates = {limits.MATMUL: 1e9, limits.CONVOLUTION: 1e9}
    matrix = torch.rand(200, 200)
    ways = {
        way: wirings.Measured([seconds], limits.Work(10**9, 0), rates, lambda: matrix @ matrix)
        for way, seconds in ((wirings.PUBLISHED, 10.0), (wirings.IMAGES, 2.0), (wirings.DECODER_ONLY, 5.0))
    }
    monkeypatch.setattr(bench, "random_weights", lambda tiny: nullcontext(tmp_path))
    monkeypatch.setattr(bench.wirings, "measured", lambda *_: {wirings.STEP: ways})
    bench.main(["models", "--out", str(tmp_path / "bench.json")])
    sections = json.loads((tmp_path / "bench.json").read_text())
    assert list(sections) == [f"models/{name}" for name in wirings.MODELS]
    found = sections["models/unet_d"]["rows"]
    assert [row["share"] for row in found] == [0.1, 0.5, 0.2, 1.0, 1.0]
    assert [("mm" in row["wanted"]) for row in found[:3]] == [False, False, True]
    assert "| 5.00 | 1 | 50% |" in (tmp_path / "bench.md").read_text()


def test_without_a_section_all_are_measured_and_an_unknown_one_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "SECTIONS", {"one": lambda given: [{"what": "w", "way": "x", "seconds": 1.0}]})
    bench.main(["--out", str(tmp_path / "bench.json")])
    assert list(json.loads((tmp_path / "bench.json").read_text())) == ["one"]
    with pytest.raises(SystemExit):
        bench.main(["two"])


def test_a_rehearsal_leaves_the_measured_rows_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(bench, "HERE", tmp_path)
    monkeypatch.setattr(bench, "SECTIONS", {"one": lambda given: [{"what": "w", "way": "x", "seconds": 1.0}]})
    bench.main(["--tiny"])
    assert list(tmp_path.iterdir()) == []


def test_sections_that_are_not_asked_for_keep_their_rows(tmp_path, monkeypatch):
    for name, seconds in (("pixels", 1.0), ("start", 2.0), ("pixels", 3.0)):
        made = {"what": "w", "way": "x", "seconds": seconds}
        monkeypatch.setitem(bench.SECTIONS, name, lambda given, made=made: [made])
        bench.main([name, "--out", str(tmp_path / "bench.json")])
    found = json.loads((tmp_path / "bench.json").read_text())
    assert list(found) == ["start", "pixels"]
    assert found["pixels"]["rows"][0]["seconds"] == 3.0
    lines = (tmp_path / "bench.md").read_text().splitlines()
    assert "| w | x | 2.00 s |  |  |  |  |  |  |" in lines
