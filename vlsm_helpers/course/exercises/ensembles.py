"""Checks of the exercises in chapters 4 and 5: ensembles, hybrid and late."""

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional

from vlsm_helpers.course.exercises.answers import call, exercise, tensor
from vlsm_helpers.metrics.overlap import mask_dice
from vlsm_helpers.models.adapter import TransformerAdapter

THRESHOLDS = np.linspace(0.05, 0.95, 19)


@exercise
def check_tokens_to_map(answer: object) -> str | None:
    """Exercise 4.1: `tokens_to_map(states)` of hidden states (B, 1 + h h, C), the class token first: a map (B, C, h, h)."""
    expected = torch.arange(2.0 * 3 * 4 * 4).reshape(2, 3, 4, 4)
    states = torch.cat([torch.full((2, 1, 3), -1.0), expected.flatten(2).transpose(1, 2)], dim=1)
    got = tensor(answer, states)
    if got is None or got.shape != expected.shape:
        why = f"17 tokens of 3 numbers become a map (2, 3, 4, 4), yours is {getattr(got, 'shape', got)}: the class token goes"
    elif torch.equal(got, expected.transpose(2, 3)):
        why = "your map is transposed: patches are counted along the rows of the image, not down its columns"
    else:
        why = "each channel of the map holds one number of every token; a plain reshape mixes numbers of several tokens"
    right = got is not None and got.shape == expected.shape and torch.equal(got, expected)
    return None if right else why


@exercise
@torch.no_grad()
def check_repaired_adapter(answer: object) -> str | None:
    """Exercise 4.2: `repaired(adapter, states, text)`, the map (B, channels, h, w) of an adapter that iterates over taps."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        adapter = TransformerAdapter(vision_dim=6, text_dim=4, taps=3, channels=8).eval()
        states, text = [torch.randn(2, 1 + 4, 6) for _ in range(3)], torch.randn(2, 4)
    expected = adapter(states, text)
    got = tensor(answer, adapter, states, text)
    if got is None or got.shape != expected.shape:
        shape = getattr(got, "shape", got)
        return f"three taps of two images, each of 4 patches, become a map {tuple(expected.shape)}, yours is {shape}"
    if torch.allclose(got, expected, atol=1e-5):
        return None
    alone = [tensor(answer, adapter, [state[n : n + 1] for state in states], text[n : n + 1]) for n in range(2)]
    if any(one is None or not torch.allclose(one[0], got[n], atol=1e-5) for n, one in enumerate(alone)):
        return "your map of an image still depends on the other image of its batch"
    return (
        "each image is processed separately, but not yet by every tap's own layers: reduce each tap, condition the "
        "first one, add the next tap before its block"
    )


@exercise
def check_depends_on_batch(answer: object) -> str | None:
    """Exercise 4.3: `depends_on_batch(model, images)`: whether the logits of any image change in a batch."""
    images = torch.arange(24.0).reshape(3, 2, 2, 2)
    last_only = torch.tensor([0.0, 0.0, 1.0]).view(3, 1, 1, 1)
    cases = [
        (lambda batch: 2 * batch, False, "a model that processes every image separately does not depend on the batch"),
        (lambda batch: batch + batch.mean(), True, "a model that adds the mean of the batch depends on it"),
        (lambda batch: batch + 1e-6 * len(batch), False, "differences of rounding do not count: allow for 1e-4"),
        (lambda batch: batch - 1.0 * (len(batch) > 1), True, "logits may fall as well as rise in a batch"),
        (lambda batch: batch + last_only[: len(batch)], True, "compare all images, not only the first"),
    ]
    for model, expected, why in cases:
        got = call(answer, model, images)
        if got is None or got != expected:
            return f"{why}; yours gives {got if got is None else bool(got)}"
    return None


@exercise
def check_knocked_out(answer: object) -> str | None:
    """Exercise 4.4: `without(logits, weights, bias, name)`: the weighted sum of the branches' logits without one of them."""
    logits = {"vlsm": torch.tensor([2.0, -1.0]), "head": torch.tensor([1.0, 1.0]), "cnn": torch.tensor([-4.0, 8.0])}
    weights, bias = {"vlsm": 0.5, "head": 0.25, "cnn": 0.25}, 0.125
    for name, expected in (("cnn", [1.375, -0.125]), ("vlsm", [-0.625, 2.375])):
        given = dict(weights)
        got = tensor(answer, logits, given, bias, name)
        if given != weights:
            return "your function changes the weights that it is given: the next call would miss a branch"
        if got is None or got.shape != (2,) or not torch.allclose(got.float(), torch.tensor(expected)):
            shown = got.tolist() if got is not None else None
            why = "the other branches keep their weights, which then need not sum to 1, and the bias stays"
            return f"{why}; without {name!r} yours gives {shown}"
    return None


