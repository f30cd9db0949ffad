"""The explorer of weighted fusions: sliders, images and a map of Dice, which display a `FusionModel`."""

import html
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
from ipywidgets import HTML, HBox, Layout, VBox

from vlsm_helpers.errors import SettingsError
from vlsm_helpers.evaluation.predictions import PredictionStore
from vlsm_helpers.fusion.weighted import MEANS
from vlsm_helpers.io import atomic
from vlsm_helpers.plots.base import GROUND_TRUTH, PREDICTION
from vlsm_helpers.plots.images import image_row
from vlsm_helpers.plots.overlays import jpeg, overlay, png, probability_overlay, simplex_map
from vlsm_helpers.settings import runs_folder, writable
from vlsm_helpers.widgets import static
from vlsm_helpers.widgets.display import show
from vlsm_helpers.widgets.fusion_model import FusionModel

SIDE, SMALL, MAP = 384, 128, 210  # pixels: side of the image, side of a member's map, width of the simplex
STEP = 0.01  # of the sliders
KEY = (
    f"<span style='color:{GROUND_TRUTH}'>■</span> ground truth "
    f"<span style='color:{PREDICTION}'>■</span> prediction<br>"
    "images sorted by what they gain from the best weights"
)
TEXT_START = "[Dice "  # of what stands in a notebook for an explorer without a kernel
WRAPPED = "width:310px;line-height:1.4;white-space:pre-wrap;overflow-wrap:anywhere"
CONTROL = {"style": {"description_width": "95px"}, "layout": Layout(width="310px")}


