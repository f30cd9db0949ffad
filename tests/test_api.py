"""The public API: every name resolves and shows an example that runs; importing it costs nothing."""

import doctest
import shutil

import numpy as np
import pandas as pd
import pytest

import vlsm_helpers as vlsm
from tests.helpers import write_toy
from tests.processes import python
from vlsm_helpers.metrics.statistics import bootstrap_seeds

CALLABLE = sorted(name for name in vlsm.__all__ if callable(getattr(vlsm, name)) and name != "CourseError")


def test_importing_the_package_loads_neither_torch_nor_matplotlib_and_dir_shows_every_name():
    code = (
        "import sys, vlsm_helpers as vlsm; shown = dir(vlsm); "
        "print([m for m in ('torch', 'matplotlib', 'pandas', 'numpy') if m in sys.modules], "
        "set(vlsm.__all__) <= set(shown))"
    )
    assert python(code).split() == ["[]", "True"]


@pytest.mark.parametrize("name", vlsm.__all__)
def test_every_name_resolves_and_the_module_docstring_or_its_own_explains_it(name):
    found = getattr(vlsm, name)
    assert (found.__doc__ or "").strip() or name in vlsm.__doc__


@pytest.mark.parametrize("name", CALLABLE)
def test_every_public_function_and_class_has_an_example_that_gives_what_it_shows(
    name, capsys, tmp_path, monkeypatch, own_data
):
    monkeypatch.chdir(tmp_path)  # where the examples find `image.png` and a dataset `mine`
    shutil.copy(write_toy(tmp_path / "data", "mine") / "images" / "test_0.png", "image.png")
    tests = doctest.DocTestFinder(recurse=True).find(getattr(vlsm, name), name)
    examples = [test for test in tests if test.examples]
    assert examples, f"{name} shows no example"
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    for test in examples:
        runner.run(test)
    assert runner.summarize().failed == 0, capsys.readouterr().out


def test_ten_lines_of_somebody_who_has_read_only_the_help(tmp_path):
    settings = vlsm.start("tiny")
    train, val, test = (
        vlsm.SegmentationDataset(vlsm.load_split("phantom_endoscopy", split)[:24], 128)
        for split in ("train", "val", "test")
    )
    member = vlsm.build("unet_d", settings.profile)
    vlsm.train(member, train, val, tmp_path / "first", epochs=1)
    scores = vlsm.summarise(vlsm.evaluate(member, test), model="UNet-D", split="test")
    stored, judged = (vlsm.tiny_store(split).of(["clipseg", "unet_d"]) for split in ("val", "test"))
    rule = vlsm.WeightedMean(of_logits=True).fit(stored.validation(128))
    dice = vlsm.mask_dice(rule.predict(judged.logits(128)), judged.masks(128))
    assert (tmp_path / "first" / "best.safetensors").exists()
    assert scores.loc[scores["metric"] == "dice", "n"].item() == 24
    alone = [vlsm.mask_dice(one > 0, judged.masks(128)).mean() for one in judged.logits(128)]
    assert dice.shape == (100,)
    assert dice.mean() > min(alone)


@pytest.mark.parametrize(
    ("benchmark", "by", "first", "second"),
    [
        ("hybrid_ensembles", "model", "A", "UNet-D"),
        ("late_fusion", "rule", "weighted mean of logits", "best single member"),
    ],
)
def test_a_paired_gain_is_the_bootstrap_of_the_differences_of_a_pivot(benchmark, by, first, second):
    rows = vlsm.measured(benchmark)
    rows = rows[rows["dataset"] == "busi"]
    grid = rows.pivot(index="seed", columns=[by, "id"], values="dice")
    order = rows["id"].unique()
    by_hand = bootstrap_seeds(100 * np.asarray(grid[first][order] - grid[second][order]))
    gain = vlsm.paired_gain(rows, first, second, by=by)
    assert tuple(gain[name] for name in ("value", "low", "high", "n")) == tuple(by_hand)
    chosen = [{by: one, "dataset": "busi"} for one in (first, second)]
    assert vlsm.paired_gain(vlsm.measured(benchmark), *chosen) == gain


def test_a_paired_gain_of_what_is_not_paired_is_refused():
    rows = pd.DataFrame({"seed": 0, "id": ["a", "b", "a"], "model": ["x", "x", "y"], "dice": [0.5, 0.6, 0.7]})
    with pytest.raises(ValueError, match="same images"):
        vlsm.paired_gain(rows, "x", "y")
    with pytest.raises(ValueError, match="no row"):
        vlsm.paired_gain(rows, "x", "z")
    with pytest.raises(ValueError, match="several rows"):
        vlsm.paired_gain(pd.concat([rows, rows]), "x", "y")
