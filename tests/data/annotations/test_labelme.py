import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from vlsm_helpers.data.annotations import labelme
from vlsm_helpers.errors import DataError

PATCH = np.array([[1, 0, 1], [0, 1, 0]], bool)


def painted(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def shape(kind, *points, label="polyp", **other):
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}} | other


def document(*shapes, name="a.jpg", size=(8, 8)):
    facts = {"version": "5.5.0", "flags": {}, "imagePath": name, "imageData": None}
    return facts | {"shapes": list(shapes), "imageHeight": size[0], "imageWidth": size[1]}


def read(tmp_path, *contents):
    for number, content in enumerate(contents):
        (tmp_path / f"{number}.json").write_text(json.dumps(content))
    return labelme.read(tmp_path)


def test_each_kind_of_shape_as_labelme_draws_it(tmp_path):
    """Pixels on the outline count: LabelMe draws with Pillow, whose whole coordinates are middles of pixels."""
    shapes = (
        shape("polygon", [1, 1], [3, 1], [3, 4], [1, 4]),
        shape("rectangle", [7, 7], [6, 5], label="box"),  # corners in the other order
        shape("circle", [3, 3], [3, 5], label="disc"),
        shape("oriented_rectangle", [0, 0], [2, 0], [2, 1], [0, 1], label="oriented"),
        shape("mask", [4, 5], [6, 6], label="brush", mask=painted(PATCH)),
    )
    (found,) = read(tmp_path, document(*shapes))
    masks = found.masks((8, 8))
    expected = {name: np.zeros((8, 8), bool) for name in masks}
    expected["polyp"][1:5, 1:4] = True
    expected["box"][5:8, 6:8] = True
    expected["disc"] = np.hypot(*np.indices((8, 8)) - 3) < 2.3  # 2, and the corners that Pillow rounds in
    expected["oriented"][0:2, 0:3] = True
    expected["brush"][5:7, 4:7] = PATCH
    assert list(masks) == ["polyp", "box", "disc", "oriented", "brush"]
    for name, mask in masks.items():
        assert np.array_equal(mask, expected[name]), name


def test_old_files_without_a_kind_are_polygons(tmp_path):
    old = shape(None, [1, 1], [3, 1], [3, 4], [1, 4])
    del old["shape_type"]
    (found,) = read(tmp_path, document(old))
    assert found.masks((8, 8))["polyp"].sum() == 12


def test_an_image_without_shapes_is_explicitly_empty(tmp_path):
    first, second = read(tmp_path, document(name="..\\images\\one.jpg"), document(name="../images/two.png"))
    assert [one.name for one in (first, second)] == [str(tmp_path / "one.jpg"), str(tmp_path / "two.png")]
    assert (first.size, first.masks((8, 8))) == ((8, 8), {})


def test_a_painted_mask_over_the_border_is_cut_off(tmp_path):
    (found,) = read(tmp_path, document(shape("mask", [7, 7], [9, 8], mask=painted(PATCH)), size=(20, 20)))
    assert np.argwhere(found.masks((20, 20))["polyp"]).tolist() == [[7, 7], [7, 9], [8, 8]]
    (found,) = read(tmp_path, document(shape("mask", [18, 19], [20, 20], mask=painted(PATCH)), size=(20, 20)))
    assert np.argwhere(found.masks((20, 20))["polyp"]).tolist() == [[19, 18]]


WRONG = {
    "a line": shape("line", [0, 0], [1, 1]),
    "a point": shape("point", [0, 0]),
    "two points": shape("polygon", [0, 0], [1, 1]),
    "a circle of three points": shape("circle", [0, 0], [1, 1], [2, 2]),
    "points that are none": shape("polygon", [0, 0], [1], [2, 2]),
    "points of text": shape("polygon", [0, 0], [1, "x"], [2, 2]),
    "no label": shape("polygon", [0, 0], [1, 1], [2, 0], label=None),
    "a polygon far outside": shape("polygon", [0, 0], [1, 1], [200, 0]),
    "no painted mask": shape("mask", [0, 0], [2, 1], mask=None),
    "a painted mask that is no picture": shape("mask", [0, 0], [2, 1], mask="AAAA"),
    "a painted mask that is no base64": shape("mask", [0, 0], [2, 1], mask="ä%"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_wrong_shapes_are_named(tmp_path, fault):
    with pytest.raises(DataError) as caught:
        read(tmp_path, document(shape("rectangle", [0, 0], [1, 1]), WRONG[fault]))[0].masks((8, 8))
    assert "0.json: shape 2" in str(caught.value.where)
    assert caught.value.hint


@pytest.mark.parametrize("lacking", ["shapes", "imagePath", "imageHeight"])
def test_files_that_are_not_labelmes_are_named(tmp_path, lacking):
    content = document()
    del content[lacking]
    with pytest.raises(DataError, match=lacking) as caught:
        read(tmp_path, content)
    assert "0.json" in str(caught.value.where)
