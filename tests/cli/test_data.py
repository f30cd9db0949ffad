"""`vlsm data adopt` on folders as people have them."""

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.helpers import all_samples, draw_toy, write_toy
from vlsm_helpers.cli import app
from vlsm_helpers.data.images import read_mask
from vlsm_helpers.data.registry import DATASETS


@pytest.fixture
def adopt(tmp_path, own_data):
    """Sixteen images of four patients with masks of two classes, 1 (a square) and 2 (a stripe); adopts them with options."""
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    for number in range(16):
        image, mask = draw_toy(np.random.default_rng(number), 48)
        classes = mask.astype(np.uint8)
        classes[0] = 2
        Image.fromarray(image).save(tmp_path / f"images/patient{number // 4}_{number}.png")
        Image.fromarray(classes).save(tmp_path / f"masks/patient{number // 4}_{number}_lesion.png")

    def run(*options, said=("--noun", "square")):
        words = ["data", "adopt", "mine", tmp_path / "images", tmp_path / "masks", *said, *options]
        return CliRunner().invoke(app, list(map(str, words)))

    return run


def masks(tmp_path, rule):
    for sample in all_samples():
        yield read_mask(sample.mask), rule(np.asarray(Image.open(tmp_path / f"masks/{sample.id}_lesion.png")))


@pytest.mark.parametrize(
    ("foreground", "rule"),
    [("1", lambda values: values == 1), ("2", lambda values: values == 2), ("any", lambda values: values > 0)],
)
def test_what_counts_and_how_masks_are_named_can_be_said(adopt, tmp_path, foreground, rule):
    outcome = adopt("--foreground", foreground, "--mask-name", "{stem}_lesion", "--alike", 1)
    assert outcome.exit_code == 0, outcome.output
    assert "--group '^(patient" in outcome.output
    assert all(np.array_equal(found, expected) for found, expected in masks(tmp_path, rule))


def test_without_them_the_message_says_what_to_give(adopt):
    for options, words in (
        ((), ["--mask-name '{stem}_lesion'"]),
        (("--mask-name", "{stem}_lesion"), ["2 (48 pixels)", "--foreground"]),
    ):
        outcome = adopt(*options)
        assert outcome.exit_code == 1
        assert all(word in outcome.output for word in words), outcome.output


@pytest.mark.parametrize("options", [("--foreground", "lesion"), ("--mask-name", "lesion"), ("--alike", "0")])
def test_options_that_mean_nothing_are_refused(adopt, options):
    outcome = adopt("--mask-name", "{stem}_lesion", *options)
    assert outcome.exit_code == 1
    assert "hint" in outcome.output


def test_several_masks_are_merged_on_wish(adopt, tmp_path):
    for path in sorted((tmp_path / "masks").iterdir()):
        path.rename(path.with_name(path.name.replace("_lesion", "_mask")))
        Image.fromarray(np.zeros((48, 48), np.uint8)).save(path.with_name(path.name.replace("_lesion", "_mask_1")))
    assert "--merge-masks" in adopt("--foreground", "any").output
    assert adopt("--foreground", "any", "--merge-masks", "--alike", 1).exit_code == 0


def test_several_classes_from_the_label_maps_to_dice_by_class(adopt, tmp_path, own_runs):
    """A network without a text input gives one mask for both prompts: the two rows of its confusion are equal."""
    rules = ("--mask-name", "{stem}_lesion", "--alike", 1, "--group", "^(patient[0-9]+)")
    outcome = adopt(*rules, said=("--labels", "1=square,2=stripe"))
    assert outcome.exit_code == 0, outcome.output
    found = all_samples()
    assert len(found) == 32
    for sample in found:
        values = np.asarray(Image.open(tmp_path / f"masks/{sample.image.stem}_lesion.png"))
        assert np.array_equal(read_mask(sample.mask), values == {"square": 1, "stripe": 2}[sample.prompt("p1")])
    sized = ["--size", "32", "--width", "0.03125", "--epochs", "1", "--name", "run"]
    assert CliRunner().invoke(app, ["train", "unet_d", "mine", *sized]).exit_code == 0
    lines = CliRunner().invoke(app, ["evaluate", "run"]).output.splitlines()
    square, stripe = (line.split()[1:] for line in lines[-2:])
    assert (lines[-2].split()[0], lines[-1].split()[0]) == ("square", "stripe")
    assert square == stripe
    assert sum(line.startswith((" square", "square")) for line in lines) == 2  # by class, and the confusion


def test_neither_a_noun_nor_labels(adopt):
    outcome = adopt("--mask-name", "{stem}_lesion", said=())
    assert outcome.exit_code == 1
    assert "--labels" in outcome.output


def test_data_list_shows_every_dataset_and_what_is_here(vlsm, monkeypatch, tmp_path):
    monkeypatch.setenv("VLSM_DATA", str(tmp_path))
    (tmp_path / "kvasir_polyp" / "anns").mkdir(parents=True)
    write_toy(tmp_path)
    rows = {line.split()[0]: line for line in vlsm("data", "list").stdout.splitlines() if line.strip()}
    assert set(DATASETS) <= set(rows)
    assert "800/100/100" in rows["kvasir_polyp"]
    assert rows["kvasir_polyp"].rstrip().endswith("prepared")
    assert rows["busi"].rstrip().endswith("no")
    assert rows["bkai_polyp"].rstrip().endswith("no, needs an account")
    assert rows["phantom_skin"].rstrip().endswith("drawn when used")
    assert rows["toy"].rstrip().endswith("your own")
    for card in DATASETS.values():
        assert card.is_phantom or (card.terms in rows[f"{card.name}:"] and card.home in rows[f"{card.name}:"])


def test_data_check_of_a_sound_and_of_a_broken_dataset(vlsm, monkeypatch, tmp_path):
    monkeypatch.setenv("VLSM_DATA", str(tmp_path))
    write_toy(tmp_path)
    assert "ok" in vlsm("data", "check", "toy").stdout
    (tmp_path / "toy" / "masks" / "train_3.png").unlink()
    outcome = vlsm("data", "check", "toy")
    assert outcome.exit_code == 1
    assert "train_3" in outcome.stdout
