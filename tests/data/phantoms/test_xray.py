import numpy as np
import pytest

from vlsm_helpers.data.phantoms import drawing, render, xray

SEEDS = range(40)


def chest_of(seed, size=128):
    return xray._chest(drawing.streams("phantom_xray", seed)("patient"), size)


@pytest.fixture(scope="module")
def phantoms():
    return [render("phantom_xray", seed) for seed in SEEDS]


@pytest.fixture(scope="module")
def chests():
    return [chest_of(seed) for seed in SEEDS]


def test_the_finding_gives_noun_and_kind(phantoms):
    assert {phantom.noun for phantom in phantoms} == set(xray.FINDINGS)
    assert all(phantom.noun == phantom.kind for phantom in phantoms)


def test_a_finding_lies_in_one_lung(phantoms, chests):
    for phantom, chest in zip(phantoms, chests, strict=True):
        inside = [np.sum(phantom.mask & chest.field(side)) for side in (-1, 1)]
        assert max(inside) == phantom.mask.sum()
        assert min(inside) == 0


def test_a_finding_is_brighter_than_the_rest_of_its_lung(phantoms, chests):
    brighter = []
    for phantom, chest in zip(phantoms, chests, strict=True):
        field = max((chest.field(side) for side in (-1, 1)), key=lambda lung: np.sum(lung & phantom.mask))
        brighter.append(phantom.image[phantom.mask].mean() - phantom.image[field & ~phantom.mask].mean())
    assert np.mean(np.array(brighter) > 0) > 0.95
    assert np.median(brighter) > 20


def test_air_is_dark_and_the_heart_is_bright(phantoms, chests):
    for phantom, chest in zip(phantoms, chests, strict=True):
        air = (chest.field(-1) | chest.field(1)) & ~phantom.mask
        assert np.median(phantom.image[air]) < np.median(phantom.image[chest.heart > 0.05]) - 30


def test_effusions_hold_the_bottom_of_a_lung(phantoms, chests):
    for phantom, chest in zip(phantoms, chests, strict=True):
        if phantom.noun == "pleural effusion":
            height = chest.v[phantom.mask]
            assert np.median(height) > 0
            assert height.max() > max(chest.base.values()) - 0.05


def test_patients_move_about(chests):
    fields = np.array([chest.field(-1) | chest.field(1) for chest in chests])
    columns = [np.mean(np.nonzero(field)[1]) for field in fields]
    rows = [np.mean(np.nonzero(field)[0]) for field in fields]
    assert np.std(columns) > 4
    assert np.std(rows) > 4
    shares = fields.mean((1, 2))
    assert max(shares) > 1.6 * min(shares)


def test_the_hearts_shadow_is_not_round_and_points_to_the_pictures_right(chests):
    for chest in chests:
        shadow = chest.heart > 0
        assert np.mean(chest.u[shadow]) > 0
        assert np.ptp(chest.v[shadow]) > 1.15 * np.ptp(chest.u[shadow])
