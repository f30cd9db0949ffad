"""What goes out comes in again: masks written in other tools' forms, read by those tools' libraries."""

import json

import numpy as np
import pytest

from tests.dicoms import dataset
from vlsm_helpers.data import exports
from vlsm_helpers.data.exports.coco import write_coco
from vlsm_helpers.data.exports.dicom_seg import write_segmentation
from vlsm_helpers.data.exports.nifti import write_labels
from vlsm_helpers.data.formats import AXES, Reading
from vlsm_helpers.data.frames import opened
from vlsm_helpers.errors import DataError, SettingsError

CLASSES = ["polyp", "instrument"]
GENERATOR = np.random.default_rng(0)


def masks(shape=(6, 7)):
    """Two masks that overlap."""
    return {name: GENERATOR.random(shape) > 0.5 for name in CLASSES}


# COCO


def test_coco_gives_the_masks_back(tmp_path):
    from pycocotools.coco import COCO

    written = {"a.png": masks(), "b.png": masks((3, 9)) | {"polyp": np.zeros((3, 9), bool)}}
    write_coco(tmp_path / "out.json", written.items(), CLASSES)
    found = COCO(tmp_path / "out.json")
    names = {one["file_name"]: number for number, one in found.imgs.items()}
    for name, by_class in written.items():
        for category, text in enumerate(CLASSES, start=1):
            of_class = found.imgToAnns[names[name]]
            of_class = [one for one in of_class if one["category_id"] == category]
            assert len(of_class) == by_class[text].any()
            for one in of_class:
                np.testing.assert_array_equal(found.annToMask(one), by_class[text])
    assert [one["name"] for one in found.loadCats([1, 2])] == CLASSES


def test_coco_by_hand(tmp_path):
    """A box 2 wide and 3 high whose left upper corner is (1, 2)."""
    mask = np.zeros((6, 4), bool)
    mask[2:5, 1:3] = True
    write_coco(tmp_path / "out.json", [("a.png", {"polyp": mask})], ["polyp"])
    facts = json.loads((tmp_path / "out.json").read_text())
    assert facts["images"] == [{"id": 1, "file_name": "a.png", "height": 6, "width": 4}]
    assert facts["annotations"][0]["bbox"] == [1, 2, 2, 3]
    assert facts["annotations"][0]["area"] == 6


# DICOM segmentations

US, ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.2.1"
COMPLETE = {
    "SOPClassUID": US,
    "Modality": "US",
    "PatientBirthDate": "19700101",
    "PatientSex": "O",
    "AccessionNumber": "7",
    "StudyID": "1",
    "StudyDate": "20260101",
    "StudyTime": "120000",
    "ReferringPhysicianName": "",
    "SeriesInstanceUID": "1.2.3",
    "SeriesNumber": 1,
    "InstanceNumber": 1,
}
PLACED = {
    "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
    "Modality": "CT",
    "FrameOfReferenceUID": "1.2.4",
    "PixelSpacing": [0.5, 0.25],
    "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
    "ImagePositionPatient": [0, 0, 0],
    "SliceThickness": 1,
}


def stack(count):
    """The elements that place the frames of an enhanced CT, 1 mm apart."""
    from pydicom.dataset import Dataset

    def group(**sequences):
        one = Dataset()
        for name, elements in sequences.items():
            item = Dataset()
            for key, value in elements.items():
                setattr(item, key, value)
            setattr(one, name, [item])
        return one

    shared = group(
        PixelMeasuresSequence={"PixelSpacing": [1, 1], "SliceThickness": 1},
        PlaneOrientationSequence={"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]},
    )
    own = [group(PlanePositionSequence={"ImagePositionPatient": [0, 0, place]}) for place in range(count)]
    placed = {"SharedFunctionalGroupsSequence": [shared], "PerFrameFunctionalGroupsSequence": own}
    return placed | {"SOPClassUID": ENHANCED_CT, "Modality": "CT", "FrameOfReferenceUID": "1.2.4"}


def save(path, frames=None, **elements):
    """A DICOM file of zeros, 6 x 7 pixels, with all that a segmentation refers to."""
    shape = (6, 7) if frames is None else (frames, 6, 7)
    one = dataset(np.zeros(shape, np.uint8), **(COMPLETE | elements))
    one.save_as(path, enforce_file_format=True)
    return one


FLAT = PLACED | {"SOPClassUID": COMPLETE["SOPClassUID"], "Modality": "US", "SliceThickness": None}
NAMES = ["placed in the patient", "placed, without a slice thickness", "not placed, as in ultrasound"]


@pytest.mark.parametrize("elements", [PLACED, FLAT, {}], ids=NAMES)
def test_a_dicom_segmentation_gives_the_masks_back_and_names_its_source(tmp_path, elements):
    highdicom = pytest.importorskip("highdicom")
    source, expected = save(tmp_path / "scan.dcm", **elements), masks()
    write_segmentation(tmp_path / "seg.dcm", tmp_path / "scan.dcm", {0: expected}, CLASSES)
    found = highdicom.seg.segread(tmp_path / "seg.dcm")
    assert [found.get_segment_description(number).segment_label for number in (1, 2)] == CLASSES
    pixels = found.get_pixels_by_source_instance([source.SOPInstanceUID])
    np.testing.assert_array_equal(pixels[0], np.stack([expected[name] for name in CLASSES], axis=-1))
    assert (found.PatientID, found.StudyInstanceUID) == (source.PatientID, source.StudyInstanceUID)
    reference = found.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0]
    assert reference.ReferencedSOPInstanceUID == source.SOPInstanceUID