class FusionExplorer:
    """Sliders for the members' weights, the temperature and the threshold, with the fused mask and its Dice.

    A menu chooses the image and the kind of mean; a map shows the Dice of all weights of three members; buttons set the best
    weights and export the current ones. In the last line of a cell the explorer displays itself; a notebook without a running
    kernel shows a static image. `save_page` writes an HTML page whose sliders need no kernel.
    """

    def __init__(self, store: PredictionStore, path: Path | None = None):
        """`store`: predictions of a validation split. `path`: the file that "export" writes, by default fusion.json in VLSM_RUNS.

        Raises DataError as `FusionModel` does.

        >>> import vlsm_helpers as vlsm
        >>> explorer = vlsm.FusionExplorer(vlsm.tiny_store("val"))
        >>> explorer.weights["unet_d"].value = 1
        >>> explorer.model.fusion.weights
        {'biomedclipseg': 0.0, 'clipseg': 0.0, 'unet_d': 1.0}
        """
        self.model = FusionModel(store)
        self.path = runs_folder() / "fusion.json" if path is None else Path(path)
        names, fusion = self.model.names, self.model.fusion
        self.weights = {name: self._weight_slider(name) for name in names}
        self.temperature = ipywidgets.FloatLogSlider(
            fusion.temperature, base=2, min=-4, max=4, step=0.25, description="temperature", **CONTROL
        )
        self.threshold = ipywidgets.FloatSlider(
            fusion.threshold, min=STEP, max=1 - STEP, step=STEP, description="threshold", **CONTROL
        )
        means = [(f"mean of {values}", values) for values in MEANS]
        self.mean_of = ipywidgets.Dropdown(options=means, description="rule", **CONTROL)
        images = [(self.model.ids[number], number) for number in self.model.order()]
        self.image_choice = ipywidgets.Dropdown(options=images, value=self.model.image, description="image")
        self.use_best = ipywidgets.Button(description="use the best weights", layout=Layout(width="auto"))
        self.export = ipywidgets.Button(description="export", layout=Layout(width="auto"))
        self.scores, self.export_message, self.map_legend = HTML(), HTML(), HTML()
        self.overlay = ipywidgets.Image(format="jpeg", width=SIDE, height=SIDE)
        self.member_captions = [HTML() for _ in names]
        self.member_maps = [ipywidgets.Image(format="jpeg", width=SMALL, height=SMALL) for _ in names]
        self.dice_map = ipywidgets.Image(format="png", width=MAP)
        self.box = self._layout()
        self._observe()
        self._update()

    def save_page(self, path: Path) -> None:
        """Write one HTML file with these members and images in which the explorer runs without a kernel, offline, too.

        It starts with equal weights; its Dice is that of the logits in 256 levels. 1.9 MB for three members of 60 images at
        128 pixels. Raises SettingsError where the file cannot be written, and DataError for an image that cannot be read.
        """
        atomic.write_text(
            Path(path), static.page(self.model), hint="free some space, or name a file in another folder."
        )

    def _weight_slider(self, name: str) -> ipywidgets.FloatSlider:
        single = len(self.model.names) == 1  # whose weight is always 1
        return ipywidgets.FloatSlider(
            self._slider_value(name), min=0, max=1, step=STEP, description=name, disabled=single, **CONTROL
        )

    def _layout(self) -> HBox:
        settings = [*self.weights.values(), self.temperature, self.threshold, self.mean_of]
        buttons = [HBox([self.use_best, self.export]), self.export_message]
        members = [widget for pair in zip(self.member_captions, self.member_maps, strict=True) for widget in pair]
        image = [self.image_choice, self.scores, self.overlay, HTML(KEY)]
        columns = [*settings, *buttons, *self._labelled_map()], image, members
        return HBox([VBox(column, layout=Layout(margin="0 16px 0 0")) for column in columns])

    def _labelled_map(self) -> list[ipywidgets.Widget]:
        if not self._has_map:
            return []
        top, *corners = (html.escape(name) for name in self.model.names)
        row = "".join(f"<span>{name}</span>" for name in corners)
        above = HTML(f"<div style='width:{MAP}px;text-align:center'>{top}</div>")
        below = HTML(f"<div style='width:{MAP}px;display:flex;justify-content:space-between'>{row}</div>")
        return [above, self.dice_map, below, self.map_legend]

    def _observe(self) -> None:
        for name, slider in self.weights.items():
            slider.observe(partial(self._on_weight, name), names="value")
        for control in (self.temperature, self.threshold, self.mean_of, self.image_choice):
            control.observe(self._on_setting, names="value")
        self.use_best.on_click(self._on_use_best)
        self.export.on_click(self._on_export)

    @property
    def _has_map(self) -> bool:
        return len(self.model.names) == 3

    def _on_weight(self, name: str, change: dict) -> None:
        """A slider has moved: by hand, unless it is within half a step of its weight, where `_set_sliders` puts it."""
        if abs(change["new"] - self._slider_value(name)) > STEP / 2:
            self.model.move(name, change["new"])
            self._set_sliders()
            self._update()

    def _on_setting(self, change: dict) -> None:
        self.model.image = self.image_choice.value
        self.model.fusion = replace(
            self.model.fusion,
            mean_of=self.mean_of.value,
            temperature=self.temperature.value,
            threshold=self.threshold.value,
        )
        self._update()

    def _on_use_best(self, button: object) -> None:
        self.model.fusion = self.model.best()
        self._set_sliders()
        self._update()

    def _on_export(self, button: object) -> None:
        try:
            writable(self.path.parent)
            self.model.export(self.path)
            message = f"written to {self.path}"
        except SettingsError as error:
            message = str(error)
        self.export_message.value = f"<div style='{WRAPPED}'>{html.escape(message)}</div>"

    def _set_sliders(self) -> None:
        for name, slider in self.weights.items():
            slider.value = self._slider_value(name)

    def _slider_value(self, name: str) -> float:
        """A weight in whole steps: a browser would round any other value and send it back as if a person had moved it."""
        return round(round(self.model.fusion.weights[name] / STEP) * STEP, 6)

    def _update(self) -> None:
        """Show the current results of the model."""
        dice, member_dice = self.model.dice(), self.model.member_dice()
        self.scores.value = self._score_table(dice)
        for caption, name, each in zip(self.member_captions, self.model.names, member_dice, strict=True):
            caption.value = f"{html.escape(name)} <b>{each[self.model.image]:.2f}</b>"
        self.export_message.value = ""
        for widget, pixels in zip([self.overlay, *self.member_maps], self._pixels(), strict=True):
            widget.value = jpeg(pixels)
        if self._has_map:
            self.dice_map.value = png(self._simplex_map())
            values = self.model.dice_map()
            dice_range = f"Dice from {values.min():.3f} (dark) to {values.max():.3f} (bright)"
            self.map_legend.value = f"{dice_range}<br>○ current weights, + best weights"

    def _score_table(self, dice: np.ndarray) -> str:
        """Dice of the chosen image and of the split, next to those of the best single member."""
        single, image = self.model.single, self.model.image
        rows = {"this image": (dice[image], single[image]), f"all {len(dice)} images": (dice.mean(), single.mean())}
        cells = "".join(
            f"<tr><td>{what}</td><td><b>{fused:.3f}</b></td><td>{alone:.3f}</td></tr>"
            for what, (fused, alone) in rows.items()
        )
        heads = f"<th>Dice at {self.model.size} pixels</th><th>fused</th><th>{html.escape(self.model.best_member)}</th>"
        return f"<table style='width:{SIDE}px;line-height:1.5;text-align:left'><tr>{heads}</tr>{cells}</table>"

    def _pixels(self) -> list[np.ndarray]:
        """The overlay of the image, and the members' maps."""
        model, truth = self.model, self.model.ground_truth()
        maps = model.member_probabilities(SMALL)
        members = [probability_overlay(one, truth, one > model.fusion.threshold) for one in maps]
        return [overlay(model.pixels(), truth, model.prediction(SIDE)), *members]

    def _simplex_map(self) -> np.ndarray:
        points = [list(fusion.weights.values()) for fusion in (self.model.fusion, self.model.best())]
        return simplex_map(self.model.points, self.model.dice_map(), MAP, *points)

    def _static_png(self) -> bytes:
        """The current images as a PNG, each with its Dice."""
        model, number = self.model, self.model.image
        dice = [model.dice()[number], *(each[number] for each in model.member_dice())]
        names = [f"image {model.store.ids[number]}\nfused", *model.names]
        titles = [f"{name}: Dice {value:.2f}" for name, value in zip(names, dice, strict=True)]
        images = dict(zip(titles, self._pixels(), strict=True))
        if self._has_map:
            top, left, right = model.names
            images[f"top {top},\nleft {left}, right {right}"] = self._simplex_map()
        figure = image_row(images)
        file = BytesIO()
        figure.savefig(file, format="png")
        plt.close(figure)
        return file.getvalue()

    def _ipython_display_(self) -> None:
        show(self.box, repr(self), self._static_png())

    def __repr__(self) -> str:
        weights = ", ".join(f"{weight:.2f} {name}" for name, weight in self.model.fusion.weights.items())
        return (
            f"{TEXT_START}{self.model.dice().mean():.3f} of {weights}. While a kernel runs, this shows sliders for the weights, "
            "temperature and threshold, and the images that follow them.]"
        )
