import itertools
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from tests.helpers import write_toy
from tests.processes import python
from vlsm_helpers.data.dataset import SegmentationDataset
from vlsm_helpers.data.samples import load_split
from vlsm_helpers.errors import SettingsError, TrainingError
from vlsm_helpers.models import factory
from vlsm_helpers.models.unet_d import UNetD
from vlsm_helpers.training import loop
from vlsm_helpers.training.loop import fit
from vlsm_helpers.training.recipes import CNN, PUBLISHED
from vlsm_helpers.training.run_folder import BEST, LAST, METRICS

PROJECT = Path(__file__).parents[2]
SHORT = replace(CNN, epochs=4, batch_size=4)


def network():
    torch.manual_seed(0)
    return UNetD(width=1 / 32)


def datasets(size=32, augment=True):
    return (
        SegmentationDataset(load_split("toy", "train"), size, augment=augment, prompt="p2"),
        SegmentationDataset(load_split("toy", "val"), size, prompt="p2"),
    )


def test_it_learns_and_writes_a_run(toy, tmp_path):
    model = network()
    history = fit(model, *datasets(), tmp_path / "run", replace(SHORT, epochs=16, learning_rate=2e-2))
    assert history["val_dice"].max() > 0.6
    assert history["train_loss"].iloc[-1] < 0.8 * history["train_loss"].iloc[0]
    assert {LAST, BEST, METRICS, "settings.json"} == {path.name for path in (tmp_path / "run").glob("[!.]*")}
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "run" / METRICS), history)


def test_the_best_weights_are_left_in_the_segmenter(toy, tmp_path):
    model = network()
    train, validation = datasets()
    history = fit(model, train, validation, tmp_path / "run", SHORT)
    items = [validation[index] for index in range(len(validation))]
    with torch.no_grad():
        predicted = model(torch.stack([item["image"] for item in items])) > 0
    truth = torch.stack([item["mask"] for item in items]) > 0
    dice = 2 * (predicted & truth).sum((1, 2, 3)) / (predicted.sum((1, 2, 3)) + truth.sum((1, 2, 3)))
    assert dice.mean().item() == pytest.approx(history["val_dice"].max(), abs=1e-5)


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(toy, tmp_path):
    first, second, other = (
        fit(network(), *datasets(), tmp_path / name, SHORT, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    pd.testing.assert_frame_equal(first, second)
    assert not np.allclose(first["train_loss"], other["train_loss"])


class Killed(Exception):
    pass


def killed(step, model=None):
    """A network, a new one by default, that dies at its `step`-th call; an epoch has three of training and one of validation."""
    model, calls = model or network(), itertools.count(1)

    def die(*_):
        if next(calls) == step:
            raise Killed

    model.register_forward_pre_hook(die)
    return model


def test_a_run_that_died_in_the_middle_of_an_epoch_ends_with_the_same_numbers(toy, tmp_path):
    whole = fit(network(), *datasets(), tmp_path / "whole", SHORT)
    with pytest.raises(Killed):
        fit(killed(9), *datasets(), tmp_path / "killed", SHORT)
    assert len(pd.read_csv(tmp_path / "killed" / METRICS)) == 2
    resumed = fit(network(), *datasets(), tmp_path / "killed", SHORT)
    pd.testing.assert_frame_equal(resumed, whole)


def test_kill_9_in_the_middle_of_an_epoch_then_resume(toy, tmp_path):
    """A process of its own, killed by the kernel: what it leaves on disk must be enough."""
    recipe = replace(SHORT, epochs=8)
    code = (
        "import sys, time; from dataclasses import replace; from pathlib import Path\n"
        "from tests.training.test_loop import SHORT, datasets, fit, network\n"
        "model = network(); model.register_forward_hook(lambda *_: time.sleep(0.1))\n"
        "fit(model, *datasets(), Path(sys.argv[1]), replace(SHORT, epochs=8))"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "killed")], cwd=PROJECT, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 300
    while not (tmp_path / "killed" / METRICS).exists():
        assert child.poll() is None, child.stderr.read().decode()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.15)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    resumed = fit(network(), *datasets(), tmp_path / "killed", recipe)
    whole = fit(network(), *datasets(), tmp_path / "whole", recipe)
    pd.testing.assert_frame_equal(resumed, whole)


PRECISION = """
import sys, torch; from pathlib import Path
from tests.training.test_loop import SHORT, datasets, fit, network
model, seen = network(), set()
model.head.register_forward_hook(lambda module, given, logits: seen.add(str(logits.dtype)))
dice = fit(model, *datasets(), Path(sys.argv[1]), SHORT)["val_dice"].max()
trained_in = set(seen)
seen.clear()
model(torch.rand(2, 3, 32, 32), "a bump")
print(dice, *trained_in, *seen)
"""


