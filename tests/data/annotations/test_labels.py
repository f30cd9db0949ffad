"""Images with two classes, adopted from each format: the masks on disk are those that were drawn."""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_api

from tests import archives
from tests.data.annotations import test_cvat, test_labelme
from tests.helpers import all_samples
from vlsm_helpers.data.images import read_mask
from vlsm_helpers.data.own import adopt
from vlsm_helpers.data.samples import load_split
from vlsm_helpers.errors import DataError, SettingsError

NAMES = [f"patient{number // 2}_{number % 2}" for number in range(10)]
SPLITS = ("train", "val", "test")


def drawn(number):
    """The masks of an image, 24 x 32 pixels: a polyp, and in three of four images an instrument beside it."""
    left, top = number % 5, number % 3
    instrument = archives.rectangle(20 + left, top, 28 + left, 10 + top)
    polyp = archives.rectangle(2 + left, 4 + top, 12 + left, 15 + top)
    return {"polyp": polyp, "instrument": instrument & (number % 4 > 0)}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for number, name in enumerate(NAMES):
        archives.save(archives.picture(number), folder / f"{name}.png")
    return folder


def values(number):
    return sum(value * mask for value, mask in enumerate(drawn(number).values(), 1)).astype(np.uint8)


def label_maps(folder):
    for number, name in enumerate(NAMES):
        archives.save(values(number), folder / f"{name}_label.png")
    return folder


def coloured(folder):
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0]], np.uint8)
    for number, name in enumerate(NAMES):
        archives.save(colours[values(number)], folder / f"{name}.png")
    return folder


def one_file_per_class(folder):
    """Two label maps per image, which are united class by class."""
    for number, name in enumerate(NAMES):
        for value, part in ((1, "_mask"), (2, "_mask_1")):
            archives.save(values(number) * (values(number) == value).astype(np.uint8), folder / f"{name}{part}.png")
    return folder


def coco(folder):
    annotations, listed = [], []
    for number, name in enumerate(NAMES):
        listed.append({"id": number, "file_name": f"photos/{name}.jpg", "height": 24, "width": 32})
        for category, mask in enumerate(drawn(number).values(), 1):
            if mask.any():
                code = coco_api.encode(np.asfortranarray(mask.astype(np.uint8)))
                segmentation = {"size": code["size"], "counts": code["counts"].decode()}
                annotations.append({"image_id": number, "category_id": category, "segmentation": segmentation})
    categories = [{"id": 0, "name": "things"}, {"id": 1, "name": "polyp"}, {"id": 2, "name": "instrument"}]
    content = {"images": listed, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(content))
    return folder / "instances.json"


def labelme(folder):
    for number, name in enumerate(NAMES):
        shapes = [
            test_labelme.shape("mask", [0, 0], [31, 23], label=label, mask=test_labelme.painted(mask))
            for label, mask in drawn(number).items()
            if mask.any()
        ]
        content = test_labelme.document(*shapes, name=f"{name}.png", size=(24, 32))
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def box(mask):
    left, top, right, bottom = Image.fromarray(mask).getbbox()
    return {"xtl": left, "ytl": top, "xbr": right, "ybr": bottom}


def cvat(folder):
    elements = []
    for number, name in enumerate(NAMES):
        shapes = [test_cvat.shape("box", label, **box(mask)) for label, mask in drawn(number).items() if mask.any()]
        element = f'<image id="{number}" name="{name}.png" width="32" height="24">{"".join(shapes)}</image>'
        elements.append(element)
    (folder / "annotations.xml").write_text(f"<annotations>{''.join(elements)}</annotations>")
    return folder / "annotations.xml"


def yolo(folder):
    (folder / "data.yaml").write_text("names: [polyp, instrument]\n")
    (folder / "labels").mkdir()
    for number, name in enumerate(NAMES):
        lines = []
        for kind, mask in enumerate(drawn(number).values()):
            if mask.any():
                left, top, right, bottom = Image.fromarray(mask).getbbox()
                corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
                lines.append(f"{kind} " + " ".join(f"{x / 32} {y / 24}" for x, y in corners))
        (folder / "labels" / f"{name}.txt").write_text("\n".join(lines))
    return folder


