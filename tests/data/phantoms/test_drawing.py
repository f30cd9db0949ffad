import numpy as np
import pytest

from vlsm_helpers.data.phantoms import drawing


def test_the_grid_runs_over_pixel_centres():
    y, x = drawing.grid(4)
    np.testing.assert_allclose(x[0], [-0.75, -0.25, 0.25, 0.75])
    np.testing.assert_array_equal(y, x.T)
    with pytest.raises(ValueError, match="read-only"):
        y += 1


def test_parts_have_generators_of_their_own():
    stream = drawing.streams("phantom_skin", 7)
    first = stream("hairs").random(3)
    stream("lesion").random(100)
    np.testing.assert_array_equal(stream("hairs").random(3), first)
    others = [
        stream("lesion"),
        drawing.streams("phantom_skin", 8)("hairs"),
        drawing.streams("phantom_xray", 7)("hairs"),
    ]
    assert all(not np.any(other.random(3) == first) for other in others)


@pytest.mark.parametrize("make", [drawing.noise, drawing.fractal])
def test_noise_has_mean_0_and_sd_1(make):
    fields = [make(drawing.streams("test", seed)("noise"), 64, 8) for seed in range(30)]
    assert abs(np.mean(fields)) < 0.1
    assert 0.85 < np.std(fields) < 1.15


def test_noise_is_the_same_at_every_size():
    small, large = (drawing.noise(drawing.streams("test", 1)("noise"), size, 5, 3) for size in (32, 96))
    np.testing.assert_allclose(large[1::3, 1::3], small, atol=1e-12)


def test_a_wandering_curve_strays_by_about_1():
    curves = [drawing.wander(drawing.streams("test", seed)("curve"), 64, 6) for seed in range(60)]
    assert abs(np.mean(curves)) < 0.15
    assert 0.8 < np.std(curves) < 1.2


def test_ridges_follow_the_zero_line():
    _, x = drawing.grid(64)
    lines = drawing.ridges(x, 0.05)
    assert lines[:, 31:33].min() > 0.85
    assert lines[:, [20, 43]].max() < 1e-6
    np.testing.assert_allclose(drawing.ridges(5 * x, 0.05), lines, atol=0.01)  # as wide, however steep the field


def test_smoothstep_rises_and_falls():
    values = np.array([-1.0, 0.0, 1.0, 2.0, 9.0])
    np.testing.assert_allclose(drawing.smoothstep(0, 2, values), [0, 0, 0.5, 1, 1])
    np.testing.assert_allclose(drawing.smoothstep(2, 0, values), [1, 1, 0.5, 0, 0])


def test_a_blob_is_1_inside_0_on_the_outline():
    at = np.array([0.0, 0.0, 0.2, 0.4]), np.array([0.1, 0.7, 0.1, 0.1])
    np.testing.assert_allclose(drawing.blob(at, (0, 0.1), (0.6, 0.2)), [1, 0, 0, -1], atol=1e-12)
    np.testing.assert_allclose(drawing.blob(at, (0, 0.1), (0.2, 0.6), np.pi / 2), [1, 0, 0, -1], atol=1e-12)


def test_a_wave_moves_the_outline():
    at = np.array([0.0, 0.0]), np.array([0.75, -0.5])
    np.testing.assert_allclose(drawing.blob(at, (0, 0), (0.5, 0.5), waves=[(1, 0.5, 0.0)]), [0, -1], atol=1e-12)


def test_distance_to_a_stroke():
    at = np.array([0.3, 0.0, 0.0]), np.array([0.0, 0.5, 1.5])
    np.testing.assert_allclose(drawing.stroke(at, (0, -1), (0, 1)), [0.3, 0.0, 0.5], atol=1e-12)
    middle = np.array([-0.2]), np.array([0.0])
    assert drawing.stroke(middle, (0, -1), (0, 1), bend=0.2) == pytest.approx(0.0, abs=1e-12)


def test_flat_ground_is_evenly_lit_and_slopes_are_not():
    y, x = drawing.grid(32)
    np.testing.assert_allclose(drawing.shade(np.zeros((32, 32)), (0.3, 0.3)), 1)
    assert drawing.shade(-x, (0, 0.5)).mean() > drawing.shade(x, (0, 0.5)).mean()
    assert drawing.shade(y, (0, 0)).mean() < 1


def test_blur_spares_the_channels():
    image = np.zeros((16, 16, 3))
    image[..., 1] = 1
    np.testing.assert_allclose(drawing.blur(image, 0.3), image, atol=1e-12)
    field = np.zeros((16, 16))
    field[8, 8] = 1
    assert 0 < drawing.blur(field, 0.3)[8, 9] < 1


def test_mix_lays_a_colour_over():
    image = np.zeros((2, 2, 3))
    half = np.array([[0.0, 0.5], [1.0, 0.0]])
    np.testing.assert_allclose(drawing.mix(image, (1, 0.5, 0), half)[..., 1], half / 2)
    np.testing.assert_allclose(drawing.mix(image, (1, 1, 1), 0.25), 0.25)


def test_an_annotators_hand():
    depth = drawing.blob(drawing.grid(64), (0, 0), (0.5, 0.5))
    steady, shaky = (drawing.annotate(drawing.streams("test", 3)("hand"), depth, 0.5, jitter) for jitter in (0, 0.03))
    np.testing.assert_array_equal(steady, depth > 0)
    assert 0 < np.mean(steady ^ shaky) < 0.05


def test_pick_and_chance_take_every_option():
    rng = drawing.streams("test", 0)("dice")
    assert {drawing.pick(rng, "abc") for _ in range(50)} == set("abc")
    assert sum(drawing.chance(rng, 0.25) for _ in range(400)) in range(70, 130)
    assert not any(drawing.chance(rng, 0.0) for _ in range(20))
