"""Every figure of the course, in one namespace: `from vlsm_helpers import plots`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "base": [
            "BLUE",
            "ORANGE",
            "GREEN",
            "RED",
            "PURPLE",
            "SKY",
            "COLOURS",
            "TRUTH",
            "PREDICTION",
            "STYLE",
            "show",
            "outline",
            "image_grid",
            "in_a_row",
            "curves_with_best",
            "numbers_on_pixels",
            "training_curves",
            "interval_dots",
            "paired_differences",
            "dice_by_size",
            "nested_squares",
            "channel_weights",
            "similarity_matrix",
            "probability_maps",
        ],
        "overlays": [
            "overlay",
            "probability_map",
        ],
        "diagrams": [
            "unet_d",
            "clipseg",
            "ensemble_a",
        ],
        "prompts": [
            "patches",
            "framed",
            "panels",
            "answers",
            "similarities",
            "film",
            "threshold_curves",
        ],
        "fusion": [
            "dice_by_weight",
            "dice_against",
            "reliability_diagrams",
            "risk_by_coverage",
        ],
        "scores": [
            "learning_curves",
            "home_and_abroad",
            "gain_by_disagreement",
            "errors_by_uncertainty",
            "intervals_by_what_varies",
        ],
    },
)
