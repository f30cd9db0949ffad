import json
import shutil
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from tests.helpers import all_samples, draw_toy
from vlsm_helpers.data.images import read_image, read_mask
from vlsm_helpers.data.own import adopt
from vlsm_helpers.data.pairing import pairs
from vlsm_helpers.data.samples import SPLITS, dataset_facts, load_split
from vlsm_helpers.errors import DataError, SettingsError

pytestmark = pytest.mark.usefixtures("own_data")


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folders(tmp_path):
    """Sixteen images of eight patients, and their masks; every fifth is empty."""
    generator = np.random.default_rng(0)
    for number in range(16):
        image, mask = draw_toy(generator, 48)
        image = (image * generator.uniform(0.6, 1, 3)).astype(np.uint8)
        name = f"patient{number // 2}_{number}"
        save(tmp_path / "images" / f"{name}.jpg", image)
        save(tmp_path / "masks" / f"{name}_mask.png", (mask * (number % 5 > 0)).astype(np.uint8) * 255)
    return tmp_path / "images", tmp_path / "masks"


PATIENT = r"^(patient\d+)_"
GREY = np.full((48, 48), 100, np.uint8)


def everything(folder):
    return sorted(path.relative_to(folder) for path in folder.rglob("*")) if folder.exists() else []


def test_a_folder_of_images_and_one_of_masks_become_a_dataset(folders, own_data):
    adopted = adopt("mine", *folders, "square", modality="test", group=PATIENT)
    splits = {split: load_split("mine", split) for split in SPLITS}
    assert {split: len(samples) for split, samples in splits.items()} == {"train": 8, "val": 4, "test": 4}
    sample = splits["train"][0]
    assert sample.image.parent == own_data / "mine" / "images"
    assert adopted.report.ok
    assert str(adopted).endswith("8 groups of 2 images, none of them in two splits")


def test_no_patient_is_in_two_splits(folders):
    adopt("mine", *folders, "square", group=PATIENT)
    seen = Counter()
    for split in SPLITS:
        seen.update({sample.attributes["group"] for sample in load_split("mine", split)})
    assert len(seen) == 8
    assert set(seen.values()) == {1}


def test_a_group_may_be_a_function(folders, own_data):
    adopt("mine", *folders, "square", group=lambda name: name.partition("_")[0])
    adopt("other", *folders, "square", group=PATIENT)
    for split in SPLITS:
        one, other = ((own_data / name / "anns" / f"{split}.json").read_text() for name in ("mine", "other"))
        assert one == other


def test_images_that_look_alike_stay_together(folders):
    images, masks = folders
    for copy in ("copy_a", "copy_b"):
        (images / f"{copy}.jpg").write_bytes((images / "patient0_1.jpg").read_bytes())
        (masks / f"{copy}_mask.png").write_bytes((masks / "patient0_1_mask.png").read_bytes())
    adopted = adopt("mine", images, masks, "square")
    where = {s.id: split for split in SPLITS for s in load_split("mine", split)}
    assert where["copy_a"] == where["copy_b"] == where["patient0_1"]
    assert ("copy_a", "copy_b") in adopted.joined
    assert "near-duplicates, kept together: " in str(adopted)


def test_how_alike_images_must_be_to_stay_together_can_be_said(folders):
    images, masks = folders
    pixels = np.asarray(Image.open(images / "patient0_1.jpg").convert("RGB")).astype(float)
    other = pixels + np.random.default_rng(0).normal(0, 25, pixels.shape)  # the same motif, another photograph
    Image.fromarray(np.uint8(other.clip(0, 255))).save(images / "photo.png")
    (masks / "photo_mask.png").write_bytes((masks / "patient0_1_mask.png").read_bytes())
    pairs = {one: adopt(f"at{round(100 * one)}", images, masks, "square", alike=one).joined for one in (0.5, 1)}
    assert any("photo" in pair for pair in pairs[0.5])
    assert pairs[1] == []
    with pytest.raises(SettingsError, match="cannot be alike by 1.5"):
        adopt("mine", images, masks, "square", alike=1.5)


def test_masks_keep_their_meaning_and_images_their_bytes(folders):
    images, masks = folders
    adopt("mine", images, masks, "square")
    for sample in load_split("mine", "train"):
        assert sample.image.read_bytes() == (images / sample.image.name).read_bytes()
        before = np.asarray(Image.open(masks / f"{sample.id}_mask.png")) > 127
        np.testing.assert_array_equal(read_mask(sample.mask), before)


