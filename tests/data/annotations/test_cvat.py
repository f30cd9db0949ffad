import numpy as np
import pytest

from vlsm_helpers.data.annotations import cvat
from vlsm_helpers.errors import DataError

PUBLISHED = (
    "3, 5, 7, 7, 5, 9, 3, 11, 2, 11, 2, 12, 1, 12, 1, 26, 1, 12, 1, 12, 2, 11, 3, 9, 5, 7, 7, 5, 3"  # of CVAT's page
)


def document(*shapes, size=(8, 8), name="day1/a.png"):
    meta = "<version>1.1</version><meta><task><labels><label><name>polyp</name></label></labels></task></meta>"
    inside = "".join(shapes)
    image = f'<image id="0" name="{name}" width="{size[1]}" height="{size[0]}">{inside}</image>'
    return f'<?xml version="1.0" encoding="utf-8"?>\n<annotations>{meta}{image}</annotations>'


def read(tmp_path, content):
    path = tmp_path / "annotations.xml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return cvat.read(path)


def shape(tag, label="polyp", **attributes):
    written = " ".join(f'{key}="{value}"' for key, value in attributes.items())
    return f'<{tag} label="{label}" source="manual" occluded="0" z_order="0" {written}></{tag}>'


def drawn(tmp_path, *shapes, size=(8, 8)):
    (found,) = read(tmp_path, document(*shapes, size=size))
    return found.masks(size)


def test_polygon_box_and_mask(tmp_path):
    masks = drawn(
        tmp_path,
        shape("polygon", points="1.00,2.00;4.00,2.00;4.00,5.00;1.00,5.00"),
        shape("box", label="tool", xtl=0, ytl=0, xbr=2, ybr=1),
        shape("mask", label="brush", rle="1, 2, 3", left=5, top=6, width=3, height=2),
        shape("tag", label="good_frame"),
    )
    polyp, tool, brush = (np.zeros((8, 8), bool) for _ in range(3))
    polyp[2:5, 1:4] = tool[0:1, 0:2] = brush[6, 6:8] = True  # along the rows: 1 background, 2 foreground, 3 background
    assert list(masks) == ["polyp", "tool", "brush"]
    assert all(np.array_equal(*pair) for pair in zip(masks.values(), (polyp, tool, brush), strict=True))


def test_the_mask_of_the_published_example_is_a_disc(tmp_path):
    """Row after row 5, 7, 9, 11, 11, 12 ... of 13 pixels; its 195 pixels are those of 13 x 15."""
    code = shape("mask", rle=PUBLISHED, left=1, top=2, width=13, height=15)
    mask = drawn(tmp_path, code, size=(20, 20))["polyp"]
    assert mask[2:17, 1:14].sum(axis=1).tolist() == [5, 7, 9, 11, 11, 12, 12, 13, 13, 12, 12, 11, 9, 7, 5]
    assert mask.sum() == mask[2:17, 1:14].sum()


def test_a_box_turned_by_a_right_angle(tmp_path):
    box = {"xtl": 2, "ytl": 4, "xbr": 8, "ybr": 6}
    upright, turned = (
        drawn(tmp_path, shape("box", **box, rotation=angle), size=(10, 10))["polyp"] for angle in (0, 90)
    )
    assert (upright[4:6, 2:8].all(), upright.sum()) == (True, 12)
    assert (turned[2:8, 4:6].all(), turned.sum()) == (True, 12)


def test_a_turn_is_clockwise_as_seen(tmp_path):
    """A narrow box that lies along the row, turned by 45 degrees, goes from the top left to the bottom right."""
    box = shape("box", xtl=2, ytl=9, xbr=18, ybr=11, rotation=45)
    mask = drawn(tmp_path, box, size=(20, 20))["polyp"]
    assert mask[[6, 14], [6, 14]].all()
    assert not mask[[6, 14], [14, 6]].any()


def test_an_ellipse(tmp_path):
    mask = drawn(tmp_path, shape("ellipse", cx=10, cy=10, rx=8, ry=4), size=(20, 20))["polyp"]
    rows, columns = np.indices((20, 20)) + 0.5  # of the pixels' middles
    assert (mask != (((columns - 10) / 8) ** 2 + ((rows - 10) / 4) ** 2 < 1)).sum() <= 6


def test_an_image_without_shapes_is_explicitly_empty(tmp_path):
    (found,) = read(tmp_path, document())
    assert (found.name, found.size, found.masks((8, 8))) == ("day1/a.png", (8, 8), {})


WRONG = {
    "a line": shape("polyline", points="0,0;1,1"),
    "points": shape("points", points="0,0;1,1"),
    "an unknown kind": shape("hexagon"),
    "no label": '<box xtl="0" ytl="0" xbr="2" ybr="1"/>',
    "a box without a corner": shape("box", xtl=0, ytl=0, xbr=2),
    "a corner that is no number": shape("box", xtl=0, ytl=0, xbr=2, ybr="nan"),
    "a polygon of two points": shape("polygon", points="0,0;1,1"),
    "a polygon of words": shape("polygon", points="0,0;1,1;a,b"),
    "a polygon far outside": shape("polygon", points="0,0;1,1;90,0"),
    "run lengths that are too few": shape("mask", rle="1, 2", left=0, top=0, width=3, height=2),
    "a mask far outside": shape("mask", rle="0, 6", left=50, top=0, width=3, height=2),
    "an enormous mask": shape("mask", rle="0, 1000000000000000", left=0, top=0, width=10**9, height=10**6),
}


@pytest.mark.parametrize("fault", WRONG)
def test_wrong_shapes_are_named(tmp_path, fault):
    with pytest.raises(DataError) as caught:
        drawn(tmp_path, shape("box", xtl=0, ytl=0, xbr=2, ybr=1), WRONG[fault])
    assert "annotations.xml: day1/a.png, shape 2" in str(caught.value.where)
    assert caught.value.hint


LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
ENTITIES = f'<?xml version="1.0"?><!DOCTYPE annotations [<!ENTITY l0 "polyp">{LAUGHS}]><annotations>&l9;</annotations>'
OUTSIDE = '<!DOCTYPE annotations [<!ENTITY f SYSTEM "file:///etc/hostname">]><annotations>&f;</annotations>'


OTHER = [
    "",
    "<annotations><image>",
    "<html/>",
    b"\xff\xfe\x00",
    ENTITIES,
    OUTSIDE,
    "<!DOCTYPE annotations><annotations/>",
    '<annotations><track id="0" label="polyp"/></annotations>',
    '<annotations><image id="0" width="8"/></annotations>',
    '<annotations><image id="0" name="a.png" width="wide" height="8"/></annotations>',
]


@pytest.mark.parametrize("content", OTHER)
def test_other_files_are_refused_before_anything_is_expanded(tmp_path, content):
    with pytest.raises(DataError) as caught:
        read(tmp_path, content)
    assert "annotations.xml" in str(caught.value.where)
    assert caught.value.hint
    assert len(caught.value.what) < 500
