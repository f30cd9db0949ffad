"""Segmentations made by highdicom of images made by pydicom, with the identifiers of patients who do not exist."""

import shutil

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from vlsm_helpers.data.annotations import dicom_seg
from vlsm_helpers.data.annotations.find import find
from vlsm_helpers.errors import DataError

PATIENT = {
    "PatientID": "MRN-4711",
    "PatientName": "Doe^Jane",
    "PatientBirthDate": "19701224",
    "AccessionNumber": "ACC0815",
}
FRAME = generate_uid()
LEFT, TOP = np.zeros((8, 6), bool), np.zeros((8, 6), bool)
LEFT[1:5, 0:2] = TOP[0:2, 3:6] = True
EMPTY = np.zeros((8, 6), bool)


def image(position=0, study="1.2.3.4", frames=1):
    """A slice of a CT, or an enhanced CT of several frames."""
    found = pydicom.Dataset()
    found.file_meta = pydicom.dataset.FileMetaDataset()
    found.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for key, value in PATIENT.items():
        setattr(found, key, value)
    found.SOPClassUID = pydicom.uid.EnhancedCTImageStorage if frames > 1 else pydicom.uid.CTImageStorage
    found.file_meta.MediaStorageSOPClassUID = found.SOPClassUID
    found.SOPInstanceUID = found.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    found.StudyInstanceUID, found.SeriesInstanceUID, found.FrameOfReferenceUID = study, f"{study}.1", FRAME
    found.Modality, found.PatientSex, found.StudyID, found.ReferringPhysicianName = "CT", "F", "1", ""
    found.StudyDate, found.StudyTime, found.SeriesNumber, found.InstanceNumber = "20260101", "120000", 1, position + 1
    found.Rows, found.Columns, found.SamplesPerPixel, found.PhotometricInterpretation = 8, 6, 1, "MONOCHROME2"
    found.BitsAllocated, found.BitsStored, found.HighBit, found.PixelRepresentation = 8, 8, 7, 0
    found.PixelData = bytes(48 * frames)
    if frames == 1:
        found.PixelSpacing, found.ImageOrientationPatient = [1, 1], [1, 0, 0, 0, 1, 0]
        found.ImagePositionPatient, found.SliceThickness = [0, 0, position], 1
        return found
    found.NumberOfFrames = frames
    shared, measures, orientation = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
    measures.PixelSpacing, measures.SliceThickness, orientation.ImageOrientationPatient = [1, 1], 1, [1, 0, 0, 0, 1, 0]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    found.SharedFunctionalGroupsSequence, found.PerFrameFunctionalGroupsSequence = [shared], []
    for number in range(frames):
        group, place = pydicom.Dataset(), pydicom.Dataset()
        place.ImagePositionPatient = [0, 0, number]
        group.PlanePositionSequence = [place]
        found.PerFrameFunctionalGroupsSequence.append(group)
    return found


def segmentation(images, masks, labels=("polyp", "instrument"), kind="BINARY"):
    """A segmentation of images; `masks`: (images, 8, 6, labels)."""
    described = [
        highdicom.seg.SegmentDescription(
            number, label, codes.SCT.MorphologicallyAbnormalStructure, codes.SCT.Neoplasm, "MANUAL"
        )
        for number, label in enumerate(labels, 1)
    ]
    facts = (generate_uid(), 1, generate_uid(), 1, "maker", "model", "1", "0")
    return highdicom.seg.Segmentation(images, np.asarray(masks), kind, described, *facts)


