"""Python in the README and in docs/ does what the text says, on a toy dataset; tables of results are what was measured."""

import re
import shlex
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from typer.main import get_command

from benchmarks.hybrid_ensembles import JOINED
from tests.helpers import keep
from tests.models.published.test_networks import published_state_dict
from vlsm_helpers.cli import app
from vlsm_helpers.data.images import read_mask
from vlsm_helpers.data.samples import load_split
from vlsm_helpers.evaluation import predictions
from vlsm_helpers.experiments.reference import measured
from vlsm_helpers.fusion import RULES
from vlsm_helpers.fusion.weighted import WeightedFusion
from vlsm_helpers.inference.predictor import write_predictor
from vlsm_helpers.metrics.statistics import holm, paired_gain
from vlsm_helpers.models.unet_d import UNetD

PROJECT = Path(__file__).parents[2]


def page(name):
    return (PROJECT / name).read_text(encoding="utf-8")


def prose(name):
    """A page whose lines are joined."""
    return " ".join(page(name).split())


def python_with(words, name="README.md"):
    """The one block of Python on a page that has these words."""
    (block,) = [code for code in re.findall(r"```python\n(.*?)```", page(name), re.S) if words in code]
    return block


PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (PROJECT / "docs").glob("*.md"))]


def commands(name):
    """The commands of the package in the shell blocks of a page, as lists of words after `vlsm`."""
    for block in re.findall(r"```sh\n(.*?)```", page(name), re.S):
        for line in block.splitlines():
            if found := re.search(r"(?:\bvlsm|-m vlsm_helpers) (.*)", line.partition(" #")[0]):
                yield shlex.split(found[1])


@pytest.mark.parametrize("name", PAGES)
def test_commands_and_their_options_exist(name):
    for words in commands(name):
        command, rest = get_command(app), list(words)
        while hasattr(command, "commands"):
            assert rest[0] in command.commands, words
            command = command.commands[rest.pop(0)]
        known = {option for one in command.params for option in (*one.opts, *one.secondary_opts)}
        assert {word.partition("=")[0] for word in rest if word.startswith("--")} <= known, words


@pytest.mark.parametrize("name", PAGES)
def test_links_into_the_repository_lead_somewhere(name):
    here = (PROJECT / name).parent
    links = re.findall(r"\]\((?!https?:)([^)#\s]+)(?:#[^)]*)?\)", page(name))
    assert [link for link in links if not (here / link).exists()] == []


def test_the_path_lists_every_chapter_with_its_title_and_minutes():
    listed = re.findall(r"^\| \[(.+?)\]\((notebooks/.+?)\) \|.*\| ([\d.]+) \|$", page("README.md"), re.M)
    chapters = sorted((PROJECT / "notebooks").glob("*.ipynb"))
    assert [path for _, path, _ in listed] == [f"notebooks/{path.name}" for path in chapters]
    for title, path, minutes in listed:
        cells = nbformat.read(PROJECT / path, as_version=4).cells
        text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        assert text.startswith(f"# {title}\n"), path
        assert re.search(r"^\| \*\*Minutes\*\* \| ([\d.]+)", text, re.M)[1] == minutes, path


