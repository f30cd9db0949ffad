"""The README's lines of Python do what it says, on a toy dataset in place of the one that it names."""

import re
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.hybrid_ensembles import JOINED
from tests.models.test_published import published_state_dict
from vlsm_helpers.data.images import read_mask
from vlsm_helpers.data.samples import load_split
from vlsm_helpers.evaluation import predictions
from vlsm_helpers.experiments.reference import measured
from vlsm_helpers.fusion import RULES
from vlsm_helpers.fusion.weighted import WeightedFusion
from vlsm_helpers.inference.predictor import write_predictor
from vlsm_helpers.io.checkpoints import save_checkpoint
from vlsm_helpers.models.state import trainable_state_dict
from vlsm_helpers.models.unet_d import UNetD
from vlsm_helpers.training.loop import FACTS

README = Path(__file__).parents[2] / "README.md"


def python_with(words):
    """The one block of Python in the README that has these words."""
    (block,) = [code for code in re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), re.S) if words in code]
    return block


def test_fusing_in_a_few_lines(toy, tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    for run in ("one", "two"):
        for split in ("val", "test"):
            samples = load_split("toy", split)
            masks = [read_mask(sample.mask) for sample in samples]
            ids = tuple(sample.id for sample in samples)
            index = predictions.PredictionInfo(run, "toy", split, ids, tuple(mask.shape for mask in masks), "made up")
            logits = [6.0 * mask[:32, :32] - 3 + rng.normal(size=(32, 32)) for mask in masks]
            predictions.write(tmp_path / "runs" / run / "logits" / f"toy-{split}", index, logits)
    monkeypatch.chdir(tmp_path)
    exec(python_with("Store.open").replace("kvasir_polyp", "toy"), {})
    lines = capsys.readouterr().out.splitlines()
    assert [line.rsplit(maxsplit=1)[0] for line in lines] == [rule.name for rule in RULES]
    assert all(0 <= float(line.rsplit(maxsplit=1)[1]) <= 1 for line in lines)


def test_a_checkpoint_of_the_authors_in_a_few_lines(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = python_with("load_published_state_dict").replace("ensemble_b", "unet_d")
    torch.save(published_state_dict("unet_d"), "theirs.pt")
    given = {"pixel_values": torch.rand(1, 3, 64, 64), "input_ids": None, "attention_mask": None}
    exec(code, given)
    assert given["logits"].shape == (1, 1, 64, 64)
    assert (tmp_path / "unet_d.safetensors").exists()


FUSED_AND_CONTROLS = ("weighted mean of logits", "best single member, mirrorings", "best single member, all seeds")


def ensembling_rows():
    """The table of what ensembling adds, from the rows that the benchmarks wrote: points of Dice on test."""
    hybrid, late = measured("hybrid_ensembles"), measured("late_fusion")
    for dataset, rows in hybrid.groupby("dataset", sort=False):
        mean, validated = rows.groupby("model")["dice"].mean(), rows.groupby("model")["val_dice"].mean()
        gains = [mean[name] - mean[max(parts, key=validated.get)] for name, parts in JOINED.items()]
        of_rules = late[late["dataset"] == dataset].groupby("rule")["dice"].mean()
        gains += [of_rules[rule] - of_rules["best single member"] for rule in FUSED_AND_CONTROLS]
        shown = [f"{100 * gain:+.1f}" for gain in gains]
        levels = [f"{100 * mean[name]:.1f}" for name in ("BiomedCLIPSeg", "CLIPSeg", "UNet-D", "a CNN as large as A")]
        assert rows["seed"].nunique() == late[late["dataset"] == dataset]["seed"].nunique() == 3
        yield f"| `{dataset}` | {' | '.join(levels + shown)} |"


def test_the_table_of_what_ensembling_adds_is_what_was_measured():
    lines = README.read_text("utf-8").splitlines()
    assert [row for row in ensembling_rows() if row not in lines] == []


def test_an_ensemble_is_used_in_three_lines(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    network = UNetD(1 / 32)
    facts = dict.fromkeys(FACTS) | {"member": network.config, "image_size": 32}
    save_checkpoint(tmp_path / "unet_d.safetensors", trainable_state_dict(network), facts)
    members = {"unet_d": tmp_path / "unet_d.safetensors"}
    write_predictor(tmp_path / "my_ensemble", members, WeightedFusion.equal(["unet_d"]), prompt="", card="", facts={})
    (tmp_path / "new").mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "new" / "image.png")
    given = {}
    exec(python_with("Predictor.load"), given)
    assert given["found"].mask.shape == (30, 40)