@exercise
def check_majority_vote(answer: object) -> str | None:
    """Exercise 5.1: `vote(logits)` of logits (M, H, W): 1 where more than half of the members predict foreground."""
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
def check_temperature(answer: object) -> str | None:
    """Exercise 5.2: `temperature(logits, truth)` of logits (P,) and ground truth (P,): the one with the lowest cross-entropy."""
    generator = torch.Generator().manual_seed(0)
    calibrated = 2 * torch.randn(4000, generator=generator)
    truth = (torch.rand(4000, generator=generator) < torch.sigmoid(calibrated)).float()
    for scale, kind in ((3.0, "over-confident"), (0.4, "under-confident")):
        logits = scale * calibrated
        found = minimize_scalar(_cross_entropy, args=(logits, truth), bounds=(-3, 3), method="bounded")
        expected, got = float(np.exp(found.x)), call(answer, logits, truth)
        if got is not None and abs(got * expected - 1) < 0.05:
            return f"logits are divided by the temperature, not multiplied: of an {kind} member yours is {got:.2f}"
        if got is None or abs(got / expected - 1) > 0.05:
            return f"the cross-entropy of an {kind} member is not the lowest at your temperature, {got}"
    return None


@exercise
def check_fusion_rule(answer: object, validation: tuple[Tensor, Tensor, object] | None = None) -> str | None:
    """Exercise 5.3: `my_rule(logits, masks, new_logits)`, masks that beat equal weights on images it was not fitted on.

    `validation`: logits (M, N, S, S), masks (N, S, S) and names; by default made-up members of which one is good.
    """
    logits, masks = _made_up_members() if validation is None else validation[:2]
    dice: dict[str, list[float]] = {"yours": [], "equal": []}
    for fold in (0, 1):
        held = torch.arange(len(masks)) % 2 == fold
        try:
            got = answer(logits[:, ~held].clone(), masks[~held].clone(), logits[:, held].clone())
        except (TypeError, ValueError, RuntimeError, IndexError) as error:
            return f"your rule stops with {type(error).__name__}: {error}"
        if not isinstance(got, Tensor) or got.dtype != torch.bool or got.shape != masks[held].shape:
            shown = f"{got.dtype} {tuple(got.shape)}" if isinstance(got, Tensor) else type(got).__name__
            return f"give masks, torch.bool {tuple(masks[held].shape)}, one per new image, not {shown}"
        equal = torch.sigmoid(logits).mean(0)
        best = max(THRESHOLDS, key=lambda cut: mask_dice(equal[~held] > cut, masks[~held]).mean().item())
        dice["yours"] += mask_dice(got, masks[held]).tolist()
        dice["equal"] += mask_dice(equal[held] > best, masks[held]).tolist()
    yours, equal_weights = np.mean(dice["yours"]), np.mean(dice["equal"])
    if yours > equal_weights:
        return None
    return f"on held-out validation images the mean Dice of your rule is {yours:.3f}, that of equal weights {equal_weights:.3f}"


@exercise
def check_patient_interval(answer: object) -> str | None:
    """Exercise 5.4: `interval(difference, patients, rng)`: the 95 % interval of a mean when patients are resampled."""
    rng = np.random.default_rng(1)
    sizes = rng.integers(2, 20, 40)
    patients = np.repeat(np.arange(40), sizes)
    difference = np.repeat(rng.normal(0, 5, 40) + 0.5 * sizes, sizes) + rng.normal(0, 1, len(patients))
    expected = _resampled(np.bincount(patients, difference), sizes)
    of_images = _resampled(difference, np.ones(len(difference)))
    try:
        got = np.asarray(answer(difference, patients, np.random.default_rng(0)), float)
    except (TypeError, ValueError, IndexError, KeyError) as error:
        return f"your function stops with {type(error).__name__}: {error}"
    if got.shape != (2,):
        return f"give two numbers, the lower and the upper end, not an array of shape {got.shape}"
    tolerance = 0.12 * (expected[1] - expected[0])
    if np.abs(got - expected).max() < tolerance:
        return None
    if np.abs(got - of_images).max() < tolerance:
        return "this is the interval of independent images: it is too narrow, resample whole patients"
    why = "is every image in the mean as often as its patient was drawn?"
    return f"yours, {got[0]:.2f} to {got[1]:.2f}, is not the interval of resampled patients: {why}"


def _cross_entropy(log_temperature: float, logits: Tensor, truth: Tensor) -> float:
    return functional.binary_cross_entropy_with_logits(logits / np.exp(log_temperature), truth).item()


def _made_up_members() -> tuple[Tensor, Tensor]:
    """Logits (3, 12, 16, 16) and masks (12, 16, 16) of a good member and two that share their errors."""
    generator = torch.Generator().manual_seed(0)
    masks = torch.zeros(12, 16, 16, dtype=torch.bool)
    for number in range(12):
        masks[number, 2 : 6 + number % 6, 3:12] = True
    signal = 2.0 * masks - 1
    noise = torch.randn(2, 12, 16, 16, generator=generator)
    weak = 0.2 * signal + 3 * noise[1]
    return torch.stack([signal + 0.5 * noise[0], weak, weak]), masks


def _resampled(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The middle 95 % (2,) of means of resampled groups, given each group's sum and count."""
    drawn = np.random.default_rng(2).integers(len(sums), size=(4000, len(sums)))
    return np.quantile(sums[drawn].sum(1) / counts[drawn].sum(1), [0.025, 0.975])
