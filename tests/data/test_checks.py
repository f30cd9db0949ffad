import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import archives
from vlsm_helpers.data import registry
from vlsm_helpers.data.checks import check, near_duplicates
from vlsm_helpers.data.samples import load_split
from vlsm_helpers.errors import DataError


class Prepared:
    """A dataset `mine` of ten samples a split in the layout on disk."""

    def __init__(self, folder: Path):
        self.folder, self.root, self.entries = folder, folder / "mine", {}
        for number, split in enumerate(archives.SPLITS):
            names = [f"{split}_{place}" for place in range(10)]
            for place, name in enumerate(names):
                archives.save(archives.picture(10 * number + place), self.root / f"images/{name}.png")
                archives.save(archives.rectangle(8, 8, 24, 16), self.root / f"masks/{name}.png")
            self.entries[split] = [archives.entry(f"{name}.png", f"{name}.png") for name in names]
        self.write()

    def write(self):
        archives.write_splits(self.entries, self.root / "anns")

    def problems(self):
        """(severity, kind, split, file) of every problem but that masks are rectangles: archives draw them so."""
        problems = check("mine", self.folder).problems.query("kind != 'boxes'")
        return list(zip(problems.severity, problems.kind, problems.split, problems.file, strict=True))


@pytest.fixture
def mine(tmp_path):
    return Prepared(tmp_path)


def test_a_whole_dataset(mine):
    report = check("mine", mine.folder)
    assert report.ok
    assert set(report.problems.kind) == {"boxes"}
    assert report.leaks.empty
    assert list(report.counts.index) == list(archives.SPLITS)
    row = report.counts.loc["train"]
    assert (row.entries, row.images, row.empty_masks, row.median_size) == (10, 10, 0, "32 x 24")
    assert row.foreground_share == pytest.approx(16 * 8 / (32 * 24), abs=1e-4)
    assert "mine" in str(report)
    assert "ok" in str(report)


@pytest.mark.parametrize("name", archives.BUILDERS)
def test_what_prepare_writes_has_only_few_entries(name, tmp_path):
    """The tiny archives are whole: all that is wrong is that they are tiny."""
    from vlsm_helpers.data.public.prepare import prepare

    entries, _ = archives.BUILDERS[name](tmp_path / "source")
    archives.write_splits(entries, tmp_path / "splits")
    prepare(name, tmp_path / "source", tmp_path / "splits", tmp_path)
    report = check(name, tmp_path)
    assert report.ok
    assert set(report.problems.kind) == {"count"}
    assert f"the registry says {registry.find(name).entries['train']}" in report.problems.detail.iloc[0]


