"""Checks of the exercises that train, chapters 2 and 3: a loss, a layer, gradients, a step."""

import torch
from torch import nn
from torch.nn.functional import normalize

from vlsm_helpers.course.exercises.answers import call, exercise


@exercise
def check_shared_info_nce(answer: object) -> str | None:
    """Exercise 2.2: `shared_info_nce(images, texts, scale, captions)`: InfoNCE whose targets are shared by equal captions."""
    images, texts = (normalize(torch.randn(4, 3, generator=torch.manual_seed(n)), dim=-1) for n in (0, 1))
    cases = [
        (["a", "b", "c", "d"], 4.0, "where all captions differ it must give what `info_nce` gives"),
        (["a", "a", "a", "a"], 0.0, "at scale 0 all logits are equal: the loss is log(4), whatever the captions"),
        (["no", "a", "no", "b"], 4.0, "two equal captions share the target: one half each, in both directions"),
    ]
    for captions, scale, why in cases:
        got, expected = call(answer, images, texts, scale, captions), _shared_info_nce(images, texts, scale, captions)
        if got is None or abs(got - expected) > 1e-4:
            return f"{why}; the loss is {expected:.4f}, yours is {got}"
    return None


def _shared_info_nce(images: torch.Tensor, texts: torch.Tensor, scale: float, captions: list[str]) -> float:
    logits = scale * images @ texts.T
    equal = torch.tensor([[float(one == other) for other in captions] for one in captions])
    target = equal / equal.sum(dim=1, keepdim=True)
    losses = [-(target * each.log_softmax(dim=1)).sum(dim=1).mean() for each in (logits, logits.T)]
    return float(sum(losses) / 2)


@exercise
def check_lora_linear(answer: object) -> str | None:
    """Exercise 2.3: `LoRALinear(linear, rank, alpha)`, a module that adds alpha / rank * B A to a frozen linear layer."""
    linear, x = nn.Linear(6, 4), torch.randn(3, 6)
    before = linear(x).detach()
    try:
        layer = answer(linear, 2, 4)
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
    return None


@exercise
def check_without_gradient(answer: object) -> str | None:
    """Exercise 2b.2: `without_gradient(model, loss)`, the names of trainable parameters that receive no gradient."""
    model = nn.ModuleDict({name: nn.Linear(2, 1) for name in ("used", "cut_off", "frozen")})
    model["frozen"].requires_grad_(False)
    x = torch.ones(1, 2)
    with torch.no_grad():
        cut_off = model["cut_off"](x)
    loss = (model["used"](x) + cut_off + model["frozen"](x)).sum()
    try:
        got = list(answer(model, loss))
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        return f"it raises {type(error).__name__}: {error}"
    if model["used"].weight.grad is None:
        why = "no parameter has a gradient before `loss.backward()`: call it first"
    elif any(str(name).startswith("frozen") for name in got):
        why = "a frozen parameter receives no gradient on purpose: list those that are marked as trainable"
    else:
        why = f"the answer is cut_off.bias and cut_off.weight, in this order, yours is {got}"
    return None if got == ["cut_off.bias", "cut_off.weight"] else why


@exercise
def check_accumulated_step(answer: object) -> str | None:
    """Exercise 3.1: `accumulated_step(model, optimizer, criterion, batches)` equals one step on all images together."""
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
        return None if got is not None and abs(got - whole.item()) < 1e-3 else why
    return why