def test_an_empty_mask_is_written(tmp_path):
    highdicom = pytest.importorskip("highdicom")
    source, nothing = save(tmp_path / "scan.dcm"), dict.fromkeys(CLASSES, np.zeros((6, 7), bool))
    write_segmentation(tmp_path / "seg.dcm", tmp_path / "scan.dcm", {0: nothing}, CLASSES)
    found = highdicom.seg.segread(tmp_path / "seg.dcm")
    options = {"assert_missing_frames_are_empty": True}
    assert not found.get_pixels_by_source_instance([source.SOPInstanceUID], **options).any()


def test_frames_of_a_file_stay_in_their_places(tmp_path):
    highdicom = pytest.importorskip("highdicom")
    source, expected = save(tmp_path / "scan.dcm", frames=3, **stack(3)), {0: masks(), 2: masks()}
    write_segmentation(tmp_path / "seg.dcm", tmp_path / "scan.dcm", expected, CLASSES)
    found = highdicom.seg.segread(tmp_path / "seg.dcm")
    options = {"assert_missing_frames_are_empty": True}
    pixels = found.get_pixels_by_source_frame(source.SOPInstanceUID, [1, 2, 3], **options)
    for index in range(3):
        by_class = expected.get(index, dict.fromkeys(CLASSES, np.zeros((6, 7), bool)))
        np.testing.assert_array_equal(pixels[index], np.stack([by_class[name] for name in CLASSES], axis=-1))


def test_a_clip_is_refused_as_the_library_cannot_place_its_frames(tmp_path):
    save(tmp_path / "scan.dcm", frames=3)
    with pytest.raises(DataError, match="frame of reference") as failure:
        write_segmentation(tmp_path / "seg.dcm", tmp_path / "scan.dcm", {0: masks()}, CLASSES)
    assert (failure.value.where, "coco" in failure.value.hint) == (tmp_path / "scan.dcm", True)


def test_the_same_masks_give_the_same_instance_and_others_another(tmp_path):
    pydicom = pytest.importorskip("pydicom")
    save(tmp_path / "scan.dcm")
    first, second = masks(), masks()
    for name, one in {"a": first, "b": first, "c": second}.items():
        write_segmentation(tmp_path / f"{name}.dcm", tmp_path / "scan.dcm", {0: one}, CLASSES)
    uids = [pydicom.dcmread(tmp_path / f"{name}.dcm").SOPInstanceUID for name in "abc"]
    assert uids[0] == uids[1] != uids[2]


def test_a_source_that_lacks_what_the_standard_demands_is_told_without_its_patient(tmp_path):
    one = dataset(np.zeros((6, 7), np.uint8), patient="Mustermann")
    one.save_as(tmp_path / "scan.dcm", enforce_file_format=True)
    with pytest.raises(DataError, match="segmentation") as failure:
        write_segmentation(tmp_path / "seg.dcm", tmp_path / "scan.dcm", {0: masks()}, CLASSES)
    assert failure.value.where == tmp_path / "scan.dcm"
    assert "Mustermann" not in str(failure.value)
    assert [path.name for path in tmp_path.iterdir()] == ["scan.dcm"]


# NIfTI


@pytest.mark.parametrize("axis", AXES)
def test_labels_of_slices_lie_where_the_volume_lies(tmp_path, axis):
    nibabel = pytest.importorskip("nibabel")
    affine = np.array([[0, -2.0, 0, 10], [3, 0, 0, -5], [0, 0, 1.5, 7], [0, 0, 0, 1]])
    voxels = GENERATOR.integers(0, 4, (3, 4, 5)).astype(np.int16)
    image = nibabel.Nifti1Image(voxels, affine)
    image.set_sform(affine, 2)
    nibabel.save(image, tmp_path / "scan.nii.gz")
    volume = opened(tmp_path / "scan.nii.gz", Reading(axis=axis))
    labels = {index: volume.label(index).values[..., 0].astype(np.uint8) for index in volume.indices}
    write_labels(tmp_path / "out.nii.gz", volume, labels)
    found = nibabel.load(tmp_path / "out.nii.gz")
    np.testing.assert_array_equal(np.asarray(found.dataobj), voxels)
    np.testing.assert_array_equal(found.affine, affine)
    assert (found.get_data_dtype(), int(found.header["sform_code"])) == (np.uint8, 2)


# What is missing


@pytest.mark.parametrize("form", exports.PACKAGES)
def test_a_package_that_is_missing_is_told_with_what_to_install(monkeypatch, form):
    name, extra = exports.PACKAGES[form]
    monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(SettingsError, match=name) as failure:
        exports.package(form)
    assert f"[{extra}]" in failure.value.hint