@pytest.mark.parametrize(
    ("told", "dtype"), [("bf16", "torch.bfloat16"), ("no", "torch.float32"), (None, "torch.float32")]
)
def test_a_cpu_trains_in_bfloat16_where_accelerate_is_told_so_and_scores_in_float32(toy, tmp_path, told, dtype):
    """In a process of its own: accelerate keeps its state for a process's life."""
    environment = {name: value for name, value in os.environ.items() if name != "ACCELERATE_MIXED_PRECISION"}
    environment |= {"ACCELERATE_MIXED_PRECISION": told} if told else {}
    command = [sys.executable, "-c", PRECISION, str(tmp_path / "run")]
    child = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    dice, *seen = child.stdout.splitlines()[-1].split()
    assert seen == [dtype, "torch.float32"]
    assert 0 <= float(dice) <= 1
    tensors = load_file(tmp_path / "run" / BEST)
    assert {tensor.dtype for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")} == {
        torch.float32
    }


SCALED = """
import sys, torch; from pathlib import Path
from accelerate import Accelerator
from tests.training.test_loop import SHORT, datasets, fit, network, replace
from vlsm_helpers.settings.precision import Precision
from vlsm_helpers.training import acceleration, loop

def on_cpu(*given, **options):  # accelerate scales losses on GPUs; PyTorch's scaler works on a CPU, too
    accelerator = Accelerator(*given, **options)
    accelerator.scaler, accelerator.native_amp = torch.amp.GradScaler("cpu", init_scale=2.0**26, growth_interval=3), True
    return accelerator

acceleration.Accelerator = on_cpu
loop.training_precision = lambda device: Precision("fp16", "a test")
run = Path(sys.argv[1])
whole = fit(network(), *datasets(), run / "whole", replace(SHORT, epochs=12))
seen, stop = [], network()
stop.head.register_forward_hook(lambda module, given, logits: seen.append(str(logits.dtype)))
save = loop._save_epoch
def stopped(training, folder, progress, row):
    save(training, folder, progress, row)
    print("scale", progress.epoch, training.accelerator.scaler.get_scale())
    if progress.epoch == 8:
        raise KeyboardInterrupt
loop._save_epoch = stopped
try:
    fit(stop, *datasets(), run / "cut", replace(SHORT, epochs=12))
except KeyboardInterrupt:
    print(*set(seen))
loop._save_epoch = save
resumed = fit(network(), *datasets(), run / "cut", replace(SHORT, epochs=12))
assert resumed.equals(whole), (resumed, whole)
"""


def test_float16_scales_the_loss_skips_steps_that_overflow_and_resumes_with_the_scale(toy, tmp_path):
    printed = python(SCALED, tmp_path)
    assert "float16 with loss scaling" in printed
    assert "torch.float16" in printed.split()
    scales = [float(line.split()[2]) for line in printed.splitlines() if line.startswith("scale")]
    assert len(scales) == 8
    assert scales[-1] < 2.0**26  # steps were skipped, and none of them ended the training
    assert len({later / earlier for earlier, later in pairwise(scales)}) > 1  # others were taken
    history = pd.read_csv(tmp_path / "cut" / METRICS)
    assert np.isfinite(history.to_numpy()).all()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_images_and_weights_have_the_layout(toy, tmp_path, monkeypatch, layout):
    monkeypatch.setattr(loop, "training_layout", lambda *_: layout)
    segmenter, seen = network(), []
    segmenter.encoder[1].register_forward_hook(lambda module, given, maps: seen.append((module.conv1.weight, given[0])))
    fit(segmenter, *datasets(), tmp_path, replace(SHORT, epochs=1))
    assert seen
    assert all(tensor.is_contiguous(memory_format=layout) for pair in seen for tensor in pair)


def test_a_precision_changed_after_the_first_training_is_refused(toy, tmp_path, monkeypatch):
    fit(network(), *datasets(), tmp_path / "first", replace(SHORT, epochs=1))
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    with pytest.warns(UserWarning, match="times as long"), pytest.raises(SettingsError) as failure:
        fit(network(), *datasets(), tmp_path / "second", replace(SHORT, epochs=1))
    assert "restart" in failure.value.hint


@pytest.mark.parametrize("told", ["foo", "bf-16"])
def test_a_precision_that_there_is_not_is_refused(toy, tmp_path, monkeypatch, told):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", told)
    with pytest.raises(SettingsError) as failure:
        fit(network(), *datasets(), tmp_path / "run", SHORT)
    assert told in failure.value.what
    assert "bf16" in failure.value.hint
    assert not (tmp_path / "run" / "settings.json").exists()


def test_numpys_numbers_are_numbers(toy, tmp_path):
    recipe = replace(SHORT, epochs=np.int64(1), learning_rate=np.float32(1e-3))
    history = fit(network(), *datasets(), tmp_path / "run", recipe, seed=np.int64(2))
    pd.testing.assert_frame_equal(fit(network(), *datasets(), tmp_path / "run", recipe, seed=2), history)


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_images(toy, tmp_path):
    fit(network(), *datasets(), tmp_path / "run", replace(SHORT, epochs=1))
    settings = tmp_path / "run" / "settings.json"
    settings.write_text(settings.read_text().replace('"epochs": 1', '"epochs": 4'))
    model = network()
    model.head.register_forward_hook(lambda module, inputs, output: output * float("nan"))
    before = (tmp_path / "run" / LAST).read_bytes()
    with pytest.raises(TrainingError, match=r"The loss became nan in epoch 2, on the images train_\d"):
        fit(model, *datasets(), tmp_path / "run", SHORT)
    assert (tmp_path / "run" / LAST).read_bytes() == before


