import inspect

import numpy as np
import pytest
import scipy.stats
import torch

from vlsm_helpers.course import exercises

RIGHT = {
    "check_foreground_share": 0.25,
    "check_leaking_rung": "p2",
    "check_token_count": 485,
    "check_film": lambda t, a, b: a[:, None] * t + b[:, None],
    "check_best_threshold": lambda t, d: t[d.mean(axis=1).argmax()],
    "check_lora_parameters": 12288,
    "check_cached_megabytes": 1815.552,
    "check_cosine_matrix": lambda i, c: torch.cosine_similarity(i[:, None], c[None], dim=-1),
    "check_neighbour_effect": lambda m, i: (m(i) - torch.cat([m(one[None]) for one in i])).abs().max(),
    "check_shifted_dice": 0.5,
    "check_convolution_parameters": 1168,
    "check_fifth_level": 156,
    "check_soft_dice": lambda p, m: (2 * (p * m).sum() + 1e-6) / (p.sum() + m.sum() + 1e-6),
    "check_fusion_parameters": 4,
    "check_token_mixing": 485 * 484 + 484,
    "check_tokens_to_map": lambda s: s[:, 1:].transpose(1, 2).unflatten(2, (4, 4)),
    "check_depends_on_neighbours": lambda m, i, c: (
        ((m(torch.cat([i[None], c]))[:1] > 0) != (m(i[None]) > 0)).float().mean()
    ),
    "check_weighted_probability": 0.375,
    "check_simplex_points": 66,
    "check_majority_vote": lambda s: (s > 0).float().mean(0) > 0.5,
    "check_image_oracle": lambda d: d.max(axis=0).mean(),
    "check_images_needed": lambda d, w: int(np.ceil((1.96 * d.std(ddof=1) / w) ** 2)),
    "check_fair_gain": lambda v, t: (t[-1] - t[v[:-1].mean(axis=1).argmax()]).mean(),
    "check_scored_by_all": lambda rows: rows[rows.groupby("id")["dice"].transform("count") == 4],
    "check_patient_group": r"^(P\d+)_",
    "check_entropy_bits": lambda p: scipy.stats.entropy([p, 1 - p], base=2),
    "check_referred": lambda d, s: np.argsort(-d)[: round(s * len(d))],
}
WRONG = {
    "check_foreground_share": 4,
    "check_leaking_rung": "p6",
    "check_token_count": 484,
    "check_film": lambda t, a, b: a * t + b,
    "check_best_threshold": lambda t, d: t[d.max(axis=1).argmax()],
    "check_lora_parameters": 8 * 768,
    "check_cached_megabytes": 1806.336,
    "check_cosine_matrix": lambda i, c: i @ c.T,
    "check_neighbour_effect": lambda m, i: (m(i)[:1] - m(i[:1])).abs().max(),
    "check_shifted_dice": 1 / 3,
    "check_convolution_parameters": 1152,
    "check_fifth_level": 76,
    "check_soft_dice": lambda p, m: 2 * ((p > 0.5) * m).sum() / ((p > 0.5).sum() + m.sum()),
    "check_fusion_parameters": 3,
    "check_token_mixing": 485 * 484,
    "check_tokens_to_map": lambda s: s[:, 1:].reshape(2, 3, 4, 4),
    "check_depends_on_neighbours": lambda m, i, c: (m(torch.cat([i[None], c]))[:1] != m(i[None])).float().mean(),
    "check_weighted_probability": 0.55,
    "check_simplex_points": 121,
    "check_majority_vote": lambda s: s.mean(0) > 0,
    "check_image_oracle": lambda d: d.mean(axis=1).max(),
    "check_images_needed": lambda d, w: int(np.ceil(1.96 * d.std() / w)),
    "check_fair_gain": lambda v, t: (t[-1] - t[:-1].max(axis=0)).mean(),
    "check_scored_by_all": lambda rows: rows.dropna(),
    "check_patient_group": r"^(P\d)",
    "check_entropy_bits": lambda p: scipy.stats.entropy([p, 1 - p]),
    "check_referred": lambda d, s: np.argsort(-d)[-round(s * len(d)) :],
}
CHECKS = [name for name, _ in inspect.getmembers(exercises, inspect.isfunction) if name.startswith("check_")]


