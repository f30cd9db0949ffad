import re

from benchmarks import features
from vlsm_helpers.settings import cache_folder


def test_the_benchmark_measures_both_ways_and_leaves_nothing_behind(toy, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("VLSM_CACHE", str(tmp_path / "cache"))  # other tests fill the session's at the same time
    monkeypatch.setattr(features, "SIZE", 64)
    threads = []
    monkeypatch.setattr(features.torch, "set_num_threads", threads.append)
    features.main(["--tiny", "--dataset", "toy", "--images", "10", "--rounds", "2"])
    table = capsys.readouterr().out
    rows = re.findall(r"\| (\w+) [\w ]+ \| ([\d.]+) \| ([\d.]+) to ([\d.]+) \|", table)
    assert [row[0] for row in rows] == ["without", "from"]
    for row in rows:
        median, fastest, slowest = map(float, row[1:])
        assert 0 < fastest <= median <= slowest
    assert float(re.search(r"differ by at most (\S+)\.", table).group(1)) < 1e-4
    assert threads == [2]
    assert [path.name for path in (cache_folder() / "features").iterdir() if path.is_dir()] == []  # locks may stay