FORMATS = {
    label_maps: {"labels": "1=polyp,2=instrument"},
    coloured: {"labels": "red=polyp,green=instrument"},
    one_file_per_class: {"labels": "1=polyp,2=instrument", "merge_masks": True},
    coco: {},
    labelme: {},
    cvat: {},
    yolo: {},
}


@pytest.mark.parametrize("made", FORMATS, ids=lambda made: made.__name__)
def test_each_format_gives_a_sample_for_each_image_and_class(images, tmp_path, made):
    adopted = adopt(
        "mine", images, made(tmp_path), folder=tmp_path / "data", group=r"^(patient\d+)_", alike=1, **FORMATS[made]
    )
    assert adopted.report.ok
    found = all_samples(folder=tmp_path / "data")
    assert len(found) == 2 * len(NAMES)
    for sample in found:
        noun = sample.attributes["class"]
        assert sample.prompt("p1") == noun
        assert sample.id == f"{sample.image.stem}_{noun}"
        assert np.array_equal(read_mask(sample.mask), drawn(NAMES.index(sample.image.stem))[noun])


def test_the_samples_of_an_image_and_of_a_patient_stay_in_one_split(images, tmp_path):
    adopt("mine", images, coco(tmp_path), folder=tmp_path / "data", group=r"^(patient\d+)_", alike=1)
    splits = {
        split: {one.attributes["group"] for one in load_split("mine", split, tmp_path / "data")} for split in SPLITS
    }
    assert sum(map(len, splits.values())) == len(set.union(*splits.values())) == 5


def test_a_noun_unites_what_was_annotated(images, tmp_path):
    adopt("mine", images, coco(tmp_path), "target", folder=tmp_path / "data", alike=1)
    found = all_samples(folder=tmp_path / "data")
    assert [sample.id for sample in found] == [sample.image.stem for sample in found]
    for sample in found:
        assert "class" not in sample.attributes
        expected = np.logical_or.reduce(list(drawn(NAMES.index(sample.id)).values()))
        assert np.array_equal(read_mask(sample.mask), expected)


def test_labels_rename_and_leave_out_classes(images, tmp_path):
    adopt("mine", images, yolo(tmp_path), labels="polyp=adenoma,instrument=", folder=tmp_path / "data", alike=1)
    found = all_samples(folder=tmp_path / "data")
    assert {sample.prompt("p1") for sample in found} == {"adenoma"}
    assert all(np.array_equal(read_mask(one.mask), drawn(NAMES.index(one.id))["polyp"]) for one in found)


@pytest.mark.parametrize(
    ("made", "rules"),
    [
        (label_maps, {}),
        (label_maps, {"noun": "polyp", "labels": "1=polyp"}),
        (label_maps, {"labels": "1=polyp,2=instrument", "foreground": "1"}),
        (coco, {"foreground": "1"}),
    ],
)
def test_rules_that_do_not_fit_together(images, tmp_path, made, rules):
    (tmp_path / "masks").mkdir()
    with pytest.raises(SettingsError) as caught:
        adopt("mine", images, made(tmp_path / "masks"), folder=tmp_path / "data", **rules)
    assert caught.value.hint
    assert not list((tmp_path / "data").glob("mine*"))


def no_regions(folder):
    path = coco(folder)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"annotations": []}))
    return path


def an_image_that_is_not_listed(folder):
    path = coco(folder)
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"images": content["images"][1:]}))
    return path


@pytest.mark.parametrize(
    ("made", "labels"),
    [
        pytest.param(coco, "polyp=polyp", id="a class that is not named"),
        pytest.param(label_maps, "1=polyp", id="a value that is not named"),
        pytest.param(label_maps, "1=polyp,2=instrument,3=fold", id="a class that does not occur"),
        (no_regions, None),
        (an_image_that_is_not_listed, None),
    ],
)
def test_files_that_do_not_fit_leave_nothing(images, tmp_path, made, labels):
    (tmp_path / "masks").mkdir()
    with pytest.raises(DataError) as caught:
        adopt("mine", images, made(tmp_path / "masks"), labels=labels, folder=tmp_path / "data", alike=1)
    assert caught.value.hint
    assert not [path for path in (tmp_path / "data").rglob("*") if path.is_file()]


