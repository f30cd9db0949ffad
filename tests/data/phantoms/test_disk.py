import dataclasses
import json
import os

import numpy as np
import pytest

from vlsm_helpers.data import registry, samples
from vlsm_helpers.data.images import read_image, read_mask
from vlsm_helpers.data.phantoms import disk, ensure, render, seeds
from vlsm_helpers.errors import DataError, SettingsError

NAME = "phantom_ultrasound"
COUNTS = {"train": 5, "val": 2, "test": 3}


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """A dataset of ten pictures in place of 360."""
    card = dataclasses.replace(registry.find(NAME), entries=COUNTS)
    monkeypatch.setitem(registry.DATASETS, NAME, card)


@pytest.fixture
def no_drawing(monkeypatch):
    """Fails the test if anything is drawn."""
    return lambda: monkeypatch.setattr(disk, "render", lambda *_: pytest.fail("drawn again"))


def everything(folder):
    return {path.relative_to(folder): path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


def test_what_is_written_is_what_is_drawn(tmp_path, capsys):
    root = ensure(NAME, tmp_path / "deep" / "cache")
    assert root == tmp_path / "deep" / "cache" / NAME
    for split, count in COUNTS.items():
        entries = json.loads((root / "anns" / f"{split}.json").read_text())
        assert len(entries) == count
        for entry, seed in zip(entries, seeds(NAME, split), strict=True):
            phantom = render(NAME, seed)
            np.testing.assert_array_equal(read_image(root / "images" / entry["img_name"]), phantom.image)
            np.testing.assert_array_equal(read_mask(root / "masks" / entry["mask_name"]), phantom.mask)
            assert (entry["kind"], entry["difficulty"]) == (phantom.kind, "medium")
            assert list(entry["prompts"]) == [f"p{rung}" for rung in range(7)]
    assert f"drawing {NAME}: 100%" in capsys.readouterr().err


def test_prompts_say_the_kind_as_the_benchmark_does(tmp_path):
    root = ensure(NAME, tmp_path)
    entries = [entry for split in COUNTS for entry in json.loads((root / "anns" / f"{split}.json").read_text())]
    assert {entry["kind"] for entry in entries} >= {"normal", "benign"}
    for entry in entries:
        if entry["kind"] == "normal":
            assert entry["prompts"]["p6"] == "no tumor"
        else:
            first, second = entry["prompts"]["p2"]
            assert first.endswith(f" {entry['kind']} tumor")
            assert second == first.replace(f"{entry['kind']} ", "")


def test_load_split_finds_it(tmp_path, monkeypatch):
    monkeypatch.setenv("VLSM_CACHE", str(tmp_path))
    assert len(samples.load_split(NAME, "test")) == 3
    assert (tmp_path / "phantoms" / NAME / "anns").is_dir()


def test_the_second_time_nothing_happens(tmp_path, no_drawing):
    before = everything(ensure(NAME, tmp_path))
    no_drawing()
    assert everything(ensure(NAME, tmp_path)) == before
    assert os.listdir(tmp_path) == [NAME]


def half_written(root):
    (root / "drawn.json").unlink()


def a_picture_lost(root):
    next((root / "masks").iterdir()).unlink()


def of_an_older_generator(root):
    (root / "drawn.json").write_text(json.dumps({"generator": 0, "entries": COUNTS}))


def a_broken_stamp(root):
    (root / "drawn.json").write_text("{")


@pytest.mark.parametrize("spoil", [half_written, a_picture_lost, of_an_older_generator, a_broken_stamp])
def test_a_folder_that_is_not_whole_is_drawn_again(tmp_path, spoil, no_drawing):
    root = ensure(NAME, tmp_path)
    spoil(root)
    (root / "stray.txt").touch()
    assert ensure(NAME, tmp_path) == root
    assert not (root / "stray.txt").exists()
    assert os.listdir(tmp_path) == [NAME]
    no_drawing()
    ensure(NAME, tmp_path)


def test_a_stopped_run_leaves_nothing(tmp_path, monkeypatch):
    def stop(name, seed):
        if seed == seeds(NAME, "val")[0]:
            raise KeyboardInterrupt
        return render(name, seed)

    monkeypatch.setattr(disk, "render", stop)
    with pytest.raises(KeyboardInterrupt):
        ensure(NAME, tmp_path)
    assert os.listdir(tmp_path) == []


def test_another_process_finishes_while_this_one_draws(tmp_path, monkeypatch):
    draw, theirs = disk._draw, {}

    def draw_slowly(*arguments):
        monkeypatch.setattr(disk, "_draw", draw)
        theirs.update(everything(ensure(NAME, tmp_path)))
        return draw(*arguments)

    monkeypatch.setattr(disk, "_draw", draw_slowly)
    assert everything(ensure(NAME, tmp_path)) == theirs  # the first one's stays
    assert os.listdir(tmp_path) == [NAME]


def test_another_process_finishes_just_before_this_one_moves_its_folder(tmp_path, monkeypatch):
    replace, theirs = os.replace, {}

    def replace_late(source, target):
        if source != tmp_path / NAME:
            monkeypatch.setattr(os, "replace", replace)
            theirs.update(everything(ensure(NAME, tmp_path)))
        replace(source, target)

    monkeypatch.setattr(os, "replace", replace_late)
    assert everything(ensure(NAME, tmp_path)) == theirs
    assert os.listdir(tmp_path) == [NAME]


def test_a_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="VLSM_CACHE"):
        ensure(NAME, tmp_path / "file")


def test_other_datasets_are_not_drawn(tmp_path):
    with pytest.raises(DataError, match="busi"):
        ensure("busi", tmp_path)
    assert os.listdir(tmp_path) == []


def test_another_draw_is_another_dataset_with_the_same_test_images(tmp_path):
    first, second = ensure(NAME, tmp_path), ensure(NAME, tmp_path, draw=2)
    assert second == tmp_path / f"{NAME}_draw2"
    for split in COUNTS:
        one, two = (json.loads((root / "anns" / f"{split}.json").read_text()) for root in (first, second))
        shared = {entry["img_name"] for entry in one} & {entry["img_name"] for entry in two}
        assert len(shared) == (COUNTS["test"] if split == "test" else 0)


def test_a_draw_there_is_not_is_refused(tmp_path):
    with pytest.raises(DataError, match="no draw 10"):
        ensure(NAME, tmp_path, draw=10)
    assert not (tmp_path / f"{NAME}_draw10").exists()
