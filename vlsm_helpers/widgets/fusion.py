"""The explorer of weighted fusions: sliders, pictures and a map of Dice that draw what `fusion.explore.FusionModel` says."""

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
from vlsm_helpers.fusion.interactive import FusionModel
from vlsm_helpers.fusion.weighted import MEANS
from vlsm_helpers.plots.base import GROUND_TRUTH, PREDICTION
from vlsm_helpers.plots.images import image_row
from vlsm_helpers.plots.overlays import jpeg, overlay, png, probability_overlay, simplex_map
from vlsm_helpers.settings import runs_folder, writable
from vlsm_helpers.widgets.display import show

SIDE, SMALL, MAP = 384, 128, 210  # pixels of the picture, of a member's and of the triangle
STEP = 0.01  # of the sliders
KEY = (
    f"<span style='color:{GROUND_TRUTH}'>■</span> truth <span style='color:{PREDICTION}'>■</span> prediction<br>"
    "the pictures that the best weights help most come first"
)
WRAPPED = "width:310px;line-height:1.4;white-space:pre-wrap;overflow-wrap:anywhere"
CONTROL = {"style": {"description_width": "95px"}, "layout": Layout(width="310px")}


class FusionExplorer:
    """A slider a member, temperature, threshold and kind of mean; the picture, the members' and the Dice that follow; for three
    members the Dice of all weights as a triangle; buttons that take the best weights and write the present ones.

    As the last line of a cell it shows itself. Without a running kernel, a still picture stands in its place.
    """

    def __init__(self, store: PredictionStore, path: Path | None = None):
        """`store`: predictions of a validation split. `path`: what "export" writes, by default fusion.json in VLSM_RUNS.

        Raises DataError as `FusionModel` does.

        >>> import vlsm_helpers as vlsm
        >>> explorer = vlsm.FusionExplorer(vlsm.tiny_store("val"))
        >>> explorer.weights["unet_d"].value = 1
        >>> explorer.model.fusion.weights
        {'biomedclipseg': 0.0, 'clipseg': 0.0, 'unet_d': 1.0}
        """
        self.model = FusionModel(store)
        self.path = runs_folder() / "fusion.json" if path is None else Path(path)
        self._make_controls()
        self._make_pictures()
        columns = self._controls(), [self.picture, self.message, self.image, HTML(KEY)], self._beside()
        self.box = HBox([VBox(column, layout=Layout(margin="0 16px 0 0")) for column in columns])
        for name, slider in self.weights.items():
            slider.observe(partial(self._move, name), names="value")
        for control in (self.temperature, self.threshold, self.mean_of, self.picture):
            control.observe(self._set, names="value")
        self.take_best.on_click(self._take_best)
        self.export.on_click(self._export)
        self._draw()

    def _make_controls(self) -> None:
        model, fusion = self.model, self.model.fusion
        alone = len(model.names) == 1  # whose weight cannot be moved
        self.weights = {
            name: ipywidgets.FloatSlider(
                self._shown(name), min=0, max=1, step=STEP, description=name, disabled=alone, **CONTROL
            )
            for name in model.names
        }
        self.temperature = ipywidgets.FloatLogSlider(
            fusion.temperature, base=2, min=-4, max=4, step=0.25, description="temperature", **CONTROL
        )
        self.threshold = ipywidgets.FloatSlider(
            fusion.threshold, min=STEP, max=1 - STEP, step=STEP, description="threshold", **CONTROL
        )
        self.mean_of = ipywidgets.Dropdown(
            options=[(f"mean of {scale}", scale) for scale in MEANS], description="rule", **CONTROL
        )
        numbered = [(model.ids[number], number) for number in model.order()]
        self.picture = ipywidgets.Dropdown(options=numbered, value=model.image, description="picture")
        self.take_best = ipywidgets.Button(description="take the best weights", layout=Layout(width="auto"))
        self.export = ipywidgets.Button(description="export", layout=Layout(width="auto"))

    def _make_pictures(self) -> None:
        self.message, self.exported = HTML(), HTML()
        self.image = ipywidgets.Image(format="jpeg", width=SIDE, height=SIDE)
        self.captions = [HTML() for _ in self.model.names]
        self.members = [ipywidgets.Image(format="jpeg", width=SMALL, height=SMALL) for _ in self.model.names]
        self.map, self.legend = ipywidgets.Image(format="png", width=MAP), HTML()

    def _controls(self) -> list[ipywidgets.Widget]:
        controls = [*self.weights.values(), self.temperature, self.threshold, self.mean_of]
        return [*controls, HBox([self.take_best, self.export]), self.exported, *self._labelled_map()]

    def _labelled_map(self) -> list[ipywidgets.Widget]:
        if not self._has_map:
            return []
        top, *corners = (html.escape(name) for name in self.model.names)
        row = "".join(f"<span>{name}</span>" for name in corners)
        above = HTML(f"<div style='width:{MAP}px;text-align:center'>{top}</div>")
        below = HTML(f"<div style='width:{MAP}px;display:flex;justify-content:space-between'>{row}</div>")
        return [above, self.map, below, self.legend]

    def _beside(self) -> list[ipywidgets.Widget]:
        return [widget for pair in zip(self.captions, self.members, strict=True) for widget in pair]

    @property
    def _has_map(self) -> bool:
        return len(self.model.names) == 3

    def _move(self, name: str, change: dict) -> None:
        """A weight was moved by hand; a slider that only follows stays within a step of its weight."""
        if abs(change["new"] - self._shown(name)) > STEP / 2:
            self.model.move(name, change["new"])
            self._follow()
            self._draw()

    def _set(self, change: dict) -> None:
        self.model.image = self.picture.value
        self.model.fusion = replace(
            self.model.fusion,
            mean_of=self.mean_of.value,
            temperature=self.temperature.value,
            threshold=self.threshold.value,
        )
        self._draw()

    def _take_best(self, button: object) -> None:
        self.model.fusion = self.model.best()
        self._follow()
        self._draw()

    def _export(self, button: object) -> None:
        try:
            writable(self.path.parent)
            self.model.export(self.path)
            said = f"written to {self.path}"
        except SettingsError as error:
            said = str(error)
        self.exported.value = f"<div style='{WRAPPED}'>{html.escape(said)}</div>"

    def _follow(self) -> None:
        """Put the sliders where the weights are."""
        for name, slider in self.weights.items():
            slider.value = self._shown(name)

    def _shown(self, name: str) -> float:
        """A weight in steps of its slider: a browser would round any other value, and send that back as if it had been moved."""
        return round(round(self.model.fusion.weights[name] / STEP) * STEP, 6)

    def _draw(self) -> None:
        """Show what the model says now."""
        dice, alone = self.model.dice(), self.model.alone()
        self.message.value = self._words(dice)
        for caption, name, each in zip(self.captions, self.model.names, alone, strict=True):
            caption.value = f"{html.escape(name)} <b>{each[self.model.image]:.2f}</b>"
        self.exported.value = ""
        for widget, pixels in zip([self.image, *self.members], self._pixels(), strict=True):
            widget.value = jpeg(pixels)
        if self._has_map:
            self.map.value = png(self._triangle())
            values = self.model.dice_map()
            self.legend.value = (
                f"Dice from {values.min():.3f} (dark) to {values.max():.3f} (bright)<br>○ present weights, + the best"
            )

    def _words(self, dice: np.ndarray) -> str:
        """Dice of the chosen picture and of the split, beside what the best single member has."""
        single, image = self.model.single, self.model.image
        rows = {"this picture": (dice[image], single[image]), f"all {len(dice)} pictures": (dice.mean(), single.mean())}
        cells = "".join(
            f"<tr><td>{what}</td><td><b>{now:.3f}</b></td><td>{then:.3f}</td></tr>"
            for what, (now, then) in rows.items()
        )
        heads = f"<th>Dice at {self.model.size} pixels</th><th>fused</th><th>{html.escape(self.model.best_member)}</th>"
        return f"<table style='width:{SIDE}px;line-height:1.5;text-align:left'><tr>{heads}</tr>{cells}</table>"

    def _pixels(self) -> list[np.ndarray]:
        """The picture, and those of the members."""
        model = self.model
        probabilities = model.members(SMALL)
        truth, above = model.truth(), probabilities > model.fusion.threshold
        members = [probability_overlay(one, truth, marked) for one, marked in zip(probabilities, above, strict=True)]
        return [overlay(model.pixels(), truth, model.marked(SIDE)), *members]

    def _triangle(self) -> np.ndarray:
        points = [list(fusion.weights.values()) for fusion in (self.model.fusion, self.model.best())]
        return simplex_map(self.model.points, self.model.dice_map(), MAP, *points)

    def _still(self) -> bytes:
        """A PNG of what is shown now."""
        pictures = dict(zip(["fused", *self.model.names], self._pixels(), strict=True))
        if self._has_map:
            top, left, right = self.model.names
            pictures[f"top {top},\nleft {left}, right {right}"] = self._triangle()
        figure = image_row(pictures)
        file = BytesIO()
        figure.savefig(file, format="png")
        plt.close(figure)
        return file.getvalue()

    def _ipython_display_(self) -> None:
        show(self.box, repr(self), self._still())

    def __repr__(self) -> str:
        weights = ", ".join(f"{weight:.2f} {name}" for name, weight in self.model.fusion.weights.items())
        return (
            f"[Dice {self.model.dice().mean():.3f} of {weights}. Sliders for the weights, temperature and threshold, and the "
            "pictures that follow them stand here while the notebook's kernel runs.]"
        )
