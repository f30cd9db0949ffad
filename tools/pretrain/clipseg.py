"""Pretrain the miniature CLIPSeg on the general world: `python -m tools.pretrain.clipseg vlsm_helpers/tiny_weights/clipseg`.

Encoders and decoder learn together to mark what a prompt names, in two lessons: first things on surfaces, then also things in
windows and pale veils, laid out with chest X-rays in mind: there, what matters is seen through something else. What is written
is a folder in the published format, in float16, with a model card. The same seed gives the same weights, up to the order of
floating-point sums.
"""

import argparse
import json
import math
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm
from transformers import CLIPSegConfig, CLIPSegForImageSegmentation

from tools.pretrain import card
from tools.pretrain.naming import corpus, draw_prompt
from tools.pretrain.scenes import HELD_OUT, SceneStore
from tools.pretrain.world import SURFACES, WINDOWS, World
from tools.random_checkpoints import write_clip_tokenizer, write_clipseg_preprocessor
from vlsm_helpers.models.biomedclipseg import reset_decoder
from vlsm_helpers.models.clipseg import CLIPSeg
from vlsm_helpers.models.segmenter import trainable_parameters
from vlsm_helpers.settings import hardware, seed_everything

SIZE, PATCH, CONTEXT, WIDTH = 128, 16, 32, 128
TAPS = (1, 3, 5)  # of six blocks; the decoder's loss reaches no block above the last tap, so there is none
MERGES = 600
BATCH, PROMPTS = 32, 3  # images a step, prompts an image: the vision encoder runs once for all three
DECAY = 0.03
NEAR_EMPTY = 0.01  # an absent thing is passed over when less than this share of the pixels is marked


@dataclass(frozen=True)
class Lesson:
    """A stage of the training; it starts from the float16 weights that the one before it left."""

    world: World
    scenes: range  # their seeds
    steps: int
    rate: float  # the highest learning rate
    warm_up: int  # steps


LESSONS = (
    Lesson(SURFACES, range(12_000), steps=4500, rate=1.2e-3, warm_up=200),
    Lesson(WINDOWS, range(20_000_000, 20_016_000), steps=3000, rate=1e-3, warm_up=50),
)


