import numpy as np

from vlsm_helpers import plots

IMAGE = np.full((16, 16, 3), 90, np.uint8)


def test_a_frame_marks_the_most_similar_caption_of_each_image():
    cosines = np.array([[0.1, 0.7, 0.2], [0.5, -0.1, 0.4]])  # two images, three captions
    axes = plots.image_text_similarity([IMAGE, IMAGE], ["one", "two", "three"], cosines).axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    framed = [labels[round(frame.get_y() + 0.46) - 1] for frame in axes.patches]
    assert framed == ["two", "one"]
    assert [text.get_text() for text in axes.texts] == ["0.10", "0.50", "0.70", "-0.10", "0.20", "0.40"]


def test_numbers_are_white_on_dark_cells_and_black_on_bright_ones():
    axes = plots.cosine_matrix(np.array([[1.0, 0.0], [0.0, -1.0]]), ["a", "b"]).axes[0]
    assert [text.get_color() for text in axes.texts] == ["white", "black", "black", "white"]


def test_scales_are_coloured_around_one_and_shifts_around_zero():
    figure = plots.film_parameters(np.array([[0.5, 1.2]]), np.array([[3.0, -1.0]]), ["polyp"])
    assert figure.axes[0].images[0].get_clim() == (0.5, 1.5)
    assert figure.axes[1].images[0].get_clim() == (-3, 3)


def test_channels_whose_scale_depends_most_on_the_prompt_come_first():
    scales, shifts = np.array([[1.0, 1, 2], [1, 9, 3]]), np.array([[0.0, 1, 2], [0, 1, 2]])
    upper, lower = (axes.images[0].get_array() for axes in plots.film_parameters(scales, shifts, ["a", "b"]).axes[:2])
    assert upper.tolist() == [[1, 2, 1], [9, 3, 1]]
    assert lower.tolist() == [[1, 2, 0], [1, 2, 0]]
