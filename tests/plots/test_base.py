import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

matplotlib.use("Agg")

from vlsm_helpers import plots

IMAGE = np.full((16, 16, 3), 90, np.uint8)
SQUARE = np.zeros((16, 16), bool)
SQUARE[4:9, 4:9] = True
HISTORY = pd.DataFrame({"epoch": [1, 2, 3], "train_loss": [1.5, 1.0, 0.8], "val_dice": [0.2, 0.6, 0.5]})
TABLE = pd.DataFrame({"model": ["a", "b"], "value": [0.5, 0.7], "low": [0.4, 0.6], "high": [0.6, 0.8]})
PER_IMAGE = pd.DataFrame({"foreground": [0.0, 0.1, 0.3], "dice": [1.0, 0.5, 0.9]})


DIFFERENCES = pd.DataFrame(
    {
        "dataset": ["skin", "skin", "xray"],
        "ensemble": ["A", "B", "A"],
        "value": [2.0, -1.0, 3.0],
        "low": [1.0, -2.0, 1.0],
        "high": [3.0, 0.0, 5.0],
    }
)


@pytest.mark.parametrize(
    "figure",
    [
        lambda: plots.image_grid([IMAGE] * 5, [SQUARE] * 5, list("abcde"), [SQUARE] * 5, columns=3),
        lambda: plots.in_a_row({"one": IMAGE, "two": np.zeros((8, 9, 4), np.uint8)}),
        lambda: plots.numbers_on_pixels({"mask": SQUARE[:4, :4].astype(float), "p": np.full((4, 4), 0.25)}),
        lambda: plots.training_curves({"ours": HISTORY, "published": HISTORY}, mean_mask=0.3),
        lambda: plots.interval_dots(TABLE),
        lambda: plots.dice_by_size(PER_IMAGE),
        lambda: plots.paired_differences(DIFFERENCES, "dataset", "ensemble", "points of Dice"),
        lambda: plots.nested_squares(IMAGE, {"level 1": 5, "level 2": 12}),
        lambda: plots.channel_weights([np.linspace(0, 1, 9)], ["an image"]),
        lambda: plots.similarity_matrix([IMAGE, IMAGE], ["a square", "a star", "nothing"], np.eye(2, 3)),
        lambda: plots.probability_maps([IMAGE, IMAGE], [SQUARE, SQUARE], {"a": [SQUARE * 0.8] * 2}),
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


def test_an_outline_follows_the_mask():
    figure, axes = plots.plt.subplots()
    plots.outline(axes, SQUARE)
    (x_low, y_low), (x_high, y_high) = axes.collections[0].get_paths()[0].get_extents().get_points()
    assert (x_low, y_low, x_high, y_high) == (3.5, 3.5, 8.5, 8.5)
    plots.plt.close(figure)


def test_an_empty_mask_has_no_outline():
    figure, axes = plots.plt.subplots()
    plots.outline(axes, np.zeros((4, 4), bool))
    assert len(axes.collections) == 0
    plots.plt.close(figure)


def test_images_without_a_lesion_are_left_out_of_the_sizes():
    figure = plots.dice_by_size(PER_IMAGE)
    assert figure.axes[0].lines[0].get_xdata().tolist() == [10, 30]
    plots.plt.close(figure)


def test_a_figure_is_shown_once_with_words_for_those_who_do_not_see_it(monkeypatch):
    shown = []
    monkeypatch.setattr(plots, "display", lambda figure, metadata: shown.append(metadata))
    figure = plots.interval_dots(TABLE)
    plots.show(figure, "two dots")
    assert shown == [{"image/png": {"alt": "two dots"}}]
    assert not plots.plt.fignum_exists(figure.number)


def test_differences_of_one_dataset_stand_together_and_have_a_colour_each():
    axes = plots.paired_differences(DIFFERENCES, "dataset", "ensemble", "points of Dice").axes[0]
    dots = {tuple(line.get_xydata()[0]): line.get_color() for line in axes.lines if len(line.get_xydata()) == 1}
    assert sorted(round(y) for _, y in dots) == [0, 0, 1]
    colours = [colour for _, colour in sorted(dots.items())]  # by value: -1 of B, 2 of A, 3 of A
    assert colours[1] == colours[2] != colours[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["skin", "xray"]


def test_the_closest_caption_of_each_image_is_framed():
    cosines = np.array([[0.1, 0.7, 0.2], [0.5, -0.1, 0.4]])  # two images, three captions
    figure = plots.similarity_matrix([IMAGE, IMAGE], ["one", "two", "three"], cosines)
    axes = figure.axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    framed = [labels[round(frame.get_y() + 0.46) - 1] for frame in axes.patches]
    assert framed == ["two", "one"]
    assert [text.get_text() for text in axes.texts] == ["0.10", "0.50", "0.70", "-0.10", "0.20", "0.40"]
    plots.plt.close(figure)


def test_maps_stand_below_their_images_under_the_same_outline():
    figure = plots.probability_maps([IMAGE], [SQUARE], {"sure": [SQUARE * 0.8], "unsure": [SQUARE * 0.4]})
    *panels, scale = figure.axes
    assert [axes.get_ylabel() for axes in panels] == ["image", "sure", "unsure"]
    assert [axes.images[0].get_array().max() for axes in panels] == [90, 0.8, 0.4]
    assert [len(axes.collections) for axes in panels] == [1, 1, 1]
    assert scale.get_ylim() == (0, 1)
    plots.plt.close(figure)


def test_outlines_are_told_apart_where_there_are_two():
    one, two = plots.image_grid([IMAGE], [SQUARE], ["a"]), plots.image_grid([IMAGE], [SQUARE], ["a"], [SQUARE])
    assert not one.legends
    assert [text.get_text() for text in two.legends[0].get_texts()] == ["truth", "prediction"]
    assert len(two.axes[0].collections) == 2
    for figure in (one, two):
        plots.plt.close(figure)


def test_a_legend_of_one_thing_is_left_out():
    rows = [{"dataset": name, "what": "A", "value": 1, "low": 0, "high": 2} for name in ("x", "y")]
    for more, legend in (([], False), ([{"dataset": "x", "what": "B", "value": 1, "low": 0, "high": 2}], True)):
        figure = plots.paired_differences(pd.DataFrame(rows + more), "dataset", "what", "points")
        assert (figure.axes[0].get_legend() is not None) is legend
        plots.plt.close(figure)