def test_training_and_scoring_in_a_few_lines(toy, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code = python_with("vlsm.train(").replace("phantom_endoscopy", "toy").replace("size=128", "size=32")
    given = {}
    exec(code, given)
    assert (tmp_path / "runs" / "first" / "best.safetensors").exists()
    assert "UNet-D" in capsys.readouterr().out
    assert len(given["test"]) == 5


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
    code = python_with("load_published_state_dict", "docs/training.md").replace("ensemble_b", "unet_d")
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
    lines = page("docs/results.md").splitlines()
    rows = list(ensembling_rows())
    assert len(rows) == 7
    assert [row for row in rows if row not in lines] == []


ZERO_SHOT = "CLIPSeg, zero-shot: right, chosen on val"
TITLES = {
    "phantoms: endoscopy": "phantom_endoscopy",
    "phantoms: ultrasound": "phantom_ultrasound",
    "phantoms: skin": "phantom_skin",
    "phantoms: X-ray": "phantom_xray",
    "CVC-ClinicDB": "clinicdb_polyp",
    "Kvasir-SEG": "kvasir_polyp",
    "BUSI, all images": "busi",
}


def vision_language_rows():
    """The table of what CLIPSeg and BiomedCLIPSeg reach, from the rows that the benchmark wrote."""
    all_rows = pd.read_csv(PROJECT / "benchmarks" / "vision_language.csv", keep_default_na=False)

    def cell(dataset, model, interval=False, prompt=False):
        rows = all_rows[(all_rows["dataset"] == dataset) & (all_rows["model"] == model)]
        if not len(rows):
            return "not run"
        dice = 100 * rows["dice"].astype(float)
        low, high = (100 * float(rows[side].iloc[0]) for side in ("low", "high"))
        spread = f" ± {dice.std():.1f}" if len(rows) > 1 else f" ({low:.1f} to {high:.1f})"
        words = f" (“{rows['prompt'].iloc[0]}”)" if prompt else ""
        return f"{dice.mean():.1f} %" + (spread if interval else words)

    for title, name in TITLES.items():
        cells = [cell(name, "mean of the training masks"), cell(name, ZERO_SHOT, prompt=True)]
        cells += [cell(name, "CLIPSeg, zero-shot: empty")]
        trained = ("CLIPSeg, decoder", "CLIPSeg, encoders too", "BiomedCLIPSeg, decoder")
        yield f"| {title} | {' | '.join(cells + [cell(name, model, interval=True) for model in trained])} |"


def test_the_table_of_vision_language_segmenters_is_what_was_measured():
    lines = page("docs/results.md").splitlines()
    assert [row for row in vision_language_rows() if row not in lines] == []


def test_the_table_of_the_light_cnn_is_the_benchmarks():
    rows = re.findall(r"^\| (?:Kvasir-SEG|CVC-ClinicDB|BUSI, .*?) \| \d.*\|$", page("benchmarks/light_cnn.md"), re.M)
    assert len(rows) == 4
    assert [row for row in rows if row not in page("docs/results.md").splitlines()] == []
    best = rows[0].split(" | ")[1]  # such as "81.6 (77.9 to 84.9)"
    assert f"{best.split()[0]} % Dice on Kvasir-SEG's test images {best.split(maxsplit=1)[1]}" in prose("README.md")


REAL_RULES = ("mean of logits", "weighted mean of logits")  # of those measured, the ones that docs/results.md shows
REAL_TITLES = {"kvasir_polyp": "Kvasir-SEG", "clinicdb_polyp": "CVC-ClinicDB", "busi": "BUSI"}


@pytest.mark.parametrize("name", ["real_images", "real_fusion", "real_curves"])
def test_tables_of_real_images_are_the_benchmarks(name):
    rows = page(f"vlsm_helpers/measured/{name}.md").splitlines()[2:]
    if name == "real_fusion":
        rows = [row for row in rows if any(f"| {rule} |" in row for rule in REAL_RULES)]
    assert len(rows) >= 3
    assert [row for row in rows if row not in page("docs/results.md").splitlines()] == []


def test_the_readmes_table_of_real_images_is_what_was_measured():
    datasets = {
        "Kvasir-SEG": "kvasir_polyp",
        "CVC-ClinicDB": "clinicdb_polyp",
        "BUSI, lesions only": "busi, lesions only",
    }
    rows = [line.strip("| ").split(" | ") for line in page("vlsm_helpers/measured/real_images.md").splitlines()]
    dice = {(name, model): found for name, images, model, found, *_ in rows[2:] if images == "first 200"}
    lines = page("README.md").splitlines()
    start = lines.index(f"| Dice on test, % (95 % CI) | {' | '.join(datasets)} |")
    shown = dict.fromkeys(model for _, model in dice)
    expected = [" | ".join([model, *(dice[name, model] for name in datasets.values())]) for model in shown]
    assert [line.strip("| ") for line in lines[start + 2 : start + 2 + len(shown)]] == expected


def fused_gains(group):
    """By dataset: what searched weights gain over the best member of the group, and the rest of the gap to CRIS, in words."""
    lines = page("vlsm_helpers/measured/real_fusion.md").splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if f"| {group} | weighted mean of logits |" in line]
    return {dataset: (gain, gap) for dataset, *_, gain, gap in rows}


def test_what_is_said_of_late_fusion_on_real_images_is_what_was_measured():
    for name, (gain, gap) in fused_gains("the paper's three").items():
        assert f"{gain} on {REAL_TITLES[name]}" in prose("README.md")
        assert f"{gap} on {REAL_TITLES[name]}" in prose("docs/results.md")
    for name, (gain, gap) in fused_gains("all five").items():
        assert f"{gap} on {REAL_TITLES[name]}" in prose("docs/results.md")
        assert gain in prose("docs/results.md")


