import dataclasses

import pytest

from vlsm_helpers.data import registry
from vlsm_helpers.errors import DataError


def test_cards_are_complete():
    for name, card in registry.DATASETS.items():
        assert card.name == name
        assert list(card.entries) == ["train", "val", "test"]
        assert all(count > 0 for count in card.entries.values())
        texts = dataclasses.asdict(card)
        needed = {"title", "modality", "target", "paper", "terms"} | (set() if card.is_phantom else {"home"})
        assert all(texts[field].strip() for field in needed), name


def test_the_benchmarks_counts():
    counts = {name: tuple(card.entries.values()) for name, card in registry.DATASETS.items() if not card.is_phantom}
    assert counts == {
        "kvasir_polyp": (800, 100, 100),
        "clinicdb_polyp": (490, 61, 61),
        "bkai_polyp": (800, 100, 100),
        "bkai_polyp_classes": (1600, 200, 200),
        "busi": (624, 78, 78),
        "chexlocalize": (1279, 446, 452),
        "isic": (810, 90, 379),
    }


def test_phantoms_need_nobody():
    phantoms = [card for card in registry.DATASETS.values() if card.is_phantom]
    assert len(phantoms) == 4
    assert not any(card.account or card.home for card in phantoms)


def test_find():
    assert registry.find("busi").title.startswith("BUSI")


@pytest.mark.parametrize(
    ("name", "meant"),
    [("kvasir", "kvasir_polyp"), ("clinic_polyp", "clinicdb_polyp"), ("phantom_endo", "phantom_endoscopy")],
)
def test_unknown_name_suggests_the_nearest(name, meant):
    with pytest.raises(DataError) as caught:
        registry.find(name)
    assert repr(name) in str(caught.value)
    assert f"did you mean {meant}" in str(caught.value)


def test_a_name_like_no_other_lists_them_all():
    with pytest.raises(DataError) as caught:
        registry.find("0")
    assert "did you mean" not in str(caught.value)
    assert all(name in str(caught.value) for name in registry.DATASETS)
