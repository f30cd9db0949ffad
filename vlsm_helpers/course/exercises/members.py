"""Checks of the exercises in chapters 0 to 3: images, prompts, and the members one by one."""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn.functional import normalize

from vlsm_helpers.course.exercises.answers import call, check_number, report, tensor
from vlsm_helpers.models.unet_d import receptive_field


def check_foreground_share(answer: object, *, strict: bool = False) -> None:
    """Exercise 0.1: the share of foreground of a 4x4 mask with a 2x2 square."""
    check_number(
        answer, 4 / 16, "count the 1s, then divide by all pixels; the answer is a fraction, not a count", strict
    )


def check_leaking_rung(answer: object, *, strict: bool = False) -> None:
    """Exercise 0.2: the first rung of the prompt ladder that needs the true mask to be written."""
    right = isinstance(answer, str) and answer.strip().lower() == "p2"
    report(answer, right, "which is the first word that somebody without the mask could not have known?", strict)


def check_token_count(answer: object, *, strict: bool = False) -> None:
    """Exercise 1.1: the tokens of an image of 352 pixels a side in patches of 16, with the class token."""
    why = "how many patches lie side by side, how many are there in all, and which token is no patch?"
    check_number(answer, (352 // 16) ** 2 + 1, why, strict)


def check_film(answer: object, *, strict: bool = False) -> None:
    """Exercise 1.2: `film(tokens, scale, shift)` of tokens (B, L, C), scales and shifts (B, C): one of each an image."""
    if answer is ...:
        return report(answer, False, "", strict)
    scale, shift = torch.tensor([[1.0, 2.0, 0.0], [-1.0, 3.0, 1.0]]), torch.tensor([[0.0, 1.0, 5.0], [2.0, 0.0, 0.0]])
    for length in (4, 2):  # with as many tokens as images, a shape that does not fit is not noticed
        tokens = torch.arange(6.0 * length).reshape(2, length, 3)
        expected = torch.stack([scale[image] * tokens[image] + shift[image] for image in range(2)])
        got = tensor(answer, tokens, scale, shift)
        if got is None or got.shape != expected.shape:
            why = (
                f"tokens {tuple(tokens.shape)} must stay {tuple(tokens.shape)}, not become {getattr(got, 'shape', got)}"
            )
            return report(answer, False, why, strict)
        if not torch.allclose(got, expected):
            why = (
                f"every token of an image is scaled and then shifted by that image's own numbers (tried with {length})"
            )
            return report(answer, False, why, strict)
    return report(answer, True, "", strict)


def check_best_threshold(answer: object, *, strict: bool = False) -> None:
    """Exercise 1.3: `best_threshold(thresholds, dice)` of T thresholds and Dice (T, N): the best mean over N images."""
    if answer is ...:
        return report(answer, False, "", strict)
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
        got = call(answer, thresholds, np.array(dice))
        if got is None or abs(got - expected) > 1e-6:
            return report(answer, False, f"{why}, yours gives {got}", strict)
    return report(answer, True, "", strict)


def check_cosine_matrix(answer: object, *, strict: bool = False) -> None:
    """Exercise 2.1: `cosine_matrix(images, captions)` of embeddings (N, D) and (M, D), on lengths that must not count."""
    if answer is ...:
        return report(answer, False, "", strict)
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
    report(answer, right, why, strict)


def check_neighbour_effect(answer: object, *, strict: bool = False) -> None:
    """Exercise 2b.1: `neighbour_effect(model, images)`, how much an image's logits change in a batch."""
    if answer is ...:
        return report(answer, False, "", strict)
    images = torch.arange(24.0).reshape(3, 2, 2, 2)
    cases = [
        (lambda batch: 2 * batch, 0.0, "a model that treats each image separately must give 0"),
        (lambda batch: batch + len(batch), 2.0, "compare with what the model gives for a batch of one image"),
        (lambda batch: batch - len(batch), 2.0, "logits may move down, too: take the size of the difference"),
        (lambda batch: batch + batch[:1], 16.0, "any image may move: compare all of them, not the first alone"),
    ]
    for model, expected, why in cases:
        got = call(answer, model, images)
        if got is None or abs(got - expected) > 1e-3:
            return report(answer, False, f"{why}, yours gives {got}", strict)
    return report(answer, True, "", strict)


def check_fifth_level(answer: object, *, strict: bool = False) -> None:
    """Exercise 3.2: the receptive field of UNet-D if it had a fifth level."""
    why = "on the fifth level a step is 16 pixels: how many steps do two 3x3 convolutions and one 2x2 pooling add?"
    check_number(answer, receptive_field(5), why, strict)


def check_soft_dice(answer: object, *, strict: bool = False) -> None:
    """Exercise 3.3: `soft_dice(probabilities, mask)` for tensors (H, W), on cases that are easily forgotten."""
    if answer is ...:
        return report(answer, False, "", strict)
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
        got = call(answer, probabilities, mask)
        if got is None or abs(got - expected) > 1e-3:
            return report(answer, False, f"{why}, yours gives {got}", strict)
    return report(answer, True, "", strict)


def check_shared_info_nce(answer: object, *, strict: bool = False) -> None:
    """Exercise 2.2: `shared_info_nce(images, texts, scale, captions)`: InfoNCE whose targets are shared by equal captions."""
    if answer is ...:
        return report(answer, False, "", strict)
    images, texts = (normalize(torch.randn(4, 3, generator=torch.manual_seed(n)), dim=-1) for n in (0, 1))
    cases = [
        (["a", "b", "c", "d"], 4.0, "where all captions differ it must give what `info_nce` gives"),
        (["a", "a", "a", "a"], 0.0, "at scale 0 all logits are equal: the loss is log(4), whatever the captions"),
        (
            ["no tumor", "a", "no tumor", "b"],
            4.0,
            "two equal captions share the target: one half each, in both directions",
        ),
    ]
    for captions, scale, why in cases:
        got, expected = call(answer, images, texts, scale, captions), _shared_info_nce(images, texts, scale, captions)
        if got is None or abs(got - expected) > 1e-4:
            return report(answer, False, f"{why}; the loss is {expected:.4f}, yours is {got}", strict)
    return report(answer, True, "", strict)


def _shared_info_nce(images: torch.Tensor, texts: torch.Tensor, scale: float, captions: list[str]) -> float:
    logits = scale * images @ texts.T
    equal = torch.tensor([[float(one == other) for other in captions] for one in captions])
    target = equal / equal.sum(dim=1, keepdim=True)
    losses = [-(target * each.log_softmax(dim=1)).sum(dim=1).mean() for each in (logits, logits.T)]
    return float(sum(losses) / 2)


def check_lora_linear(answer: object, *, strict: bool = False) -> None:
    """Exercise 2.3: `LoRALinear(linear, rank, alpha)`, a module that adds alpha / rank * B A to a frozen linear layer."""
    if answer is ...:
        return report(answer, False, "", strict)
    why = _lora_problem(answer)
    report(answer, not why, why, strict)


def _lora_problem(layer_class: Callable) -> str:
    """What is wrong with a layer for LoRA; empty where nothing is."""
    linear, x = nn.Linear(6, 4), torch.randn(3, 6)
    before = linear(x).detach()
    try:
        layer = layer_class(linear, 2, 4)
        first = layer(x)
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        return f"LoRALinear(linear, 2, 4)(x) raises {type(error).__name__}: {error}"
    if not torch.equal(first, before) and not torch.allclose(first, before, atol=1e-6):
        return "at the start its output must be that of the linear layer: one of the two matrices begins at zero"
    trained = {tuple(each.shape): each for each in layer.parameters() if each.requires_grad}
    if set(trained) != {(2, 6), (4, 2)}:
        return f"two matrices train, (rank, inputs) and (outputs, rank), here (2, 6) and (4, 2), not {sorted(trained)}"
    if not trained[2, 6].any():
        return "A and B are both zero: then neither receives a gradient that is not zero"
    with torch.no_grad():
        for each in trained.values():
            each.normal_()
        expected = before + 4 / 2 * x @ trained[2, 6].T @ trained[4, 2].T
        if not torch.allclose(layer(x), expected, atol=1e-5):
            return "the output is linear(x) + alpha / rank * x @ A.T @ B.T"
    return ""


def check_without_gradient(answer: object, *, strict: bool = False) -> None:
    """Exercise 2b.2: `without_gradient(model, loss)`, the names of trainable parameters that receive no gradient."""
    if answer is ...:
        return report(answer, False, "", strict)
    model = nn.ModuleDict({name: nn.Linear(2, 1) for name in ("used", "cut_off", "frozen")})
    model["frozen"].requires_grad_(False)
    x = torch.ones(1, 2)
    with torch.no_grad():
        cut_off = model["cut_off"](x)
    loss = (model["used"](x) + cut_off + model["frozen"](x)).sum()
    try:
        got = list(answer(model, loss))
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        return report(answer, False, f"it raises {type(error).__name__}: {error}", strict)
    if model["used"].weight.grad is None:
        why = "no parameter has a gradient before `loss.backward()`: call it first"
    elif any(str(name).startswith("frozen") for name in got):
        why = "a frozen parameter receives no gradient on purpose: list those that are marked as trainable"
    else:
        why = f"the answer is cut_off.bias and cut_off.weight, in this order, yours is {got}"
    report(answer, got == ["cut_off.bias", "cut_off.weight"], why, strict)


def check_accumulated_step(answer: object, *, strict: bool = False) -> None:
    """Exercise 3.1: `accumulated_step(model, optimizer, criterion, batches)` equals one step on all images together."""
    if answer is ...:
        return report(answer, False, "", strict)
    x, y = torch.randn(6, 3, generator=torch.manual_seed(0)), torch.arange(6.0)[:, None]
    batches, criterion = list(zip(x.split(2), y.split(2), strict=True)), nn.MSELoss()
    model = nn.Linear(3, 1)
    model.weight.grad = torch.ones(1, 3)  # left over from an earlier step
    start, whole = model.weight.detach().clone(), criterion(model(x), y)
    (gradient,) = torch.autograd.grad(whole, model.weight)
    got = call(answer, model, torch.optim.SGD(model.parameters(), lr=0.01), criterion, batches)
    moved = (start - model.weight.detach()) / 0.01
    if not moved.any():
        why = "no parameter has changed: `optimizer.step()` is missing"
    elif torch.allclose(moved, gradient + 1, atol=1e-3):
        why = "a gradient of an earlier step is still in it: `optimizer.zero_grad()` comes first"
    elif torch.allclose(moved, 3 * gradient, atol=1e-3):
        why = "the step is three times too long: the loss of each of three batches is a third of the whole"
    elif not torch.allclose(moved, gradient, atol=1e-3):
        why = "the step is not that of all images in one batch: one `zero_grad()` at the start, one `step()` at the end"
    else:
        why = f"the mean loss is {whole.item():.4f}, yours is {got}"
        return report(answer, got is not None and abs(got - whole.item()) < 1e-3, why, strict)
    report(answer, False, why, strict)
