"""The time of the exhaustive search of fusion weights: `python -m benchmarks.weight_search`, on two quiet cores.

Three members, 100 validation images of 352 px, all 231 points of the simplex at all 19 thresholds. The members predict the same
round targets shifted and blurred, with partly shared noise. Trained members differ more, which takes longer per pixel, so the
shipped predictions of val, 60 images of 128 px, are measured as well. tests/fusion/test_search.py compares the search with
brute force. Prints JSON, times in seconds.
"""

import argparse
import json
import statistics
import time
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from vlsm_helpers import settings
from vlsm_helpers.course import shipped
from vlsm_helpers.fusion import MemberLogits, WeightedMean

THREADS, MEMBERS, IMAGES, SIZE = 2, 3, 100, 352
SHIFTS, SOFTNESS = ((4, 2), (-3, 5), (0, -4)), (1.0, 2.0, 3.0)  # of each member, in pixels at 352 px
SHARED, OWN = 1.5, 1.5  # standard deviations of the shared and of the individual noise, in logits


def correlated_members(images: int = IMAGES, size: int = SIZE, seed: int = 0) -> MemberLogits:
    """Logits of three members and the ground truth, one disc of a few percent of each image."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    centres = (0.25 + 0.5 * torch.rand(images, 2, generator=generator)) * size
    radii = (0.06 + 0.12 * torch.rand(images, generator=generator)) * size
    distances = (rows - centres[:, :1, None]) ** 2 + (columns - centres[:, 1:, None]) ** 2
    masks = distances < radii[:, None, None] ** 2
    width = max(3, 31 * size // SIZE) | 1
    blurred = functional.avg_pool2d((2 * masks.float() - 1).unsqueeze(1), width, 1, width // 2)[:, 0]
    shared = SHARED * _smooth_noise(images, size, generator)
    logits = [
        12 / softness * torch.roll(blurred, (down * size // SIZE, right * size // SIZE), (1, 2))
        + shared
        + OWN * _smooth_noise(images, size, generator)
        for (down, right), softness in zip(SHIFTS, SOFTNESS, strict=True)
    ]
    return MemberLogits(torch.stack(logits), masks, tuple(f"member {number}" for number in range(MEMBERS)))


def _smooth_noise(images: int, size: int, generator: torch.Generator) -> Tensor:
    """Noise (images, size, size) of standard deviation about 1, at the resolution of a decoder's patches."""
    coarse = torch.randn(images, 1, 22, 22, generator=generator)
    return functional.interpolate(coarse, (size, size), mode="bicubic")[:, 0]


def measure(kind: str, validation: MemberLogits, rounds: int) -> list[dict]:
    """For each kind of mean, the seconds of `fit` and its result."""
    found = []
    for of_logits in (False, True):
        taken = []
        for _ in range(rounds + 1):  # the first round warms up
            begin = time.perf_counter()
            rule = WeightedMean(of_logits).fit(validation)
            taken.append(round(time.perf_counter() - begin, 3))
        row = {"members": kind, "images": len(validation.masks), "size": validation.masks.shape[-1], "rule": rule.name}
        row |= {"median": statistics.median(taken[1:]), "fastest": min(taken[1:]), "slowest": max(taken[1:])}
        found.append(row | {"weights": rule.weights, "threshold": rule.threshold})
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the results."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--size", type=int, default=SIZE, help="side in pixels")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args(arguments)
    torch.set_num_threads(THREADS)
    store = shipped.tiny_store("val")
    trained = store.validation(store.size)
    found = measure("synthetic", correlated_members(given.images, given.size), given.rounds)
    found += measure("shipped", trained, given.rounds)
    facts = {"hardware": settings.hardware(), "torch": torch.__version__, "images": given.images, "size": given.size}
    print(json.dumps(facts | {"rounds": given.rounds, "found": found}, indent=1))


if __name__ == "__main__":
    main()
