"""Several processes on one training, as `accelerate launch` starts them: gloo, on the CPU."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from tests.helpers import write_toy
from vlsm_helpers.cli import app
from vlsm_helpers.errors import TrainingError
from vlsm_helpers.training.acceleration import check_shares
from vlsm_helpers.training.recipes import CNN
from vlsm_helpers.training.run_folder import BEST, METRICS

PROJECT = Path(__file__).parents[2]
ACCELERATE = [
    *("accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1"),
    *("--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0", "-m"),
]
TORCHRUN = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
OPTIONS = ("--batch-size", "4", "--epochs", "3")


@pytest.fixture
def train(tmp_path, own_data):
    """`vlsm train MEMBER toy` on two processes that a launcher starts; the folder of its run and what it printed."""
    write_toy(tmp_path / "data", entries={"train": 12, "val": 5, "test": 5})

    def start(member, launcher):
        runs = tmp_path / "runs of two"
        command = [sys.executable, "-m", *launcher, "vlsm_helpers", "train", member, "toy", *OPTIONS]
        environment = os.environ | {"VLSM_RUNS": str(runs), "OMP_NUM_THREADS": "1"}
        child = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=300)
        assert child.returncode == 0, child.stderr
        return next(runs.glob("toy-*")), child.stdout

    return start


def test_two_processes_give_the_losses_and_the_checkpoint_of_one(train, tmp_path, monkeypatch):
    """A decoder on cached features. Five validation images, so that one process has one more: none may count twice."""
    monkeypatch.setenv("VLSM_RUNS", str(tmp_path / "runs of one"))
    first = CliRunner().invoke(app, ["train", "biomedclipseg", "toy", *OPTIONS], catch_exceptions=False).stdout
    one = next((tmp_path / "runs of one").glob("toy-*"))
    two, second = train("biomedclipseg", ACCELERATE)
    metrics = [pd.read_csv(run / METRICS) for run in (one, two)]
    assert len(metrics[0]) == 3
    pd.testing.assert_frame_equal(metrics[0], metrics[1], rtol=0, atol=1e-4)
    best = [load_file(run / BEST) for run in (one, two)]
    assert best[0].keys() == best[1].keys()
    for name, tensor in best[0].items():
        torch.testing.assert_close(tensor, best[1][name], rtol=0, atol=1e-4)
    assert second.count("training ") == first.count("training ") == 1  # one process prints,
    assert second.count("dice") == first.count("dice")  # and one scores
    assert len(pd.read_csv(two / "per_image.csv")) == 5


def test_a_cnn_trains_on_two_processes_that_torchrun_starts(train):
    run, printed = train("unet_d", TORCHRUN)
    assert printed.count("training ") == 1
    history = pd.read_csv(run / METRICS)
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0]


def test_a_batch_that_cannot_be_shared_is_told_before_anything_starts():
    check_shares(replace(CNN, batch_size=8), 4)
    with pytest.raises(TrainingError, match=r"A batch of 9 images cannot be shared by 2 processes") as raised:
        check_shares(replace(CNN, batch_size=9), 2)
    assert "--batch-size" in raised.value.hint
