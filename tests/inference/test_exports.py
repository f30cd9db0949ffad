"""Masks in other forms, from the files that `segment_files` wrote."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.data.exports.test_exports import PLACED, save
from tests.dicoms import dataset
from tests.inference.test_batch import PROMPTS
from tests.inference.test_predictor import HALVES, prompted
from vlsm_helpers.data.formats import Reading
from vlsm_helpers.errors import SettingsError
from vlsm_helpers.inference.batch import open_frames, segment_files
from vlsm_helpers.inference.exports import check_forms, export

FORMS = ["coco", "dicom-seg", "nifti"]


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A picture, a DICOM file and a volume of two slices."""
    nibabel, root = pytest.importorskip("nibabel"), tmp_path_factory.mktemp("in")
    Image.fromarray(HALVES).save(root / "picture.png")
    from tests.data.exports.test_exports import COMPLETE

    one = dataset(HALVES[..., 0], **(COMPLETE | PLACED))
    one.save_as(root / "Mustermann.dcm", enforce_file_format=True)
    voxels = np.zeros((4, 6, 2), np.int16)
    voxels[:2, :, 1] = 1000
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([2, 1.5, 5, 1])), root / "scan.nii")
    return [root / name for name in ("picture.png", "Mustermann.dcm", "scan.nii")]


@pytest.fixture(scope="module")
def written(sources, tmp_path_factory):
    """The folder with masks of two prompts in all forms, the DICOM's id and the files that were exported."""
    output = tmp_path_factory.mktemp("out") / "masks"
    segment_files(prompted(), sources, output, PROMPTS)
    frames = open_frames(sources, Reading())[0]
    files, failed = export(FORMS, frames, output, PROMPTS)
    assert failed == []
    return output, frames[1].id, files


def mask(output, name):
    return np.asarray(Image.open(output / f"{name}.png")) > 0


def test_coco_holds_every_frame_and_no_patient(written):
    from pycocotools.coco import COCO

    output, scan, _ = written
    found = COCO(output / "segmented_coco.json")
    names = {one["file_name"]: number for number, one in found.imgs.items()}
    assert list(names) == ["picture.png", scan, "scan_0000", "scan_0001"]
    for one in found.imgToAnns[names[scan]]:
        text = {1: "bright", 2: "a_dark_instrument"}[one["category_id"]]
        np.testing.assert_array_equal(found.annToMask(one) > 0, mask(output, f"{scan}_{text}"))
    assert "Mustermann" not in (output / "segmented_coco.json").read_text()


def test_a_dicom_segmentation_is_that_of_its_image(written, sources):
    highdicom = pytest.importorskip("highdicom")
    output, scan, files = written
    assert output / f"{scan}_seg.dcm" in files
    found = highdicom.seg.segread(output / f"{scan}_seg.dcm")
    import pydicom

    uid = pydicom.dcmread(sources[1]).SOPInstanceUID
    pixels = found.get_pixels_by_source_instance([uid])[0].astype(bool)
    np.testing.assert_array_equal(pixels[..., 0], mask(output, f"{scan}_bright"))
    np.testing.assert_array_equal(pixels[..., 1], mask(output, f"{scan}_a_dark_instrument"))


def test_a_volume_of_labels_lies_where_its_source_lies(written, sources):
    nibabel = pytest.importorskip("nibabel")
    output, _, files = written
    assert output / "scan_labels.nii.gz" in files
    source, found = nibabel.load(sources[2]), nibabel.load(output / "scan_labels.nii.gz")
    np.testing.assert_array_equal(found.affine, source.affine)
    np.testing.assert_array_equal(np.asarray(found.dataobj), np.where(np.asarray(source.dataobj) > 0, 1, 2))


def test_a_source_that_cannot_have_a_segmentation_does_not_stop_the_others(tmp_path):
    pytest.importorskip("highdicom")
    save(tmp_path / "clip.dcm", frames=2)
    save(tmp_path / "still.dcm")
    sources = [tmp_path / "clip.dcm", tmp_path / "still.dcm"]
    segment_files(prompted(), sources, tmp_path / "out", ["bright"])
    files, failed = export(["dicom-seg"], open_frames(sources, Reading())[0], tmp_path / "out", ["bright"])
    assert (len(files), [error.where for error in failed]) == (1, sources[:1])


def test_what_cannot_be_written_is_told_before_anything_is(sources, tmp_path):
    with pytest.raises(SettingsError, match="form 'cocoo'"):
        check_forms(["cocoo"], sources, tmp_path)
    for form in FORMS[1:]:
        with pytest.raises(SettingsError, match="none of these"):
            check_forms([form], sources[:1], tmp_path)
    (tmp_path / "segmented_coco.json").write_text(json.dumps("mine"))
    with pytest.raises(SettingsError, match="there already"):
        check_forms(["coco"], sources, tmp_path)