def test_an_image_of_another_size_than_its_mask_is_accepted_if_its_shape_is_the_same(folders):
    images, masks = folders
    path = images / "patient1_2.jpg"
    Image.open(path).resize((96, 96)).save(path)
    adopt("mine", images, masks, "square")
    sample = next(sample for sample in all_samples() if sample.id == "patient1_2")
    assert Image.open(sample.image).size == (96, 96)
    assert Image.open(sample.mask).size == (48, 48)


def test_both_kinds_may_lie_in_one_folder(folders):
    images, masks = folders
    for path in masks.iterdir():
        path.rename(images / path.name)
    assert len(pairs(images, images)) == 16


# What cannot be used is named, and nothing is written


def truncate(path):
    path.write_bytes(path.read_bytes()[:300])


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda image, mask: mask.unlink(), r"Images without a mask \(1\): patient1_3.jpg"),
        (lambda image, mask: image.unlink(), r"Masks without an image \(1\): patient1_3_mask.png"),
        (lambda image, mask: shutil.copy(mask, mask.with_stem("patient1_3")), r"Several masks of one image \(2\)"),
        (lambda image, mask: Image.open(image).save(image.with_suffix(".png")), r"Images of one name \(2\)"),
        (lambda image, mask: truncate(image), "patient1_3.jpg: The image is truncated"),
        (lambda image, mask: save(mask, GREY), "patient1_3_mask.png: The mask is not black and white"),
        (
            lambda image, mask: save(mask, np.zeros((48, 64), np.uint8)),
            "patient1_3_mask.png: 64 x 48, its image 48 x 48",
        ),
    ],
)
def test_what_cannot_be_used_is_named_before_anything_is_written(folders, own_data, spoil, what):
    spoil(folders[0] / "patient1_3.jpg", folders[1] / "patient1_3_mask.png")
    with pytest.raises(DataError, match=what):
        adopt("mine", *folders, "square")
    assert everything(own_data) == []


def test_every_broken_file_is_named(folders):
    truncate(folders[0] / "patient1_3.jpg")
    save(folders[1] / "patient2_4_mask.png", GREY)
    with pytest.raises(DataError, match=r"Files that cannot be used \(2\):\n.*patient1_3.*\n.*patient2_4"):
        adopt("mine", *folders, "square")


@pytest.mark.parametrize("name", ["busi", "../up", "", "a b"])
def test_a_name_that_is_taken_or_is_none_is_refused(folders, name):
    with pytest.raises(DataError):
        adopt(name, *folders, "square")


def test_a_dataset_is_not_overwritten(folders, own_data):
    adopt("mine", *folders, "square")
    before = everything(own_data)
    with pytest.raises(DataError, match="There is a dataset 'mine' already"):
        adopt("mine", *folders, "square")
    assert everything(own_data) == before


