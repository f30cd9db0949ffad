"""Images per second of `vlsm segment`: `python -m benchmarks.segment [--before CHECKOUT] [--images 500] [--profile tiny]`.

Synthetic JPEGs of 1 megapixel (phantoms, enlarged, with noise) go through an ensemble of the members that `vlsm ensemble` trains,
with random decoders, each time in a process of its own. With --before, the code of another checkout takes turns with this one.
Printed: a row per checkout with medians by the clock and by the processor's seconds, the load of the machine, and the peak of
memory in each quarter of the time, which is flat where nothing piles up.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

DISTINCT, SIDE, ROUNDS = 40, 1000, 3
MEMBERS = ("clipseg", "biomedclipseg", "unet_d", "unet_imagenet")


def draw_images(folder: Path, count: int) -> list[Path]:
    """`count` JPEGs, DISTINCT of them different; the others are links to these."""
    import numpy as np
    from PIL import Image

    from vlsm_helpers.data.images import read_image
    from vlsm_helpers.data.samples import load_split

    samples, generator = load_split("phantom_endoscopy", "test"), np.random.default_rng(0)
    paths = [folder / f"{number:05}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        if number >= DISTINCT:
            os.link(paths[number % DISTINCT], path)
            continue
        enlarged = Image.fromarray(read_image(samples[number % len(samples)].image)).resize((SIDE, SIDE))
        noisy = np.asarray(enlarged) + generator.integers(-8, 9, (SIDE, SIDE, 3))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=92)
    return paths


def measure(images: list[Path], profile: str) -> dict:
    """Seconds for all images in this process, after two that warm up, and the peak of its memory in megabytes in each quarter."""
    import numpy as np
    import psutil
    import torch

    import vlsm_helpers as vlsm
    from vlsm_helpers.fusion.weighted import WeightedFusion
    from vlsm_helpers.inference.batch import segment_files
    from vlsm_helpers.settings.profiles import PROFILES

    torch.manual_seed(0)
    members = {name: vlsm.build(name, profile) for name in MEMBERS}
    size = PROFILES[profile].image_size
    predictor = vlsm.Predictor(members, WeightedFusion.equal(MEMBERS), size=size, prompt="polyp")
    megabytes, over = [], threading.Event()

    def watch() -> None:
        while not over.wait(0.2):
            megabytes.append(psutil.Process().memory_info().rss / 1e6)

    with tempfile.TemporaryDirectory() as output:
        segment_files(predictor, images[:2], Path(output) / "warm")
        watching = threading.Thread(target=watch)
        watching.start()
        wall, cpu = time.perf_counter(), time.process_time()
        segment_files(predictor, images, Path(output) / "all")
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        over.set()
        watching.join()
    quarters = [round(max(part)) for part in np.array_split(megabytes, 4) if len(part)]
    return {"wall": wall, "cpu": cpu, "megabytes": quarters, "load": os.getloadavg()[0]}


def in_checkout(checkout: Path, folder: Path, profile: str) -> dict:
    """`measure` with the code of a checkout, in a process of its own."""
    command = [sys.executable, str(Path(__file__).resolve()), "--measure", str(folder), "--profile", profile]
    environment = os.environ | {"PYTHONPATH": str(checkout), "TQDM_DISABLE": "1"}
    child = subprocess.run(command, cwd=checkout, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(child.stdout.splitlines()[-1])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--profile", default="tiny")
    parser.add_argument("--before", type=Path)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(sorted(given.measure.glob("*.jpg")), given.profile)))
        return
    here = Path(__file__).resolve().parents[1]
    checkouts = {"before": given.before.resolve(), "now": here} if given.before else {"now": here}
    found = {name: [] for name in checkouts}
    with tempfile.TemporaryDirectory() as folder:
        draw_images(Path(folder), given.images)
        for _ in range(given.rounds):
            for name, checkout in checkouts.items():
                found[name].append(in_checkout(checkout, Path(folder), given.profile))
    print(
        "| code | images/s | images per processor second | peak memory of each quarter, MB | load |\n|---|---|---|---|---|"
    )
    for name, runs in found.items():
        wall, cpu = (sorted(given.images / run[key] for run in runs)[len(runs) // 2] for key in ("wall", "cpu"))
        memory, load = runs[-1]["megabytes"], max(run["load"] for run in runs)
        print(f"| {name} | {wall:.2f} | {cpu:.2f} | {', '.join(map(str, memory))} | {load:.1f} |", flush=True)


if __name__ == "__main__":
    main()
