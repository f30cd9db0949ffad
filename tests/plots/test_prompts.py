import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

matplotlib.use("Agg")

from vlsm_helpers import plots
from vlsm_helpers.plots import prompts as prompt_plots

IMAGE = np.full((32, 32, 3), 90, np.uint8)
SQUARE = np.zeros((32, 32), bool)
SQUARE[8:18, 8:18] = True
GUESS = np.where(SQUARE, 0.8, 0.1)


@pytest.mark.parametrize(
    "figure",
    [
        lambda: prompt_plots.patches(IMAGE, 8),
        lambda: prompt_plots.panels({"one": {"colours": IMAGE, "numbers": GUESS}, "other": {"colours": IMAGE}}),
        lambda: prompt_plots.answers([IMAGE] * 2, [SQUARE] * 2, {"": [GUESS] * 2, "polyp": [1 - GUESS] * 2}),
        lambda: prompt_plots.similarities(np.eye(3), list("abc")),
        lambda: prompt_plots.film(np.ones((2, 5)), np.eye(2, 5), ["a", "b"]),
        lambda: prompt_plots.threshold_curves([0.25, 0.5, 0.75], {"polyp": [0.1, 0.4, 0.2]}),
    ],
)
def test_a_figure_is_drawn_on_white(figure):
    drawn = figure()
    assert isinstance(drawn, Figure)
    drawn.canvas.draw()
    pixels = np.asarray(drawn.canvas.buffer_rgba())
    assert tuple(pixels[0, 0][:3]) == (255, 255, 255)
    assert pixels.std() > 5
    plots.plt.close(drawn)


def test_an_image_is_cut_where_patches_begin():
    image = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)
    figure = prompt_plots.patches(image, 8)
    apart = figure.axes[1].images[0].get_array()
    assert apart.shape == (17, 17, 3)
    assert (apart[:8, 9:] == image[:8, 8:]).all()
    assert (apart[8] == 255).all()
    plots.plt.close(figure)


def test_answers_outline_what_is_above_the_threshold():
    figure = prompt_plots.answers([IMAGE], [SQUARE], {"polyp": [GUESS]}, threshold=0.9)
    assert len(figure.axes[0].collections) == 1, "the truth alone"
    plots.plt.close(figure)


def test_the_dot_is_at_the_best_threshold():
    figure = prompt_plots.threshold_curves([0.25, 0.5, 0.75], {"polyp": [0.1, 0.2, 0.4]})
    assert figure.axes[0].lines[1].get_xydata().tolist() == [[0.75, 0.4]]
    plots.plt.close(figure)


def test_scales_are_coloured_around_one_and_shifts_around_zero():
    figure = prompt_plots.film(np.array([[0.5, 1.2]]), np.array([[3.0, -1.0]]), ["polyp"])
    assert figure.axes[0].images[0].get_clim() == (0.5, 1.5)
    assert figure.axes[1].images[0].get_clim() == (-3, 3)
    plots.plt.close(figure)


def test_a_frame_leaves_the_image_and_what_it_frames():
    framed = prompt_plots.framed(IMAGE, (1, 2), 8)
    assert (IMAGE == 90).all()
    assert np.argwhere(framed[..., 0] == 255).min(axis=0).tolist() == [8, 16]
    assert (framed[..., 0] == 255).sum() == 64 - 36


def test_titles_stand_above_the_first_row_alone():
    row = {"image": IMAGE, "probability": GUESS}
    figure = prompt_plots.panels({"polyp": row, "bump": row})
    assert [axes.get_title() for axes in figure.axes] == ["image", "probability", "", ""]
    assert [axes.get_ylabel() for axes in figure.axes] == ["polyp", "", "bump", ""]
    plots.plt.close(figure)