def test_a_folder_that_is_not_there_or_empty_is_told(folders, tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        adopt("mine", tmp_path / "nowhere", folders[1], "square")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").touch()
    (tmp_path / "empty" / "patient1").mkdir()
    with pytest.raises(DataError, match=r"There is no image in the folder \(passed over in empty: 1 .txt, 1 folders\)"):
        adopt("mine", folders[0], tmp_path / "empty", "square")


def test_what_is_passed_over_is_told(folders):
    for name in ("scan.h5", "other.h5", "array.npy", ".hidden.txt"):
        (folders[0] / name).touch()
    adopted = adopt("mine", *folders, "square")
    assert adopted.passed_over == [f"passed over in {folders[0].name}: 2 .h5, 1 .npy"]
    assert str(adopted).endswith(adopted.passed_over[0])


def test_masks_that_may_be_inverted_are_told(folders):
    for path in folders[1].iterdir():
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    adopted = adopt("mine", *folders, "square")
    warned = adopted.report.problems.query("kind == 'mostly foreground'")
    assert sorted(warned["split"]) == ["test", "train", "val"]
    assert "are they inverted?" in str(adopted)


@pytest.mark.parametrize(
    ("group", "what"),
    [
        (r"^(patient)", "All 16 images are in one group, 'patient'"),
        (r"^video(\d+)", "fits 0 of 16 names; not, for example, 'patient0_0'"),
        (r"(P\d+)?_", "fits 0 of 16 names"),
        (r"^(patient", "no regular expression"),
    ],
)
def test_a_group_that_tells_no_patients_apart_is_refused(folders, group, what):
    with pytest.raises(DataError, match=what):
        adopt("mine", *folders, "square", group=group)


def test_numbered_masks_of_one_image_are_recognised(tmp_path):
    for number, name in enumerate(("one", "two", "three")):
        image, mask = draw_toy(np.random.default_rng(number))
        save(tmp_path / "all" / f"{name}.png", image)
        save(tmp_path / "all" / f"{name}_mask_1.png", mask.astype(np.uint8) * 255)
    assert len(pairs(tmp_path / "all", tmp_path / "all")) == 3
    save(tmp_path / "all" / "one_mask.png", mask.astype(np.uint8) * 255)
    with pytest.raises(DataError, match=r"Several masks of one image \(2\): one_mask.png, one_mask_1.png"):
        pairs(tmp_path / "all", tmp_path / "all")


# Splits


def test_the_class_name_does_not_tell_which_masks_are_empty(folders, own_data):
    adopt("mine", *folders, "square", modality="test")
    rows = [row for split in SPLITS for row in json.loads((own_data / "mine/anns" / f"{split}.json").read_text())]
    assert len(rows) == 16
    assert {row["prompts"]["p1"] for row in rows} == {"square"}
    assert "no square" in {row["prompts"]["p6"] for row in rows}
    assert any(row["prompts"]["p6"].endswith(" of the test image") for row in rows)


# Folders as people have them


def rewrite(folder, change):
    for path in sorted(folder.iterdir()):
        change(path)


def test_deep_images_get_one_scale_which_the_dataset_keeps(folders, own_data):
    images, masks = folders
    for number, path in enumerate(sorted(images.iterdir())):
        grey = np.asarray(Image.open(path).convert("L")).astype(np.uint16) * 16
        Image.fromarray(grey // (1 + number)).save(path.with_suffix(".png"))  # some are dark
        path.unlink()
    adopted = adopt("mine", images, masks, "square")
    assert any("bits" in note for note in adopted.notes)
    assert dataset_facts("mine")["bit_depth"] == 12
    for sample in all_samples():
        stored = np.asarray(Image.open(images / sample.image.name)).astype(float)
        assert np.abs(read_image(sample.image)[..., 0] - stored * 255 / 4095).max() <= 1
    assert dataset_facts("kvasir_polyp") == {}


def test_files_of_several_pages_without_as_many_masks_are_named(folders, own_data):
    path = folders[0] / "patient1_3.jpg"
    Image.open(path).save(path.with_suffix(".tif"), save_all=True, append_images=[Image.open(path)] * 2)
    path.unlink()
    with pytest.raises(DataError, match=r"1 frame.*patient1_3\.tif has 3") as caught:
        adopt("mine", *folders, "square")
    assert caught.value.where.name == "patient1_3_mask.png"
    assert everything(own_data) == []


def turn(path, orientation):
    exif = Image.Exif()
    exif[0x112] = orientation
    Image.open(path).save(path, exif=exif, quality=95)


@pytest.mark.parametrize("orientation", [2, 3, 4, 6, 8])
def test_turns_that_masks_do_not_share_are_told(folders, orientation):
    rewrite(folders[0], lambda path: turn(path, orientation))
    assert any("16 images" in note and "EXIF" in note for note in adopt("mine", *folders, "square").notes)


def test_a_mask_that_fits_before_the_turn_names_it(folders):
    images, masks = folders
    for folder in folders:
        rewrite(folder, lambda path: Image.open(path).resize((48, 32), Image.Resampling.NEAREST).save(path))
    turn(images / "patient1_3.jpg", 6)
    with pytest.raises(DataError, match=r"48 x 32, its image 32 x 48 after its EXIF orientation \(6\)"):
        adopt("mine", images, masks, "square")


def test_turns_that_masks_share_are_no_matter(folders):
    images, masks = folders
    rewrite(images, lambda path: turn(path, 6))
    rewrite(masks, lambda path: turn(path, 6))
    adopted = adopt("mine", images, masks, "square")
    assert adopted.notes == adopt("other", images, masks, "square").notes
    assert not any("EXIF" in note for note in adopted.notes)
    sample = load_split("mine", "train")[0]
    upright = np.rot90(np.asarray(Image.open(masks / f"{sample.id}_mask.png")), -1) > 127
    np.testing.assert_array_equal(read_mask(sample.mask), upright)


def test_masks_of_one_colour_but_not_the_same_are_refused(folders):
    for number, path in enumerate(sorted(folders[1].iterdir())):
        pixels = np.zeros((48, 48, 3), np.uint8)
        pixels[..., number % 2] = np.asarray(Image.open(path))
        Image.fromarray(pixels).save(path)
    with pytest.raises(DataError, match="#ff0000") as caught:
        adopt("mine", *folders, "square")
    assert "--foreground" in caught.value.hint
    assert adopt("any", *folders, "square", foreground="any").report.ok
    counts = adopt("red", *folders, "square", foreground="red").report.counts
    assert counts.empty_masks.sum() > 3


def test_class_1_in_some_masks_and_white_in_others_is_refused(folders):
    for number, path in enumerate(sorted(folders[1].iterdir())):
        if number % 2:
            Image.fromarray(np.asarray(Image.open(path)) // 255).save(path)
    with pytest.raises(DataError, match="differs between masks"):
        adopt("mine", *folders, "square")
    adopt("mine", *folders, "square", foreground="1,255")


def test_a_foreground_that_no_mask_has_is_refused(folders, own_data):
    with pytest.raises(DataError, match="none of the 16 masks"):
        adopt("mine", *folders, "square", foreground="7")
    assert everything(own_data) == []


def test_classes_are_refused_with_counts_and_chosen_on_wish(folders):
    def two_classes(path):
        pixels = np.asarray(Image.open(path)).copy()
        pixels[pixels > 0] = 1
        pixels[0, :] = 255
        Image.fromarray(pixels).save(path)

    rewrite(folders[1], two_classes)
    with pytest.raises(DataError, match=r"255 \(48 pixels\)"):
        adopt("mine", *folders, "square")
    adopt("mine", *folders, "square", foreground="1")
    for sample in load_split("mine", "train"):
        before = np.asarray(Image.open(folders[1] / f"{sample.id}_mask.png")) == 1
        np.testing.assert_array_equal(read_mask(sample.mask), before)


def test_several_masks_of_an_image_become_one(folders):
    images, masks = folders
    extra = np.zeros((48, 48), np.uint8)
    extra[40:, 40:] = 255
    for path in sorted(masks.iterdir()):
        save(path.with_name(f"{path.stem}_1.png"), extra)
    adopt("mine", images, masks, "square", merge_masks=True)
    for sample in load_split("mine", "train"):
        both = (np.asarray(Image.open(masks / f"{sample.id}_mask.png")) > 0) | (extra > 0)
        np.testing.assert_array_equal(read_mask(sample.mask), both)
    save(masks / "patient0_0_mask_1.png", extra[:24])
    with pytest.raises(DataError, match="different sizes"):
        adopt("other", images, masks, "square", merge_masks=True)


def test_a_folder_per_patient_is_a_group(folders):
    for folder in folders:
        for path in sorted(folder.iterdir()):
            patient, rest = path.name.split("_", 1)
            (folder / patient).mkdir(exist_ok=True)
            path.rename(folder / patient / rest)
    adopted = adopt("mine", *folders, "square")
    assert (adopted.groups, set(adopted.sizes)) == (8, {2})
    sample = load_split("mine", "train")[0]
    assert sample.id == f"{sample.attributes['group']}_{sample.id.split('_')[-1]}"


def test_names_that_look_like_patients_are_told_with_an_expression(folders):
    adopted = adopt("mine", *folders, "square")
    note = next(note for note in adopted.notes if "8 patients" in note)
    expression = note.split("'")[1]
    assert adopt("grouped", *folders, "square", group=expression).groups == 8
    assert not any("patients" in note for note in adopt("again", *folders, "square", group=expression).notes)


def test_one_inverted_mask_is_named(folders):
    path = folders[1] / "patient1_3_mask.png"
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    problems = adopt("mine", *folders, "square").report.problems
    assert "masks/patient1_3.png" in set(problems[problems.kind == "inverted mask"].file)


@pytest.mark.parametrize(("grey", "word"), [(0, "black"), (90, "one grey")])
def test_images_without_contrast_are_named(folders, grey, word):
    Image.new("RGB", (48, 48), (grey,) * 3).save(folders[0] / "patient1_3.jpg")
    problems = adopt("mine", *folders, "square").report.problems
    row = problems[problems.kind == "no contrast"].iloc[0]
    assert (row.file, row.severity) == ("images/patient1_3.jpg", "warning")
    assert word in row.detail


@pytest.mark.parametrize("inside", ["images", "anns"])
def test_no_message_advises_to_delete_what_may_be_the_only_copy(folders, own_data, inside):
    (own_data / "mine" / inside).mkdir(parents=True)
    before = everything(own_data)
    with pytest.raises(DataError) as caught:
        adopt("mine", *folders, "square")
    assert not any(word in str(caught.value).lower() for word in ("delete", "remove", "overwrite"))
    with pytest.raises(DataError, match="of the course") as caught:
        adopt("busi", *folders, "square")
    assert caught.value.where is None
    assert everything(own_data) == before


def test_each_file_is_decoded_once(folders, monkeypatch):
    from vlsm_helpers.data import checks, decode, images, masks
    from vlsm_helpers.data.formats import picture

    seen = Counter()

    def counted(path, kind="image"):
        seen[path.name] += 1
        return decode.decode(path, kind)

    for module in (picture, images, masks, checks):
        monkeypatch.setattr(module, "decode", counted)
    adopt("mine", *folders, "square")
    assert set(seen.values()) == {1}
    assert len(seen) == 32
