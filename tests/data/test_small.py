import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.helpers import draw_toy
from vlsm_helpers.data.checks import check
from vlsm_helpers.data.own import adopt
from vlsm_helpers.data.seen import SeenMask
from vlsm_helpers.data.small import half_width


def disc(size, radius, row=None, column=None):
    """A disc, bool (size, size)."""
    y, x = np.ogrid[:size, :size]
    middle = size / 2 - 0.5
    return (y - (middle if row is None else row)) ** 2 + (x - (middle if column is None else column)) ** 2 < radius**2


@pytest.fixture
def adopted(tmp_path, own_data):
    """The report of a dataset of these masks, one image per group unless `groups` names them."""

    def make(masks, groups=None):
        for folder in ("images", "masks"):
            (tmp_path / folder).mkdir()
        for number, mask in enumerate(masks):
            group = number if groups is None else groups[number]
            noise = draw_toy(np.random.default_rng(number), max(mask.shape))[0][: mask.shape[0], : mask.shape[1]]
            Image.fromarray(noise).save(tmp_path / "images" / f"p{group}_{number}.png")
            Image.fromarray(mask).save(tmp_path / "masks" / f"p{group}_{number}.png")
        return adopt("mine", tmp_path / "images", tmp_path / "masks", "disc", group=r"^(p\d+)_", alike=1).report

    return make


def kinds(report):
    return set(report.problems.kind)


def test_the_interval_of_a_mean_is_students():
    # t(0.975, 3) = 3.182; of 4 patients with a spread of 0.25 the half width is 3.182 * 0.25 / 2
    assert half_width(4) == pytest.approx(0.398, abs=1e-3)
    assert half_width(4, spread=0.1) == pytest.approx(0.159, abs=1e-3)
    assert half_width(1) == 1


@given(st.integers(2, 500))
def test_more_patients_make_a_narrower_interval(count):
    assert half_width(count + 1) < half_width(count) or half_width(count) == 1


def test_the_interval_covers_as_often_as_it_says():
    generator = np.random.default_rng(0)
    scores = generator.normal(0.7, 0.25, (4000, 8))
    wide = np.array([half_width(8, one) for one in scores.std(axis=1, ddof=1)])
    assert (np.abs(scores.mean(axis=1) - 0.7) < wide).mean() == pytest.approx(0.95, abs=0.015)


def test_a_small_dataset_is_told_what_a_score_is_worth(adopted):
    report = adopted([disc(40, 9 + number % 3) for number in range(15)])
    assert "15 images" in report.outlook
    assert f"{100 * half_width(3):.0f} percentage points" in report.outlook  # three groups in test
    assert report.outlook in str(report)
    assert kinds(report) == set()


def test_a_large_one_is_not(adopted):
    assert adopted([disc(24, 5 + number % 3) for number in range(100)]).outlook == ""


def test_one_patient_with_most_images(adopted):
    report = adopted([disc(40, 9 + number % 5) for number in range(16)], [0] * 11 + [1, 2, 3, 4, 5])
    row = report.problems[report.problems.kind == "one patient"].iloc[0]
    assert "11 of 16" in row.detail
    assert "p0" in row.detail


def test_empty_masks_in_one_split_only(adopted):
    masks = [disc(40, 9 + number % 5) & (number >= 4) for number in range(18)]
    report = adopted(masks, [0] * 10 + list(range(1, 9)))
    row = report.problems[report.problems.kind == "empty in one split"].iloc[0]
    assert (row.split, report.counts.empty_masks[row.split]) == ("train", 4)


def test_a_target_below_a_pixel_of_the_network(adopted):
    masks = [disc(400, 60 + number) for number in range(6)]
    masks[2] = np.zeros((400, 400), bool)
    masks[2][7, 9] = True  # 1 pixel of 160,000; at 352 px that is 0.77 of a pixel
    report = adopted(masks)
    assert kinds(report) == {"tiny target"}
    assert report.problems.iloc[0].file == "masks/p2_2.png"


def test_a_frame_around_the_picture(adopted):
    masks = [disc(60, 10 + number) for number in range(6)]
    masks[1] = masks[1] | np.pad(np.zeros((56, 56), bool), 2, constant_values=True)
    masks[1][0, 0] = False
    report = adopted(masks)
    assert set(report.problems.file) == {"masks/p1_1.png"}
    assert kinds(report) == {"touches every border"}


@pytest.mark.parametrize("grain", [4, 8])
def test_masks_drawn_in_squares(adopted, grain):
    report = adopted([np.kron(disc(16, 4 + number % 3), np.ones((grain, grain))) > 0 for number in range(9)])
    assert kinds(report) == {"coarse masks"}
    assert f"squares of {grain} px" in report.problems.iloc[0].detail


def test_boxes_in_place_of_outlines(adopted):
    masks = [np.zeros((40, 40), bool) for _ in range(9)]
    for number, mask in enumerate(masks):
        mask[5 : 17 + number, 6:25] = True
    assert kinds(adopted(masks)) == {"boxes"}


@given(st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_the_grain_of_a_mask_is_the_side_of_its_squares(side, seed):
    coarse = np.random.default_rng(seed).integers(0, 2, (13, 11)).astype(bool)
    fine = np.kron(coarse, np.ones((side, side))) > 0
    assert SeenMask.of("m.png", fine).grain % side == 0
    assert SeenMask.of("m.png", np.zeros((30, 30), bool)).grain == 1


def test_check_tells_the_same_as_adopt(adopted):
    report = adopted([np.kron(disc(16, 4 + number % 3), np.ones((4, 4))) > 0 for number in range(9)])
    again = check("mine")
    assert str(again) == str(report)
