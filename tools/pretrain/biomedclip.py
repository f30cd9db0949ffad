"""Pretrain the miniature BiomedCLIP on captioned medical phantoms, contrastively and never from masks.

`python -m tools.pretrain.biomedclip OUT` writes the folder that `vlsm_helpers` ships. What makes a run is its number of
steps, its seed and the weight of the words. The state of a run is kept beside OUT: a stopped run resumes when the same command
is given again, also with other `--steps`, which the learning rate then follows, or `--words`; the card says so.
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
from tqdm import trange

from tools.pretrain import card
from tools.pretrain.biomedclip_folder import save_tensors, train_vocabulary, write_config
from tools.pretrain.captioned import HELD_OUT, VIEWS, batch, corpus, jittered, training_seeds
from tools.pretrain.captions import MODALITIES, Description, claim_of, wording
from tools.pretrain.contrast import Contrast
from tools.pretrain.embedder import Embedder
from tools.pretrain.general_start import cosine_to, start_from
from tools.pretrain.lexicon import Lexicon
from tools.pretrain.probe import AMONG, embed, nearest_caption, retrieval
from vlsm_helpers.models.biomedclip import build_biomedclip
from vlsm_helpers.models.pretrained import load_clipseg
from vlsm_helpers.settings import cache_folder, hardware, seed_everything
from vlsm_helpers.settings.profiles import TINY_WEIGHTS

FACTS, FREE = "training.json", ("steps", "words")
CAPTIONS_FOR_VOCABULARY = 20_000


@dataclass(frozen=True)
class Plan:
    """Every number of a run."""

    general: str = TINY_WEIGHTS  # the CLIPSeg whose vision tower it starts from
    steps: int = 1600
    batch_size: int = 32  # images, a quarter of each modality
    memory: int = 256  # images and captions of the steps before, which the loss chooses among, too
    words: float = 1.0  # weight of the loss of each attribute's words beside the contrastive ones
    phantoms: int = 2000  # of each modality
    held_out: int = len(HELD_OUT)  # likewise
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warm_up: int = 100
    clip: float = 1.0
    measure_every: int = 400
    save_every: int = 100
    seed: int = 0

    def learning_rate_at(self, step: int) -> float:
        """Linear warm-up, then a cosine to a hundredth; steps count from 1."""
        cosine = (1 + math.cos(math.pi * step / self.steps)) / 2
        return self.learning_rate * min(1.0, step / self.warm_up) * (0.01 + 0.99 * cosine)


class Pretraining:
    """One run: its data, its model in `folder`, and what was measured on the way."""

    def __init__(self, folder: Path, plan: Plan, cache: Path):
        self.folder, self.plan = folder, plan
        self.state = folder.with_name(f"{folder.name}.state")
        state = _state_of(self.state, plan) if self.state.exists() else None  # before anything is written
        seed_everything(plan.seed)
        self.corpora = [corpus(name, training_seeds(plan.phantoms), cache) for name in MODALITIES]
        self.held_out = [corpus(name, HELD_OUT[: plan.held_out], cache) for name in MODALITIES]
        described = [description for own in self.corpora for description in own.descriptions]
        write_config(folder, train_vocabulary(_captions(described, plan.seed)))
        clip, *rest = build_biomedclip(folder, load_weights=False)
        self.general = load_clipseg(plan.general)[0].clip.vision_model
        start_from(clip.visual.trunk, self.general)
        self.embedder = Embedder(clip, *rest)
        self.contrast = Contrast(clip, Lexicon(described), plan.memory, plan.words)
        self.optimizer = _optimizer(self.contrast, plan)
        self.done, self.seconds, self.history = 0, 0.0, []
        self.planned = [{"from": 0} | _free(plan)]  # what held from which step on
        if state:
            self._resume(state)

    def run(self) -> None:
        """The steps that are left, with scores and a checkpoint now and then, and the card at the end."""
        if not self.history:
            self.measure(None)
        losses, begun = [], time.perf_counter()
        steps = trange(self.done + 1, self.plan.steps + 1, unit="step", mininterval=10)
        for step in steps:
            losses.append(self.step(step))
            steps.set_postfix(loss=f"{np.mean(losses[-20:]):.2f}", refresh=False)
            measures = step % self.plan.measure_every == 0 or step == self.plan.steps
            if measures or step % self.plan.save_every == 0:
                self.done, self.seconds = step, self.seconds + time.perf_counter() - begun
                if measures:
                    self.measure(float(np.mean(losses[-self.plan.measure_every :])))
                self._save()
                begun = time.perf_counter()
        write_card(self.folder)

    def step(self, number: int) -> float:
        """One batch; what is drawn for it follows from the seed and its number, so that a resumed run draws the same."""
        rng = np.random.default_rng([self.plan.seed, number])
        dealt = batch(rng, self.corpora, self.contrast.lexicon, self.plan.batch_size)
        for group in self.optimizer.param_groups:
            group["lr"] = self.plan.learning_rate_at(number)
        pixels, ids = self.embedder.pixels(jittered(rng, dealt.images)), self.embedder.ids(dealt.captions)
        loss = self.contrast(pixels, ids, torch.from_numpy(dealt.shown), torch.from_numpy(dealt.said))
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.contrast.parameters(), self.plan.clip)
        self.optimizer.step()
        self.contrast.clamp_scales()
        return loss.item()

    def measure(self, loss: float | None) -> None:
        """Save the model, then score it; the facts of the run go beside it."""
        save_tensors(self.folder, self.contrast.clip)
        self.contrast.eval()
        whole = embed(self.embedder, self.held_out, every=VIEWS)
        cosines = cosine_to(self.contrast.clip.visual.trunk, self.general)
        row = {
            "step": self.done,
            "minutes": round(self.seconds / 60, 1),
            "loss": loss,
            "retrieval": retrieval(self.embedder, whole),
            "nearest_caption": nearest_caption(self.embedder, whole),
            "cosine": float(np.mean(list(cosines.values()))),
        }
        self.contrast.train()
        self.history.append(row)
        print(json.dumps(_columns(row)), flush=True)
        (self.folder / FACTS).write_text(json.dumps(self.facts(), indent=1) + "\n", encoding="utf-8")

    def facts(self) -> dict:
        """What the model card says."""
        clip = self.contrast.clip
        return {
            "plan": asdict(self.plan),
            "parameters": sum(parameter.numel() for parameter in clip.parameters()),
            "images": sum(len(own.images) for own in self.corpora),
            "hardware": hardware(),
            "versions": {"Python": platform.python_version()}
            | {name: version(name) for name in ("torch", "timm", "open_clip_torch", "transformers", "tokenizers")},
            "planned": self.planned,
            "history": self.history,
        }

    def _save(self) -> None:
        state = {
            "plan": asdict(self.plan),
            "done": self.done,
            "seconds": self.seconds,
            "planned": self.planned,
            "history": self.history,
            "contrast": self.contrast.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        fresh = self.state.with_suffix(".tmp")
        torch.save(state, fresh)
        fresh.replace(self.state)

    def _resume(self, state: Mapping) -> None:
        self.done, self.seconds, self.history = state["done"], state["seconds"], state["history"]
        self.planned = state["planned"]
        if not _free(self.plan).items() <= self.planned[-1].items():
            self.planned = [*self.planned, {"from": self.done} | _free(self.plan)]
        self.contrast.load_state_dict(state["contrast"])
        self.optimizer.load_state_dict(state["optimizer"])


def _state_of(path: Path, plan: Plan) -> dict:
    """What `path` keeps of a run of this plan; SystemExit if it is of another one."""
    state = torch.load(path, weights_only=True)
    changed = {key for key, value in asdict(plan).items() if state["plan"][key] != value} - {*FREE}
    if changed:
        raise SystemExit(f"{path} is of a run with another {', '.join(sorted(changed))}: delete it to start anew.")
    return state


def _free(plan: Plan) -> dict:
    """What a resumed run may change, because the card says so."""
    return {key: getattr(plan, key) for key in FREE}


def _captions(described: list[Description], seed: int) -> list[str]:
    """Captions as training words them, for the vocabulary."""
    rng = np.random.default_rng([seed, 1])
    chosen = rng.integers(len(described), size=CAPTIONS_FOR_VOCABULARY)
    return [wording(rng, claim_of(rng, described[row])) for row in chosen]


def _optimizer(contrast: Contrast, plan: Plan) -> torch.optim.AdamW:
    """Weight decay for matrices only."""
    matrices = [parameter for parameter in contrast.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in contrast.parameters() if parameter.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": plan.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=plan.learning_rate, betas=(0.9, 0.98))


def write_card(folder: Path) -> None:
    """FOLDER/README.md, from what the run in `folder` measured."""
    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    plan, history = facts["plan"], facts["history"]
    last, end = history[-1], _columns(history[-1])
    recipe = {
        "model": "ViT (128 px, patches of 16, width 128, 8 blocks, attention pooling) and BERT (width 128, 2 layers), "
        f"{facts['parameters']:,} parameters, float16",
        "data": f"{facts['images']:,} captioned images of {len(MODALITIES)} modalities: {plan['phantoms']:,} phantoms of "
        f"each, {VIEWS} views of each phantom, from seeds that no dataset of the course uses; captions name finding, kind, size, "
        "shape, colour, number, place or absence, some as the course's prompts (p1 to p6) do, and are generated from the "
        "ground truth; no loss uses the masks",
        "loss": f"contrastive (InfoNCE, learned temperature): batches mix all modalities, and {plan['memory']} images and "
        "captions of the steps before are further choices; of the image embedding, and of the patches that match the words for "
        "the finding, which have to be where words say; an anchor for each word",
        "start": "image encoder: the miniature CLIPSeg's (trained on masks of drawn objects, nothing medical), two blocks "
        "appended as the identity and a new pooling, all trained at the full learning rate: the mean cosine similarity of its "
        f"weight matrices to CLIPSeg's is {last['cosine']:.2f} at the end; text encoder: random weights",
        "training": f"{plan['steps']:,} steps of {plan['batch_size']} images, AdamW, learning rate {plan['learning_rate']}, "
        f"weight decay {plan['weight_decay']}, cosine, seed {plan['seed']}; {last['minutes']:.0f} minutes{_replanned(facts)}",
        "hardware": f"{facts['hardware']}, shared with other work",
        "scores": f"share of held-out images whose most similar full caption, of {AMONG}, is true of them: captions of all "
        "modalities (`mixed`) and of the image's own (`within`, the mean of the modalities), each beside its chance level; "
        "share of findings whose ninth of the image is named by the most similar caption (`place`; `usual`: always the "
        "commonest place). More probes: benchmarks/biomedclip.md of the course",
        "limits": f"it knows phantoms only; within a modality it finds a true caption for {end['within']:.0%} of the images "
        f"(chance {end['chance, within']:.0%}), and the right place for {end['place']:.0%} (always the commonest: "
        f"{end['usual']:.0%})",
    }
    rows = [_columns(row) for row in history]
    card.write(folder, "BiomedCLIP", recipe, rows, held_out=plan["held_out"] * len(MODALITIES))


def _replanned(facts: Mapping) -> str:
    """What the card adds where a resumed run was given another number of steps, or another weight of the words."""
    changes = zip(facts["planned"], facts["planned"][1:], strict=False)
    return "".join(
        f"; until step {later['from']:,} planned for {one['steps']:,} steps, with a weight of {one['words']} for the words"
        for one, later in changes
    )


def _columns(row: Mapping) -> dict[str, float]:
    """A row of the card's table."""
    found, place = row["retrieval"], row["nearest_caption"]["place"]

    def within(key: str) -> float:
        return float(np.mean([found[name][key] for name in MODALITIES]))

    return {
        "step": row["step"],
        "minutes": row["minutes"],
        "mixed": found["mixed"]["top1"],
        "chance, mixed": found["mixed"]["chance"],
        "within": within("top1"),
        "chance, within": within("chance"),
        "place": place["accuracy"],
        "usual": place["usual"],
        "cosine": row["cosine"],
    }


def main() -> None:
    """Pretrain into the folder that the command names."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=Plan.steps)
    parser.add_argument("--words", type=float, default=Plan.words, help="weight of the loss of each attribute's words")
    parser.add_argument("--seed", type=int, default=Plan.seed)
    given = parser.parse_args()
    torch.set_num_threads(1)
    plan = Plan(steps=given.steps, words=given.words, seed=given.seed)
    Pretraining(given.folder, plan, cache_folder() / "pretraining").run()


if __name__ == "__main__":
    main()
