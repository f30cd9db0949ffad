"""The models at full size, our implementation against the published one: `python -m benchmarks.wirings`, on two cores.

Random weights in the published formats, batches of 4, prompts of 77 tokens. The published one computes all features in
every step; for CLIPSeg it is the library's forward. Both take turns in one process, so that a busy machine slows both; medians
are reported. Peak memory is measured in a separate process for each way. With --tiny ours is a miniature: a dry run of this
program, whose ratios mean nothing.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import CLIPSegForImageSegmentation

from benchmarks.timing import forget_peak, in_a_process, interleaved, peak_gigabytes
from tools.random_checkpoints import write_biomedclip, write_clip_rn50, write_clipseg
from vlsm_helpers import settings
from vlsm_helpers.models import factory
from vlsm_helpers.models.published import checkpoints as published
from vlsm_helpers.models.smp_unet import NO_WEIGHTS
from vlsm_helpers.settings.profiles import PROFILES
from vlsm_helpers.training.loop import segmentation_loss

THREADS, BATCH, TOKENS = 2, 4, 77
ENSEMBLES = {"ensemble_a": 224, "ensemble_b": 352, "ensemble_c": 224}  # with the published image size
MODELS = {"unet_d": 352, "clipseg": 352, "biomedclipseg": 224, "cris": 416} | ENSEMBLES
PUBLISHED, IMAGES, DECODER_ONLY = "published", "default, from images", "default, from cached features"
WAYS = (PUBLISHED, IMAGES, DECODER_ONLY)
# Names of the blocks in timm, BERT and CLIP, then of those in CRIS: CLIP with a ResNet, and EfficientNet-Lite0.
TOWERS = ("trunk.blocks", "encoder.layer", "encoder.layers", "visual.layer1", "visual.blocks", "transformer.resblocks")
PROMPT = "polyp " * (TOKENS - 2)  # one token per word, plus start and end


def ways_of(name: str) -> tuple[str, ...]:
    """The ways to compare: a CNN has no encoders whose features could be cached."""
    return WAYS[:2] if name == "unet_d" else WAYS


def network(
    name: str, way: str, weights: Path, tiny: bool, batch: int = BATCH
) -> tuple[nn.Module, Callable[[], Tensor]]:
    """A model and a call without arguments that gives its logits (batch, 1, S, S) of one batch."""
    images, prompts = torch.rand(batch, 3, MODELS[name], MODELS[name]), [PROMPT] * batch
    if way == PUBLISHED:
        ids = torch.randint(1, 1000, (batch, TOKENS))
        return _published(name, weights, images, ids)
    profile = PROFILES["tiny" if tiny else "full"]
    options = factory.profile_options(name, profile)
    if "weights" in options:
        options["weights"] = weights / _folder_of(name, tiny)
    if name == "cris":
        options |= {"image_weights": NO_WEIGHTS, "train": "decoder" if way == DECODER_ONLY else "encoders"}
    if "clipseg_weights" in options:
        options["clipseg_weights"] = weights / "clipseg"
    model = factory.build(name, **options).to(memory_format=torch.channels_last)  # as `fit` does
    images = images.contiguous(memory_format=torch.channels_last)
    if way == IMAGES:
        return model, partial(model, images, prompts)
    with torch.no_grad():
        known = {"features": model.encode_images(images), "text": model.encode_text(prompts)}
    return model, partial(model, images, prompts, **known)


def _folder_of(name: str, tiny: bool) -> str:
    """The folder with the random weights that a model's option `weights` names."""
    if name == "cris":
        return "clipseg" if tiny else "clip_rn50"
    return "clipseg" if name in ("clipseg", "ensemble_b") else "biomedclip"


def _published(name: str, weights: Path, images: Tensor, ids: Tensor) -> tuple[nn.Module, Callable[[], Tensor]]:
    if name != "clipseg":
        model = published.build(name)
        return model, partial(model.forward_tokens, images, ids, torch.ones_like(ids))
    model = CLIPSegForImageSegmentation.from_pretrained(weights / "clipseg")
    ids = ids.clamp(max=model.config.text_config.vocab_size - 1)[:, : model.config.text_config.max_position_embeddings]

    def logits(images: Tensor) -> Tensor:
        found = model(input_ids=ids, pixel_values=images, attention_mask=torch.ones_like(ids)).logits
        return nn.functional.interpolate(found.reshape(len(ids), 1, *found.shape[-2:]), images.shape[-2:])

    return model, partial(logits, images)


def training_step(model: nn.Module, logits: Callable[[], Tensor], optimizer: torch.optim.Optimizer) -> None:
    """One training step of `fit`."""
    model.train()
    images = logits.args[0]
    segmentation_loss()(logits(), torch.zeros_like(images[:, :1])).backward()
    optimizer.step()
    optimizer.zero_grad()


