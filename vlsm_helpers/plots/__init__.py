"""All figures, in one namespace: `from vlsm_helpers import plots`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "base": ["GROUND_TRUTH", "PREDICTION", "COLOURS", "STYLE", "outline", "show", "styled"],
        "curves": ["channel_weights", "curves", "in_and_out_of_domain", "learning_curves", "training_curves"],
        "diagrams": ["clipseg_diagram", "ensemble_a_diagram", "unet_d_diagram"],
        "heatmaps": ["cosine_matrix", "film_parameters", "image_text_similarity", "pixel_values"],
        "images": [
            "frame_patch",
            "image_grid",
            "image_patches",
            "image_row",
            "map_grid",
            "probability_maps",
            "prompt_predictions",
            "receptive_fields",
        ],
        "overlays": ["overlay", "probability_overlay", "simplex_map"],
        "scores": [
            "dice_by_size",
            "dice_scatter",
            "difference_forest",
            "errors_by_uncertainty",
            "gain_by_disagreement",
            "reliability_diagrams",
            "score_forest",
        ],
    },
)
