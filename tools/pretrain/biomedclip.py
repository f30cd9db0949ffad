"""Pretrain the miniature BiomedCLIP on captioned medical phantoms, contrastively and never from masks.

`python -m tools.pretrain.biomedclip OUT` writes the folder that `vlsm_helpers` ships. What makes a run is its number of
steps and its seed; the model in OUT is renewed at every measurement, so a stopped run leaves one.
"""

import argparse
import json
import math
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from tools.pretrain import card
from tools.pretrain.biomedclip_folder import save_tensors, train_vocabulary, write_config
from tools.pretrain.captioned import HELD_OUT, VIEWS, batch, corpus, jittered, training_seeds
from tools.pretrain.captions import MODALITIES, Description, claim_of, vocabulary, wording
from tools.pretrain.contrast import Contrast
from tools.pretrain.general_start import start_from
from tools.pretrain.probe import dense_probe, place_accuracy, retrieval
from tools.pretrain.reader import Reader
from vlsm_helpers.models.biomedclip import build_biomedclip
from vlsm_helpers.models.pretrained import load_clipseg
from vlsm_helpers.settings import cache_folder, hardware, seed_everything
from vlsm_helpers.settings.profiles import TINY_WEIGHTS

FACTS = "training.json"
CAPTIONS_FOR_VOCABULARY = 20_000


@dataclass(frozen=True)
class Plan:
    """Every number of a run."""

    general: str = TINY_WEIGHTS  # the CLIPSeg whose vision tower it starts from
    steps: int = 900
    batch_size: int = 32
    phantoms: int = 5000  # of each modality
    held_out: int = len(HELD_OUT)  # likewise
    learning_rate: float = 1e-3
    vision_share: float = 0.05  # of that, for the vision tower: faster, it forgets what it knows before it learns anew
    weight_decay: float = 0.05
    warm_up: int = 100
    clip: float = 1.0
    log_every: int = 100
    measure_every: int = 300
    probe_every: int = 600
    seed: int = 0

    def learning_rate_at(self, step: int) -> float:
        """Linear warm-up, then a cosine to a hundredth; steps count from 1."""
        cosine = (1 + math.cos(math.pi * step / self.steps)) / 2
        return self.learning_rate * min(1.0, step / self.warm_up) * (0.01 + 0.99 * cosine)


class Pretraining:
    """One run: its data, its model in `folder`, and what was measured on the way."""

    def __init__(self, folder: Path, plan: Plan, cache: Path):
        self.folder, self.plan = folder, plan
        seed_everything(plan.seed)
        self.rng = np.random.default_rng(plan.seed)
        self.corpora = [corpus(name, training_seeds(plan.phantoms), cache) for name in MODALITIES]
        self.held_out = [corpus(name, HELD_OUT[: plan.held_out], cache) for name in MODALITIES]
        described = [description for own in self.corpora for description in own.descriptions]
        write_config(folder, train_vocabulary(_captions(described, plan.seed)))
        clip, tokenizer, context, view = build_biomedclip(folder, load_weights=False)
        start_from(clip.visual.trunk, load_clipseg(plan.general)[0].clip.vision_model)
        self.contrast = Contrast(clip, vocabulary(described))
        self.reader = Reader(self.contrast, tokenizer, context, view)
        self.optimizer = _optimizer(self.contrast, plan)
        self.history: list[dict] = []
        self.seconds = 0.0

    def run(self) -> None:
        """All steps, with scores and a checkpoint now and then, and the card at the end."""
        self.measure(0, None)
        losses, started = [], time.perf_counter()
        for step in range(1, self.plan.steps + 1):
            losses.append(self.step(step))
            if step % self.plan.log_every == 0:
                print(f"step {step} loss {np.mean(losses[-self.plan.log_every :]):.3f}", flush=True)
            if step % self.plan.measure_every == 0 or step == self.plan.steps:
                self.seconds += time.perf_counter() - started
                self.measure(step, float(np.mean(losses[-self.plan.measure_every :])))
                started = time.perf_counter()
        write_card(self.folder)

    def step(self, number: int) -> float:
        """One batch of one modality; they take turns."""
        dealt = batch(self.rng, self.corpora, number % len(self.corpora), self.plan.batch_size)
        for group in self.optimizer.param_groups:
            group["lr"] = group["share"] * self.plan.learning_rate_at(number)
        pixels = self.reader.pixels(jittered(self.rng, dealt.images))
        truth = torch.from_numpy(dealt.truth())
        loss = self.contrast(pixels, self.reader.ids(dealt.captions), truth, dealt.claims, dealt.descriptions)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.contrast.parameters(), self.plan.clip)
        self.optimizer.step()
        self.contrast.clamp_scales()
        return loss.item()

    def measure(self, step: int, loss: float | None) -> None:
        """Save the model, then score it; the facts of the run go beside it."""
        save_tensors(self.folder, self.contrast.clip)
        row = {"step": step, "minutes": round(self.seconds / 60, 1), "loss": loss}
        for held_out in self.held_out:
            row[held_out.name] = {
                "retrieval": retrieval(self.reader, held_out),
                "place": place_accuracy(self.reader, held_out),
            }
        if step % self.plan.probe_every == 0 or step == self.plan.steps:
            row["dense_probe"] = dense_probe(self.folder)
        self.history.append(row)
        print(json.dumps(row), flush=True)
        (self.folder / FACTS).write_text(json.dumps(self.facts(), indent=1) + "\n", encoding="utf-8")

    def facts(self) -> dict:
        """What the model card says."""
        clip = self.contrast.clip
        return {
            "plan": asdict(self.plan),
            "parameters": sum(parameter.numel() for parameter in clip.parameters()),
            "pictures": sum(len(own.images) for own in self.corpora),
            "hardware": hardware(),
            "versions": {"Python": platform.python_version()}
            | {name: version(name) for name in ("torch", "timm", "open_clip_torch", "transformers", "tokenizers")},
            "history": self.history,
        }


