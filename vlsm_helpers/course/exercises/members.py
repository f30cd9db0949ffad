"""Checks of the exercises in chapters 2 and 3: the members one by one."""

import torch

from vlsm_helpers.course.exercises.answers import exercise, number, numbers, tensor
from vlsm_helpers.models.unet_d import receptive_field


@exercise
def check_cosine_matrix(answer: object) -> str | None:
    """Exercise 2.1: `cosine_matrix(images, captions)` of embeddings (N, D) and (M, D), on lengths that must not count."""
    images, captions = torch.tensor([[2.0, 0.0], [0.0, 0.5]]), torch.tensor([[3.0, 4.0], [-1.0, 0.0], [0.0, 7.0]])
    got = tensor(answer, images, captions)
    if got is None or got.shape != (2, 3):
        why = (
            f"two images and three captions: give a tensor (2, 3), one row per image, not {getattr(got, 'shape', got)}"
        )
    elif (got.abs() > 1 + 1e-6).any():
        why = f"a cosine lies between -1 and 1, yours go to {got.abs().max():g}: divide each embedding by its length"
    else:
        why = f"(2, 0) and (3, 4) have the cosine 0.6, (2, 0) and (-1, 0) have -1, yours are {got[0, :2].tolist()}"
    expected = torch.tensor([[0.6, -1.0, 0.0], [0.8, 0.0, 1.0]])
    right = got is not None and got.shape == expected.shape and torch.allclose(got.float(), expected, atol=1e-4)
    return None if right else why


@exercise
def check_neighbour_effect(answer: object) -> str | None:
    """Exercise 2b.1: `neighbour_effect(model, images)`, how much an image's logits change in a batch."""
    images = torch.arange(24.0).reshape(3, 2, 2, 2)
    cases = [
        (lambda batch: 2 * batch, 0.0, "a model that processes each image alone must give 0"),
        (lambda batch: batch + len(batch), 2.0, "compare with what the model gives for a batch of one image"),
        (lambda batch: batch - len(batch), 2.0, "logits may move down, too: take the size of the difference"),
        (lambda batch: batch + batch[:1], 16.0, "any image may move: compare all of them, not the first alone"),
    ]
    return numbers(answer, [(model, images, expected, why) for model, expected, why in cases])


@exercise
def check_fifth_level(answer: object) -> str | None:
    """Exercise 3.2: the receptive field of UNet-D if it had a fifth level."""
    why = "on the fifth level a step is 16 pixels: how many steps do two 3x3 convolutions and one 2x2 pooling add?"
    return number(answer, receptive_field(5), why)


@exercise
def check_soft_dice(answer: object) -> str | None:
    """Exercise 3.3: `soft_dice(probabilities, mask)` for tensors (H, W), on cases that are easily forgotten."""
    square, nothing = torch.zeros(4, 4), torch.zeros(4, 4)
    square[1:3, 1:3] = 1
    cases = [
        (square, square, 1.0, "a perfect prediction must give 1"),
        (1 - square, square, 0.0, "a prediction that shares no pixel must give 0"),
        (torch.full((4, 4), 0.5), square, 4 / 12, "probabilities count as they are, not after a threshold"),
        (nothing, nothing, 1.0, "nothing predicted where nothing is counts 1 (and must not divide by 0)"),
    ]
    return numbers(answer, cases)
