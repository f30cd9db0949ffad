import numpy as np
import pytest

from tools.pretrain import grounds, world
from tools.pretrain.grounds import SIZE, draw_ground


@pytest.fixture(scope="module")
def grey():
    return [draw_ground(np.random.default_rng(seed), is_grey=True, windows=0.4) for seed in range(60)]


def test_a_ground_is_a_picture(grey):
    coloured = [draw_ground(np.random.default_rng(seed), is_grey=False, windows=0.4) for seed in range(20)]
    for image, _ in grey + coloured:
        assert image.shape == (SIZE, SIZE, 3)
        assert -0.2 < image.min() < image.max() < 1.7  # the camera cuts it to [0, 1]
    assert all(np.ptp(image, axis=-1).max() < 1e-6 for image, _ in grey)
    assert {opening for _, opening in coloured} == {None}


def test_windows_are_darker_than_the_front_that_they_are_in(grey):
    windows = [(image, opening) for image, opening in grey if opening is not None]
    assert 12 <= len(windows) <= 36  # 40 % of 60
    for image, opening in windows:
        if (opening > 0.1).sum() > 50:
            middle = abs(np.linspace(-1, 1, SIZE)) < 0.6  # beyond, some fronts end and all is dark
            front = image[(opening < -0.05) & middle[:, None] & middle]
            assert image[opening > 0.1].mean() < front.mean()


def test_there_are_grounds_without_windows():
    grounds_of_a_world = [draw_ground(np.random.default_rng(seed), is_grey=True, windows=0.0) for seed in range(20)]
    assert {opening for _, opening in grounds_of_a_world} == {None}


@pytest.mark.parametrize("seed", range(5))
def test_openings_are_rounded_and_stand_side_by_side(seed):
    y, x = world.grid(SIZE)
    depth = grounds._openings(np.random.default_rng(seed), y, x)
    assert 0.03 < (depth > 0).mean() < 0.9
    curtained = grounds._curtained(np.random.default_rng(seed), y, x, depth)
    assert (curtained <= depth).all()


def test_in_a_window_the_front_hides_what_lies_behind():
    opening = np.full((SIZE, SIZE), -1.0)
    opening[:, :64] = 0.5
    ground = np.full((SIZE, SIZE, 3), 0.2)
    shares = []
    for seed in range(30):
        plan = "circle", "patch", "plain", np.ones(3)
        changed, mask = world._add(np.random.default_rng(seed), ground, plan, opening, veils=True)
        shares.append(mask[:, 64:].sum() / max(1, mask.sum()))
        assert not mask.any() or np.abs(changed - ground)[mask].mean() > world.LEAST_CHANGE
    assert np.mean(np.array(shares) < 0.02) > 0.75  # the rest lies before the front
    assert max(shares) > 0.05


def test_a_veil_only_pales():
    ground, plan = np.full((SIZE, SIZE, 3), 0.2), ("circle", "patch", "plain", np.full(3, 0.05))

    def paler(veils: bool) -> float:
        """The share of dark patches that lighten the ground after all."""
        laid = [world._add(np.random.default_rng(seed), ground, plan, None, veils)[0] for seed in range(40)]
        return np.mean([(image > 0.3).any() for image in laid])

    assert paler(veils=True) > paler(veils=False) + 0.1