def test_every_broken_file_is_found(mine):
    (mine.root / "images/train_0.png").unlink()
    (mine.root / "images/train_1.png").write_text("no image")
    whole = (mine.root / "images/val_2.png").read_bytes()
    (mine.root / "images/val_2.png").write_bytes(whole[: len(whole) // 2])
    (mine.root / "masks/test_3.png").unlink()
    grey = archives.rectangle(8, 8, 24, 16) * np.uint8(120)
    archives.save(grey, mine.root / "masks/test_4.png")
    archives.save(archives.picture(0), mine.root / "masks/test_5.png")
    assert mine.problems() == [
        ("error", "image", "train", "images/train_0.png"),
        ("error", "image", "train", "images/train_1.png"),
        ("error", "image", "val", "images/val_2.png"),
        ("error", "mask", "test", "masks/test_3.png"),
        ("error", "mask", "test", "masks/test_4.png"),
        ("error", "mask", "test", "masks/test_5.png"),
    ]
    report = check("mine", mine.folder)
    assert not report.ok
    assert "NOT ok" in str(report)
    details = dict(zip(report.problems.file, report.problems.detail, strict=True))
    assert "missing" in details["images/train_0.png"]
    assert "truncated" in details["images/val_2.png"]
    assert "120 (128 pixels)" in details["masks/test_4.png"]
    assert "coloured" in details["masks/test_5.png"]


def test_a_long_list_is_cut_in_the_text_only(mine):
    for path in (mine.root / "images").glob("train_*"):
        path.unlink()
    report = check("mine", mine.folder)
    assert len(report.problems[report.problems.severity == "error"]) == 10
    assert "error, image, train: 10" in str(report)
    assert "and 5 more" in str(report)


def test_masks_of_another_shape(mine):
    archives.save(archives.rectangle(8, 8, 24, 16).T, mine.root / "masks/val_0.png")
    assert ("error", "shape", "val", "masks/val_0.png") in mine.problems()


def test_masks_of_another_size_but_the_same_shape(mine):
    archives.save(np.kron(archives.rectangle(8, 8, 24, 16), np.ones((2, 2), bool)), mine.root / "masks/val_0.png")
    mine.entries["val"][0]["bbox"] = [16, 16, 48, 32]
    mine.write()
    assert mine.problems() == []


@pytest.mark.parametrize("box", [[7, 7, 24, 16], [8, 8, 24, 16], [9, 9, 25, 17], [7, 7, 23, 15]])
def test_boxes_may_be_a_pixel_off(box, mine):
    mine.entries["val"][0]["bbox"] = box
    mine.write()
    assert mine.problems() == []


def test_many_wrong_boxes_are_an_error(mine):
    mine.entries["val"][0]["bbox"] = [8, 8, 20, 16]
    mine.write()
    assert mine.problems() == [("error", "box", "val", "masks/val_0.png")]


def test_a_stray_pixel_in_one_mask_of_many_is_a_warning(mine):
    mine.entries["train"] += mine.entries["val"] + mine.entries["test"]
    mine.entries["val"] = mine.entries["test"] = []
    mine.write()
    stray = archives.rectangle(8, 8, 24, 16)
    stray[0, 31] = True
    archives.save(stray, mine.root / "masks/val_3.png")
    assert ("warning", "box", "train", "masks/val_3.png") in mine.problems()


def test_empty_masks_have_a_dummy_box(mine):
    for name in ("val_0", "val_1"):
        archives.save(np.zeros((24, 32), bool), mine.root / f"masks/{name}.png")
    for entry, box in zip(mine.entries["val"][1:3], ([32, 24, 0, 0], [32, 24, 0, 0]), strict=True):
        entry["bbox"] = box
    mine.write()
    # val_0: an empty mask where a lesion is annotated; val_1: as it should be; val_2: a lesion where none is annotated.
    wrong = [file for _, kind, _, file in mine.problems() if kind == "box"]
    assert wrong == ["masks/val_0.png", "masks/val_2.png"]
    assert check("mine", mine.folder).counts.loc["val", "empty_masks"] == 2


def test_annotations_without_boxes(mine):
    for entry in mine.entries["val"]:
        del entry["bbox"]
    mine.write()
    assert mine.problems() == []


def test_empty_and_broken_annotations(mine):
    (mine.root / "anns/train.json").unlink()
    (mine.root / "anns/val.json").write_text("[]")
    (mine.root / "anns/test.json").write_text("{")
    assert mine.problems() == [
        ("error", "annotations", "train", "anns/train.json"),
        ("error", "empty split", "val", "anns/val.json"),
        ("error", "annotations", "test", "anns/test.json"),
    ]


def test_missing_folders(mine):
    (mine.root / "masks").rename(mine.root / "elsewhere")
    kinds = {(severity, kind) for severity, kind, _, _ in mine.problems()}
    assert kinds == {("error", "mask")}


def test_unknown_dataset(mine):
    with pytest.raises(DataError, match="busy") as caught:
        check("busy", mine.folder)
    assert "did you mean busi" in str(caught.value)


def test_shared_names(mine):
    mine.entries["test"].append(mine.entries["train"][3])
    mine.write()
    assert mine.problems() == [("warning", "shared name", "test", "images/train_3.png")]
    report = check("mine", mine.folder)
    assert report.ok
    assert len(report.leaks) == 1


def test_near_duplicates_across_splits(mine):
    noise = np.random.default_rng(0).normal(0, 4, (24, 32, 3))
    brighter = np.clip(0.8 * archives.picture(2) + 20 + noise, 0, 255).astype(np.uint8)
    archives.save(brighter, mine.root / "images/test_7.png")
    assert mine.problems() == [("warning", "near-duplicate", "test", "images/test_7.png")]
    report = check("mine", mine.folder)
    assert report.ok
    assert "train train_2" in report.leaks.detail.iloc[0]
    pairs = near_duplicates(*(load_split("mine", split, mine.folder) for split in ("train", "test")), threshold=0.95)
    assert pairs[["a", "b"]].values.tolist() == [["train_2", "test_7"]]
    assert 0.95 < pairs.correlation[0] < 1


def test_near_duplicates_agree_with_numpys_correlation(mine):
    a, b = (load_split("mine", split, mine.folder) for split in ("train", "val"))
    pairs = near_duplicates(a, b, threshold=-1.0)
    assert len(pairs) == 100
    assert pairs.correlation.is_monotonic_decreasing
    thumbnails = {
        sample.image.stem: np.asarray(Image.open(sample.image).convert("L").resize((64, 64), Image.BILINEAR)).ravel()
        for sample in a + b
    }
    expected = [np.corrcoef(thumbnails[row.a], thumbnails[row.b])[0, 1] for row in pairs.itertuples()]
    assert np.allclose(pairs.correlation, expected, atol=1e-4)


def test_near_duplicates_of_blank_images(mine):
    for name in ("train_0", "val_0"):
        archives.save(np.full((24, 32, 3), 9, np.uint8), mine.root / f"images/{name}.png")
    assert check("mine", mine.folder).leaks.empty
    assert mine.problems() == [("warning", "no contrast", s, f"images/{s}_0.png") for s in ("train", "val")]


def test_near_duplicates_without_images(mine):
    pairs = near_duplicates([], load_split("mine", "val", mine.folder), threshold=0.9)
    assert list(pairs.columns) == ["a", "b", "correlation"]
    assert pairs.empty


def test_an_image_is_not_its_own_duplicate(mine):
    samples = load_split("mine", "val", mine.folder)
    assert near_duplicates(samples, samples, threshold=0.99).empty


def test_several_findings_of_one_image_count_once(mine):
    entries = [archives.entry("val_0.png", f"val_0_{finding}.png") for finding in ("edema", "atelectasis")]
    for entry in entries:
        archives.save(archives.rectangle(8, 8, 24, 16), mine.root / "masks" / entry["mask_name"])
    (mine.root / "anns/val.json").write_text(json.dumps(entries))
    (mine.root / "images/val_0.png").write_text("broken")
    assert mine.problems() == [("error", "image", "val", "images/val_0.png")]
    row = check("mine", mine.folder).counts.loc["val"]
    assert (row.entries, row.images) == (2, 1)


@pytest.fixture
def real():
    folder = os.environ.get("VLSM_DATA")
    if not folder or not (Path(folder) / "clinicdb_polyp").is_dir():
        pytest.skip("VLSM_DATA names no folder with clinicdb_polyp")
    return Path(folder)


@pytest.mark.real
def test_the_real_clinicdb(real):
    report = check("clinicdb_polyp", real)
    assert report.ok
    assert report.counts.entries.to_dict() == registry.find("clinicdb_polyp").entries
    assert report.counts.empty_masks.sum() == 0
    boxes = report.problems[report.problems.kind == "box"]
    # In these five masks a stray white pixel lies outside the annotated box.
    assert {Path(file).stem for file in boxes.file} == {"184", "314", "428", "470", "575"}
    assert set(report.problems.kind) == {"box", "near-duplicate"}
    train, test = (load_split("clinicdb_polyp", split, real) for split in ("train", "test"))
    assert near_duplicates(train, test, threshold=0.95).b.nunique() == 33


@pytest.mark.real
def test_the_real_busi(real):
    if not (real / "busi").is_dir():
        pytest.skip("VLSM_DATA names no folder with busi")
    train, test = (load_split("busi", split, real) for split in ("train", "test"))
    assert near_duplicates(train, test, threshold=0.99).b.nunique() == 14