def write_fresh(folder: Path, seed: int) -> None:
    """An untrained miniature in the published format."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    entries = write_clip_tokenizer(folder, _merges(), CONTEXT)
    encoder = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_attention_heads": 4}
    text = {"num_hidden_layers": 2, "vocab_size": entries, "max_position_embeddings": CONTEXT}
    text |= {"bos_token_id": entries - 2, "eos_token_id": entries - 1}
    config = CLIPSegConfig(
        text_config=encoder | text,
        vision_config=encoder | {"image_size": SIZE, "patch_size": PATCH, "num_hidden_layers": TAPS[-1] + 1},
        projection_dim=WIDTH,
        extract_layers=list(TAPS),
        reduce_dim=64,
        decoder_intermediate_size=256,
        use_complex_transposed_convolution=True,
    )
    model = CLIPSegForImageSegmentation(config)
    reset_decoder(model.decoder)
    with torch.no_grad():  # begin with all features let through, and with masks that are mostly empty
        model.decoder.film_mul.bias.fill_(1.0)
        model.decoder.transposed_convolution[-1].bias.fill_(-2.0)
    model.save_pretrained(folder)
    write_clipseg_preprocessor(folder, SIZE)


def _merges() -> list[str]:
    """Byte pairs of the world's words, as CLIP's tokenizer wants them; always the same."""
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Punctuation(),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    # Of pairs that are as frequent the one met first wins, and words are met in no order: named here, letters have a fixed one.
    ends = [f"{letter}</w>" for letter in sorted(set("".join(corpus())))]
    trainer = trainers.BpeTrainer(
        vocab_size=4 * MERGES, end_of_word_suffix="</w>", show_progress=False, special_tokens=ends
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    pairs = json.loads(tokenizer.to_str())["model"]["merges"]
    return [" ".join(pair) if isinstance(pair, list) else pair for pair in pairs][:MERGES]


def draw_batch(store: SceneStore, rows: np.ndarray, rng: np.random.Generator) -> tuple[Tensor, list[str], Tensor]:
    """Images (B, 3, S, S) in [0, 1], B x PROMPTS prompts and their masks (B x PROMPTS, 1, S, S): scenes turned and mirrored."""
    images, prompts, targets = [], [], []
    for row in rows:
        scene = store[int(row)]
        turn, mirror = int(rng.integers(4)), bool(rng.integers(2))
        pixels = _moved(scene.image, turn, mirror).astype(np.float32) / 255
        masks = [_moved(thing.mask, turn, mirror) for thing in scene.things]
        contrast, shift = rng.uniform(0.8, 1.2), rng.uniform(-0.08, 0.08)
        images.append(np.clip((pixels - 0.5) * contrast + 0.5 + shift, 0, 1))
        for _ in range(PROMPTS):
            prompt, target = draw_prompt(rng, scene, masks)
            prompts.append(prompt)
            targets.append(target)
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
    return pixels, prompts, torch.from_numpy(np.stack(targets)).float().unsqueeze(1)


def _moved(array: np.ndarray, turn: int, mirror: bool) -> np.ndarray:
    turned = np.rot90(array, turn)
    return turned[:, ::-1] if mirror else turned


def predict(segmenter: CLIPSeg, images: Tensor, prompts: list[str]) -> Tensor:
    """Logits (B x PROMPTS, 1, S, S): each image is encoded once for its prompts."""
    features = tuple(f.repeat_interleave(PROMPTS, 0) for f in segmenter.encode_images(images))
    return segmenter.decode(features, segmenter.encode_text(prompts), images, (SIZE, SIZE))


def loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Twice the cross-entropy, and soft Dice where something is named."""
    bce = functional.binary_cross_entropy_with_logits(logits, targets)
    named = targets.flatten(1).any(1)
    probability, truth = logits.sigmoid()[named].flatten(1), targets[named].flatten(1)
    dice = 2 * (probability * truth).sum(1) / (probability.sum(1) + truth.sum(1))
    return 2 * bce + (1 - dice).mean()


@torch.no_grad()
def scores(segmenter: CLIPSeg, store: SceneStore) -> dict[str, float]:
    """On held-out scenes: mean Dice of prompts that name something, and the share of absent ones that are passed over."""
    rng = np.random.default_rng(0)
    segmenter.eval()
    dice, empty = [], []
    for start in range(0, len(store), BATCH):
        images, prompts, targets = draw_batch(store, np.arange(start, min(start + BATCH, len(store))), rng)
        marked, truth = predict(segmenter, images, prompts).flatten(1) > 0, targets.flatten(1) > 0
        overlap = 2 * (marked & truth).sum(1) / (marked.sum(1) + truth.sum(1)).clamp(min=1)
        dice += overlap[truth.any(1)].tolist()
        empty += (marked.float().mean(1) < NEAR_EMPTY)[~truth.any(1)].float().tolist()
    segmenter.train()
    return {
        "Dice, target present": float(np.mean(dice)),
        "target absent, almost nothing predicted": float(np.mean(empty)),
    }