def inference(model: nn.Module, logits: Callable[[], Tensor]) -> None:
    """One batch."""
    model.eval()
    with torch.no_grad():
        logits()


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of `fit`."""
    return torch.optim.AdamW([parameter for parameter in model.parameters() if parameter.requires_grad], lr=1e-4)


def encoder_passes(model: nn.Module, logits: Callable[[], Tensor]) -> dict[str, int]:
    """The number of forward passes of each encoder in a training step, by name."""
    counts = {}
    for name, module in model.named_modules():
        if "clip." in name and name.endswith(TOWERS) and isinstance(module, nn.ModuleList | nn.Sequential):
            counts[name] = 0
            module[0].register_forward_hook(lambda *_, name=name: counts.__setitem__(name, counts[name] + 1))
    model.train()
    logits()
    return counts


def seconds(name: str, weights: Path, tiny: bool, rounds: int) -> dict[str, dict[str, list[float]]]:
    """By way, the seconds of a "training step" and of an "inference"; the ways take turns after a warm-up round."""
    networks = {way: network(name, way, weights, tiny) for way in ways_of(name)}
    steps = {
        way: partial(training_step, model, logits, optimizer_of(model)) for way, (model, logits) in networks.items()
    }
    answers = {way: partial(inference, model, logits) for way, (model, logits) in networks.items()}
    taken = {"training step": interleaved(steps, rounds), "inference": interleaved(answers, rounds)}
    return {way: {kind: values[way] for kind, values in taken.items()} for way in networks}


def peak(name: str, way: str, weights: Path, tiny: bool, batch: int) -> None:
    """Two training steps, then print this process's peak resident memory in GB (on Linux) and the passes of its encoders."""
    model, logits = network(name, way, weights, tiny, batch)
    optimizer = optimizer_of(model)
    forget_peak()  # reading weights, and making the features that are then kept, is no part of a step
    for _ in range(2):
        training_step(model, logits, optimizer)
    print(json.dumps({"gigabytes": peak_gigabytes(), "passes": encoder_passes(model, logits)}))


def peak_in_a_process(name: str, way: str, weights: Path, tiny: bool, batch: int = BATCH) -> dict:
    """The output of `peak`, from a separate process."""
    return in_a_process("benchmarks.wirings", "--peak", name, way, str(weights), str(batch), *["--tiny"] * tiny)


HEAD = """\
| model | wiring | training step, s | inference, s | peak memory, GB | passes of each encoder in a step |
|---|---|---|---|---|---|"""


def table(rows: Sequence[dict]) -> str:
    """Lines of Markdown for one model, one per way, with the speed-up over the published one in brackets."""
    lines = []
    for row in rows:
        base = next(one for one in rows if one["way"] == PUBLISHED)
        cells = [f"{row[kind]:.2f} (x {base[kind] / row[kind]:.1f})" for kind in ("training step", "inference")]
        passes = ", ".join(map(str, row["passes"]))
        lines.append(
            f"| {row['model']}, {MODELS[row['model']]} px | {row['way']} | {' | '.join(cells)} "
            f"| {row['gigabytes']:.1f} | {passes} |"
        )
    return "\n".join(lines)


def measure(name: str, weights: Path, tiny: bool, rounds: int) -> list[dict]:
    """One row per way for one model."""
    rows = []
    for way, taken in seconds(name, weights, tiny, rounds).items():
        medians = {kind: statistics.median(values) for kind, values in taken.items()}
        memory = peak_in_a_process(name, way, weights, tiny)
        passes = sorted(memory["passes"].values())
        rows.append({"model": name, "way": way, **medians, "gigabytes": memory["gigabytes"], "passes": passes})
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("models", nargs="*", default=list(MODELS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tiny", action="store_true", help="miniature random weights for the default wiring")
    parser.add_argument("--peak", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    if given.peak:
        name, way, weights, batch = given.peak
        return peak(name, way, Path(weights), given.tiny, int(batch))
    with tempfile.TemporaryDirectory() as folder:
        write_biomedclip(Path(folder) / "biomedclip", tiny=given.tiny)
        write_clipseg(Path(folder) / "clipseg", tiny=given.tiny)
        write_clip_rn50(Path(folder) / "clip_rn50", tiny=given.tiny)
        print(f"{settings.hardware()}, torch {torch.__version__}; batch {BATCH}, medians of {given.rounds}.\n\n{HEAD}")
        for name in given.models:
            print(table(measure(name, Path(folder), given.tiny, given.rounds)), flush=True)


if __name__ == "__main__":
    main()
