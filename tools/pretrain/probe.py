"""What a BiomedCLIP has learnt: which caption fits which held-out phantom, and what its frozen patches know of masks.

The probes measure; nothing of theirs is trained into the model.
"""

from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tools.pretrain.captioned import VIEWS, Batch, Corpus
from tools.pretrain.captions import claim_of, wording
from tools.pretrain.reader import Reader
from vlsm_helpers.data.phantoms import render, seeds
from vlsm_helpers.metrics.overlap import overlap
from vlsm_helpers.models.biomedclipseg import BiomedCLIPSeg
from vlsm_helpers.training.loop import segmentation_loss

AMONG = 64  # pictures of one modality from which a caption's is chosen
PROBED, PROBE_IMAGES, PROBE_VALIDATION, PROBE_STEPS, PROBE_BATCH = "phantom_endoscopy", 150, 60, 300, 16
PLACES = ("top left", "top", "top right", "left", "center", "right", "bottom left", "bottom", "bottom right")


@torch.no_grad()
def retrieval(reader: Reader, held_out: Corpus) -> dict[str, float]:
    """Shares of held-out captions that are true of the picture which fits them best, among AMONG of their modality.

    `class`: as the class token has it, `patch`: as the patches have it, `chance`: for a picture drawn blindly.
    """
    rng = np.random.default_rng(0)
    hits = {"class": [], "patch": [], "chance": []}
    images, said = held_out.images[::VIEWS], held_out.descriptions[::VIEWS]  # whole pictures
    for first in range(0, len(said), AMONG):
        some = said[first : first + AMONG]
        claims = [claim_of(rng, description) for description in some]
        dealt = Batch(images[first : first + AMONG], some, claims, [wording(rng, claim) for claim in claims])
        truth = torch.from_numpy(dealt.truth())
        for name, scores in zip(hits, reader.scores(dealt.images, dealt.captions), strict=False):
            hits[name].append(truth[scores.argmax(dim=0), torch.arange(len(claims))].mean())
        hits["chance"].append(truth.mean())
    return {name: float(torch.stack(values).mean()) for name, values in hits.items()}


@torch.no_grad()
def place_accuracy(reader: Reader, held_out: Corpus) -> dict[str, float]:
    """Share of held-out pictures with one finding whose ninth is named rightly, by the class token and by the patches.

    `usual`: what always naming the commonest place gets.
    """
    rows = [
        row for row in range(0, len(held_out.images), VIEWS) if len(held_out.descriptions[row].get("place", ())) == 1
    ]
    places = np.array([PLACES.index(held_out.descriptions[row]["place"][0]) for row in rows])
    findings = [held_out.descriptions[row]["finding"] for row in rows]
    finding = next(word for word in findings[0] if all(word in words for words in findings))  # true of all: "shadow"
    scores = reader.scores(held_out.images[rows], [f"a {finding} located in {place} of the image" for place in PLACES])
    accuracy = {
        name: float(np.mean(logits.argmax(1).numpy() == places))
        for name, logits in zip(("class", "patch"), scores, strict=True)
    }
    return accuracy | {"usual": float(np.bincount(places).max() / len(places))}


def dense_probe(folder: Path, steps: int = PROBE_STEPS) -> float:
    """Validation Dice of a fresh decoder, trained for `steps` on the frozen features of the model in `folder`.

    On the course's endoscopy phantoms with the prompt "polyp": 150 images of the train split, scored on 60 of val.
    """
    torch.manual_seed(0)
    segmenter = BiomedCLIPSeg(folder, mlp_dim=256)
    images, masks = _probe_data("train", PROBE_IMAGES)
    held_images, held_masks = _probe_data("val", PROBE_VALIDATION)
    with torch.no_grad():
        text = segmenter.encode_text(["polyp"])
        features, held = segmenter.encode_images(images), segmenter.encode_images(held_images)
    _train_decoder(segmenter, features, text, images, masks, steps)
    with torch.no_grad():
        logits = segmenter.decode(held, text.expand(len(held_images), -1), held_images, held_masks.shape[-2:])
    return float(overlap(logits > 0, held_masks > 0)[0].mean())


@cache
def _probe_data(split: str, count: int) -> tuple[Tensor, Tensor]:
    phantoms = [render(PROBED, seed) for seed in seeds(PROBED, split)[:count]]
    images = np.stack([phantom.image for phantom in phantoms]).transpose(0, 3, 1, 2)
    masks = np.stack([phantom.mask for phantom in phantoms])[:, None]
    return torch.from_numpy(images.astype(np.float32) / 255), torch.from_numpy(masks.astype(np.float32))


def _train_decoder(segmenter, features, text: Tensor, images: Tensor, masks: Tensor, steps: int) -> None:
    rng, loss = np.random.default_rng(0), segmentation_loss()
    optimizer = torch.optim.AdamW(segmenter.decoder.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=steps)
    for _ in range(steps):
        rows = torch.from_numpy(rng.choice(len(images), PROBE_BATCH, replace=False))
        chosen = tuple(states[rows] for states in features)
        logits = segmenter.decode(chosen, text.expand(PROBE_BATCH, -1), images[rows], masks.shape[-2:])
        optimizer.zero_grad()
        loss(logits, masks[rows]).backward()
        optimizer.step()
        schedule.step()
