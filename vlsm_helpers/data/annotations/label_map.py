"""Label maps: pictures whose values or colours are classes, as grey PNG, palette PNG, or RGB."""

from pathlib import Path

import numpy as np

from vlsm_helpers.data.annotations.classes import Classes
from vlsm_helpers.data.decode import Raster
from vlsm_helpers.data.masks import ARTEFACTS, DARK, parse
from vlsm_helpers.errors import DataError, SettingsError, some_of

FOREIGN = 128  # levels of 255 by which a channel of a JPEG's pixel may differ from its class's colour
PNG = "save label maps as PNG: JPEG and WebP change values."


def class_masks(raster: Raster, classes: Classes, where: Path) -> dict[str, np.ndarray]:
    """The mask of each class, bool (H, W) by noun; all nouns are there, empty where the class does not occur.

    Keys of `classes` that are numbers are values (of a palette: its indices), others are colours such as red or #00ff00. Value
    0 and black are background unless they are named, and so is what is transparent. In formats that change values (JPEG) each
    pixel counts for the nearest colour. Raises DataError, naming the values and how many pixels have them, for those that no
    key names; SettingsError for a key that is neither a value nor a colour.
    """
    keys = {key: _key(key, classes) for key in classes.nouns}
    numeric = {isinstance(key, int) for key in keys.values()}
    if len(numeric) > 1:
        what = "The labels mix values and colours."
        raise SettingsError(what, where=classes.where, hint="give values for all classes, or colours for all.")
    shown = np.ones(raster.values.shape[:2], bool) if raster.alpha is None else raster.alpha > 0
    places = _by_value(raster, keys, shown, where) if numeric == {True} else _by_colour(raster, keys, shown, where)
    masks = {noun: np.zeros(shown.shape, bool) for noun in classes.names}
    for key, place in places.items():
        if noun := classes.nouns[key]:
            masks[noun] |= place & shown
    return masks


def _key(key: str, classes: Classes) -> int | tuple[int, int, int]:
    try:
        (found,) = parse(key)
    except (SettingsError, ValueError):
        hint = "give a value such as 1 or a colour such as red or '#00ff00' before each =."
        what = f"The label {key!r} is neither a value nor a colour."
        raise SettingsError(what, where=classes.where, hint=hint) from None
    return found


def _by_value(raster: Raster, keys: dict[str, int], shown: np.ndarray, where: Path) -> dict[str, np.ndarray]:
    numbers = raster.values[..., 0] if raster.indices is None else raster.indices
    if raster.lossy:
        raise DataError("The label map's compression changes values.", where=where, hint=PNG)
    if raster.indices is None and raster.values.shape[2] == 3 and np.ptp(raster.values, axis=2).any():
        hint = "name its colours: --labels red=polyp,'#00ff00'=instrument."
        raise DataError("The label map has colours, the labels name values.", where=where, hint=hint)
    present, counts = np.unique(numbers[shown], return_counts=True)
    named = {0, *keys.values()}
    if strange := [(value, count) for value, count in zip(present, counts, strict=True) if value not in named]:
        raise _unnamed([(f"{value:g}", count) for value, count in strange], where)
    return {key: numbers == value for key, value in keys.items()}


def _by_colour(raster: Raster, keys: dict[str, tuple], shown: np.ndarray, where: Path) -> dict[str, np.ndarray]:
    if raster.bits > 8:
        raise DataError("The label map has colours of more than 8 bits.", where=where, hint="save it with 8 bits.")
    values = raster.values if raster.values.shape[2] == 3 else np.repeat(raster.values, 3, axis=2)
    values = (values.astype(np.int32) * 255 // (2**raster.bits - 1)).astype(np.int16)
    colours = list(dict.fromkeys([(0, 0, 0), *keys.values()]))
    distances = np.stack([np.abs(values - np.array(colour, np.int16)).max(axis=2) for colour in colours])
    nearest, distance = distances.argmin(axis=0), distances.min(axis=0)
    foreign = shown & (distance > (FOREIGN if raster.lossy else 0))
    allowed = ARTEFACTS * (shown & (values.max(axis=2) > DARK)).sum() if raster.lossy else 0
    if foreign.sum() > allowed:
        present, counts = np.unique(values[foreign], axis=0, return_counts=True)
        order = np.argsort(-counts)
        raise _unnamed([("#" + bytes(present[one].astype(np.uint8)).hex(), counts[one]) for one in order], where)
    return {key: nearest == colours.index(colour) for key, colour in keys.items()}


def _unnamed(found: list[tuple[str, int]], where: Path) -> DataError:
    shown, first = some_of([f"{name} ({count} pixels)" for name, count in found]), found[0][0]
    hint = f"add {first}=NOUN to --labels, or {first}= where it is background."
    return DataError(f"The label map has values that the labels do not name: {shown}.", where=where, hint=hint)
