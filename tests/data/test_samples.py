import json

import numpy as np
import pytest

from tests import archives
from vlsm_helpers.data.samples import dataset_folder, load_split, read_entries
from vlsm_helpers.errors import DataError


@pytest.fixture
def folder(tmp_path):
    """A data folder with a dataset `busi` of two samples a split; files end in .png, its annotations say .jpg."""
    root, entries = tmp_path / "busi", {}
    for split in archives.SPLITS:
        names = [f"{split}_{letter}" for letter in "ba"]
        for name in names:
            archives.save(archives.picture(0), root / f"images/{name}.png")
            archives.save(archives.rectangle(8, 8, 24, 16), root / f"masks/{name}.png")
        entries[split] = [archives.entry(f"{name}.jpg", f"{name}.jpg") | {"difficulty": 0.5} for name in names]
    archives.write_splits(entries, root / "anns")
    return tmp_path


def test_samples_come_in_the_order_of_the_file(folder):
    samples = load_split("busi", "val", folder)
    assert [sample.id for sample in samples] == ["val_b", "val_a"]
    assert [sample.image for sample in samples] == [folder / f"busi/images/val_{letter}.png" for letter in "ba"]
    assert [sample.mask for sample in samples] == [folder / f"busi/masks/val_{letter}.png" for letter in "ba"]
    assert samples[0].attributes == {"bbox": [8, 8, 24, 16], "segment_id": "val_b", "difficulty": 0.5}


def test_the_folder_may_come_from_the_environment(folder, monkeypatch):
    monkeypatch.setenv("VLSM_DATA", str(folder))
    assert len(load_split("busi", "train")) == 2
    assert dataset_folder("busi") == folder / "busi"


def test_several_findings_of_one_image(folder):
    entries = [archives.entry("val_a.jpg", f"val_a_{finding}.png") for finding in ("edema", "atelectasis")]
    for entry in entries:
        archives.save(archives.rectangle(8, 8, 24, 16), folder / "busi/masks" / entry["mask_name"])
    (folder / "busi/anns/val.json").write_text(json.dumps(entries))
    samples = load_split("busi", "val", folder)
    assert [sample.id for sample in samples] == ["val_a_edema", "val_a_atelectasis"]
    assert samples[0].image == samples[1].image


def test_a_dataset_the_registry_does_not_know(folder):
    (folder / "busi").rename(folder / "mine")
    assert len(load_split("mine", "test", folder)) == 2


def test_prompts(folder):
    sample = load_split("busi", "train", folder)[0]
    assert sample.prompt("p0") == ""
    assert sample.prompt("p1") == "polyp"
    assert sample.prompt("p2") == "round polyp"
    drawn = {sample.prompt("p2", np.random.default_rng(seed)) for seed in range(20)}
    assert drawn == {"round polyp", "oval polyp"}
    assert sample.prompt("p1", np.random.default_rng(0)) == "polyp"
    again = [[sample.prompt("p2", rng) for _ in range(9)] for rng in map(np.random.default_rng, (3, 3))]
    assert again[0] == again[1]


def test_unknown_prompt_key(folder):
    sample = load_split("busi", "train", folder)[0]
    with pytest.raises(DataError, match="'p7'") as caught:
        sample.prompt("p7")
    assert str(sample.image) in str(caught.value)
    assert "p0, p1, p2" in str(caught.value)


NAMED = {  # what is asked for, what the folder lacks, and what the error says
    "an unknown dataset": ("bussi", "train", None, "'bussi'", "did you mean busi"),
    "a dataset that is not prepared": ("isic", "train", None, "not prepared", "vlsm data prepare isic"),
    "an unknown split": ("busi", "testing", None, "'testing'", "train, val, test"),
    "an empty split": ("busi", "val", "anns/val.json", "empty", "val.json"),
    "no annotations": ("busi", "test", "anns/test.json", "missing", "test.json"),
    "no folder of images": ("busi", "test", "images", "folder is missing", "busi/images"),
    "no folder of masks": ("busi", "test", "masks", "folder is missing", "busi/masks"),
}


@pytest.mark.parametrize("fault", NAMED)
def test_what_is_not_there_is_named(fault, folder):
    name, split, lost, what, told = NAMED[fault]
    if lost:
        (folder / "busi" / lost).rename(folder / "elsewhere")
    if fault == "an empty split":
        (folder / "busi" / lost).write_text("[]")
    with pytest.raises(DataError, match=what) as caught:
        load_split(name, split, folder)
    assert told in str(caught.value)
    assert str(folder) in str(caught.value) or fault == "an unknown dataset"


@pytest.mark.parametrize("kind", ["images", "masks"])
def test_missing_files_are_named(kind, folder):
    (folder / f"busi/{kind}/test_a.png").unlink()
    with pytest.raises(DataError, match="1 files") as caught:
        load_split("busi", "test", folder)
    assert f"{kind}/test_a.jpg" in str(caught.value)
    assert len(load_split("busi", "train", folder)) == 2


def test_many_missing_files_are_counted(folder):
    entries = [archives.entry(f"gone_{number}.png", f"gone_{number}.png") for number in range(4)]
    (folder / "busi/anns/test.json").write_text(json.dumps(entries))
    with pytest.raises(DataError, match="8 files") as caught:
        load_split("busi", "test", folder)
    assert "and 3 more" in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "not json", '{"img_name": "a"}', '[{"img_name": "a.png"}]', "[3]", "7", "\x00\xff"]
)
def test_annotations_of_another_form(text, tmp_path):
    (tmp_path / "train.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError) as caught:
        read_entries(tmp_path / "train.json")
    assert "train.json" in str(caught.value)