def test_it_stops_when_validation_gets_no_better(toy, tmp_path):
    frozen = replace(SHORT, epochs=30, patience=3, learning_rate=1e-12, weight_decay=0.0, schedule="constant")
    model = network()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.0  # nothing changes at all, so the first epoch stays the best
    assert len(fit(model, *datasets(), tmp_path / "run", frozen)) == 4


def test_the_published_recipe_goes_back_to_the_best_weights_after_a_worse_epoch(toy, tmp_path):
    recipe = replace(PUBLISHED, epochs=3, learning_rate=0.05, batch_size=4)  # so large that epochs get worse
    history = fit(network(), *datasets(augment=False), tmp_path / "run", recipe)
    assert history["val_bce"].idxmin() < len(history) - 1, "no epoch was worse: the test shows nothing"
    last, kept = (load_file(tmp_path / "run" / name) for name in (LAST, BEST))
    for name, tensor in kept.items():
        assert torch.equal(last[f"model.{name}"], tensor), name


def test_validation_of_another_size_than_the_batch_counts_every_image(toy, tmp_path):
    write_toy(toy.parent, entries={"val": 5}, seed=3)
    train, validation = datasets()
    assert len(validation) == 5
    history = fit(network(), train, validation, tmp_path / "run", replace(SHORT, epochs=1))
    assert 0 <= history["val_dice"].item() <= 1


@pytest.mark.parametrize(
    ("member", "options"),
    [
        ("unet_d", {"width": 1 / 32}),
        ("clipseg", {"train": "decoder"}),
        ("clipseg", {"train": "encoders"}),
        ("clipseg", {"train": "lora"}),
        ("biomedclipseg", {"train": "decoder"}),
        ("biomedclipseg", {"train": "encoders"}),
    ],
    ids=lambda value: value if isinstance(value, str) else value.get("train", ""),
)
def test_as_many_parameters_get_a_gradient_as_fit_says(toy, tiny_weights, tmp_path, capsys, member, options):
    if options.get("train") == "lora":
        pytest.importorskip("peft")
    if member != "unet_d":
        options = options | {"weights": tiny_weights / {"clipseg": "clipseg", "biomedclipseg": "biomedclip"}[member]}
    fit(factory.build(member, **options), *datasets(), tmp_path / "run", replace(SHORT, epochs=1))
    segmenter = factory.build(member, **options)
    segmenter(torch.rand(2, 3, 32, 32), ["square", "bright square"]).square().mean().backward()
    reached = sum(parameter.numel() for parameter in segmenter.parameters() if parameter.grad is not None)
    everything = sum(parameter.numel() for parameter in segmenter.parameters())
    assert f"training {reached:,} of {everything:,} parameters" in capsys.readouterr().out


def test_encoders_learn_at_their_own_rate(toy, tiny_weights, tmp_path):
    """AdamW's first step moves every weight by about its learning rate, whatever the gradient."""
    recipe = replace(SHORT, epochs=1, batch_size=12, schedule="constant", learning_rate=1e-3, encoder_rate=0.01)
    segmenter = factory.build("clipseg", weights=tiny_weights / "clipseg", train="encoders")
    before = {name: parameter.detach().clone() for name, parameter in segmenter.named_parameters()}
    fit(segmenter, *datasets(), tmp_path / "run", replace(recipe, weight_decay=0.0))
    moved = {name: (parameter - before[name]).abs().max().item() for name, parameter in segmenter.named_parameters()}
    assert moved["decoder.film_mul.weight"] == pytest.approx(1e-3, rel=0.05)
    assert moved["clip.vision_model.encoder.layers.0.mlp.fc1.weight"] == pytest.approx(1e-5, rel=0.05)
    assert moved["clip.visual_projection.weight"] == 0
    assert pd.read_csv(tmp_path / "run" / METRICS)["learning_rate"].tolist() == [1e-3]


def test_a_run_with_two_rates_that_died_ends_with_the_same_numbers(toy, tiny_weights, tmp_path):
    recipe = replace(SHORT, epochs=3, encoder_rate=0.1)

    def run(folder, dies_at=None):
        torch.manual_seed(0)
        segmenter = factory.build("clipseg", weights=tiny_weights / "clipseg", train="encoders")
        return fit(killed(dies_at, segmenter), *datasets(), tmp_path / folder, recipe)

    with pytest.raises(Killed):
        run("killed", dies_at=6)  # in the second epoch
    pd.testing.assert_frame_equal(run("killed"), run("whole"))
