import json
from pathlib import Path

import pytest
from PIL import Image

from tests.data.annotations import test_coco, test_cvat, test_labelme, test_yolo
from vlsm_helpers.data.annotations.find import find, matched
from vlsm_helpers.data.annotations.regions import AnnotatedImage
from vlsm_helpers.errors import DataError


def frames(*names):
    return [(Path("images") / name, 0) for name in names]


def entries(*names):
    return [AnnotatedImage(name, Path("coco.json"), f"coco.json: {name}") for name in names]


def names(images, files):
    return [one.name for one in matched(entries(*images), frames(*files), Path("coco.json"))]


def test_images_are_found_by_name_in_their_order():
    assert names(["a.png", "sub/b.jpg", "C.PNG"], ["b.png", "c.png", "a.png"]) == ["sub/b.jpg", "C.PNG", "a.png"]


def test_folders_tell_images_of_one_name_apart():
    assert names(["p1/1.png", "p2\\1.png"], ["p2/1.png", "p1/1.png"]) == ["p2\\1.png", "p1/1.png"]
    assert names(["/data/x/images/p1/1.png", "/data/x/images/p2/1.png"], ["p2/1.jpg", "p1/1.jpg"])[0].endswith(
        "p2/1.png"
    )


def test_names_with_points():
    assert names(["scan.v1", "scan.v2.png"], ["scan.v2.png", "scan.v1.jpg"]) == ["scan.v2.png", "scan.v1"]


def test_frames_of_a_file_of_several():
    video = [(Path("images/clip.mp4"), number) for number in (0, 30)]
    found = matched(entries("clip_000030.png", "clip_0.png"), video, Path("coco.json"))
    assert [one.name for one in found] == ["clip_0.png", "clip_000030.png"]
    volume = [(Path("images/ct.nii.gz"), number) for number in (1, 0)]
    found = matched(entries("ct_0000", "ct_0001.jpg"), volume, Path("coco.json"))
    assert [one.name for one in found] == ["ct_0001.jpg", "ct_0000"]


def test_numbers_of_pictures_are_names():
    assert names(["img_01.png", "img_1.png"], ["img_1.png", "img_01.png"]) == ["img_1.png", "img_01.png"]


WRONG = {
    "an image without annotation": (["a.png"], ["a.png", "b.png"], "b.png"),
    "an annotation without image": (["a.png", "b.png"], ["a.png"], "b.png"),
    "two annotations of one name": (["a.png", "a.jpg"], ["a.png"], "a.png"),
    "two images of one name": (["a.png"], ["p1/a.png", "p2/a.png"], "a.png"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_what_does_not_belong_together_is_named(fault):
    images, files, named = WRONG[fault]
    with pytest.raises(DataError, match=named) as caught:
        names(images, files)
    assert caught.value.where == Path("coco.json")
    assert caught.value.hint


def written(folder, **files):
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def test_formats_are_recognised_by_their_content(tmp_path):
    coco = written(tmp_path / "coco", any_json=test_coco.document())
    cvat = written(tmp_path / "cvat", annotations_xml=test_cvat.document())
    labelme = written(tmp_path / "labelme", a_json=test_labelme.document(), b_json=test_labelme.document(name="b.jpg"))
    yolo = written(tmp_path / "yolo", data_yaml=test_yolo.NAMES, labels__a_txt=test_yolo.SQUARE)
    found = {path: find(path) for path in (coco, coco / "any.json", cvat, cvat / "annotations.xml", labelme, yolo)}
    assert [source.format for source in found.values()] == ["COCO", "COCO", "CVAT", "CVAT", "LabelMe", "YOLO"]
    assert found[yolo].read(frames("a.png"))[0].masks((8, 8))["polyp"].sum() == 9
    assert [one.name for one in found[coco].read(frames("b.png", "a.png"))] == ["b.png", "day1/a.png"]


def test_labelme_files_beside_their_images(tmp_path):
    written(tmp_path, a_json=test_labelme.document())
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg")
    assert find(tmp_path).format == "LabelMe"


@pytest.mark.parametrize("beside", ["notes.txt", "facts.json", "table.csv"])
def test_pictures_are_no_annotations(tmp_path, beside):
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / beside).write_text("{}")
    assert find(tmp_path) is None


def test_a_folder_of_notes_is_no_annotation(tmp_path):
    (tmp_path / "notes.txt").write_text("3 polyps were seen in these images")
    assert find(tmp_path) is None


def test_labels_whose_data_yaml_is_missing_are_told_apart_from_notes(tmp_path):
    source = find(written(tmp_path / "a" / "b" / "labels", a_txt=test_yolo.SQUARE))
    with pytest.raises(DataError, match=r"data\.yaml"):
        source.read(frames("a.png"))


@pytest.mark.parametrize("content", ["{}", "[]", '{"version": 1}', "nothing"])
def test_other_json_is_named(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(DataError) as caught:
        find(tmp_path / "a.json")
    assert caught.value.where == tmp_path / "a.json"
