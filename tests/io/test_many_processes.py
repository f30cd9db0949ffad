"""Eight processes on one cache, one table and one run, killed by the kernel at random moments: nothing lost, nothing twice."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.helpers import write_toy

PROJECT = Path(__file__).parents[2]
HERD = '''
"""Forks eight workers, so that torch is imported once; kills one of them every so often, and starts another in its place."""
import json, os, random, signal, sys, time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

from tests.io.test_many_processes import cache_key, fill_cache, rows_of
from tests.training.test_loop import SHORT, datasets, fit, network
from vlsm_helpers.errors import BusyError
from vlsm_helpers.evaluation.scoring import save_scores
from vlsm_helpers.io import atomic

ROOT, KILLS = Path(sys.argv[1]), int(sys.argv[2])
EPOCHS, STOP = 12, ROOT / "stop"

def work(number):
    """Adds to the table, fills the cache and trains the run, over and over; writes down what it was told is done."""
    rng, journal = random.Random(number), ROOT / "journals" / f"{number}.jsonl"
    with journal.open("a") as told:
        for turn in range(10_000):
            if STOP.exists():
                return
            rows = rows_of(f"{number}-{turn}")
            save_scores(ROOT / "table.csv", rows)
            key = cache_key(rng.randrange(6))
            folder = ROOT / "cache" / key
            if not atomic.is_complete(folder, key):
                atomic.write(folder, key, fill_cache)
            told.write(json.dumps([rows["dataset"][0], key]) + "\\n")
            told.flush()
            if number % 2 == 0:
                try:
                    fit(network(), *datasets(), ROOT / "run", replace(SHORT, epochs=EPOCHS))
                except BusyError:
                    pass
            time.sleep(0.05)

def start(number):
    child = os.fork()
    if child == 0:
        status = 1
        try:
            sys.stderr = open(ROOT / "journals" / f"{number}.err", "a")
            torch.set_num_threads(1)
            work(number)
            status = 0
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    return child

(ROOT / "journals").mkdir()
rng = random.Random(0)
alive = {start(number): number for number in range(8)}
for kill in range(KILLS):
    time.sleep(0.4)
    victim = rng.choice(list(alive))
    os.kill(victim, signal.SIGKILL)
    os.waitpid(victim, 0)
    number = alive.pop(victim) % 2 + 2 * (kill + 4)
    alive[start(number)] = number
STOP.touch()
statuses = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in alive]
fit(network(), *datasets(), ROOT / "run", replace(SHORT, epochs=EPOCHS))
fit(network(), *datasets(), ROOT / "alone", replace(SHORT, epochs=EPOCHS))
print(json.dumps(statuses))
'''


def rows_of(name):
    """Three images' scores, of a dataset called `name`."""
    values = dict.fromkeys(("dice", "iou", "hd95", "hd95_relative", "nsd", "foreground", "predicted"), 0.5)
    return pd.DataFrame({"id": list("abc")} | values | {"dataset": name, "split": "test"})


def cache_key(number):
    return f"key{number}"


def fill_cache(folder):
    for part in range(3):
        np.save(folder / f"{part}.npy", np.full((50, 50), part))


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_eight_processes_and_kill_9_lose_nothing_and_do_nothing_twice(tmp_path, own_data):
    from vlsm_helpers.io import atomic

    write_toy(tmp_path / "data")
    herd = subprocess.run(
        [sys.executable, "-c", HERD, str(tmp_path), "20"], cwd=PROJECT, capture_output=True, text=True, timeout=600
    )
    errors = "".join(path.read_text() for path in (tmp_path / "journals").glob("*.err"))
    assert herd.returncode == 0, herd.stderr + errors
    assert json.loads(herd.stdout.splitlines()[-1]) == [0] * 8, errors
    # The table: what a process was told is saved is there, once; what was being saved is there wholly or not at all.
    told = [json.loads(line) for path in (tmp_path / "journals").glob("*.jsonl") for line in whole_lines(path)]
    saved = {name for name, _ in told}
    counts = pd.read_csv(tmp_path / "table.csv").groupby("dataset")["id"].apply("".join)
    assert saved <= set(counts.index)
    assert set(counts) == {"abc"}
    # The cache: whole under every key that a process was told of.
    keys = {key for _, key in told}
    assert keys
    assert all(atomic.is_complete(tmp_path / "cache" / key, key) for key in keys)
    assert {path.name for path in (tmp_path / "cache").glob("[!.]*")} <= set(map(cache_key, range(6)))
    # The run: every epoch once, with the numbers of a run that nobody disturbed.
    metrics = [pd.read_csv(tmp_path / run / "metrics.csv") for run in ("run", "alone")]
    assert metrics[0]["epoch"].tolist() == list(range(1, 13))
    pd.testing.assert_frame_equal(*metrics)
    assert not list((tmp_path / "run").glob("*.partial-*"))


def whole_lines(path):
    return path.read_text().rpartition("\n")[0].splitlines()
