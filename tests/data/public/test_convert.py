import numpy as np
import pytest

from tests import archives
from vlsm_helpers.data import registry
from vlsm_helpers.data.public import convert
from vlsm_helpers.errors import DataError


def test_every_public_dataset_has_a_converter():
    public = {name for name, card in registry.DATASETS.items() if not card.is_phantom}
    assert public == set(convert.LAYOUTS) == set(archives.BUILDERS)


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
