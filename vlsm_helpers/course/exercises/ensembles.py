"""Checks of the exercises in chapters 4 and 5: ensembles, hybrid and late."""

import math

import numpy as np
import torch

from vlsm_helpers.course.exercises.answers import call, exercise, number, tensor


@exercise
def check_fusion_parameters(answer: object) -> str | None:
    """Exercise 4.1: the parameters of a 1x1 convolution from the logits of three members to one."""
    why = "one weight for each member, the same for every pixel, and one number that is added to all"
    return number(answer, 3 + 1, why)


@exercise
def check_token_mixing(answer: object) -> str | None:
    """Exercise 4.2: the parameters of a Linear from 1 + 22 x 22 tokens to 22 x 22, the authors' adapter at 352 pixels."""
    tokens = (352 // 16) ** 2
    why = "how many patches does an image of 352 have? A weight for each pair of an incoming and an outgoing token, and biases"
    return number(answer, (tokens + 1) * tokens + tokens, why)


@exercise
def check_tokens_to_map(answer: object) -> str | None:
    """Exercise 4.3: `tokens_to_map(states)` of hidden states (B, 1 + h h, C), the class token first: a map (B, C, h, h)."""
    expected = torch.arange(2.0 * 3 * 4 * 4).reshape(2, 3, 4, 4)
    states = torch.cat([torch.full((2, 1, 3), -1.0), expected.flatten(2).transpose(1, 2)], dim=1)
    got = tensor(answer, states)
    if got is None or got.shape != expected.shape:
        why = f"17 tokens of 3 numbers become a map (2, 3, 4, 4), yours is {getattr(got, 'shape', got)}: the class token goes"
    elif torch.equal(got, expected.transpose(2, 3)):
        why = "your map is transposed: patches are counted along the rows of the image, not down its columns"
    else:
        why = (
            "each channel of the map holds one number of every token; a plain reshape mixes numbers of different tokens"
        )
    right = got is not None and got.shape == expected.shape and torch.equal(got, expected)
    return None if right else why


@exercise
def check_depends_on_neighbours(answer: object) -> str | None:
    """Exercise 4.4: `flipped(model, image, neighbours)`: the share of pixels whose label (logit > 0) flips in a batch."""
    image = torch.tensor([[[3.0, -1.0], [-2.0, 5.0]]])
    neighbours = torch.tensor([[[[9.0, 9.0], [9.0, 9.0]]], [[[-7.0, 0.0], [0.0, 0.0]]]])
    cases = [
        (lambda batch: batch, 0.0, "a model that processes every image separately flips nothing"),
        (
            lambda batch: batch + 1.5 * (len(batch) > 1),
            0.25,
            "compare the image alone with the image as the first of the batch",
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
            "count only the pixels of the first image, not those of its neighbours",
        ),
    ]
    for model, expected, why in cases:
        got = call(answer, model, image, neighbours)
        if got is None or abs(got - expected) > 1e-6:
            return f"{why}; yours gives {got}"
    return None


@exercise
def check_weighted_probability(answer: object) -> str | None:
    """Exercise 5.1: 0.9 with the weight 0.25 and 0.2 with the rest."""
    why = "the second member has the weight that is left to 1; multiply each probability by its weight and add"
    return number(answer, 0.25 * 0.9 + 0.75 * 0.2, why)


@exercise
def check_simplex_points(answer: object) -> str | None:
    """Exercise 5.2: the weights of three members in steps of 0.1 that sum to one."""
    why = "the third weight follows from the first two, and these two may not exceed 1 together"
    return number(answer, math.comb(10 + 2, 2), why)


@exercise
def check_majority_vote(answer: object) -> str | None:
    """Exercise 5.3: `vote(logits)` of logits (M, H, W): 1 where more than half of the members predict foreground."""
    cases = [
        ([5.0, 4.0, -9.0], 1.0, "each member has one vote, however confident it is: the mean of logits is no vote"),
        ([5.0, -0.1, -0.1], 0.0, "one confident member against two is no majority"),
        ([3.0, -3.0], 0.0, "of two that disagree, neither has more than half"),
        ([0.4, 0.4, -8.0], 1.0, "a logit of 0.4 is a yes: its probability is above one half"),
    ]
    for votes, expected, why in cases:
        got = tensor(answer, torch.tensor(votes)[:, None, None].expand(-1, 2, 2))
        if got is None or got.shape != (2, 2) or not (got.float() == expected).all():
            shown = getattr(got, "shape", got) if got is None or got.shape != (2, 2) else got.float()[0, 0].item()
            return f"{why}; of the logits {votes} yours gives {shown}"
    return None


@exercise
def check_image_oracle(answer: object) -> str | None:
    """Exercise 5.4: `image_oracle(dice)` of Dice (M, N): the mean over N images of the best of M members."""
    cases = [
        (
            [[0.2, 0.8], [0.6, 0.0]],
            0.7,
            "choose separately for every image: the best of the means is the best single member",
        ),
        ([[0.2, 0.8, 0.5]], 0.5, "one row per member, one column per image"),
    ]
    for dice, expected, why in cases:
        got = call(answer, np.array(dice))
        if got is None or abs(got - expected) > 1e-6:
            return f"{why}; yours gives {got}"
    return None
