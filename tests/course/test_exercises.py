import inspect

import numpy as np
import pytest
import scipy.stats
import torch
from open_clip import ClipLoss
from torch import nn

from vlsm_helpers.course import exercises


def shared_info_nce(images, texts, scale, captions):
    target = torch.tensor([[one == other for other in captions] for one in captions]).float()
    target, logits = target / target.sum(dim=1), scale * images @ texts.T
    return (nn.functional.cross_entropy(logits, target) + nn.functional.cross_entropy(logits.T, target)) / 2


class LoRALinear(nn.Module):
    def __init__(self, linear, rank, alpha, begin=torch.zeros, share=None):
        super().__init__()
        self.linear, self.share = linear.requires_grad_(False), alpha / rank if share is None else share
        self.a = nn.Parameter(torch.randn(rank, linear.in_features))
        self.b = nn.Parameter(begin(linear.out_features, rank))

    def forward(self, x):
        return self.linear(x) + self.share * x @ self.a.T @ self.b.T


def _without_gradient(model):
    return sorted(name for name, each in model.named_parameters() if each.requires_grad and each.grad is None)


def accumulated_step(model, optimizer, criterion, batches, share=None, begin=True, end=True):
    if begin:
        optimizer.zero_grad()
    total = 0.0
    for images, masks in batches:
        loss = criterion(model(images), masks) * (share or 1 / len(batches))
        loss.backward()
        total += loss.item()
    if end:
        optimizer.step()
    return total


def repaired(adapter, states, text):
    tokens = None
    for state, reduce, block in zip(states, adapter.reduces, adapter.blocks, strict=False):
        state = reduce(state[:, 1:])
        tokens = block(adapter.film(state, text) if tokens is None else tokens + state)
    return tokens.transpose(1, 2).unflatten(2, (2, 2))


def cost(logits, truth):
    return torch.nn.functional.binary_cross_entropy_with_logits(logits, truth)


def best_member(logits, masks):
    return max(range(len(logits)), key=lambda number: ((logits[number] > 0) == masks).float().mean())


def resampled(sums, counts, rng):
    drawn = rng.integers(len(sums), size=(2000, len(sums)))
    return np.quantile(sums[drawn].sum(1) / counts[drawn].sum(1), [0.025, 0.975])


