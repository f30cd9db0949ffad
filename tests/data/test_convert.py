import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from tests import archives
from vlsm_helpers.data import registry
from vlsm_helpers.data.public import convert
from vlsm_helpers.errors import DataError


def test_every_public_dataset_has_a_converter():
    public = {name for name, card in registry.DATASETS.items() if not card.is_phantom}
    assert public == set(convert.LAYOUTS) == set(archives.BUILDERS)


def test_run_lengths_by_hand():
    # 2 background, 3 foreground, 1 background, down the columns of 2 x 3 pixels.
    mask = convert.decode_rle({"size": [2, 3], "counts": "231"})
    assert mask.tolist() == [[False, True, True], [False, True, False]]


def test_run_lengths_that_are_differences_and_negative():
    # Runs 1 1 1 6 1 2: from the fourth on the difference to two before, so 1 1 1 5 0 -4 (-4 = 0b11100 = 28, chr(76)).
    mask = convert.decode_rle({"size": [12, 1], "counts": "11150L"})
    assert mask[:, 0].astype(int).tolist() == [0, 1, 0, 1, 1, 1, 1, 1, 1, 0, 1, 1]


@pytest.mark.parametrize(("size", "counts"), [([2320, 2828], "PVWX6"), ([2022, 2021], "nefl3")])
def test_empty_masks_of_the_published_sample(size, counts):
    mask = convert.decode_rle({"size": size, "counts": counts})
    assert mask.shape == tuple(size)
    assert not mask.any()


@settings(deadline=None)  # a busy machine may pause
@given(npst.arrays(bool, st.tuples(st.integers(1, 60), st.integers(1, 60))))
def test_run_lengths_there_and_back(mask):
    assert np.array_equal(convert.decode_rle(archives.encode_rle(mask)), mask)


@pytest.mark.parametrize("counts", ["", "230", "23", "2L1"])
def test_run_lengths_that_do_not_fill_the_size(counts):
    with pytest.raises(DataError, match="2 x 3") as caught:
        convert.decode_rle({"size": [2, 3], "counts": counts}, where="gt_segmentations_val.json: patient1, Edema")
    assert "patient1, Edema" in str(caught.value)


@pytest.mark.parametrize("name", archives.BUILDERS)
def test_finds_images_and_masks(name, tmp_path):
    entries, truth = archives.BUILDERS[name](tmp_path)
    published = convert.find(name, tmp_path)
    assert {entry["img_name"].split(".")[0] for split in entries.values() for entry in split} <= set(published.images)
    for mask, expected in truth.items():
        assert np.array_equal(published.masks[mask](), expected)


@pytest.mark.parametrize("name", archives.BUILDERS)
def test_a_folder_of_something_else(name, tmp_path):
    (tmp_path / "notes.txt").write_text("nothing here")
    with pytest.raises(DataError, match="found") as caught:
        convert.find(name, tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_kvasir_keeps_a_lesion_in_the_corner(tmp_path):
    archives.kvasir(tmp_path)
    lesion = archives.rectangle(0, 0, 8, 8)
    archives.save(lesion, tmp_path / "Kvasir-SEG/masks/cju1.jpg", quality=100)
    assert np.array_equal(convert.find("kvasir_polyp", tmp_path).masks["cju1"](), lesion)


def test_clinicdb_takes_the_png_copy_where_there_are_both(tmp_path):
    archives.clinicdb(tmp_path)
    (tmp_path / "CVC-ClinicDB").rename(tmp_path / "TIF")
    for kind in ("Original", "Ground Truth"):
        for number in (1, 2, 3):
            archives.save(archives.picture(number), tmp_path / f"PNG/{kind}/{number}.png")
    images = convert.find("clinicdb_polyp", tmp_path).images
    assert {path.parent.parent.name for path in images.values()} == {"PNG"}


def test_clinicdb_blurred_edges(tmp_path):
    archives.clinicdb(tmp_path)
    grey = archives.rectangle(8, 8, 24, 16) * np.uint8(255)
    grey[8, 8:24], grey[15, 8:24] = 128, 127
    archives.save(np.stack([grey] * 3, axis=2), tmp_path / "CVC-ClinicDB/Ground Truth/1.tif")
    mask = convert.find("clinicdb_polyp", tmp_path).masks["1"]()
    assert np.array_equal(mask, archives.rectangle(8, 8, 24, 15))
