"""The models at full size, our implementation against the published one: `python -m benchmarks.wirings`, on two cores.

Random weights in the published formats, batches of 4, prompts of 77 tokens. The published one computes all features in
every step; for CLIPSeg it is the library's forward. Both take turns in one process, so that a busy machine slows both; medians
are reported. Peak memory is measured in a separate process for each way. The CLIPSeg of ensemble C sees 352 px, in the published
wiring the 224 px of the image: ensemble_c_equal sees what the published one sees. With --tiny ours is a miniature: a dry run of
this program, whose ratios mean nothing.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import CLIPSegForImageSegmentation

from benchmarks.limits import Limit, Work, native_bf16, work
from benchmarks.timing import forget_peak, in_a_process, interleaved, peak_gigabytes
from tools.random_checkpoints import write_biomedclip, write_clip_rn50, write_clipseg
from vlsm_helpers import settings
from vlsm_helpers.models import factory
from vlsm_helpers.models.published import checkpoints as published
from vlsm_helpers.models.smp_unet import NO_WEIGHTS
from vlsm_helpers.settings.profiles import PROFILES
from vlsm_helpers.training.acceleration import training_layout
from vlsm_helpers.training.loop import segmentation_loss

THREADS, BATCH, TOKENS = 2, 4, 77
EQUAL = "ensemble_c_equal"  # ensemble C, its CLIPSeg at the published wiring's 224 px
ENSEMBLES = {"ensemble_a": 224, "ensemble_b": 352, "ensemble_c": 224, EQUAL: 224}  # with the published image size
MODELS = {"unet_d": 352, "clipseg": 352, "biomedclipseg": 224, "cris": 416} | ENSEMBLES
PUBLISHED, IMAGES, DECODER_ONLY = "published", "default, from images", "default, from cached features"
BF16 = "default, from images, bfloat16"
WAYS = (PUBLISHED, IMAGES, DECODER_ONLY)
STEP, INFERENCE = "training step", "inference"
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
    member, profile = published_name(name), PROFILES["tiny" if tiny else "full"]
    options = factory.profile_options(member, profile)
    if "weights" in options:
        options["weights"] = weights / _folder_of(name, tiny)
    if name == "cris":
        options |= {"image_weights": NO_WEIGHTS, "train": "decoder" if way == DECODER_ONLY else "encoders"}
    if "clipseg_weights" in options:
        options["clipseg_weights"] = weights / "clipseg"
    model = factory.build(member, **options)
    if name == EQUAL:
        model.b.vlsm.image_size = model.a.vlsm.image_size
    layout = training_layout(model, MODELS[name], "cpu")  # as `fit` does
    model.to(memory_format=layout)
    images = images.contiguous(memory_format=layout)
    if way == IMAGES:
        return model, partial(model, images, prompts)
    with torch.no_grad():
        known = {"features": model.encode_images(images), "text": model.encode_text(prompts)}
    return model, partial(model, images, prompts, **known)


def published_name(name: str) -> str:
    """The name of a key of MODELS in the factory and among the published networks."""
    return "ensemble_c" if name == EQUAL else name


def _folder_of(name: str, tiny: bool) -> str:
    """The folder with the random weights that a model's option `weights` names."""
    if name == "cris":
        return "clipseg" if tiny else "clip_rn50"
    return "clipseg" if name in ("clipseg", "ensemble_b") else "biomedclip"


def _published(name: str, weights: Path, images: Tensor, ids: Tensor) -> tuple[nn.Module, Callable[[], Tensor]]:
    if name != "clipseg":
        model = published.build(published_name(name))
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
    found = logits()
    segmentation_loss()(found, torch.zeros_like(found, dtype=torch.float32)).backward()
    optimizer.step()
    optimizer.zero_grad()


def inference(model: nn.Module, logits: Callable[[], Tensor]) -> None:
    """One batch."""
    model.eval()
    with torch.no_grad():
        logits()


def in_bf16(logits: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """The same call under autocast, as `fit` computes where bfloat16 is asked for."""

    def call(images: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return logits().float()

    return partial(call, logits.args[0])


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


class Measured(NamedTuple):
    """The results of one way in one kind of call; `rates`: the limit in its type, measured in the same rounds."""

    seconds: list[float]
    work: Work
    rates: dict[str, float]
    call: Callable[[], object]

    @property
    def share(self) -> float:
        """The share of the limit that the call reaches."""
        return self.work.share(statistics.median(self.seconds), self.rates)


def measured(name: str, weights: Path, tiny: bool, rounds: int, batch: int = BATCH) -> dict[str, dict[str, Measured]]:
    """The results by kind, STEP and INFERENCE, and way; ways and limits take turns after a warm-up round."""
    networks = {way: network(name, way, weights, tiny, batch) for way in ways_of(name)}
    if native_bf16():
        model, logits = networks[IMAGES]
        networks[BF16] = model, in_bf16(logits)
    optimizers = {way: optimizer_of(model) for way, (model, _) in networks.items()}
    sizes = {"side": 64, "maps": 8} if tiny else {}
    limits = {dtype: Limit(dtype, **sizes) for dtype in (torch.float32, torch.bfloat16)[: 1 + native_bf16()]}
    found = {}
    for kind in (STEP, INFERENCE):
        calls = {
            way: partial(training_step, *one, optimizers[way]) if kind == STEP else partial(inference, *one)
            for way, one in networks.items()
        }
        ways = {(dtype, key): call for dtype, limit in limits.items() for key, call in limit.ways.items()}
        taken = interleaved(calls | ways, rounds)
        rates = {dtype: limit.rates({key: taken[dtype, key] for key in limit.ways}) for dtype, limit in limits.items()}
        found[kind] = {
            way: Measured(taken[way], work(call), rates[torch.bfloat16 if way == BF16 else torch.float32], call)
            for way, call in calls.items()
        }
    return found


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
        cells = [f"{row[kind]:.2f} (x {base[kind] / row[kind]:.1f})" for kind in (STEP, INFERENCE)]
        passes = ", ".join(map(str, row["passes"]))
        lines.append(
            f"| {row['model']}, {MODELS[row['model']]} px | {row['way']} | {' | '.join(cells)} "
            f"| {row['gigabytes']:.1f} | {passes} |"
        )
    return "\n".join(lines)


def measure(name: str, weights: Path, tiny: bool, rounds: int) -> list[dict]:
    """One row per way for one model."""
    rows, found = [], measured(name, weights, tiny, rounds)
    for way in ways_of(name):
        medians = {kind: statistics.median(found[kind][way].seconds) for kind in (STEP, INFERENCE)}
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