RIGHT = {
    "check_dice": lambda p, t: 2 * (p & t).sum() / (p.sum() + t.sum()) if (p | t).any() else 1.0,
    "check_thumbnail_correlation": lambda a, b: np.corrcoef(a.ravel(), b.ravel())[0, 1] if np.ptp(b) else 0.0,
    "check_leaking_level": "p2",
    "check_film": lambda t, a, b: a[:, None] * t + b[:, None],
    "check_label_map": lambda x: torch.where((x > 0).any(0), x.argmax(0) + 1, 0),
    "check_prompt_effect": lambda s, i, a, b: ((s(i[None], a) > 0) != (s(i[None], b) > 0)).float().mean(),
    "check_shared_info_nce": shared_info_nce,
    "check_lora_linear": LoRALinear,
    "check_without_gradient": lambda m, loss: loss.backward() or _without_gradient(m),
    "check_accumulated_step": accumulated_step,
    "check_cosine_matrix": lambda i, c: torch.cosine_similarity(i[:, None], c[None], dim=-1),
    "check_neighbour_effect": lambda m, i: (m(i) - torch.cat([m(one[None]) for one in i])).abs().max(),
    "check_fifth_level": 156,
    "check_soft_dice": lambda p, m: (2 * (p * m).sum() + 1e-6) / (p.sum() + m.sum() + 1e-6),
    "check_tokens_to_map": lambda s: s[:, 1:].transpose(1, 2).unflatten(2, (4, 4)),
    "check_repaired_adapter": lambda adapter, states, text: repaired(adapter, states, text),
    "check_depends_on_batch": lambda m, i: (m(i) - torch.cat([m(one[None]) for one in i])).abs().max() > 1e-4,
    "check_knocked_out": lambda logits, w, b, name: b + sum(w[one] * logits[one] for one in w if one != name),
    "check_majority_vote": lambda s: (s > 0).float().mean(0) > 0.5,
    "check_temperature": lambda z, t: min(
        torch.logspace(-1.3, 1.3, 200), key=lambda temperature: cost(z / temperature, t)
    ),
    "check_fusion_rule": lambda logits, masks, new: new[best_member(logits, masks)] > 0,
    "check_patient_interval": lambda d, p, rng: resampled(np.bincount(p, d), np.bincount(p), rng),
    "check_images_needed": lambda d, w: int(np.ceil((1.96 * d.std(ddof=1) / w) ** 2)),
    "check_fair_gain": lambda v, t: (t[-1] - t[v[:-1].mean(axis=1).argmax()]).mean(),
    "check_scored_by_all": lambda rows: rows[rows.groupby("id")["dice"].transform("count") == 4],
    "check_patient_group": r"^(P\d+)_",
    "check_entropy_bits": lambda p: scipy.stats.entropy([p, 1 - p], base=2),
    "check_referred": lambda d, s: np.argsort(-d)[: round(s * len(d))],
    "check_class_map": lambda p, t: np.where(p.max(0) > t, p.argmax(0) + 1, 0),
}
WRONG = {
    "check_dice": lambda p, t: 2 * (p & t).sum() / (p.sum() + t.sum() + 1e-6),
    "check_thumbnail_correlation": lambda a, b: (a * b).sum() / ((a**2).sum() * (b**2).sum()) ** 0.5,
    "check_leaking_level": "p6",
    "check_film": lambda t, a, b: a * t + b,
    "check_label_map": lambda x: x.argmax(0) + 1,
    "check_prompt_effect": lambda s, i, a, b: (s(i[None], a) != s(i[None], b)).float().mean(),
    "check_shared_info_nce": lambda i, t, scale, captions: ClipLoss()(i, t, scale),
    "check_lora_linear": lambda linear, rank, alpha: linear,
    "check_without_gradient": lambda m, loss: _without_gradient(m),
    "check_accumulated_step": lambda m, o, c, batches: accumulated_step(m, o, c, batches, share=1),
    "check_cosine_matrix": lambda i, c: i @ c.T,
    "check_neighbour_effect": lambda m, i: (m(i)[:1] - m(i[:1])).abs().max(),
    "check_fifth_level": 76,
    "check_soft_dice": lambda p, m: 2 * ((p > 0.5) * m).sum() / ((p > 0.5).sum() + m.sum()),
    "check_tokens_to_map": lambda s: s[:, 1:].reshape(2, 3, 4, 4),
    "check_repaired_adapter": lambda adapter, states, text: repaired(adapter, states[:1], text),
    "check_depends_on_batch": lambda m, i: (m(i)[0] != m(i[:1])[0]).any(),
    "check_knocked_out": lambda logits, w, b, name: (
        b + sum(w[one] * logits[one] for one in w if one != name) / (1 - w[name])
    ),
    "check_majority_vote": lambda s: s.mean(0) > 0,
    "check_temperature": lambda z, t: 1.0,
    "check_fusion_rule": lambda logits, masks, new: torch.sigmoid(new).mean(0) > 0.5,
    "check_patient_interval": lambda d, p, rng: resampled(d, np.ones(len(d)), rng),
    "check_images_needed": lambda d, w: int(np.ceil(1.96 * d.std() / w)),
    "check_fair_gain": lambda v, t: (t[-1] - t[:-1].max(axis=0)).mean(),
    "check_scored_by_all": lambda rows: rows.dropna(),
    "check_patient_group": r"^(P\d)",
    "check_entropy_bits": lambda p: scipy.stats.entropy([p, 1 - p]),
    "check_referred": lambda d, s: np.argsort(-d)[-round(s * len(d)) :],
    "check_class_map": lambda p, t: np.where(p.max(0) > t, p.argmax(0), 0),
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
        ("check_shared_info_nce", lambda i, t, scale, c: ClipLoss()(i, t, scale), "two equal captions share"),
        ("check_shared_info_nce", lambda i, t, scale, c: shared_info_nce(i, t, 2 * scale, c), "must give what"),
        ("check_shared_info_nce", lambda i: 0, "yours is None"),
        ("check_lora_linear", lambda n, r, a: LoRALinear(n, r, a, begin=torch.ones), "at the start"),
        ("check_lora_linear", lambda n, r, a: LoRALinear(n, r, a, share=a), "alpha / rank"),
        ("check_lora_linear", lambda n, r, a: LoRALinear(n, r, a).requires_grad_(True), "two matrices train"),
        ("check_lora_linear", lambda n: n, "raises TypeError"),
        ("check_without_gradient", lambda m, loss: _without_gradient(m), "call it first"),
        ("check_without_gradient", lambda m, loss: loss.backward() or [n for n, _ in m.named_parameters()], "frozen"),
        ("check_without_gradient", lambda m, loss: loss.backward() or [], "yours is"),
        ("check_accumulated_step", lambda m, o, c, b: accumulated_step(m, o, c, b, begin=False), "earlier step"),
        ("check_accumulated_step", lambda m, o, c, b: accumulated_step(m, o, c, b, end=False), "step.* is missing"),
        ("check_accumulated_step", lambda m, o, c, b: accumulated_step(m, o, c, b[:1]), "all images"),
        ("check_accumulated_step", lambda m, o, c, b: 3 * accumulated_step(m, o, c, b), "the mean loss"),
        ("check_repaired_adapter", lambda a, s, t: repaired(a, s, t.roll(1, 0)), "depends on the other image"),
        ("check_repaired_adapter", lambda a, s, t: repaired(a, s, t)[:, :1], "yours is torch.Size"),
        ("check_depends_on_batch", lambda m, i: (m(i)[0] - m(i[:1])[0]).abs().max() > 1e-4, "not only the first"),
        ("check_depends_on_batch", lambda m, i: (m(i) - torch.cat([m(x[None]) for x in i])).max() > 1e-4, "fall"),
        ("check_knocked_out", lambda logits, w, b, name: w.pop(name), "changes the weights"),
        ("check_temperature", lambda z, t: 1 / RIGHT["check_temperature"](z, t), "divided by the temperature"),
        ("check_fusion_rule", lambda logits, masks, new: new[0], "give masks, torch.bool"),
        ("check_fusion_rule", lambda logits, masks: masks, "stops with TypeError"),
        ("check_patient_interval", lambda d, p, rng: resampled(d, np.ones(len(d)), rng), "independent images"),
        ("check_patient_interval", lambda d, p, rng: d.mean(), "two numbers"),
        ("check_images_needed", lambda d, w: (1.96 * d.std() / w) ** 2, "round up"),
        ("check_images_needed", lambda d, w: np.ceil((1.96 / w) ** 2 * (d**2).mean()), "mean of the differences"),
        ("check_scored_by_all", lambda rows: rows[rows.groupby("id")["id"].transform("size") == 4], "NaN"),
        ("check_scored_by_all", lambda rows: rows.pivot(columns="id"), "fails on a table"),
        ("check_entropy_bits", lambda p: -(p * np.log2(p) + (1 - p) * np.log2(1 - p)), "not NaN"),
        ("check_entropy_bits", lambda p: -2 * p * np.log2(p), "both outcomes"),
        ("check_film", lambda tokens, scale, shift: scale[:1] * tokens + shift[:1], "that image's own values"),
        ("check_film", lambda tokens, scale, shift: scale[:, None] * (tokens + shift[:, None]), "scaled, then shifted"),
        ("check_film", lambda tokens, scale, shift: tokens[0], "must stay"),
        ("check_dice", lambda p, t: (p & t).sum() / (p | t).sum() if (p | t).any() else 1.0, "share two of them"),
        ("check_dice", lambda p, t: (p & t).sum() / t.sum() if t.any() else 1.0, "both masks"),
        ("check_dice", lambda p, t: 1.0 if not t.any() else 2 * (p & t).sum() / (p.sum() + t.sum()), "makes it 0"),
        ("check_dice", lambda p, t: 2 * (p & t).sum() / (p.sum() + t.sum()), "divide by 0"),
        ("check_thumbnail_correlation", lambda a, b: np.abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]), "negative"),
        ("check_thumbnail_correlation", lambda a, b: float((a == b).mean()), "brighter"),
        ("check_thumbnail_correlation", lambda a, b: np.corrcoef(a.ravel(), b.ravel())[0, 1], "uniform"),
        ("check_label_map", lambda x: torch.where((x > 0).any(0), x.argmax(0), 0), "kept for the background"),
        ("check_label_map", lambda x: (x > 0).sum(0), "highest logit wins"),
        ("check_label_map", lambda x: x > 0, "give labels"),
        ("check_label_map", lambda x: torch.where(x[:2].amax(0) > 0, x[:2].argmax(0) + 1, 0), "any number"),
        ("check_prompt_effect", lambda s, i, a, b: (s(i[None], a) - s(i[None], b)).abs().mean(), "compare masks"),
        ("check_prompt_effect", lambda s, i, a, b: (s(i[None], b) > s(i[None], a)).float().mean(), "keep the label"),
        ("check_prompt_effect", lambda s, i, a, b: ((s(i, a) > 0) != (s(i, b) > 0)).float().mean(), r"image\[None\]"),
    ],
)
def test_a_check_says_which_mistake_it_was(name, answer, why):
    with pytest.raises(exercises.WrongAnswer, match=why), np.errstate(all="ignore"):
        getattr(exercises, name)(answer, strict=True)


def test_a_fusion_rule_is_tried_on_images_that_it_was_not_fitted_on():
    masks = torch.rand(6, 8, 8, generator=torch.Generator().manual_seed(0)) > 0.5
    logits = torch.stack([masks * 2.0 - 1, -(masks * 2.0 - 1), -(masks * 2.0 - 1)])
    exercises.check_fusion_rule(RIGHT["check_fusion_rule"], (logits, masks, "abc"), strict=True)
    with pytest.raises(exercises.WrongAnswer, match="held-out"):
        exercises.check_fusion_rule(lambda fitted, known, new: known, (logits, masks, "abc"), strict=True)


@pytest.mark.parametrize("level", ["p0", "p1", "p6", 2])
def test_every_other_level_is_wrong(level):
    with pytest.raises(exercises.WrongAnswer):
        exercises.check_leaking_level(level, strict=True)
