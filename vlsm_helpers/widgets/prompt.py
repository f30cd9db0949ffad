"""The explorer of prompts: what a segmenter predicts for an image and any prompt."""

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
from vlsm_helpers.models.segmenter import resize
from vlsm_helpers.plots.overlays import overlay, png
from vlsm_helpers.widgets.display import show

SIDE = 384  # pixels of the displayed image, whatever the size of the images
CACHED = 128  # prompts and predictions


class EncodedPrompt(NamedTuple):
    """A prompt after the text encoder."""

    text: Tensor  # embedding (1, D)
    warning: str  # of the encoder; "" without one


class PromptModel:
    """Predictions for any prompt and any of a few images: probability, overlay, Dice.

    `images` are already encoded, and predictions are cached, so that moving the threshold does not run the decoder.
    """

    def __init__(self, images: PromptedImages):
        self.images = images
        self.encode = lru_cache(CACHED)(self._encode)
        self.logits = lru_cache(CACHED)(self._logits)

    def probability(self, index: int, prompt: str) -> np.ndarray:
        """Probabilities of foreground float32 (S, S), in [0, 1], for image `index` and `prompt`."""
        return torch.sigmoid(self.logits(index, prompt)).numpy()

    def warning(self, prompt: str) -> str:
        """The segmenter's warning about `prompt`, such as that it was truncated; "" without one."""
        return self.encode(prompt).warning

    def dice(self, index: int, prompt: str, threshold: float) -> float:
        """Dice, in [0, 1], at the mask's original size, of the pixels with a probability above `threshold`."""
        return float(dice_curve(self.logits(index, prompt), self.images.masks[index], [threshold])[0])

    def foreground(self, index: int, prompt: str, threshold: float) -> float:
        """The fraction of pixels, in [0, 1], with a probability above `threshold`."""
        return float((self.probability(index, prompt) > threshold).mean())

    def overlay(self, index: int, prompt: str, threshold: float) -> np.ndarray:
        """The image, uint8 (SIDE, SIDE, 3), with the prediction in orange and the outline of the ground truth in green."""
        prediction = torch.sigmoid(resize(self.logits(index, prompt), (SIDE, SIDE))) > threshold
        return overlay(self.images.images[index], self.images.masks[index], prediction.numpy())

    def _encode(self, prompt: str) -> EncodedPrompt:
        with warnings.catch_warnings(record=True) as caught, torch.no_grad():
            warnings.simplefilter("always")
            text = self.images.segmenter.encode_text([prompt])
        return EncodedPrompt(text, " ".join(str(entry.message) for entry in caught if entry.category is UserWarning))

    def _logits(self, index: int, prompt: str) -> Tensor:
        return self.images.decode(self.encode(prompt).text, [index])[0]


class PromptExplorer:
    """A text box for the prompt, a menu of images, a threshold slider, and the overlay of the prediction, which follows them.

    In the last line of a cell the explorer displays itself; pages without a running kernel show a sentence.

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
        self.image_choice = ipywidgets.Dropdown(
            options=[(name, number) for number, name in enumerate(names)], value=0, description="image"
        )
        self.threshold = ipywidgets.FloatSlider(value=threshold, min=0.0, max=1.0, step=0.01, description="threshold")
        self.overlay = ipywidgets.Image(format="png", width=SIDE, height=SIDE)
        self.message = ipywidgets.HTML()
        self.box = ipywidgets.VBox([self.prompt, self.image_choice, self.threshold, self.message, self.overlay])
        for control in (self.prompt, self.image_choice, self.threshold):
            control.observe(self._update, names="value")
        self._update()

    def _update(self, change: object = None) -> None:
        """Show the current prediction of the model."""
        chosen = self.image_choice.value, self.prompt.value, self.threshold.value
        self.overlay.value = png(self.model.overlay(*chosen))
        scores = (
            f"Dice <b>{self.model.dice(*chosen):.2f}</b>, {self.model.foreground(*chosen):.1%} predicted foreground"
        )
        warning = html.escape(self.model.warning(self.prompt.value))
        self.message.value = scores + (f"<br><b>⚠</b> {warning}" if warning else "")

    def _ipython_display_(self) -> None:
        show(self.box, repr(self))

    def __repr__(self) -> str:
        return "[While a kernel runs, this shows a text box for the prompt, a menu of images and a threshold slider.]"
