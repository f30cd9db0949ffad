"""Adopting files as clinics and annotation tools hand them over."""

import json

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.helpers import all_samples, draw_toy
from vlsm_helpers.data.formats import Reading
from vlsm_helpers.data.images import read_image, read_mask
from vlsm_helpers.data.own import adopt
from vlsm_helpers.data.samples import load_split
from vlsm_helpers.data.splits import SHARES
from vlsm_helpers.errors import DataError

PATIENTS = ("Mustermann-4711", "Musterfrau-4712", "Beispiel-4713", "Exempel-4714")


@pytest.fixture(autouse=True)
def own_data(tmp_path, own_data):
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    return tmp_path / "data"


def drawn(count, size=32):
    """Grey images, each of a brightness and noise of its own, and masks."""
    generator = np.random.default_rng(1)
    pairs = [draw_toy(generator, size) for _ in range(count)]
    return [image[..., 0] for image, _ in pairs], [mask for _, mask in pairs]


def entries(own_data, name="mine"):
    return [row for split in SHARES for row in json.loads((own_data / name / "anns" / f"{split}.json").read_text())]


@pytest.fixture
def scans(tmp_path):
    """Eight DICOM files of four patients, named by them, and PNG masks of the same names."""
    dicoms = pytest.importorskip("tests.dicoms", exc_type=ImportError)
    images, masks = drawn(8)
    for number, (image, mask) in enumerate(zip(images, masks, strict=True)):
        patient = PATIENTS[number // 2]
        name = f"{patient}_{number}"
        stored = image.astype(np.uint16) * 16
        one = dicoms.dataset(stored, patient, BitsStored=12, HighBit=11, WindowCenter=2048, WindowWidth=4096)
        one.PixelSpacing, one.PatientBirthDate, one.AccessionNumber = [0.5, 0.25], "19640812", "ACC-998877"
        one.save_as(tmp_path / "images" / f"{name}.dcm", enforce_file_format=True)
        Image.fromarray(mask).save(tmp_path / "masks" / f"{name}.png")
    return images, masks


def as_coco(folder, masks):
    """A COCO file of square targets in images that are called as the DICOM files."""
    names = sorted(path.name for path in folder.iterdir())
    images = [{"id": n, "file_name": name, "height": 32, "width": 32} for n, name in enumerate(names)]
    shapes = []
    for number, name in enumerate(names):
        rows, columns = np.nonzero(masks[int(name.rsplit("_", 1)[1].removesuffix(".dcm"))])
        x, y, x2, y2 = (int(edge) for edge in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
        outline = {"segmentation": [[x, y, x2, y, x2, y2, x, y2]], "area": (x2 - x) * (y2 - y), "iscrowd": 0}
        shapes.append({"id": number, "image_id": number, "category_id": 1, "bbox": [x, y, x2 - x, y2 - y]} | outline)
    path = folder.parent / "coco.json"
    categories = [{"id": 1, "name": "square"}]
    path.write_text(json.dumps({"images": images, "annotations": shapes, "categories": categories}))
    return path


@pytest.mark.parametrize("labels", ["masks", "coco"])
def test_dicom_files_become_a_dataset_without_a_trace_of_the_patients(scans, tmp_path, own_data, capfd, labels):
    given = tmp_path / "masks" if labels == "masks" else as_coco(tmp_path / "images", scans[1])
    adopted = adopt("mine", tmp_path / "images", given, "square")
    assert adopted.report.ok
    assert adopted.sizes == [2, 2, 2, 2]
    print(adopted, adopted.joined)
    told = "".join(capfd.readouterr())
    written = [path for path in own_data.rglob("*") if path.is_file()]
    everything = told.encode() + b"".join(str(path).encode() + path.read_bytes() for path in written)
    secrets = [
        *PATIENTS,
        *(part for one in PATIENTS for part in one.split("-")),
        "Erika",
        "19640812",
        "ACC-998877",
        "1.2.826",
    ]
    assert [word for word in secrets if word.encode() in everything] == []
    assert {row["spacing"][0] for row in entries(own_data)} == {0.5}


def test_pixels_and_masks_of_dicom_files_stay_together(scans, tmp_path):
    adopt("mine", tmp_path / "images", tmp_path / "masks", "square", key=tmp_path / "key.csv")
    images, masks = scans
    table = [line.split(",") for line in (tmp_path / "key.csv").read_text().splitlines()[1:]]
    places = {image: int(file.rsplit("_", 1)[1].removesuffix(".dcm")) for image, file, _ in table}
    for sample in all_samples():
        place = places[sample.id]
        shown = read_image(sample.image)[..., 0].astype(int)
        assert np.abs(shown - images[place] * (16 / 4096 * 255)).max() <= 1
        np.testing.assert_array_equal(read_mask(sample.mask), masks[place])


def test_no_patient_is_in_two_splits_and_no_expression_brings_a_name_back(scans, tmp_path, own_data):
    for group in (None, r"^(\w+)-"):
        name = "mine" if group is None else "other"
        adopt(name, tmp_path / "images", tmp_path / "masks", "square", group=group)
        found = {}
        for split in SHARES:
            for sample in load_split(name, split):
                found.setdefault(sample.attributes["group"], set()).add(split)
        assert len(found) == 4
        assert all(len(splits) == 1 for splits in found.values())
        assert not any(patient.split("-")[0] in one for one in found for patient in PATIENTS)


def test_two_patients_are_too_few_unless_the_user_says_so(scans, tmp_path):
    for path in [*(tmp_path / "images").iterdir(), *(tmp_path / "masks").iterdir()]:
        if path.name.startswith(PATIENTS[2:]):
            path.unlink()
    with pytest.raises(DataError, match="2 groups") as caught:
        adopt("mine", tmp_path / "images", tmp_path / "masks", "square")
    assert "--group '(.+)'" in caught.value.hint
    assert adopt("mine", tmp_path / "images", tmp_path / "masks", "square", group="(.+)").sizes == [1, 1, 1, 1]


def test_frames_of_a_cine_are_one_group(tmp_path, own_data):
    dicoms = pytest.importorskip("tests.dicoms", exc_type=ImportError)
    images, masks = drawn(12)
    for number in range(4):
        part = slice(3 * number, 3 * number + 3)
        one = dicoms.dataset(np.stack(images[part]), PATIENTS[number])
        one.save_as(tmp_path / "images" / f"cine{number}.dcm", enforce_file_format=True)
        stack = np.stack(masks[part]).astype(np.uint8) * 255
        tifffile.imwrite(tmp_path / "masks" / f"cine{number}.tif", stack, photometric="minisblack")
    assert adopt("mine", tmp_path / "images", tmp_path / "masks", "square").sizes == [3, 3, 3, 3]
    found = [read_image(sample.image)[..., 0] for sample in all_samples()]
    assert sorted(image.tobytes() for image in found) == sorted(image.tobytes() for image in images)


@pytest.fixture
def volumes(tmp_path):
    """Four NIfTI volumes of five slices, and label volumes of another order of axes."""
    nibabel = pytest.importorskip("nibabel")
    images, masks = drawn(20)
    for number in range(4):
        part = slice(5 * number, 5 * number + 5)
        affine = np.diag([-0.5, -0.25, 3, 1])
        image = nibabel.Nifti1Image(np.stack(images[part]).T.astype(np.int16), affine)
        labels = nibabel.Nifti1Image(np.stack(masks[part]).T.astype(np.uint8), affine)
        nibabel.save(image, tmp_path / "images" / f"case{number}.nii.gz")
        nibabel.save(nibabel.as_closest_canonical(labels), tmp_path / "masks" / f"case{number}_seg.nii.gz")
    return images, masks


def test_slices_of_volumes_become_a_dataset(volumes, tmp_path, own_data):
    images, masks = volumes
    adopted = adopt("mine", tmp_path / "images", tmp_path / "masks", "square", reading=Reading(window=(127.5, 255)))
    assert adopted.sizes == [5, 5, 5, 5]
    assert any("slices" in note and "LPS" in note and note.startswith("4 ") for note in adopted.notes)
    for sample in all_samples():
        volume, index = int(sample.id[4]), int(sample.id[-4:])
        np.testing.assert_array_equal(read_image(sample.image)[..., 0], images[5 * volume + index])
        np.testing.assert_array_equal(read_mask(sample.mask), masks[5 * volume + index])
        assert sample.attributes["group"] == f"case{volume}"
        assert sample.attributes["spacing"] == [0.25, 0.5]


def test_a_mask_volume_elsewhere_is_refused(volumes, tmp_path, own_data):
    import nibabel

    path = tmp_path / "masks" / "case2_seg.nii.gz"
    image = nibabel.load(path)
    moved = image.affine.copy()
    moved[2, 3] += 3
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), moved), path)
    with pytest.raises(DataError, match="does not lie where") as caught:
        adopt("mine", tmp_path / "images", tmp_path / "masks", "square")
    assert caught.value.where == path
    assert not own_data.exists() or not list(own_data.iterdir())


