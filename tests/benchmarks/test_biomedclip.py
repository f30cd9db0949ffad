"""The table of what the miniature BiomedCLIP has learned, on a few phantoms."""

import pytest

from benchmarks import biomedclip
from tools.pretrain import biomedclip_folder, dense_probe
from tools.pretrain.general_start import start_from
from vlsm_helpers.models.biomedclip import build_biomedclip
from vlsm_helpers.models.pretrained import load_clipseg


@pytest.fixture
def few(monkeypatch, tmp_path):
    """Twelve held-out phantoms and a cache of one's own."""
    monkeypatch.setenv("VLSM_CACHE", str(tmp_path))
    monkeypatch.setattr(dense_probe, "IMAGES", 16)
    monkeypatch.setattr(dense_probe, "VALIDATION", 4)


def test_two_miniatures_stand_side_by_side(few, tiny_weights):
    folders = {"before": tiny_weights / "biomedclip", "now": tiny_weights / "biomedclip"}
    held_out = biomedclip.corpora(biomedclip.HELD_OUT[:3])
    found, told = biomedclip.learned(folders, held_out, held_out)
    assert list(found.iloc[:, 0]) == ["mixed", *biomedclip.MODALITIES]
    assert list(told["attribute"]) == list(biomedclip.ATTRIBUTES)
    for table, score in ((found, "first"), (told, "nearest caption"), (told, "linear probe")):
        assert list(table[f"before: {score}"]) == list(table[f"now: {score}"])
    times = found["now: first"].astype(float) / found["chance"].astype(float)
    assert times.to_list() == pytest.approx(found["now: times chance"].astype(float).to_list(), abs=0.2)


def test_fewer_phantoms_are_the_first_ones(few):
    whole, part = biomedclip.corpora(biomedclip.HELD_OUT[:2]), biomedclip.corpora(biomedclip.HELD_OUT[:2], 1)
    assert [one.descriptions for one in part] == [one.descriptions[: biomedclip.VIEWS] for one in whole]
    assert {len(one.images) for one in part} == {biomedclip.VIEWS}


def test_each_tower_has_a_decoder_of_its_own_budget_and_the_start_is_no_part_of_it(few):
    row = biomedclip.dense({"now": biomedclip.TINY.biomedclip_weights}, ["phantom_skin"], steps=2).iloc[0]
    again = biomedclip.dense({}, ["phantom_skin"], steps=2).iloc[0]
    assert row["CLIPSeg"] == again["CLIPSeg"]  # whatever was trained meanwhile
    assert set(row.index) == {"dataset", "CLIPSeg", "now"}


@pytest.fixture
def fresh(tmp_path):
    """A miniature as pretraining starts it."""
    folder = tmp_path / "miniature"
    biomedclip_folder.write_config(folder, biomedclip_folder.train_vocabulary(["a polyp"]))
    clip = build_biomedclip(folder, load_weights=False)[0]
    start_from(clip.visual.trunk, load_clipseg(biomedclip.TINY.clipseg_weights)[0].clip.vision_model)
    biomedclip_folder.save_tensors(folder, clip)
    return folder


def test_a_process_without_this_package_loads_the_miniature(fresh):
    assert biomedclip.plain_load(fresh) == "open_clip.model CustomTextCLIP (1, 1)"


def test_a_tower_that_has_not_moved_has_a_cosine_of_one(fresh):
    assert biomedclip.cosines({"now": fresh}).to_dict("records") == [
        {"BiomedCLIP": "now", "mean": "1.000", "smallest": "1.000", "largest": "1.000"}
    ]
