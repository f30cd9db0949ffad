"""Checks of the notebooks' exercises: they say what is wrong, never what is right.

Each takes the reader's answer. On `...` it says that there is none yet; a wrong answer is told why, and with
`strict=True`, as the solutions call it, raises WrongAnswer instead.
"""

from vlsm_helpers.course.exercises.answers import WrongAnswer
from vlsm_helpers.course.exercises.ensembles import (
    check_depends_on_neighbours,
    check_fusion_parameters,
    check_image_oracle,
    check_majority_vote,
    check_simplex_points,
    check_token_mixing,
    check_tokens_to_map,
    check_weighted_probability,
)
from vlsm_helpers.course.exercises.first_steps import (
    check_dice,
    check_film,
    check_label_map,
    check_leaking_level,
    check_prompt_effect,
    check_thumbnail_correlation,
)
from vlsm_helpers.course.exercises.members import (
    check_cached_megabytes,
    check_convolution_parameters,
    check_cosine_matrix,
    check_fifth_level,
    check_lora_parameters,
    check_neighbour_effect,
    check_shifted_dice,
    check_soft_dice,
)
from vlsm_helpers.course.exercises.own_data import (
    check_coin_bits,
    check_fair_gain,
    check_interval_width,
    check_needed_images,
    check_patient_group,
    check_referred,
)

__all__ = [
    "WrongAnswer",
    "check_cached_megabytes",
    "check_coin_bits",
    "check_convolution_parameters",
    "check_cosine_matrix",
    "check_depends_on_neighbours",
    "check_dice",
    "check_fair_gain",
    "check_fifth_level",
    "check_film",
    "check_fusion_parameters",
    "check_image_oracle",
    "check_interval_width",
    "check_label_map",
    "check_leaking_level",
    "check_lora_parameters",
    "check_majority_vote",
    "check_needed_images",
    "check_neighbour_effect",
    "check_patient_group",
    "check_prompt_effect",
    "check_referred",
    "check_shifted_dice",
    "check_simplex_points",
    "check_soft_dice",
    "check_thumbnail_correlation",
    "check_token_mixing",
    "check_tokens_to_map",
    "check_weighted_probability",
]
