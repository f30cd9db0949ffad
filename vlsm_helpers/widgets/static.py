"""The fusion explorer without a kernel: a part of an HTML page that holds the logits and computes in the browser.

Logits are kept in 256 levels, as `course.shipped` keeps them, so the Dice on the page is that of these logits;
`static_fusion.js` computes, `static_explorer.js` shows. They need no server: pages work from a folder and offline.
"""

import base64
import hashlib
import json
import zlib
from importlib import resources
from io import BytesIO

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex
from PIL import Image

from vlsm_helpers.course.shipped import COARSEST, LEVELS
from vlsm_helpers.data.images import read_image
from vlsm_helpers.plots.base import GROUND_TRUTH, PREDICTION
from vlsm_helpers.widgets.fusion_model import FusionModel

RAMP = 32  # colours of the map, dark to bright
PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Fusion explorer: {title}</title>
<style>:root {{ color-scheme: light dark; }} body {{ margin: 2rem; font: 16px/1.5 system-ui, sans-serif; }}</style>
</head><body><h1>Fusion explorer</h1>
{part}
</body></html>
"""


def page(model: FusionModel) -> str:
    """A whole HTML page that shows `part`."""
    return PAGE.format(title=f"{model.store.dataset}, {model.store.split}", part=part(model))


def part(model: FusionModel) -> str:
    """The explorer of a model's members as HTML to put into a page, with its data, style and program.

    Sizes: 1.8 MB for three members of 60 images at 128 pixels; at most 0.6 bytes per pixel, image and member, about.
    """
    data = json.dumps(packed(model)).replace("<", "\\u003c")  # so that no name can end the script
    style, *programs = (_text(f"static_{name}") for name in ("explorer.css", "fusion.js", "explorer.js"))
    name = f"vlsm-explorer-{hashlib.sha256(data.encode()).hexdigest()[:8]}"
    return (
        f"<style>\n{style}</style>\n"
        f'<div class="vlsm-explorer" id="{name}"><script type="application/json">{data}</script>'
        "<noscript>The fusion explorer needs JavaScript.</noscript></div>\n"
        f'<script type="module">\n{"".join(programs)}\nexplore(document.getElementById("{name}"));\n</script>\n'
    )


def packed(model: FusionModel) -> dict:
    """What the program needs, JSON-able: members with levels, masks, and the images in the order of `model.order()`."""
    store, side, order = model.store, model.size, model.order()
    validation = store.validation(side)
    samples = store.samples()
    members = []
    for name, logits in zip(store.names, validation.logits.numpy(), strict=True):
        levels, steps = quantised(logits[order])
        members.append({"name": name, "steps": steps, "levels": _deflated(predicted_away(levels).tobytes())})
    return {
        "title": f"{store.dataset}, {store.split}: {len(order)} images, sorted by what they gain from the best weights",
        "side": side,
        "members": members,
        "masks": _deflated(np.packbits(validation.masks.numpy()[order]).tobytes()),
        "single": model.best_member,
        "images": [
            {
                "id": store.ids[number],
                "single": round(float(model.single[number]), 6),
                "jpeg": _jpeg(read_image(samples[number].image), side),
            }
            for number in order
        ],
        "colours": {
            "truth": GROUND_TRUTH,
            "prediction": PREDICTION,
            "ramp": [to_hex(colour) for colour in colormaps["viridis"](np.linspace(0, 1, RAMP))],
        },
    }


def quantised(logits: np.ndarray) -> tuple[np.ndarray, int]:
    """Logits in levels, uint8, and the levels per logit of 1: the largest power of 2 that clips none, and at least 8.

    Level v stands for the logit (v - 127.5) / steps. A step ends at 0, so no pixel crosses a probability of 0.5.
    """
    half = LEVELS // 2
    largest = max(float(np.abs(logits).max()), 1 / LEVELS)
    steps = max(COARSEST, 2 ** int(np.log2(half / largest)))
    levels = np.floor(np.asarray(logits, np.float32) * steps).clip(-half, half - 1) + half
    return levels.astype(np.uint8), steps


def predicted_away(levels: np.ndarray) -> np.ndarray:
    """Levels (N, S, S) minus what the left and upper neighbours predict, modulo 256: a third smaller once deflated.

    The predictor is that of LOCO-I (Weinberger, Seroussi and Sapiro 2000, equation 1); outside the image everything is 0.
    """
    wide = np.pad(levels.astype(np.int16), ((0, 0), (1, 0), (1, 0)))
    left, above, between = wide[:, 1:, :-1], wide[:, :-1, 1:], wide[:, :-1, :-1]
    expected = np.clip(left + above - between, np.minimum(left, above), np.maximum(left, above))
    return (levels - expected).astype(np.uint8)


def _deflated(content: bytes) -> str:
    compressor = zlib.compressobj(9, strategy=zlib.Z_FILTERED)
    return base64.b64encode(compressor.compress(content) + compressor.flush()).decode()


def _jpeg(pixels: np.ndarray, side: int) -> str:
    file = BytesIO()
    square = Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC)
    square.save(file, "JPEG", quality=80, optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def _text(name: str) -> str:
    return resources.files("vlsm_helpers.widgets").joinpath(name).read_text(encoding="utf-8")