def train(segmenter: CLIPSeg, store: SceneStore, held_out: SceneStore, lesson: Lesson, seed: int, keep) -> list[dict]:
    """Train for a lesson's steps; every twentieth of them `keep(segmenter, log)`. The log: a row of scores each time."""
    matrices = [p for p in segmenter.parameters() if p.requires_grad and p.ndim > 1]
    others = [p for p in segmenter.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=lesson.rate, betas=(0.9, 0.98))
    rng, log, losses, begun, steps = np.random.default_rng(seed), [], [], time.time(), lesson.steps
    for step in tqdm(range(steps), unit="step", mininterval=10):
        for group in optimizer.param_groups:
            cosine = (1 + math.cos(math.pi * step / steps)) / 2
            group["lr"] = lesson.rate * min(1, (step + 1) / lesson.warm_up) * (0.01 + 0.99 * cosine)
        images, prompts, targets = draw_batch(store, rng.integers(len(store), size=BATCH), rng)
        value = loss(predict(segmenter, images, prompts), targets)
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(segmenter.parameters(), 1.0)
        optimizer.step()
        losses.append(value.item())
        if (step + 1) % max(1, steps // 20) == 0 or step + 1 == steps:
            row = {"step": step + 1, "minutes": (time.time() - begun) / 60, "loss": float(np.mean(losses[-100:]))}
            log.append(row | scores(segmenter, held_out))
            tqdm.write(str({key: round(value, 3) for key, value in log[-1].items()}))
            keep(segmenter, log)
    return log


def save(segmenter: CLIPSeg, start: Path, folder: Path) -> None:
    """Write the weights, float16, in the format and with the vocabulary of the folder `start` that the training began with."""
    model = CLIPSegForImageSegmentation.from_pretrained(start, dtype=torch.float32)
    model.clip.load_state_dict(segmenter.clip.state_dict())
    model.decoder.load_state_dict(segmenter.decoder.state_dict())
    shutil.copytree(start, folder, dirs_exist_ok=True)
    model.half().save_pretrained(folder)


def write_card(folder: Path, lessons: Sequence[Lesson], log: Sequence[Mapping], seed: int) -> None:
    """FOLDER/README.md, from the rows that all lessons logged."""
    minutes = sum(
        max(row["minutes"] for row in log if row["lesson"] == number) for number in {row["lesson"] for row in log}
    )
    scenes = " and ".join(f"{len(lesson.scenes):,}" for lesson in lessons)
    steps = " and ".join(f"{lesson.steps:,}" for lesson in lessons)
    recipe = {
        "parameters": f"{trainable_parameters(CLIPSeg(folder, train='encoders')):,}",
        "data": f"{scenes} scenes of tools/pretrain/world.py, rotated and mirrored; no medical image",
        "lessons": "objects on surfaces; then also in windows and pale veils, designed with the layout of chest X-rays in mind",
        "steps": f"{steps}, {BATCH} images with {PROMPTS} prompts each",
        "optimizer": f"AdamW, learning rate {' and '.join(str(lesson.rate) for lesson in lessons)}, warm-up, then half a cosine; "
        f"weight decay {DECAY}",
        "loss": "2 x cross-entropy + soft Dice, encoders and decoder together, from random weights",
        "seed": str(seed),
        "hardware": f"{hardware()}, {minutes:.0f} minutes",
        "date": date.today().isoformat(),
    }
    card.write(folder, "CLIPSeg", recipe, log, held_out=len(HELD_OUT))


def main() -> None:
    """Train and write FOLDER, the card included."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=max(one.steps for one in LESSONS), help="of a lesson, at most")
    parser.add_argument("--scenes", type=int, default=max(len(one.scenes) for one in LESSONS), help="likewise")
    given = parser.parse_args()
    lessons = [replace(one, steps=min(one.steps, given.steps), scenes=one.scenes[: given.scenes]) for one in LESSONS]
    log: list[dict] = []
    with tempfile.TemporaryDirectory() as fresh:
        start = Path(fresh)
        write_fresh(start, given.seed)
        for number, lesson in enumerate(lessons):
            seed_everything(given.seed)
            segmenter = CLIPSeg(given.folder if number else start, train="encoders")
            stores = SceneStore(lesson.scenes, lesson.world), SceneStore(HELD_OUT, lesson.world)
            rows = train(segmenter, *stores, lesson, given.seed + number, lambda now, _: save(now, start, given.folder))
            log += [{"lesson": number + 1} | row for row in rows]
            write_card(given.folder, lessons[: number + 1], log, given.seed)


if __name__ == "__main__":
    main()
