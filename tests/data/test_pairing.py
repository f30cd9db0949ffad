"""Names of images and masks as people have them."""

import pytest

from vlsm_helpers.data.pairing import pairs, patients
from vlsm_helpers.errors import DataError, SettingsError


def found(pairs_):
    return {pair.id: [mask.name for mask in pair.masks] for pair in pairs_}


@pytest.mark.parametrize(
    "mask",
    [
        "a.png",
        "a_mask.png",
        "a-GT.png",
        "a_mask_1.png",
        "mask_a.png",
        "label-a.png",
        "gt_a.png",
        "a.jpg.png",
        "A.png",
        "A_Mask.png",
    ],
)
def test_names_that_are_understood(put, mask):
    assert found(pairs(*put(["a.jpg", "b.jpg"], [mask, "b.png"]))) == {"a": [mask], "b": ["b.png"]}


def test_an_exact_name_wins_over_one_of_another_case(put):
    images, masks = put(["a", "A"], ["a", "A_mask"])
    assert found(pairs(images, masks)) == {"a": ["a.png"], "A": ["A_mask.png"]}


@pytest.mark.parametrize(
    ("rule", "masks"),
    [
        ("{stem}_lesion", ["01_lesion.png", "02_lesion.png"]),
        ("{stem}_manual1", ["01_manual1.gif", "02_manual1.gif"]),
        ("{stem}_lesion.png", ["01_lesion.png", "02_lesion.png"]),
        ("annotator1-{stem}", ["annotator1-01.png", "annotator1-02.png"]),
        ("{stem}.jpg", ["01.jpg.png", "02.jpg.png"]),
        ("{stem}_*_v2", ["01_ab_v2.png", "02_c_v2.png"]),
        ("roi[{stem}]", ["roi[01].png", "roi[02].png"]),
    ],
)
def test_a_rule_for_names(put, rule, masks):
    images, folder = put(["01.jpg", "02.jpg"], masks)
    assert found(pairs(images, folder, rule)) == {"01": masks[:1], "02": masks[1:]}


def test_a_rule_also_tells_masks_from_images_in_one_folder(put):
    images, _ = put(["01", "01_lesion", "02", "02_lesion"])
    assert found(pairs(images, images, "{stem}_lesion")) == {"01": ["01_lesion.png"], "02": ["02_lesion.png"]}


def test_a_rule_takes_the_longest_name(put):
    images, masks = put(["1", "1_2"], ["1_roi", "1_2_roi"])
    assert found(pairs(images, masks, "{stem}_*")) == {"1": ["1_roi.png"], "1_2": ["1_2_roi.png"]}


def test_a_rule_without_a_stem_is_refused(put):
    with pytest.raises(SettingsError):
        pairs(*put(["a"], ["a"]), "_lesion")


def test_masks_without_an_image_are_named_with_the_nearest_image_and_a_rule(put):
    images, masks = put(["case1", "case2"], ["case1_lesion", "case2_lesion"])
    with pytest.raises(DataError, match=r"case1_lesion\.png \(nearest image: case1\)") as caught:
        pairs(images, masks)
    assert "--mask-name '{stem}_lesion'" in caught.value.hint
    assert found(pairs(images, masks, "{stem}_lesion")) == {
        "case1": ["case1_lesion.png"],
        "case2": ["case2_lesion.png"],
    }


def test_numbers_of_other_lengths_are_named_not_guessed(put):
    with pytest.raises(DataError, match=r"1\.png \(nearest image: 00"):
        pairs(*put(["001", "002"], ["1", "2"]))


def test_several_masks_of_an_image_are_united_on_wish(put):
    images, masks = put(["a", "b"], ["a_mask", "a_mask_1", "b_mask"])
    with pytest.raises(DataError) as caught:
        pairs(images, masks)
    assert "--merge-masks" in caught.value.hint
    assert found(pairs(images, masks, merge=True)) == {"a": ["a_mask.png", "a_mask_1.png"], "b": ["b_mask.png"]}


@pytest.mark.parametrize("nested", ["{}/{}", "{}/images/{}", "site/{}/{}"])
def test_a_folder_per_patient(put, nested):
    names = [(patient, frame) for patient in ("p1", "p2") for frame in ("1", "2")]
    images, masks = put(
        [nested.format(*name) for name in names], [nested.replace("images", "masks").format(*name) for name in names]
    )
    made = pairs(images, masks)
    start = "site_" if nested.startswith("site") else ""
    assert [pair.id for pair in made] == [f"{start}{patient}_{frame}" for patient, frame in names]
    assert {pair.patient.split("/")[-1] for pair in made} == {"p1", "p2"}
    assert all(pair.masks[0].parent.relative_to(masks).parts[-1:] != () for pair in made)


def test_both_kinds_in_the_folders_of_patients(put):
    images, _ = put(["p1/1", "p1/1_mask", "p2/images/1", "p2/masks/1"])
    made = pairs(images, images)
    assert [(pair.id, len(pair.masks), pair.patient) for pair in made] == [("p1_1", 1, "p1"), ("p2_1", 1, "p2")]


def test_a_mask_of_another_patient_does_not_count(put):
    with pytest.raises(DataError):
        pairs(*put(["p1/1", "p2/2"], ["p1/2", "p2/1"]))


@pytest.mark.parametrize(
    ("names", "expression", "count"),
    [
        ([f"patient{p:02d}_frame{f}" for p in range(5) for f in range(3)], r"^(patient\d+)", 5),
        ([f"P{p}-{f}" for p in range(4) for f in range(3)], r"^(P\d+)", 4),
        ([f"case_{p:03d}_slice_{f}" for p in range(4) for f in range(3)], r"(case_\d+)", 4),
        ([f"{p}_{f}" for p in range(4) for f in range(3)], r"^(\d+)", 4),
        ([f"frame{f}_video{p}" for p in range(4) for f in range(3)], r"(video\d+)", 4),
        ([f"A{p}B{f}" for p in range(4) for f in range(3)], r"^(A\d+)", 4),
    ],
)
def test_names_that_look_like_patients(names, expression, count):
    import re

    found, number = patients(names)
    assert (found.lstrip("^"), number) == (expression.lstrip("^"), count)
    assert len({re.search(found, name)[1] for name in names}) == count


@pytest.mark.parametrize(
    "names",
    [
        [f"{number:03d}" for number in range(9)],
        [f"ISIC_{number:07d}" for number in range(9)],
        [f"{number}_{kind}" for number in range(3) for kind in ("benign", "normal")],
        [f"patient{number}_1" for number in range(9)],
        ["cju0qkwl35piu0993l0dewei2", "cju0qoxqj9q6s0835b43399p4", "cju0qx73cjw570799j4n5cjze"],
        ["left", "right"],
    ],
)
def test_names_that_do_not(names):
    assert patients(names) is None
