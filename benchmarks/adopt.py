"""What `vlsm data adopt` costs: CPU seconds, wall seconds and peak memory by the number of images.

    python -m benchmarks.adopt --images 2000 10000 --size 256 256
    python -m benchmarks.adopt --images 20 100 --size 4000 3000 --jpeg

Images and masks are drawn into a temporary folder; each adoption runs in a process of its own. To compare with another version,
run the same file in a checkout of it. CPU seconds are what to compare on a busy machine.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

ADOPT = """
import resource, sys, time
from vlsm_helpers.data.own import adopt
start = time.perf_counter()
adopt("many", sys.argv[1], sys.argv[2], "disc", group=r"^p(\\d+)_", alike=1)
used = resource.getrusage(resource.RUSAGE_SELF)
print(time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
"""

DISTINCT = 100  # images that are drawn


def draw(folder: Path, count: int, width: int, height: int, ending: str) -> tuple[Path, Path]:
    """Images of blurred noise with a bright disc, two per patient, and masks of the discs; from the 101st on they repeat."""
    generator = np.random.default_rng(0)
    images, masks = folder / "images", folder / "masks"
    images.mkdir()
    masks.mkdir()
    rows, columns = np.ogrid[:height, :width]
    for number in range(min(count, DISTINCT)):
        noise = Image.fromarray(generator.integers(0, 160, (height // 8, width // 8, 3), np.uint8))
        pixels = np.array(noise.resize((width, height), Image.Resampling.BILINEAR))
        row, column, radius = (generator.uniform(*limits) * height for limits in ((0.3, 0.7), (0.3, 0.7), (0.05, 0.2)))
        disc = (rows - row) ** 2 + (columns - column) ** 2 < radius**2
        pixels[disc] += 80
        name = f"p{number // 2}_{number:05d}"
        Image.fromarray(pixels).save(images / f"{name}.{ending}", quality=90)
        Image.fromarray(disc).save(masks / f"{name}.png")
    for number in range(DISTINCT, count):
        one, other = (f"p{n // 2}_{n:05d}" for n in (number % DISTINCT, number))
        shutil.copyfile(images / f"{one}.{ending}", images / f"{other}.{ending}")
        shutil.copyfile(masks / f"{one}.png", masks / f"{other}.png")
    return images, masks


def main() -> None:
    """Draw and adopt each number of images, and print a row of a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[500, 2000])
    parser.add_argument("--size", type=int, nargs=2, metavar=("WIDTH", "HEIGHT"), default=[256, 256])
    parser.add_argument("--jpeg", action="store_true", help="JPEG in place of PNG")
    given = parser.parse_args()
    print("| images | pixels | CPU s | ms per image | wall s | peak MB |\n|---|---|---|---|---|---|")
    for count in given.images:
        with tempfile.TemporaryDirectory() as folder:
            images, masks = draw(Path(folder), count, *given.size, "jpg" if given.jpeg else "png")
            where = os.environ | {"VLSM_DATA": f"{folder}/data", "TQDM_DISABLE": "1"}
            outcome = subprocess.run(
                [sys.executable, "-c", ADOPT, images, masks], env=where, stdout=subprocess.PIPE, text=True, check=True
            )
        wall, cpu, peak = map(float, outcome.stdout.split()[-3:])
        size = f"{given.size[0]} x {given.size[1]}"
        print(f"| {count} | {size} | {cpu:.1f} | {1000 * cpu / count:.1f} | {wall:.1f} | {peak:.0f} |", flush=True)


if __name__ == "__main__":
    start = time.perf_counter()
    main()
    print(f"in all {time.perf_counter() - start:.0f} s")