def _captions(described: list[Description], seed: int) -> list[str]:
    """Captions as training words them, for the vocabulary."""
    rng = np.random.default_rng([seed, 1])
    chosen = rng.integers(len(described), size=CAPTIONS_FOR_VOCABULARY)
    return [wording(rng, claim_of(rng, described[row])) for row in chosen]


def _optimizer(contrast: Contrast, plan: Plan) -> torch.optim.AdamW:
    """Weight decay for matrices only; the vision tower is slower than what starts from noise."""
    slow = {id(parameter) for parameter in contrast.clip.visual.trunk.parameters()}
    groups = {}
    for parameter in contrast.parameters():
        share = plan.vision_share if id(parameter) in slow else 1.0
        decay = plan.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((share, decay), []).append(parameter)
    options = [{"params": some, "share": share, "weight_decay": decay} for (share, decay), some in groups.items()]
    return torch.optim.AdamW(options, lr=plan.learning_rate, betas=(0.9, 0.98))


def write_card(folder: Path) -> None:
    """FOLDER/README.md, from what the run in `folder` measured."""
    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    plan, history = facts["plan"], facts["history"]
    probes = [row for row in history if "dense_probe" in row]
    first, last, end = probes[0], probes[-1], _columns(history[-1])
    recipe = {
        "model": f"ViT (128 px, patches of 16, width 128, 8 blocks) and BERT (width 128, 2 layers), {facts['parameters']:,} "
        "parameters, float16",
        "data": f"{facts['pictures']:,} captioned images of {len(MODALITIES)} modalities: {plan['phantoms']:,} phantoms of "
        f"each, {VIEWS} views of each phantom, from seeds that no dataset of the course uses; captions name finding, kind, size, "
        "shape, colour, number, place or absence, and are generated from the ground truth; no loss uses the masks",
        "loss": "contrastive within a modality, with several true captions per image, one with a wrong word, and a few of other "
        "modalities; on the class token, and on the patches most similar to a caption; an anchor for each word",
        "start": "image encoder: the miniature CLIPSeg's (trained on masks of drawn objects, nothing medical), two blocks "
        "appended as the identity; text encoder: random weights",
        "training": f"{plan['steps']:,} steps of {plan['batch_size']} images, AdamW, learning rate {plan['learning_rate']} "
        f"(the image encoder {plan['vision_share']} of it), "
        f"weight decay {plan['weight_decay']}, cosine, seed {plan['seed']}; {last['minutes']:.0f} minutes",
        "hardware": f"{facts['hardware']}, shared with other work",
        "frozen patch features": f"a new decoder on them, trained on 150 endoscopy phantoms for 300 steps, reaches Dice "
        f"{last['dense_probe']:.3f} on 60 others; on those of the initial weights {first['dense_probe']:.3f}",
        "scores": "share of held-out captions that are true of the most similar of 64 images of their modality (`found`: by the "
        "class token, `patches`: by the patches, `chance`: chance level); share of findings whose ninth of the image is named "
        "by the most similar prompt (`place`; `usual`: always the commonest place)",
        "limits": f"caption retrieval {end['found']:.3f} where chance is {end['chance']:.3f}, place {end['place']:.3f} where "
        f"the commonest place gives {end['usual']:.3f}; the image encoder started from CLIPSeg's: with retrieval near "
        "chance, comparing the two miniatures says nothing about biomedical pretraining",
    }
    card.write(
        folder, "BiomedCLIP", recipe, [_columns(row) for row in history], held_out=plan["held_out"] * len(MODALITIES)
    )


def _columns(row: Mapping) -> dict[str, float]:
    """A row of the card's table: means over the modalities."""
    scores = [row[name] for name in MODALITIES]

    def mean(kind: str, key: str) -> float:
        return float(np.mean([score[kind][key] for score in scores]))

    return {
        "step": row["step"],
        "minutes": row["minutes"],
        "found": mean("retrieval", "class"),
        "patches": mean("retrieval", "patch"),
        "chance": mean("retrieval", "chance"),
        "place": mean("place", "class"),
        "usual": mean("place", "usual"),
    }


def main() -> None:
    """Pretrain into the folder that the command names."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=Plan.steps)
    parser.add_argument("--seed", type=int, default=Plan.seed)
    given = parser.parse_args()
    torch.set_num_threads(1)
    plan = Plan(steps=given.steps, seed=given.seed)
    Pretraining(given.folder, plan, cache_folder() / "pretraining").run()


if __name__ == "__main__":
    main()
