"""The explorer of prompts: what a segmenter makes of an image in any words."""

import html
import warnings
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import ipywidgets
import numpy as np
import torch
from torch import Tensor

from vlsm_helpers.evaluation.prompting import PromptedImages, dice_curve
from vlsm_helpers.evaluation.scoring import at_size
from vlsm_helpers.plots.overlays import overlay, png
from vlsm_helpers.widgets.display import show

SIDE = 384  # pixels of the picture, however small the images are
KEPT = 128  # answers that are remembered


class Reading(NamedTuple):
    """What the text encoder made of a prompt: its embedding (1, D) and a warning, "" where there is none."""

    text: Tensor
    warning: str


class PromptModel:
    """Any prompt on any of a few images: probability, marked picture, Dice. It knows no widget.

    `images` are encoded already; what was asked before is remembered, so that moving the threshold decodes nothing.
    """

    def __init__(self, images: PromptedImages):
        self.images = images
        self.read = lru_cache(KEPT)(self._read)
        self.logits = lru_cache(KEPT)(self._logits)

    def probability(self, index: int, prompt: str) -> np.ndarray:
        """Probabilities float32 (S, S), in [0, 1], that a pixel of image `index` is what `prompt` says."""
        return torch.sigmoid(self.logits(index, prompt)).numpy()

    def warning(self, prompt: str) -> str:
        """What the segmenter warns of when it reads `prompt`, such as that it is cut; "" where there is nothing."""
        return self.read(prompt).warning

    def dice(self, index: int, prompt: str, threshold: float) -> float:
        """Dice, in [0, 1], at the mask's original size, of what has a probability above `threshold`."""
        return float(dice_curve(self.logits(index, prompt), self.images.masks[index], [threshold])[0])

    def marked(self, index: int, prompt: str, threshold: float) -> float:
        """The share of pixels, in [0, 1], with a probability above `threshold`."""
        return float((self.probability(index, prompt) > threshold).mean())

    def overlay(self, index: int, prompt: str, threshold: float) -> np.ndarray:
        """The image, uint8 (SIDE, SIDE, 3): what is marked tinted and outlined in orange, the truth outlined in green."""
        marked = torch.sigmoid(at_size(self.logits(index, prompt), (SIDE, SIDE))) > threshold
        return overlay(self.images.images[index], self.images.masks[index], marked.numpy())

    def _read(self, prompt: str) -> Reading:
        with warnings.catch_warnings(record=True) as caught, torch.no_grad():
            warnings.simplefilter("always")
            text = self.images.segmenter.encode_text([prompt])
        return Reading(text, " ".join(str(entry.message) for entry in caught if entry.category is UserWarning))

    def _logits(self, index: int, prompt: str) -> Tensor:
        return self.images.decode(self.read(prompt).text, [index])[0]


class PromptExplorer:
    """A text box, a picture to choose, a threshold to move, and a picture that follows; it draws what `model` says.

    As the last line of a cell it shows itself. Without a running kernel, a sentence stands in its place.

    >>> import vlsm_helpers as vlsm
    >>> from vlsm_helpers.widgets import PromptModel
    >>> images = vlsm.SegmentationDataset(vlsm.load_split("phantom_endoscopy", "val")[:3], size=128)
    >>> prompted = vlsm.PromptedImages.of(vlsm.build("clipseg", "tiny"), images)
    >>> explorer = vlsm.PromptExplorer(PromptModel(prompted), prompt="polyp")
    >>> explorer.prompt.value
    'polyp'
    """

    def __init__(self, model: PromptModel, prompt: str = "", *, names: Sequence[str] = (), threshold: float = 0.5):
        self.model = model
        names = list(names) or [f"image {name}" for name in model.images.ids]
        self.prompt = ipywidgets.Text(
            value=prompt,
            description="prompt",
            placeholder="some words, then Enter",
            continuous_update=False,
            layout=ipywidgets.Layout(width=f"{SIDE}px"),
        )
        self.picture = ipywidgets.Dropdown(
            options=[(name, number) for number, name in enumerate(names)], value=0, description="picture"
        )
        self.threshold = ipywidgets.FloatSlider(value=threshold, min=0.0, max=1.0, step=0.01, description="threshold")
        self.image = ipywidgets.Image(format="png", width=SIDE, height=SIDE)
        self.message = ipywidgets.HTML()
        self.box = ipywidgets.VBox([self.prompt, self.picture, self.threshold, self.message, self.image])
        for control in (self.prompt, self.picture, self.threshold):
            control.observe(self._draw, names="value")
        self._draw()

    def _draw(self, change: object = None) -> None:
        """Show what the model says now."""
        asked = self.picture.value, self.prompt.value, self.threshold.value
        self.image.value = png(self.model.overlay(*asked))
        said = f"Dice <b>{self.model.dice(*asked):.2f}</b>, {self.model.marked(*asked):.1%} of the picture marked"
        warning = html.escape(self.model.warning(self.prompt.value))
        self.message.value = said + (f"<br><b>⚠</b> {warning}" if warning else "")

    def _ipython_display_(self) -> None:
        show(self.box, repr(self))

    def __repr__(self) -> str:
        return "[A text box, a picture to choose and a threshold to move stand here while the notebook's kernel runs.]"
