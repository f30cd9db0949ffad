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


@pytest.fixture
def measured(tmp_path):
    return biomedclip.Measured(tmp_path / "biomedclip.csv")


def test_two_miniatures_stand_side_by_side_and_nothing_is_measured_twice(
    few, measured, tiny_weights, fresh, monkeypatch
):
    folders = {biomedclip.NOW: fresh, biomedclip.BEFORE: biomedclip.find("tiny", biomedclip.BIOMEDCLIP)}
    held_out = biomedclip.corpora(biomedclip.HELD_OUT[:3])
    for folder in folders.values():
        biomedclip.learned(measured, folder, held_out, held_out)
        biomedclip.moved(measured, folder)
    found, told = (table(measured, folders) for table in (biomedclip.retrieval_table, biomedclip.attribute_table))
    assert list(found.iloc[:, 0]) == ["mixed", *biomedclip.MODALITIES]
    assert list(told["attribute"]) == list(biomedclip.ATTRIBUTES)
    cosines = biomedclip.cosine_table(measured, folders).set_index("miniature")
    assert list(cosines.loc[biomedclip.NOW]) == ["1.000"] * 3  # it has not moved
    monkeypatch.setattr(biomedclip, "retrieval", None)
    monkeypatch.setattr(biomedclip, "linear", None)
    biomedclip.learned(biomedclip.Measured(measured.path), fresh, held_out, held_out)


def test_fewer_phantoms_are_the_first_ones(few):
    whole, part = biomedclip.corpora(biomedclip.HELD_OUT[:2]), biomedclip.corpora(biomedclip.HELD_OUT[:2], 1)
    assert [one.descriptions for one in part] == [one.descriptions[: biomedclip.VIEWS] for one in whole]
    assert {len(one.images) for one in part} == {biomedclip.VIEWS}


def test_each_tower_has_a_decoder_of_its_own_whatever_was_trained_before(few, measured, fresh, tmp_path):
    biomedclip.dense(measured, fresh, ["phantom_skin"], seeds=(0, 1), steps=2)
    biomedclip.dense(measured, None, ["phantom_skin"], seeds=(0, 1), steps=2)
    alone = biomedclip.Measured(tmp_path / "other.csv")
    biomedclip.dense(alone, None, ["phantom_skin"], seeds=(1,), steps=2)
    clipseg = measured.of(biomedclip.CLIPSEG, "decoder").set_index("seed")["value"]
    assert clipseg[1] == alone.of(biomedclip.CLIPSEG, "decoder")["value"].item()
    table = biomedclip.decoder_table(measured, {biomedclip.NOW: fresh}).set_index("dataset")
    assert table.loc["phantom_skin", biomedclip.CLIPSEG].startswith(f"{100 * clipseg.mean():.1f} ±")
    assert table.loc["phantom_xray", biomedclip.NOW] == ""  # not measured


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


TITLES = {
    "endoscopy": "phantom_endoscopy",
    "ultrasound": "phantom_ultrasound",
    "skin": "phantom_skin",
    "X-ray": "phantom_xray",
}


def test_what_docs_say_of_the_shipped_miniature_is_what_was_measured():
    shipped = biomedclip.find("tiny", biomedclip.BIOMEDCLIP)
    rows = biomedclip.Measured(biomedclip.HERE / "biomedclip.csv").rows
    now = biomedclip.fingerprint(shipped)
    (before,) = set(rows["weights"]) - {now, biomedclip.CLIPSEG}
    told = rows.set_index(["part", "weights", "item", "score"])["value"].sort_index()
    lines = (biomedclip.HERE.parent / "docs" / "results.md").read_text(encoding="utf-8").splitlines()
    for title, item in {"all modalities": "mixed", **TITLES}.items():
        found = told["retrieval", now, item]
        percent = [found["chance"], found["top1"], told["retrieval", before, item, "top1"].item()]
        assert f"| {title} | {' | '.join(f'{100 * float(one):.1f} %' for one in percent)} |" in lines
    for title, item in TITLES.items():
        dice = [100 * told["decoder", weights, item, "Dice"] for weights in (biomedclip.CLIPSEG, now, before)]
        assert f"| {title} | {' | '.join(f'{one.mean():.1f} ± {one.std():.1f}' for one in dice)} |" in lines
