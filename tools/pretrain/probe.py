"""What a BiomedCLIP has learned: retrieval of captions of held-out phantoms, and what their embeddings tell.

Each probe stands beside what needs no image: chance for retrieval, the commonest answer for a question. Probes measure;
nothing of theirs is trained into the model.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from tools.pretrain.captioned import Corpus
from tools.pretrain.captions import MODALITIES, Description, full_claim, prompt_of, says_absent
from tools.pretrain.embedder import Embedder
from tools.pretrain.lexicon import Lexicon, agree

AMONG = 64  # captions from which an image's is chosen
ATTRIBUTES = ("modality", "kind", "colour", "size", "place", "absence")
NOUNS = {
    "phantom_endoscopy": "polyp",
    "phantom_ultrasound": "tumor",
    "phantom_skin": "skin lesion",
    "phantom_xray": "shadow",  # true of all three findings
}
PENALTY, ITERATIONS = 1e-3, 100  # of the linear probe


class Embedded(NamedTuple):
    """The images of a corpus as a model embeds them."""

    name: str
    images: Tensor  # unit vectors (N, D)
    descriptions: list[Description]


def embed(embedder: Embedder, corpora: Sequence[Corpus], every: int = 1) -> list[Embedded]:
    """The embeddings of every so many images of each corpus; `every` VIEWS, whole images only."""
    return [Embedded(own.name, embedder.images(own.images[::every]), own.descriptions[::every]) for own in corpora]


def retrieval(embedder: Embedder, held_out: Sequence[Embedded]) -> dict[str, dict[str, float]]:
    """Whether an image's most similar caption among AMONG is true of it: `mixed` over the modalities, and within each.

    The captions are full prompts (p6, with kind and modality), one of each of AMONG images. `top1`, `top5`: shares of images
    for which a true caption is the most similar one, one of the five most similar; `chance`: the share of true captions.
    """
    size = AMONG // len(held_out)
    groups = {"mixed": []} | {own.name: [] for own in held_out}
    for first in _starts(min(len(own.images) for own in held_out), size):
        groups["mixed"].append([(own, slice(first, first + size)) for own in held_out])
    for own in held_out:
        for first in _starts(len(own.images), AMONG):
            groups[own.name].append([(own, slice(first, first + AMONG))])
    return {name: _mean([_retrieved(embedder, group) for group in some]) for name, some in groups.items()}


def _starts(number: int, size: int) -> range:
    """Where whole groups of `size` start among `number` images; all of them are one group if they are fewer."""
    return range(0, max(1, number - size + 1), size)


def _retrieved(embedder: Embedder, group: list[tuple[Embedded, slice]]) -> dict[str, float]:
    images = torch.cat([own.images[rows] for own, rows in group])
    described = [description for own, rows in group for description in own.descriptions[rows]]
    claims, lexicon = [full_claim(description) for description in described], Lexicon(described)
    truth = torch.from_numpy(agree(lexicon.shown(described), lexicon.said(claims)))
    order = (images @ embedder.text([prompt_of(claim) for claim in claims]).T).argsort(dim=1, descending=True)
    hits = truth.gather(1, order).float()
    return {
        "top1": hits[:, 0].mean().item(),
        "top5": hits[:, :5].amax(dim=1).mean().item(),
        "chance": hits.mean().item(),
    }


def nearest_caption(embedder: Embedder, held_out: Sequence[Embedded]) -> dict[str, dict[str, float]]:
    """By attribute: the accuracy of the most similar of one caption per answer (`accuracy`), and of the commonest (`usual`).

    Means over the modalities, but for the modality itself.
    """
    questions = {attribute: asked(held_out, attribute) for attribute in ATTRIBUTES}
    return {name: _mean([_nearest(embedder, *one) for one in some if one[1]]) for name, some in questions.items()}


def _nearest(embedder: Embedder, images: Tensor, answers: list[str], captions: dict[str, str]) -> dict[str, float]:
    chosen = (images @ embedder.text(list(captions.values())).T).argmax(dim=1)
    right = [list(captions)[number] == answer for number, answer in zip(chosen.tolist(), answers, strict=True)]
    return {"accuracy": float(np.mean(right)), "usual": max(Counter(answers).values()) / len(answers)}


def linear(training: Sequence[Embedded], held_out: Sequence[Embedded]) -> dict[str, dict[str, float]]:
    """By attribute: the accuracy on held-out images of logistic regression on the embeddings of `training`."""
    results = {}
    for attribute in ATTRIBUTES:
        pairs = zip(asked(training, attribute), asked(held_out, attribute), strict=True)
        results[attribute] = _mean([{"accuracy": _regression(*one[:2], *other[:2])} for one, other in pairs])
    return results


def _regression(images: Tensor, answers: list[str], held_out: Tensor, held_answers: list[str]) -> float:
    """Accuracy on the held-out rows; an answer that training has not met is never given."""
    known = sorted(set(answers))
    mean, spread = images.mean(dim=0), images.std(dim=0).clamp(min=1e-6)
    layer = nn.Linear(images.shape[1], len(known))
    nn.init.zeros_(layer.weight)
    target, inputs = torch.tensor([known.index(answer) for answer in answers]), (images - mean) / spread
    optimizer = torch.optim.LBFGS(layer.parameters(), max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = nn.functional.cross_entropy(layer(inputs), target) + PENALTY * layer.weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    with torch.no_grad():
        given = layer((held_out - mean) / spread).argmax(dim=1).tolist()
    return float(np.mean([known[number] == answer for number, answer in zip(given, held_answers, strict=True)]))


def asked(corpora: Sequence[Embedded], attribute: str) -> list[tuple[Tensor, list[str], dict[str, str]]]:
    """The questions of an attribute: images, their true answers, and a caption for each answer; one per modality."""
    if attribute == "modality":
        answers = [MODALITIES[own.name][0] for own in corpora for _ in own.descriptions]
        captions = {MODALITIES[own.name][0]: f"{MODALITIES[own.name][0]} image" for own in corpora}
        return [(torch.cat([own.images for own in corpora]), answers, captions)]
    return [_asked_within(own, attribute) for own in corpora]


def _asked_within(own: Embedded, attribute: str) -> tuple[Tensor, list[str], dict[str, str]]:
    noun = NOUNS[own.name]
    answers = [_answer(description, attribute) for description in own.descriptions]
    rows = [number for number, answer in enumerate(answers) if answer is not None]
    answers = [answers[row] for row in rows]
    captions = {answer: _caption(answer, attribute, noun, own.name) for answer in sorted(set(answers))}
    return own.images[rows], answers, captions


def _answer(description: Description, attribute: str) -> str | None:
    """The true answer; None where the image has no target, or several places."""
    absent = says_absent(description["finding"][0])
    if attribute == "absence":
        return "absent" if absent else "present"
    if absent or (attribute == "place" and len(description["place"]) > 1):
        return None
    return description.get(attribute, description["finding"])[0]  # an X-ray's kind is its finding


def _caption(answer: str, attribute: str, noun: str, name: str) -> str:
    if attribute == "absence":
        return f"no {noun}" if answer == "absent" else f"a {noun}"
    if attribute == "place":
        return f"a {noun}, located in {answer} of the image"
    if attribute == "kind" and name == "phantom_xray":
        return f"a {answer}"
    return f"{'an' if answer[0] in 'aeiou' else 'a'} {answer} {noun}"


def _mean(rows: list[dict[str, float]]) -> dict[str, float]:
    return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