def test_every_check_is_tested():
    assert set(CHECKS) == set(RIGHT) == set(WRONG)


@pytest.mark.parametrize("name", CHECKS)
def test_a_right_answer(name, capsys):
    getattr(exercises, name)(RIGHT[name], strict=True)
    assert capsys.readouterr().out == "right\n"


@pytest.mark.parametrize("name", CHECKS)
def test_a_wrong_answer_is_told_why(name, capsys):
    getattr(exercises, name)(WRONG[name])
    assert capsys.readouterr().out.startswith("not yet: ")
    with pytest.raises(exercises.WrongAnswer, match=r"\w+"):
        getattr(exercises, name)(WRONG[name], strict=True)


@pytest.mark.parametrize("name", CHECKS)
def test_no_answer_yet(name, capsys):
    getattr(exercises, name)(...)
    assert capsys.readouterr().out == "not answered yet\n"
    with pytest.raises(exercises.WrongAnswer):
        getattr(exercises, name)(..., strict=True)


def test_a_function_that_fails_is_a_wrong_answer(capsys):
    exercises.check_soft_dice(lambda: torch.zeros(1))
    assert "yours gives None" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "answer", "why"),
    [
        ("check_cosine_matrix", lambda i, c: torch.zeros(2), r"give a tensor \(2, 3\).*not torch.Size\(\[2\]\)"),
        ("check_cosine_matrix", lambda i, c: i @ c, r"give a tensor \(2, 3\).*not None"),
        ("check_cosine_matrix", lambda i, c: i @ c.T, "lies between -1 and 1, yours go to 6"),
        ("check_cosine_matrix", lambda i, c: torch.softmax(i @ c.T, -1), "have the cosine 0.6"),
        ("check_neighbour_effect", lambda m, i: (m(i) - i).abs().max(), "alone must give 0"),
        ("check_neighbour_effect", lambda m, i: (m(i)[0] - m(i[:1])[0]).abs().max(), "not the first alone"),
        ("check_neighbour_effect", lambda m, i: (m(i) - torch.cat([m(x[None]) for x in i])).max(), "down, too"),
        ("check_neighbour_effect", lambda m: 0, "yours gives None"),
        ("check_images_needed", lambda d, w: (1.96 * d.std() / w) ** 2, "round up"),
        ("check_images_needed", lambda d, w: np.ceil((1.96 / w) ** 2 * (d**2).mean()), "mean of the differences"),
        ("check_scored_by_all", lambda rows: rows[rows.groupby("id")["id"].transform("size") == 4], "NaN"),
        ("check_scored_by_all", lambda rows: rows.pivot(columns="id"), "fails on a table"),
        ("check_entropy_bits", lambda p: -(p * np.log2(p) + (1 - p) * np.log2(1 - p)), "not NaN"),
        ("check_entropy_bits", lambda p: -2 * p * np.log2(p), "both outcomes"),
    ],
)
def test_a_check_says_which_mistake_it_was(name, answer, why):
    with pytest.raises(exercises.WrongAnswer, match=why):
        getattr(exercises, name)(answer, strict=True)


@pytest.mark.parametrize(
    ("film", "why"),
    [
        (lambda tokens, scale, shift: scale[:1] * tokens + shift[:1], "that image's own numbers"),
        (lambda tokens, scale, shift: scale[:, None] * (tokens + shift[:, None]), "scaled and then shifted"),
        (lambda tokens, scale, shift: tokens[0], "must stay"),
    ],
)
def test_film_is_told_what_it_does_wrong(film, why, capsys):
    exercises.check_film(film)
    assert why in capsys.readouterr().out


def test_a_index_in_the_list_is_no_threshold(capsys):
    exercises.check_best_threshold(lambda thresholds, dice: dice.mean(axis=1).argmax())
    assert "not its index in the list" in capsys.readouterr().out


def test_an_answer_that_looks_beyond_the_list_is_a_wrong_one(capsys):
    exercises.check_best_threshold(lambda thresholds, dice: thresholds[dice.argmax()])
    assert "yours gives None" in capsys.readouterr().out