def save(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        content.save_as(folder / f"{name}.dcm", enforce_file_format=True)
    return {name: folder / f"{name}.dcm" for name in files}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Two slices with a segmentation of both; the second one shows the polyp alone."""
    folder = tmp_path_factory.mktemp("study")
    images = [image(0), image(1)]
    masks = np.stack([np.stack([LEFT, TOP], 2), np.stack([TOP, EMPTY], 2)])
    paths = save(folder / "images", first=images[0], second=images[1])
    save(folder / "masks", all=segmentation(images, masks))
    return folder, paths


def test_masks_are_found_by_the_images_uids(study):
    folder, paths = study
    source = find(folder / "masks")
    assert source.format == "DICOM-SEG"
    second, first = source.read([(paths["second"], 0), (paths["first"], 0)])
    assert np.array_equal(first.masks((8, 6))["polyp"], LEFT)
    assert np.array_equal(first.masks((8, 6))["instrument"], TOP)
    assert np.array_equal(second.masks((8, 6))["polyp"], TOP)
    assert not second.masks((8, 6))["instrument"].any()


def test_frames_of_one_file(tmp_path):
    enhanced = image(frames=3)
    masks = np.stack([np.stack([one], 2) for one in (LEFT, EMPTY, TOP)])
    path = save(tmp_path / "images", cine=enhanced)["cine"]
    save(tmp_path / "masks", all=segmentation([enhanced], masks, ["polyp"]))
    found = find(tmp_path / "masks" / "all.dcm").read([(path, number) for number in range(3)])
    for one, expected in zip(found, (LEFT, EMPTY, TOP), strict=True):
        assert np.array_equal(one.masks((8, 6))["polyp"], expected)


def test_a_fractional_segmentation_counts_from_a_half_on(tmp_path):
    source = image()
    shares = (0.4 * LEFT + 0.6 * TOP)[None, ..., None]
    path = save(tmp_path, image=source, mask=segmentation([source], shares, ["polyp"], "FRACTIONAL"))
    (found,) = dicom_seg.read([path["mask"]], [(path["image"], 0)])
    assert np.array_equal(found.masks((8, 6))["polyp"], TOP)


def test_segments_of_one_label_are_united(tmp_path):
    source = image()
    path = save(tmp_path, image=source, mask=segmentation([source], np.stack([LEFT, TOP], 2)[None], ["polyp", "polyp"]))
    (found,) = dicom_seg.read([path["mask"]], [(path["image"], 0)])
    assert np.array_equal(found.masks((8, 6))["polyp"], LEFT | TOP)


def _an_image_without(study, tmp_path):
    path = save(tmp_path, third=image(2))["third"]
    return [study[0] / "masks/all.dcm"], [(study[1]["first"], 0), (path, 0)]


def _of_other_images(study, tmp_path):
    other = image(0, study="9.9")
    stray = save(tmp_path, stray=segmentation([other], LEFT[None, ..., None], ["polyp"]))["stray"]
    return [study[0] / "masks/all.dcm", stray], [(study[1]["first"], 0)]


def _truncated(study, tmp_path):
    path = tmp_path / "cut.dcm"
    path.write_bytes((study[0] / "masks/all.dcm").read_bytes()[:900])
    return [path], [(study[1]["first"], 0)]


def _an_image(study, tmp_path):
    return [study[1]["second"]], [(study[1]["first"], 0)]


def _text(study, tmp_path):
    (tmp_path / "text.dcm").write_text("nothing")
    return [tmp_path / "text.dcm"], [(study[1]["first"], 0)]


@pytest.mark.parametrize("fault", [_an_image_without, _of_other_images, _truncated, _an_image, _text])
def test_wrong_files_are_named_and_no_patient_is(study, tmp_path, fault):
    files, sources = fault(study, tmp_path)
    with pytest.raises(DataError) as caught:
        dicom_seg.read(files, sources)
    assert caught.value.where is not None
    assert caught.value.hint
    uids = [str(pydicom.dcmread(path).SOPInstanceUID) for path in study[1].values()]
    assert not any(secret in str(caught.value) for secret in (*PATIENT.values(), "Jane", "1.2.3.4", *uids))


def test_an_image_of_another_size(study):
    (found,) = dicom_seg.read([study[0] / "masks/all.dcm"], [(study[1]["first"], 0)])
    with pytest.raises(DataError, match="6 x 8") as caught:
        found.masks((16, 12))
    assert caught.value.where == study[0] / "masks/all.dcm"


def test_a_folder_of_images_is_no_annotation(study, tmp_path):
    shutil.copytree(study[0] / "images", tmp_path / "images")
    assert find(tmp_path / "images") is None