def test_every_nth_frame_of_videos_with_masks_by_number(tmp_path):
    images, _ = drawn(24, 48)
    mask = np.zeros((48, 48), np.uint8)
    mask[10:20, 10:20] = 255
    for number in range(4):
        path = str(tmp_path / "images" / f"clip{number}.avi")
        writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*"MJPG"), 10, (48, 48))
        for image in images[6 * number : 6 * number + 6]:
            writer.write(np.repeat(image[..., None], 3, axis=2))
        writer.release()
        for frame in range(6):
            Image.fromarray(mask).save(tmp_path / "masks" / f"clip{number}_{frame:03d}_mask.png")
    adopted = adopt("mine", tmp_path / "images", tmp_path / "masks", "square", reading=Reading(every=3))
    assert adopted.sizes == [2, 2, 2, 2]
    assert sorted(sample.id for sample in all_samples()) == [f"clip{n}_{f:04d}" for n in range(4) for f in (0, 3)]


def stack(tmp_path, pages=3):
    images, masks = drawn(3 * 4)
    for number in range(4):
        part = slice(3 * number, 3 * number + 3)
        tifffile.imwrite(tmp_path / "images" / f"s{number}.tif", np.stack(images[part]), photometric="minisblack")
        for page, mask in enumerate(masks[part]):
            Image.fromarray(mask).save(tmp_path / "masks" / f"s{number}_{page}.png")


def remove_one(tmp_path):
    (tmp_path / "masks" / "s1_2.png").unlink()


def number_from_one(tmp_path):
    for page in (2, 1, 0):
        (tmp_path / "masks" / f"s1_{page}.png").rename(tmp_path / "masks" / f"s1_{page + 1}.png")


def add_one(tmp_path):
    (tmp_path / "masks" / "s1_0_b.png").write_bytes((tmp_path / "masks" / "s1_0.png").read_bytes())


@pytest.mark.parametrize(
    ("spoil", "what"),
    [(remove_one, r"s1.tif without a mask \(1\): frame 2"), (number_from_one, "no frame 3"), (add_one, "s1_0_b")],
)
def test_pages_and_masks_that_do_not_fit_are_named(tmp_path, own_data, spoil, what):
    stack(tmp_path)
    adopt("mine", tmp_path / "images", tmp_path / "masks", "square")
    spoil(tmp_path)
    with pytest.raises(DataError, match=what) as caught:
        adopt("other", tmp_path / "images", tmp_path / "masks", "square")
    assert caught.value.hint
    assert [path.name for path in own_data.iterdir()] == ["mine"]