def test_paired_differences_on_real_images_are_those_of_the_rows():
    docs = prose("docs/results.md")
    rows = {name: measured("real_images").query("dataset == @name") for name in REAL_TITLES}
    over_cris = [
        paired_gain(part, "CRIS", other) for part in rows.values() for other in ("CLIPSeg", "BiomedCLIPSeg", "UNet-D")
    ]
    assert all(gain["low"] > 0 for gain in over_cris)
    least, most = (round(choose(gain["value"] for gain in over_cris)) for choose in (min, max))
    assert f"by {least} to {most} points; every 95 % CI" in docs
    for name, part in rows.items():
        gain = paired_gain(part, "BiomedCLIPSeg", "CLIPSeg")
        assert f"{gain['value']:+.1f} ({gain['low']:+.1f} to {gain['high']:+.1f}) on {REAL_TITLES[name]}" in docs


def test_holms_correction_of_late_fusion_on_real_images():
    fused = {"group": "the paper's three", "rule": "weighted mean of logits"}
    rows = measured("real_fusion")
    parts = [rows.query("dataset == @name") for name in REAL_TITLES]
    kvasir, clinic, busi = holm(
        [paired_gain(part, fused, fused | {"rule": "best single member"})["p"] for part in parts]
    )
    assert f"(p = {kvasir:.3f}, {clinic:.2f} and {busi:.3f} in this order)" in prose("docs/results.md")


def test_what_pages_and_chapters_say_of_the_protocol_is_what_was_measured():
    rows = measured("real_images").query("dataset == 'kvasir_polyp'")
    dice = {name: f"{100 * part.mean():.1f} %" for name, part in rows.groupby("model")["dice"]}
    seeds = 100 * rows[rows["model"] == "UNet-D"].groupby("seed")["dice"].mean()
    first, second, third = (f"{one:.1f}" for one in seeds)
    assert f"{first}, {second} and {third} % with seeds 0, 1 and 2" in prose("docs/results.md")
    light = dice["light CNN from ImageNet"]
    said = f"this CNN has {light} Dice on test and UNet-D {dice['UNet-D']} "
    assert said in notebook_text("03_train_light_cnn")


def notebook_text(name):
    """The Markdown of a notebook, its lines joined."""
    notebook = nbformat.read(PROJECT / "notebooks" / f"{name}.ipynb", as_version=4)
    return " ".join(" ".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown").split())


def test_what_the_readme_says_of_budgets_is_what_was_measured():
    short, long = measured("hybrid_ensembles"), measured("prompts_and_pools")
    short = short[short["dataset"] == "kvasir_polyp"].groupby("model")["dice"].mean()
    settings = {"dataset": "kvasir_polyp", "trained_on": "kvasir_polyp", "model": "unet_d", "prompt": "p1"}
    rows = long[(long[list(settings)] == list(settings.values())).all(axis=1)]
    a, unet_d, longer = (f"{100 * dice:.1f}" for dice in (short["A"], short["UNet-D"], rows["dice"].mean()))
    readme = prose("README.md")
    assert f"after 20 epochs each: {a} against {unet_d} %" in readme
    assert f"Ten more epochs bring UNet-D to {longer} %" in readme


def test_counts_of_significant_gains_hold_after_holms_correction():
    """README and docs/results.md: late fusion on five of seven datasets; A, B and C in none of 21 cases."""
    late, hybrid = measured("late_fusion"), measured("hybrid_ensembles")
    fused = [
        paired_gain(part, "weighted mean of logits", "best single member", by="rule")
        for _, part in late.groupby("dataset")
    ]
    joined = [
        paired_gain(part, name, part.groupby("model")["val_dice"].mean()[list(JOINED[name])].idxmax())
        for _, part in hybrid.groupby("dataset")
        for name in "ABC"
    ]
    significant = [sum(holm([gain["p"] for gain in gains]) < 0.05) for gains in (fused, joined)]
    assert (len(fused), len(joined)) == (7, 21)
    assert significant == [5, 0]
    assert sum(gain["low"] > 0 for gain in fused) == 5
    assert sum(gain["low"] > 0 for gain in joined) == 4


def test_an_ensemble_is_used_in_three_lines(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    members = {"unet_d": keep(UNetD(1 / 32), tmp_path / "unet_d.safetensors")}
    write_predictor(tmp_path / "my_ensemble", members, WeightedFusion.equal(["unet_d"]), prompt="", card="", facts={})
    (tmp_path / "new").mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "new" / "image.png")
    given = {}
    exec(python_with("Predictor.load"), given)
    assert given["found"].mask.shape == (30, 40)
