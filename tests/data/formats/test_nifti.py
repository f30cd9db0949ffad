import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlsm_helpers.data.formats import AXES, Reading
from vlsm_helpers.data.frames import frames, opened
from vlsm_helpers.errors import DataError

nibabel = pytest.importorskip("nibabel")

LPS = np.diag([-1.0, -1, 1, 1])  # the direction in which DICOM's axes run


def save(path, voxels, affine=None):
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4) if affine is None else affine), path)
    return path


def marked():
    """A volume whose voxel (x, y, z), in LPS, is 100 x + 10 y + z."""
    x, y, z = np.ogrid[:3, :4, :5]
    return (100 * x + 10 * y + z).astype(np.int16)


@pytest.mark.parametrize(
    ("axis", "index", "first_row", "first_column"),
    [
        ("axial", 2, [2, 102, 202], [2, 12, 22, 32]),  # columns run to the left, rows to the back
        ("coronal", 1, [14, 114, 214], [14, 13, 12, 11, 10]),  # rows run from the head down
        ("sagittal", 1, [104, 114, 124, 134], [104, 103, 102, 101, 100]),
    ],
)
@pytest.mark.parametrize("code", ["LPS", "RAS", "SAL", "PIR"])
def test_slices_are_upright_whatever_order_the_file_stores(tmp_path, code, axis, index, first_row, first_column):
    tools = nibabel.orientations
    turn = tools.ornt_transform(tools.axcodes2ornt("LPS"), tools.axcodes2ornt(code))
    stored = tools.apply_orientation(marked(), turn)
    path = save(tmp_path / "v.nii", stored, LPS @ tools.inv_ornt_aff(turn, (3, 4, 5)))
    volume = opened(path, Reading(axis=axis))
    assert volume.orientation == code
    pixels = volume.label(index).values[..., 0]
    np.testing.assert_array_equal(pixels[0], first_row)
    np.testing.assert_array_equal(pixels[:, 0], first_column)
    restored = volume.restore({number: volume.label(number).values[..., 0] for number in volume.indices})
    np.testing.assert_array_equal(restored, stored)


def test_a_volume_has_one_scale(tmp_path):
    voxels = np.linspace(-500, 500, 11 * 11 * 9).reshape(11, 11, 9).astype(np.float32)
    path = save(tmp_path / "v.nii.gz", voxels)
    found = frames([path])
    assert [frame.id for frame in found] == [f"v_{number:04d}" for number in range(9)]
    assert {frame.group for frame in found} == {"v"}
    low, high = np.percentile(voxels, (0.5, 99.5))
    for number, frame in enumerate(found):
        expected = ((voxels[::-1, ::-1, number].T - low) / (high - low)).clip(0, 1) * 255
        assert np.abs(frame.decode().values[..., 0] - expected).max() <= 0.51
    windowed = frames([path], Reading(window=(0, 1000)))[0].decode().values[..., 0]
    assert np.abs(windowed - (voxels[::-1, ::-1, 0].T / 1000 + 0.5) * 255).max() <= 0.51


def test_spacing_is_that_of_rows_and_columns(tmp_path):
    path = save(tmp_path / "v.nii", marked(), np.diag([0.5, 0.75, 3, 1]))
    assert [opened(path, Reading(axis=axis)).spacing for axis in AXES] == [(3, 0.75), (3, 0.5), (0.75, 0.5)]


def test_a_single_picture_is_one_frame_without_number(tmp_path):
    flat = save(tmp_path / "flat.nii", marked()[:, :, 0])
    thin = save(tmp_path / "thin.nii", marked()[:, :1])
    assert [frame.id for frame in frames([flat, thin])] == ["flat", "thin"]
    assert frames([thin])[0].decode().values.shape == (5, 3, 1)


def test_scaled_integers_and_colours(tmp_path):
    image = nibabel.Nifti1Image(marked(), np.eye(4))
    image.header.set_slope_inter(2, -1000)
    nibabel.save(image, tmp_path / "s.nii")
    stored = np.asarray(nibabel.load(tmp_path / "s.nii").dataobj)
    shown = opened(tmp_path / "s.nii", Reading(window=(0, 2000))).image(0).values[..., 0]
    assert np.abs(shown - (stored[::-1, ::-1, 0].T / 2000 + 0.5).clip(0, 1) * 255).max() <= 0.51
    colours = np.zeros((2, 2, 2), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    colours["G"] = 200
    path = save(tmp_path / "c.nii", colours)
    np.testing.assert_array_equal(opened(path).image(1).values, np.full((2, 2, 3), [0, 200, 0]))


def test_numbers_that_are_none_are_black(tmp_path):
    voxels = np.full((4, 4, 2), np.nan, np.float32)
    voxels[0] = [[0, 0], [1, 1], [2, 2], [3, 3]]
    shown = opened(save(tmp_path / "v.nii", voxels)).image(0).values[..., 0]
    assert shown[:, :3].max() == 0
    assert shown.max() == 255


@given(st.integers(1, 4), st.integers(2, 6), st.data())
def test_restoring_some_slices_leaves_the_others_empty(tmp_path_factory, every, depth, data):
    path = tmp_path_factory.mktemp("volume") / "v.nii"
    volume = opened(save(path, np.zeros((2, 3, depth), np.uint8)), Reading(every=every))
    chosen = data.draw(st.sets(st.sampled_from(list(volume.indices)), min_size=1))
    restored = volume.restore({index: np.full((3, 2), index + 1, np.uint8) for index in chosen})
    assert [int(plane.max()) for plane in np.moveaxis(restored, 2, 0)] == [
        index + 1 if index in chosen else 0 for index in range(depth)
    ]


def series(path):
    save(path, np.zeros((2, 2, 2, 3), np.uint8))


def cut_off(path):
    save(path, np.zeros((20, 20, 20), np.float32))
    path.write_bytes(path.read_bytes()[:1000])


def text(path):
    path.write_text("no volume")


def without_directions(path):
    image = nibabel.Nifti1Image(np.zeros((4, 4, 4), np.uint8), None)
    image.header.set_sform(np.diag([0, 1, 1, 1]), code=1)
    nibabel.save(image, path)


def complex_numbers(path):
    save(path, np.zeros((4, 4, 4), np.complex64))


@pytest.mark.parametrize("spoil", [series, cut_off, text, without_directions, complex_numbers])
def test_wrong_files_are_named(tmp_path, spoil):
    path = tmp_path / "brain.nii"
    spoil(path)
    with pytest.raises(DataError) as caught:
        frames([path])[0].decode()
    assert "brain.nii" in str(caught.value)
    assert caught.value.hint


def test_labels_are_whole_numbers(tmp_path):
    path = save(tmp_path / "labels.nii", np.full((4, 4, 4), 0.5, np.float32))
    with pytest.raises(DataError, match="no labels"):
        opened(path).label(0)


def test_a_missing_package_is_one_sentence(tmp_path, monkeypatch):
    path = save(tmp_path / "v.nii", marked())
    monkeypatch.setitem(__import__("sys").modules, "nibabel", None)
    with pytest.raises(DataError, match="nibabel, which is not installed") as caught:
        frames([path])
    assert "[nifti]" in caught.value.hint
