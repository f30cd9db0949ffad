import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image

from vlsm_helpers.data.annotations.classes import Classes
from vlsm_helpers.data.annotations.label_map import class_masks
from vlsm_helpers.data.decode import decode
from vlsm_helpers.errors import CourseError, DataError, SettingsError

VALUES = np.array([[0, 1, 1, 0], [0, 1, 2, 2], [0, 0, 2, 0], [0, 0, 0, 0]], np.uint8)
BY_VALUE = Classes.parse("1=polyp,2=instrument")
BY_COLOUR = Classes.parse("red=polyp,green=instrument")
COLOURS = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)


def save(tmp_path, image, name="a.png", **options):
    image.save(tmp_path / name, **options)
    return tmp_path / name


def palette(values):
    image = Image.fromarray(values, "P")
    image.putpalette(COLOURS.ravel().tolist())
    return image


def masks(path, classes):
    return class_masks(decode(path, "mask"), classes, path)


GREY = Image.fromarray(VALUES)
FORMS = {
    "grey values": (GREY, BY_VALUE),
    "16-bit values": (Image.fromarray(VALUES.astype(np.uint16)), BY_VALUE),
    "values in three equal channels": (Image.fromarray(np.stack([VALUES] * 3, axis=2)), BY_VALUE),
    "indices of a palette": (palette(VALUES), BY_VALUE),
    "colours of a palette": (palette(VALUES), BY_COLOUR),
    "colours": (Image.fromarray(COLOURS[VALUES]), BY_COLOUR),
    "colours in hexadecimal": (Image.fromarray(COLOURS[VALUES]), Classes.parse("#ff0000=polyp,#00ff00=instrument")),
    "grey levels as colours": (Image.fromarray(VALUES * 100), Classes.parse("#646464=polyp,#c8c8c8=instrument")),
}


@pytest.mark.parametrize("form", FORMS)
def test_classes_of_a_label_map(tmp_path, form):
    image, classes = FORMS[form]
    found = masks(save(tmp_path, image), classes)
    assert list(found) == ["polyp", "instrument"]
    assert np.array_equal(found["polyp"], VALUES == 1)
    assert np.array_equal(found["instrument"], VALUES == 2)


@settings(deadline=None, max_examples=30)
@given(npst.arrays(np.uint8, (6, 9), elements=st.integers(0, 3)))
def test_a_label_map_there_and_back(tmp_path_factory, values):
    path = save(tmp_path_factory.mktemp("maps"), palette(values))
    found = masks(path, Classes.parse("1=a,2=b,3=c"))
    assert np.array_equal(sum(number * mask for number, mask in enumerate(found.values(), 1)), values)


def test_classes_can_be_united_and_left_out(tmp_path):
    path = save(tmp_path, Image.fromarray(np.where(VALUES == 0, 255, VALUES).astype(np.uint8)))
    assert np.array_equal(masks(path, Classes.parse("1=target,2=target,255="))["target"], VALUES > 0)


def test_the_background_can_be_a_class(tmp_path):
    found = masks(save(tmp_path, GREY), Classes.parse("0=mucosa,1=polyp,2=instrument"))
    assert np.array_equal(found["mucosa"], VALUES == 0)


def test_a_class_that_does_not_occur_is_empty(tmp_path):
    found = masks(save(tmp_path, GREY), Classes.parse("1=polyp,2=instrument,3=fold"))
    assert found["fold"].shape == (4, 4)
    assert not found["fold"].any()


def test_what_is_transparent_is_background(tmp_path):
    alpha = np.where(VALUES == 2, 0, 255).astype(np.uint8)
    found = masks(save(tmp_path, Image.fromarray(np.dstack([COLOURS[VALUES], alpha]))), BY_COLOUR)
    assert np.array_equal(found["polyp"], VALUES == 1)
    assert not found["instrument"].any()


def test_colours_that_jpeg_has_blurred(tmp_path):
    values = np.kron(VALUES, np.ones((16, 16), np.uint8))
    path = save(tmp_path, Image.fromarray(COLOURS[values]), "a.jpg", quality=90, subsampling=0)
    found = masks(path, BY_COLOUR)
    assert (found["polyp"] != (values == 1)).mean() < 0.01
    assert (found["instrument"] != (values == 2)).mean() < 0.01


WRONG = {
    "a value that is not named": (GREY, "a.png", "1=polyp"),
    "255 beside classes": (Image.fromarray(np.where(VALUES == 0, 255, VALUES).astype(np.uint8)), "a.png", "1=a,2=b"),
    "a colour that is not named": (Image.fromarray(COLOURS[VALUES]), "a.png", "red=polyp"),
    "a colour that is nearly the one": (Image.fromarray(COLOURS[VALUES] // 255 * 254), "a.png", "red=a,green=b"),
    "values of a picture with colours": (Image.fromarray(COLOURS[VALUES]), "a.png", "1=polyp,2=instrument"),
    "values in a JPEG": (GREY, "a.jpg", "1=polyp,2=instrument"),
    "an unnamed colour in a JPEG": (
        Image.fromarray(np.kron(COLOURS[VALUES], np.ones((16, 16, 1), np.uint8))),
        "a.jpg",
        "red=a",
    ),
    "colours of 16 bits": (Image.fromarray(VALUES.astype(np.uint16)), "a.png", "red=polyp"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_ambiguous_label_maps_are_named(tmp_path, fault):
    image, name, labels = WRONG[fault]
    with pytest.raises(DataError) as caught:
        masks(save(tmp_path, image, name), Classes.parse(labels))
    assert caught.value.where == tmp_path / name
    assert caught.value.hint


@pytest.mark.parametrize("labels", ["polyp=polyp", "1=polyp,red=instrument", "any=polyp", "-1=polyp"])
def test_labels_that_are_neither_values_nor_colours(tmp_path, labels):
    with pytest.raises(SettingsError):
        masks(save(tmp_path, GREY), Classes.parse(labels))


def test_the_message_counts_the_pixels(tmp_path):
    with pytest.raises(CourseError, match=r"2 \(3 pixels\)"):
        masks(save(tmp_path, GREY), Classes.parse("1=polyp"))
