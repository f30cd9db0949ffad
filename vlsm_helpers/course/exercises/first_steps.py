"""Checks of the exercises in chapters 0 and 1: masks, prompts, and how a prompt conditions a decoder."""

import numpy as np
import torch

from vlsm_helpers.course.exercises.answers import call, exercise, numbers, tensor
from vlsm_helpers.models.segmenter import as_prompts


@exercise
def check_dice(answer: object) -> str | None:
    """Exercise 0.1: `dice(prediction, ground_truth)` of boolean arrays (H, W), with the rule for an empty ground truth."""
    square, other, empty = (np.zeros((4, 4), bool) for _ in range(3))
    square[1:3, 1:3] = other[1:3, 2:4] = True
    cases = [
        (square, square, 1.0, "a perfect prediction scores 1"),
        (other, square, 0.5, "two squares of four pixels share two of them: 2 * 2 / (4 + 4)"),
        (square | other, square, 0.8, "the denominator adds the pixels of both masks, six and four here"),
        (square, empty, 0.0, "where the ground truth is empty, any foreground pixel makes it 0"),
        (empty, square, 0.0, "an empty prediction of a target scores 0"),
        (empty, empty, 1.0, "an empty prediction of an empty ground truth scores 1 (and must not divide by 0)"),
    ]
    return numbers(answer, cases)


@exercise
def check_thumbnail_correlation(answer: object) -> str | None:
    """Exercise 0.2: `thumbnail_correlation(a, b)` of grey images, float (H, W): Pearson's, and 0 for a uniform image."""
    image = np.array([[0.0, 1.0, 2.0], [3.0, 5.0, 1.0]])
    turned = np.array([[0.0, 2.0, 1.0], [1.0, 5.0, 3.0]])
    cases = [
        (image, image, 1.0, "an image correlates with itself by 1"),
        (image, image + 7, 1.0, "a brighter copy is still a copy: subtract each image's mean"),
        (image, 3 * image + 1, 1.0, "more contrast changes nothing: divide by the length of both"),
        (image, -image, -1.0, "a negative correlates by -1: do not take the absolute value"),
        (image, turned, 11 / 16, "the two images of this case correlate by 0.6875"),
        (image, np.full((2, 3), 4.0), 0.0, "a uniform image correlates with nothing (and must not divide by 0)"),
    ]
    return numbers(answer, cases)


@exercise
def check_leaking_level(answer: object) -> str | None:
    """Exercise 0.3: the first level of the prompt ladder that needs the ground truth to be written."""
    right = isinstance(answer, str) and answer.strip().lower() == "p2"
    why = "which is the first word that nobody could know who has only the order for the examination?"
    return None if right else why


@exercise
def check_film(answer: object) -> str | None:
    """Exercise 1.1: `film(tokens, scale, shift)` of tokens (B, L, C), scales and shifts (B, C): one of each per image."""
    scale, shift = torch.tensor([[1.0, 2.0, 0.0], [-1.0, 3.0, 1.0]]), torch.tensor([[0.0, 1.0, 5.0], [2.0, 0.0, 0.0]])
    for length in (4, 2):  # with as many tokens as images, broadcasting over the wrong axis raises no error
        tokens = torch.arange(6.0 * length).reshape(2, length, 3)
        expected = torch.stack([scale[image] * tokens[image] + shift[image] for image in range(2)])
        got = tensor(answer, tokens, scale, shift)
        if got is None or got.shape != expected.shape:
            shape = tuple(tokens.shape)
            return f"tokens {shape} must stay {shape}, not become {getattr(got, 'shape', got)}"
        if not torch.allclose(got, expected):
            return f"every token of an image is scaled, then shifted, by that image's own values (tried with {length})"
    return None


@exercise
def check_label_map(answer: object) -> str | None:
    """Exercise 1.2: `label_map(logits)` of logits (P, H, W) for P prompts: the number of the winning prompt, or 0."""
    logits = torch.tensor([[[3.0, -1.0, 2.0], [-4.0, 0.5, 1.0]], [[1.0, -2.0, 5.0], [-3.0, 0.2, 4.0]]])
    expected = torch.tensor([[1, 0, 2], [0, 1, 2]])
    got = tensor(answer, logits)
    if got is None or got.shape != expected.shape:
        why = f"logits (2, 2, 3) give labels (2, 3), not {getattr(got, 'shape', got)}"
    elif (got == 0).sum() == 0:
        why = "where every prompt has a probability below 0.5, a logit below 0, the label is 0: background"
    elif (got == 0).sum() > 2:
        why = "0 is kept for the background: the first prompt has the label 1"
    else:
        why = "where several prompts are above 0.5, the one with the highest logit wins"
    right = got is not None and got.shape == expected.shape and bool((got == expected).all())
    if right:  # the same for another number of prompts
        more = tensor(answer, torch.cat([logits, logits[:1] + 10]))
        right = more is not None and bool((more == 3).all())
        why = "it must work for any number of prompts, not for two alone"
    return None if right else why


@exercise
def check_prompt_effect(answer: object) -> str | None:
    """Exercise 1.3: `prompt_effect(segmenter, image, one, other)`, the share of pixels whose label the prompt changes."""
    image = torch.linspace(0, 1, 12).reshape(3, 2, 2)

    def made(logits_of):  # a segmenter that insists on the one call: images (B, 3, H, W)
        def segmenter(images, prompts):
            if images.ndim != 4:
                raise ValueError("images must be (B, 3, H, W)")
            return torch.stack([logits_of(word) for word in as_prompts(prompts, len(images))])

        return segmenter

    base = torch.tensor([[[1.0, -1.0], [2.0, -2.0]]])
    cases = [
        (lambda word: base, 0.0, "a model that ignores the prompt must give 0"),
        (lambda word: base * (1 + (word == "b")), 0.0, "logits that keep their sign keep the label: compare masks"),
        (lambda word: base + 1.5 * (word == "b"), 0.25, "one pixel of four changes its label"),
        (lambda word: base - 3 * (word == "b"), 0.5, "a pixel that leaves the mask counts, too"),
    ]
    for logits_of, expected, why in cases:
        got = call(answer, made(logits_of), image, "a", "b")
        if got is None or abs(got - expected) > 1e-3:
            hint = " (the segmenter takes images (B, 3, H, W): `image[None]`)" if got is None else ""
            return f"{why}, yours gives {got}{hint}"
    return None
