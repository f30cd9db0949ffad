"""Checks of the notebooks' exercises: they say what is wrong, never what is right.

Each takes the reader's answer. On `...` it says that there is none yet; a wrong answer is told why, and with
`strict=True`, as the solutions call it, raises WrongAnswer instead.
"""

from collections.abc import Callable

import numpy as np
import torch

from vlsm_helpers.models.unet_d import receptive_field


class WrongAnswer(Exception):
    """The answer to an exercise is wrong; the message says why."""


def check_foreground_share(answer: object, *, strict: bool = False) -> None:
    """Exercise 0.1: the share of foreground of a 4x4 mask with a 2x2 square."""
    _check_number(
        answer, 4 / 16, "count the 1s, then divide by all pixels; the answer is a fraction, not a count", strict
    )


def check_leaking_rung(answer: object, *, strict: bool = False) -> None:
    """Exercise 0.2: the first rung of the prompt ladder that needs the true mask to be written."""
    right = isinstance(answer, str) and answer.strip().lower() == "p2"
    _report(answer, right, "which is the first word that somebody without the mask could not have known?", strict)


def check_token_count(answer: object, *, strict: bool = False) -> None:
    """Exercise 1.1: the tokens of an image of 352 pixels a side in patches of 16, with the class token."""
    why = "how many patches lie side by side, how many are there in all, and which token is no patch?"
    _check_number(answer, (352 // 16) ** 2 + 1, why, strict)


def check_film(answer: object, *, strict: bool = False) -> None:
    """Exercise 1.2: `film(tokens, scale, shift)` of tokens (B, L, C), scales and shifts (B, C): one of each an image."""
    if answer is ...:
        return _report(answer, False, "", strict)
    scale, shift = torch.tensor([[1.0, 2.0, 0.0], [-1.0, 3.0, 1.0]]), torch.tensor([[0.0, 1.0, 5.0], [2.0, 0.0, 0.0]])
    for length in (4, 2):  # with as many tokens as images, a shape that does not fit is not noticed
        tokens = torch.arange(6.0 * length).reshape(2, length, 3)
        expected = torch.stack([scale[image] * tokens[image] + shift[image] for image in range(2)])
        got = _tensor(answer, tokens, scale, shift)
        if got is None or got.shape != expected.shape:
            why = (
                f"tokens {tuple(tokens.shape)} must stay {tuple(tokens.shape)}, not become {getattr(got, 'shape', got)}"
            )
            return _report(answer, False, why, strict)
        if not torch.allclose(got, expected):
            why = (
                f"every token of an image is scaled and then shifted by that image's own numbers (tried with {length})"
            )
            return _report(answer, False, why, strict)
    return _report(answer, True, "", strict)


def check_best_threshold(answer: object, *, strict: bool = False) -> None:
    """Exercise 1.3: `best_threshold(thresholds, dice)` of T thresholds and Dice (T, N): the best mean over N images."""
    if answer is ...:
        return _report(answer, False, "", strict)
    thresholds = np.array([0.2, 0.4, 0.8])
    cases = [
        ([[0.1, 0.1], [0.5, 0.6], [0.4, 0.4]], 0.4, "give the threshold itself, not its place in the list"),
        (
            [[0.5, 0.5], [0.0, 0.9], [0.1, 0.2]],
            0.2,
            "one image with a high Dice is not enough: take the mean over images",
        ),
        ([[0.1, 0.7, 0.1], [0.2, 0.1, 0.2], [0.4, 0.4, 0.4]], 0.8, "each row is a threshold, each column an image"),
    ]
    for dice, expected, why in cases:
        got = _call(answer, thresholds, np.array(dice))
        if got is None or abs(got - expected) > 1e-6:
            return _report(answer, False, f"{why}, yours gives {got}", strict)
    return _report(answer, True, "", strict)


def check_lora_parameters(answer: object, *, strict: bool = False) -> None:
    """Exercise 2.1: the parameters that LoRA of rank 8 adds to a linear layer from 768 to 768."""
    why = "two thin matrices stand beside the layer: one from 768 to the rank, one from the rank to 768, no bias"
    _check_number(answer, 2 * 8 * 768, why, strict)


def check_cached_megabytes(answer: object, *, strict: bool = False) -> None:
    """Exercise 2.2: megabytes of the features of 1000 images: three taps, 14 x 14 patches and a class token, 768 wide."""
    why = "images x taps x tokens (the class token is one, too) x width x 4 bytes, over a million"
    _check_number(answer, 1000 * 3 * (14 * 14 + 1) * 768 * 4 / 1e6, why, strict)


def check_cosine_matrix(answer: object, *, strict: bool = False) -> None:
    """Exercise 2.3: `cosine_matrix(images, captions)` of embeddings (N, D) and (M, D), on lengths that must not count."""
    if answer is ...:
        return _report(answer, False, "", strict)
    images, captions = torch.tensor([[2.0, 0.0], [0.0, 0.5]]), torch.tensor([[3.0, 4.0], [-1.0, 0.0], [0.0, 7.0]])
    got = _tensor(answer, images, captions)
    if got is None or got.shape != (2, 3):
        why = f"two images and three captions: give a tensor (2, 3), a row an image, not {getattr(got, 'shape', got)}"
    elif (got.abs() > 1 + 1e-6).any():
        why = f"a cosine lies between -1 and 1, yours go to {got.abs().max():g}: divide each embedding by its length"
    else:
        why = f"(2, 0) and (3, 4) have the cosine 0.6, (2, 0) and (-1, 0) have -1, yours are {got[0, :2].tolist()}"
    expected = torch.tensor([[0.6, -1.0, 0.0], [0.8, 0.0, 1.0]])
    right = got is not None and got.shape == expected.shape and torch.allclose(got.float(), expected, atol=1e-4)
    _report(answer, right, why, strict)


def check_neighbour_effect(answer: object, *, strict: bool = False) -> None:
    """Exercise 2.4: `neighbour_effect(model, images)`, how far an image's logits move when it has neighbours."""
    if answer is ...:
        return _report(answer, False, "", strict)
    images = torch.arange(24.0).reshape(3, 2, 2, 2)
    cases = [
        (lambda batch: 2 * batch, 0.0, "a model that looks at each image alone must give 0"),
        (lambda batch: batch + len(batch), 2.0, "compare with what the model gives for a batch of one image"),
        (lambda batch: batch - len(batch), 2.0, "logits may move down, too: take the size of the difference"),
        (lambda batch: batch + batch[:1], 16.0, "any image may move: compare all of them, not the first alone"),
    ]
    for model, expected, why in cases:
        got = _call(answer, model, images)
        if got is None or abs(got - expected) > 1e-3:
            return _report(answer, False, f"{why}, yours gives {got}", strict)
    return _report(answer, True, "", strict)


def check_shifted_dice(answer: object, *, strict: bool = False) -> None:
    """Exercise 3.1: Dice of two 2x2 squares, one pixel apart, in a 4x4 image."""
    _check_number(answer, 0.5, "twice the shared pixels, over the sum of both counts", strict)


def check_convolution_parameters(answer: object, *, strict: bool = False) -> None:
    """Exercise 3.2: the parameters of a 3x3 convolution from 8 to 16 channels, with bias."""
    _check_number(
        answer, 8 * 16 * 9 + 16, "a 3x3 kernel for each pair of channels, and a bias for each output channel", strict
    )


def check_fifth_level(answer: object, *, strict: bool = False) -> None:
    """Exercise 3.3: the receptive field of UNet-D if it had a fifth level."""
    why = "on the fifth level a step is 16 pixels: how many steps do two 3x3 convolutions and one 2x2 pooling add?"
    _check_number(answer, receptive_field(5), why, strict)


def check_soft_dice(answer: object, *, strict: bool = False) -> None:
    """Exercise 3.4: `soft_dice(probabilities, mask)` for tensors (H, W), on cases that are easily forgotten."""
    if answer is ...:
        return _report(answer, False, "", strict)
    square = torch.zeros(4, 4)
    square[1:3, 1:3] = 1
    cases = [
        (square, square, 1.0, "a perfect prediction must give 1"),
        (1 - square, square, 0.0, "a prediction that shares no pixel must give 0"),
        (torch.full((4, 4), 0.5), square, 4 / 12, "probabilities count as they are, not after a threshold"),
        (
            torch.zeros(4, 4),
            torch.zeros(4, 4),
            1.0,
            "nothing predicted where nothing is counts 1 (and must not divide by 0)",
        ),
    ]
    for probabilities, mask, expected, why in cases:
        got = _call(answer, probabilities, mask)
        if got is None or abs(got - expected) > 1e-3:
            return _report(answer, False, f"{why}, yours gives {got}", strict)
    return _report(answer, True, "", strict)


def check_fusion_parameters(answer: object, *, strict: bool = False) -> None:
    """Exercise 4.1: the parameters of a 1x1 convolution from the logits of three members to one."""
    why = "one weight for each member, the same for every pixel, and one number that is added to all"
    _check_number(answer, 3 + 1, why, strict)


def check_token_mixing(answer: object, *, strict: bool = False) -> None:
    """Exercise 4.2: the parameters of a Linear from 1 + 22 x 22 tokens to 22 x 22, the authors' adapter at 352 pixels."""
    tokens = (352 // 16) ** 2
    why = "how many patches does an image of 352 have? A weight for each pair of an incoming and an outgoing token, and biases"
    _check_number(answer, (tokens + 1) * tokens + tokens, why, strict)


def check_as_map(answer: object, *, strict: bool = False) -> None:
    """Exercise 4.3: `as_map(states)` of hidden states (B, 1 + h h, C), the class token first: a map (B, C, h, h)."""
    if answer is ...:
        return _report(answer, False, "", strict)
    expected = torch.arange(2.0 * 3 * 4 * 4).reshape(2, 3, 4, 4)
    states = torch.cat([torch.full((2, 1, 3), -1.0), expected.flatten(2).transpose(1, 2)], dim=1)
    got = _tensor(answer, states)
    if got is None or got.shape != expected.shape:
        why = f"17 tokens of 3 numbers become a map (2, 3, 4, 4), yours is {getattr(got, 'shape', got)}: the class token goes"
    elif torch.equal(got, expected.transpose(2, 3)):
        why = "your map lies on its side: patches were counted along the rows of the image, not down its columns"
    else:
        why = (
            "each channel of the map holds one number of every token; a plain reshape mixes numbers of different tokens"
        )
    right = got is not None and got.shape == expected.shape and torch.equal(got, expected)
    _report(answer, right, why, strict)


def check_depends_on_neighbours(answer: object, *, strict: bool = False) -> None:
    """Exercise 4.4: `flipped(model, image, company)`, the share of the image's pixels that company turns over (logit 0)."""
    if answer is ...:
        return _report(answer, False, "", strict)
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
        got = _call(answer, model, image, company)
        if got is None or abs(got - expected) > 1e-6:
            return _report(answer, False, f"{why}; yours gives {got}", strict)
    return _report(answer, True, "", strict)


def _call(function: Callable, *arguments: object) -> float | None:
    try:
        return float(function(*arguments))
    except (TypeError, ValueError, RuntimeError, IndexError, ZeroDivisionError):
        return None


def _tensor(function: Callable, *arguments: torch.Tensor) -> torch.Tensor | None:
    try:
        return torch.as_tensor(function(*arguments))
    except (TypeError, ValueError, RuntimeError):
        return None


def _check_number(answer: object, expected: float, why: str, strict: bool) -> None:
    right = isinstance(answer, (int, float)) and abs(answer - expected) < 1e-6 * max(1, abs(expected))
    _report(answer, right, why, strict)


def _report(answer: object, right: bool, why: str, strict: bool) -> None:
    if answer is ... and not strict:
        print("not answered yet")
    elif right:
        print("right")
    elif strict:
        raise WrongAnswer(why or "not answered")
    else:
        print(f"not yet: {why}")
