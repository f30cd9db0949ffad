"""Ensembles A, B, C at full size, default against `published` wiring: `python -m benchmarks.wirings`, on two cores.

Random weights in the published formats, batches of 4, prompts of 77 tokens. Both wirings take turns in one process, so that a
busy machine slows both; medians count. Peak memory is that of a process of its own for each way. With --tiny the default
wiring is a miniature: a rehearsal of this program, whose ratios mean nothing.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from tools.random_checkpoints import write_biomedclip, write_clipseg
from vlsm_helpers import settings
from vlsm_helpers.models import members, published
from vlsm_helpers.training import segmentation_loss

THREADS, BATCH, TOKENS = 2, 4, 77
ENSEMBLES = {"ensemble_a": 224, "ensemble_b": 352, "ensemble_c": 224}  # and the published size, pixels a side
PUBLISHED, IMAGES, FEATURES = "published", "default, from images", "default, from cached features"
WAYS = (PUBLISHED, IMAGES, FEATURES)
TOWERS = ("trunk.blocks", "encoder.layer", "encoder.layers")  # of timm, BERT and CLIP: where their blocks lie
PROMPTS = ["polyp " * (TOKENS - 2)] * BATCH  # a word is a token; the tokenizer adds one at each end


def network(name: str, way: str, weights: Path, tiny: bool) -> tuple[nn.Module, Callable[[], Tensor]]:
    """An ensemble and a call without arguments that gives its logits of one batch."""
    images = torch.rand(BATCH, 3, ENSEMBLES[name], ENSEMBLES[name])
    if way == PUBLISHED:
        model, ids = published.build(name), torch.randint(1, 1000, (BATCH, TOKENS))
        return model, partial(model.forward_tokens, images, ids, torch.ones_like(ids))
    profile = settings.PROFILES["tiny" if tiny else "full"]
    options = members.profile_options(name, profile)
    options["weights"] = weights / ("clipseg" if name == "ensemble_b" else "biomedclip")
    if "clipseg_weights" in options:
        options["clipseg_weights"] = weights / "clipseg"
    model = members.build(name, **options)
    if way == IMAGES:
        return model, partial(model, images, PROMPTS)
    with torch.no_grad():
        known = {"features": model.encode_images(images), "text": model.encode_text(PROMPTS)}
    return model, partial(model, images, PROMPTS, **known)


def training_step(model: nn.Module, logits: Callable[[], Tensor], optimizer: torch.optim.Optimizer) -> None:
    """What `fit` does with a batch."""
    model.train()
    masks = torch.zeros(BATCH, 1, *logits.args[0].shape[-2:])
    segmentation_loss()(logits(), masks).backward()
    optimizer.step()
    optimizer.zero_grad()


def inference(model: nn.Module, logits: Callable[[], Tensor]) -> None:
    """One batch."""
    model.eval()
    with torch.no_grad():
        logits()


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    """As `fit` makes it."""
    return torch.optim.AdamW([parameter for parameter in model.parameters() if parameter.requires_grad], lr=1e-4)


def encoder_passes(model: nn.Module, logits: Callable[[], Tensor]) -> dict[str, int]:
    """How often a training step runs each tower of the encoders, by its name."""
    counts = {}
    for name, module in model.named_modules():
        if "clip." in name and name.endswith(TOWERS) and isinstance(module, nn.ModuleList | nn.Sequential):
            counts[name] = 0
            module[0].register_forward_hook(lambda *_, name=name: counts.__setitem__(name, counts[name] + 1))
    model.train()
    logits()
    return counts


def seconds(name: str, weights: Path, tiny: bool, rounds: int) -> dict[str, dict[str, list[float]]]:
    """By way, the seconds of training steps and of inferences; the ways take turns, and the first round warms up."""
    networks = {way: network(name, way, weights, tiny) for way in WAYS}
    optimizers = {way: optimizer_of(model) for way, (model, _) in networks.items()}
    taken = {way: {"training": [], "inference": []} for way in WAYS}
    for number in range(rounds + 1):
        for way, (model, logits) in networks.items():
            for kind, run in {
                "training": partial(training_step, model, logits, optimizers[way]),
                "inference": partial(inference, model, logits),
            }.items():
                begin = time.perf_counter()
                run()
                if number > 0:
                    taken[way][kind].append(time.perf_counter() - begin)
    return taken


def peak(name: str, way: str, weights: Path, tiny: bool) -> None:
    """Two training steps, then print this process's peak resident memory in GB (on Linux) and the passes of its encoders."""
    model, logits = network(name, way, weights, tiny)
    optimizer = optimizer_of(model)
    for _ in range(2):
        training_step(model, logits, optimizer)
    status = Path("/proc/self/status").read_text()  # ru_maxrss would be that of the process which started this one
    kilobytes = int(status.partition("VmHWM:")[2].split()[0])
    print(json.dumps({"gigabytes": kilobytes * 1024 / 1e9, "passes": encoder_passes(model, logits)}))


def peak_in_a_process(name: str, way: str, weights: Path, tiny: bool) -> dict:
    """What `peak` prints, from a process of its own."""
    command = [sys.executable, "-m", "benchmarks.wirings", "--peak", name, way, str(weights), *["--tiny"] * tiny]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


HEAD = """\
| ensemble | wiring | training step, s | inference, s | peak memory, GB | passes of each encoder in a step |
|---|---|---|---|---|---|"""


def table(rows: Sequence[dict]) -> str:
    """Lines of Markdown for one ensemble, one for each way; how many times faster than published in brackets."""
    lines = []
    for row in rows:
        base = next(one for one in rows if one["way"] == PUBLISHED)
        cells = [f"{row[kind]:.2f} (x {base[kind] / row[kind]:.1f})" for kind in ("training", "inference")]
        passes = ", ".join(map(str, row["passes"]))
        lines.append(
            f"| {row['ensemble'][-1].upper()}, {ENSEMBLES[row['ensemble']]} px | {row['way']} | {' | '.join(cells)} "
            f"| {row['gigabytes']:.1f} | {passes} |"
        )
    return "\n".join(lines)


def measure(name: str, weights: Path, tiny: bool, rounds: int) -> list[dict]:
    """A row for each way of one ensemble."""
    rows = []
    for way, taken in seconds(name, weights, tiny, rounds).items():
        medians = {kind: statistics.median(values) for kind, values in taken.items()}
        memory = peak_in_a_process(name, way, weights, tiny)
        passes = sorted(memory["passes"].values())
        rows.append({"ensemble": name, "way": way, **medians, "gigabytes": memory["gigabytes"], "passes": passes})
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("ensembles", nargs="*", default=list(ENSEMBLES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tiny", action="store_true", help="miniature random weights for the default wiring")
    parser.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    if given.peak:
        name, way, weights = given.peak
        return peak(name, way, Path(weights), given.tiny)
    with tempfile.TemporaryDirectory() as folder:
        write_biomedclip(Path(folder) / "biomedclip", tiny=given.tiny)
        write_clipseg(Path(folder) / "clipseg", tiny=given.tiny)
        print(f"{settings.hardware()}, torch {torch.__version__}; batch {BATCH}, medians of {given.rounds}.\n\n{HEAD}")
        for name in given.ensembles:
            print(table(measure(name, Path(folder), given.tiny, given.rounds)), flush=True)


if __name__ == "__main__":
    main()
