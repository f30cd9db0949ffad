"""Checks of the exercises in chapters 4 and 5: ensembles, hybrid and late."""

import math

import numpy as np
import torch

from vlsm_helpers.course.exercises.answers import call, check_number, report, tensor


def check_fusion_parameters(answer: object, *, strict: bool = False) -> None:
    """Exercise 4.1: the parameters of a 1x1 convolution from the logits of three members to one."""
    why = "one weight for each member, the same for every pixel, and one number that is added to all"
    check_number(answer, 3 + 1, why, strict)


def check_token_mixing(answer: object, *, strict: bool = False) -> None:
    """Exercise 4.2: the parameters of a Linear from 1 + 22 x 22 tokens to 22 x 22, the authors' adapter at 352 pixels."""
    tokens = (352 // 16) ** 2
    why = "how many patches does an image of 352 have? A weight for each pair of an incoming and an outgoing token, and biases"
    check_number(answer, (tokens + 1) * tokens + tokens, why, strict)


def check_tokens_to_map(answer: object, *, strict: bool = False) -> None:
    """Exercise 4.3: `as_map(states)` of hidden states (B, 1 + h h, C), the class token first: a map (B, C, h, h)."""
    if answer is ...:
        return report(answer, False, "", strict)
    expected = torch.arange(2.0 * 3 * 4 * 4).reshape(2, 3, 4, 4)
    states = torch.cat([torch.full((2, 1, 3), -1.0), expected.flatten(2).transpose(1, 2)], dim=1)
    got = tensor(answer, states)
    if got is None or got.shape != expected.shape:
        why = f"17 tokens of 3 numbers become a map (2, 3, 4, 4), yours is {getattr(got, 'shape', got)}: the class token goes"
    elif torch.equal(got, expected.transpose(2, 3)):
        why = "your map lies on its side: patches were counted along the rows of the image, not down its columns"
    else:
        why = (
            "each channel of the map holds one number of every token; a plain reshape mixes numbers of different tokens"
        )
    right = got is not None and got.shape == expected.shape and torch.equal(got, expected)
    report(answer, right, why, strict)


def check_depends_on_neighbours(answer: object, *, strict: bool = False) -> None:
    """Exercise 4.4: `flipped(model, image, company)`, the share of the image's pixels that company turns over (logit 0)."""
    if answer is ...:
        return report(answer, False, "", strict)
    image = torch.tensor([[[3.0, -1.0], [-2.0, 5.0]]])
    company = torch.tensor([[[[9.0, 9.0], [9.0, 9.0]]], [[[-7.0, 0.0], [0.0, 0.0]]]])
    cases = [
        (lambda batch: batch, 0.0, "a model that sees every image by itself turns nothing over"),
        (
            lambda batch: batch + 1.5 * (len(batch) > 1),
            0.25,
            "compare the image alone with the image at the head of its company",
        ),
        (
            lambda batch: batch * len(batch),
            0.0,
            "logits may grow and still mean the same mask: compare what is above 0",
        ),
        (lambda batch: batch * (1 - 2 * (len(batch) > 1)), 1.0, "give a share of all pixels, from 0 to 1"),
        (
            lambda batch: batch + batch.amax() - 5.0,
            0.5,
            "count only the pixels of the first image, not those of its company",
        ),
    ]
    for model, expected, why in cases:
        got = call(answer, model, image, company)
        if got is None or abs(got - expected) > 1e-6:
            return report(answer, False, f"{why}; yours gives {got}", strict)
    return report(answer, True, "", strict)


def check_weighted_probability(answer: object, *, strict: bool = False) -> None:
    """Exercise 5.1: 0.9 with the weight 0.25 and 0.2 with the rest."""
    why = "the second member has the weight that is left to 1; multiply each probability by its weight and add"
    check_number(answer, 0.25 * 0.9 + 0.75 * 0.2, why, strict)


def check_simplex_points(answer: object, *, strict: bool = False) -> None:
    """Exercise 5.2: the weights of three members in steps of 0.1 that sum to one."""
    why = "the third weight follows from the first two, and these two may not exceed 1 together"
    check_number(answer, math.comb(10 + 2, 2), why, strict)


def check_majority_vote(answer: object, *, strict: bool = False) -> None:
    """Exercise 5.3: `vote(logits)` of logits (M, H, W): what more than half of the members mark."""
    if answer is ...:
        return report(answer, False, "", strict)
    cases = [
        ([5.0, 4.0, -9.0], 1.0, "each member has one vote, however sure it is: the mean of logits is no vote"),
        ([5.0, -0.1, -0.1], 0.0, "one sure member against two is no majority"),
        ([3.0, -3.0], 0.0, "of two that disagree, neither has more than half"),
        ([0.4, 0.4, -8.0], 1.0, "a logit of 0.4 is a yes: its probability is above one half"),
    ]
    for votes, expected, why in cases:
        got = tensor(answer, torch.tensor(votes)[:, None, None].expand(-1, 2, 2))
        if got is None or got.shape != (2, 2) or not (got.float() == expected).all():
            shown = getattr(got, "shape", got) if got is None or got.shape != (2, 2) else got.float()[0, 0].item()
            return report(answer, False, f"{why}; of the logits {votes} yours gives {shown}", strict)
    return report(answer, True, "", strict)


def check_image_oracle(answer: object, *, strict: bool = False) -> None:
    """Exercise 5.4: `image_oracle(dice)` of Dice (M, N): the mean over N images of the best of M members."""
    if answer is ...:
        return report(answer, False, "", strict)
    cases = [
        ([[0.2, 0.8], [0.6, 0.0]], 0.7, "choose anew for every image: the best of the means is the best single member"),
        ([[0.2, 0.8, 0.5]], 0.5, "a row is a member, a column an image"),
    ]
    for dice, expected, why in cases:
        got = call(answer, np.array(dice))
        if got is None or abs(got - expected) > 1e-6:
            return report(answer, False, f"{why}; yours gives {got}", strict)
    return report(answer, True, "", strict)