def test_label_maps_of_different_sizes_are_refused(images, tmp_path):
    one_file_per_class(tmp_path / "masks")
    path = next((tmp_path / "masks").glob("*_mask_1.png"))
    Image.open(path).resize((64, 48), Image.Resampling.NEAREST).save(path)
    with pytest.raises(DataError, match="sizes"):
        adopt("mine", images, tmp_path / "masks", labels="1=a,2=b", merge_masks=True, folder=tmp_path / "data", alike=1)


def test_label_volumes_of_nifti_slice_by_slice(tmp_path):
    """Four volumes of three slices with a label volume each: 1 is a polyp, 2 an instrument."""
    nibabel = pytest.importorskip("nibabel")
    generator = np.random.default_rng(0)
    truth = {}
    for kind in ("images", "maps"):
        (tmp_path / kind).mkdir()
    for volume in range(4):
        stored = generator.normal(100, 40, (20, 20, 3)).astype(np.float32)
        labels = np.zeros(stored.shape, np.uint8)
        labels[2 : 8 + volume, 3:9], labels[12:18, 5 : 12 + volume] = 1, 2
        labels[..., 1][labels[..., 1] == 2] = 0  # the middle slices show a polyp alone
        for kind, values in (("images", stored), ("maps", labels)):
            nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / kind / f"scan{volume}.nii.gz")
        areas = [[(labels[..., index] == one).sum() for one in (1, 2)] for index in range(3)]
        truth |= {f"scan{volume}_{index:04d}": pair for index, pair in enumerate(areas)}
    rules = {"labels": "1=polyp,2=instrument", "folder": tmp_path / "data", "alike": 1}
    adopt("mine", tmp_path / "images", tmp_path / "maps", **rules)
    found = all_samples(folder=tmp_path / "data")
    assert len(found) == 24
    areas = {}
    for sample in found:
        areas.setdefault(sample.image.stem, {})[sample.prompt("p1")] = read_mask(sample.mask).sum()
    assert {name: [one["polyp"], one["instrument"]] for name, one in areas.items()} == truth
    assert {sample.attributes["group"] for sample in found} == {f"scan{volume}" for volume in range(4)}


def test_dicom_images_and_segmentations(tmp_path):
    """Three patients with two slices each; what is written names no patient."""
    dicom_seg = pytest.importorskip("tests.data.annotations.test_dicom_seg", exc_type=ImportError)
    generator, images = np.random.default_rng(0), []
    for number in range(6):
        one = dicom_seg.image(number % 2, study=f"1.2.3.{number // 2 + 1}")
        one.PatientID = f"MRN-{number // 2}"
        one.PixelData = generator.integers(0, 256, 48, np.uint8).tobytes()
        images.append(one)
    dicom_seg.save(tmp_path / "images", **{f"slice{number}": one for number, one in enumerate(images)})
    for first in range(0, 6, 2):
        masks = np.stack([np.stack([dicom_seg.LEFT, dicom_seg.TOP], 2)] * 2)
        made = dicom_seg.segmentation(images[first : first + 2], masks)
        dicom_seg.save(tmp_path / "masks", **{f"patient{first}": made})
    adopt("mine", tmp_path / "images", tmp_path / "masks", folder=tmp_path / "data", alike=1)
    found = all_samples(folder=tmp_path / "data")
    assert len(found) == 12
    expected = {"polyp": dicom_seg.LEFT, "instrument": dicom_seg.TOP}
    assert all(np.array_equal(read_mask(one.mask), expected[one.prompt("p1")]) for one in found)
    written = b"".join(path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file())
    names = " ".join(str(path.relative_to(tmp_path)) for path in (tmp_path / "data").rglob("*"))
    secrets = ["MRN-", "Doe", "Jane", "ACC0815", "19701224", *(str(one.SOPInstanceUID) for one in images)]
    assert not any(secret.encode() in written or secret in names for secret in secrets)
