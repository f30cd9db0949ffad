import numpy as np

from vlsm_helpers import plots

IMAGE = np.full((32, 32, 3), 90, np.uint8)
SQUARE = np.zeros((32, 32), bool)
SQUARE[8:18, 8:18] = True
GUESS = np.where(SQUARE, 0.8, 0.1)


def test_a_legend_names_the_outlines_where_there_are_two():
    one, two = plots.image_grid([IMAGE], [SQUARE], ["a"]), plots.image_grid([IMAGE], [SQUARE], ["a"], [SQUARE])
    assert not one.legends
    assert [text.get_text() for text in two.legends[0].get_texts()] == ["ground truth", "prediction"]
    assert len(two.axes[0].collections) == 2


def test_an_image_is_cut_at_the_borders_of_its_patches():
    image = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)
    cut = plots.image_patches(image, 8).axes[1].images[0].get_array()
    assert cut.shape == (17, 17, 3)
    assert (cut[:8, 9:] == image[:8, 8:]).all()
    assert (cut[8] == 255).all()


def test_a_prediction_is_outlined_above_the_threshold():
    for threshold, outlines in ((0.5, 2), (0.9, 1)):  # ground truth and prediction, then the ground truth alone
        figure = plots.prompt_predictions([IMAGE], [SQUARE], {"": [GUESS]}, threshold=threshold)
        assert [axes.get_title() for axes in figure.axes] == ["image", "empty prompt"]
        assert [len(axes.collections) for axes in figure.axes] == [1, outlines]


def test_a_prediction_is_tinted_and_the_rest_of_the_image_is_not():
    figure = plots.image_grid([IMAGE], [SQUARE], ["a"], [SQUARE])
    image, tint = (shown.get_array() for shown in figure.axes[0].images)
    assert (np.asarray(image) == IMAGE).all()
    assert ((np.asarray(tint)[..., 3] > 0) == SQUARE).all()


def test_maps_stand_below_their_images_with_the_same_outline():
    maps = {"confident": [SQUARE * 0.8], "uncertain": [SQUARE * 0.4]}
    *panels, bar = plots.probability_maps([IMAGE], [SQUARE], maps, quantity="uncertainty (bits)").axes
    assert [axes.get_ylabel() for axes in panels] == ["image", "confident", "uncertain"]
    assert [axes.images[0].get_array().max() for axes in panels] == [90, 0.8, 0.4]
    assert [len(axes.collections) for axes in panels] == [1, 1, 1]
    assert (bar.get_ylim(), bar.get_ylabel()) == ((0, 1), "uncertainty (bits)")


def test_titles_stand_above_the_first_row_alone():
    row = {"image": IMAGE, "probability": GUESS}
    *panels, bar = plots.map_grid({"polyp": row, "bump": row}, "probability").axes
    assert [axes.get_title() for axes in panels] == ["image", "probability", "", ""]
    assert [axes.get_ylabel() for axes in panels] == ["polyp", "", "bump", ""]
    assert bar.get_ylabel() == "probability"


def test_a_frame_leaves_the_image_and_the_inside_of_the_patch():
    framed = plots.frame_patch(IMAGE, (1, 2), 8)
    assert (IMAGE == 90).all()
    assert np.argwhere(framed[..., 0] == 255).min(axis=0).tolist() == [8, 16]
    assert (framed[..., 0] == 255).sum() == 64 - 36
