import matplotlib.pyplot as plt
import numpy as np

from vlsm_helpers import plots
from vlsm_helpers.plots import base

SQUARE = np.zeros((16, 16), bool)
SQUARE[4:9, 4:9] = True


def test_an_outline_follows_the_mask():
    _, axes = plt.subplots()
    plots.outline(axes, SQUARE)
    (x_low, y_low), (x_high, y_high) = axes.collections[0].get_paths()[0].get_extents().get_points()
    assert (x_low, y_low, x_high, y_high) == (3.5, 3.5, 8.5, 8.5)


def test_an_empty_mask_has_no_outline():
    _, axes = plt.subplots()
    plots.outline(axes, np.zeros((4, 4), bool))
    assert len(axes.collections) == 0


def test_a_figure_is_shown_once_with_its_alternative_text(monkeypatch):
    shown = []
    monkeypatch.setattr(base, "display", lambda figure, metadata: shown.append(metadata))
    figure = plots.pixel_values({"mask": SQUARE})
    plots.show(figure, "one square")
    assert shown == [{"image/png": {"alt": "one square"}}]
    assert not plt.fignum_exists(figure.number)


def test_a_figure_has_the_style_and_leaves_the_settings():
    before = plt.rcParams["font.size"]
    sizes = []
    plots.styled(lambda: sizes.append(plt.rcParams["font.size"]))()
    assert sizes == [plots.STYLE["font.size"]]
    assert plt.rcParams["font.size"] == before
