"""Which pixels of a mask file are foreground, decided by the values that it stores; what is ambiguous is refused.

Without a rule, a mask has two levels: 0 and 1, or black and white, or black and one colour, or a lesion drawn on a transparent
layer. Values in between are accepted only as smooth edges of the foreground or as compression artefacts.
"""

import io
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageColor
from scipy.ndimage import maximum_filter, minimum_filter

from vlsm_helpers.data.decode import decode
from vlsm_helpers.data.raster import Raster
from vlsm_helpers.errors import DataError, SettingsError

DARK, BRIGHT = 64, 192  # of 255: values between them are neither background nor foreground
ARTEFACTS = 0.02  # of the pixels that are not dark may be something else than foreground, in files of many values
FEW = 8  # values: a file with so few has classes rather than artefacts
TINT = 32  # levels that JPEG makes channels of a grey pixel differ by
STRANGE = 40  # levels between a JPEG's value and what the same compression makes of the binary mask
HINT = (
    "say what counts as foreground with `vlsm data adopt ... --foreground VALUE|COLOUR|any`, "
    "or write 0 for background and 255 for foreground."
)


@dataclass(frozen=True)
class Foreground:
    """`mask`, bool (H, W); `level`: the value or colour that counted ("" for an empty mask); `turn`: EXIF orientation applied."""

    mask: np.ndarray
    level: str
    turn: int = 1


def read_mask(path: Path, foreground: str | None = None) -> np.ndarray:
    """Binary mask, bool (H, W), at the file's own size; see `find_foreground`."""
    return find_foreground(path, foreground).mask


def find_foreground(path: Path, foreground: str | None = None) -> Foreground:
    """The foreground of a mask file.

    `foreground` says which pixels count: "any" (all that are not black, or not transparent), values such as "1" or "1,2" (of a
    palette: its indices), colours such as "red" or "#00ff00,blue". Without it: 1 of files with values 0 and 1, else the bright
    half of files with two levels, one colour on black, or what is drawn on a transparent layer.

    Raises DataError, naming the file and its values with their counts, where that is ambiguous: class numbers, 1 beside 255,
    grey classes, several colours, an alpha channel that contradicts the colours; and for missing and broken files. Raises
    SettingsError for a `foreground` that is neither value, colour nor "any".
    """
    return foreground_of(decode(path, "mask"), path, foreground)


def foreground_of(raster: Raster, path: Path, foreground: str | None = None) -> Foreground:
    """The foreground of a decoded mask, by the rules and with the errors of `find_foreground`; `path` names it in errors."""
    if foreground is not None:
        return Foreground(_chosen(raster, foreground), foreground, raster.turn)
    mask, level = _by_alpha(raster, path)
    return Foreground(mask, level if mask.any() else "", raster.turn)


def parse(foreground: str) -> list[int | tuple[int, int, int]]:
    """Values and colours of a rule; empty for "any". Raises SettingsError for anything else."""
    if foreground.strip().lower() == "any":
        return []
    found: list[int | tuple[int, int, int]] = []
    for word in re.findall(r"[a-zA-Z]+\([^)]*\)|[^,\s]+", foreground):
        try:
            found.append(int(word) if word.isdecimal() else ImageColor.getrgb(_NAMED.get(word.lower(), word))[:3])
        except ValueError:
            found = []
            break
    if not found:
        hint = "give a value such as 1, a colour such as red or #ff0000, several with commas, or any."
        raise SettingsError(f"The foreground {foreground!r} is neither a value nor a colour.", hint=hint)
    return found


_NAMED = {"green": "#00ff00", "grey": "#808080"}  # CSS's green is dark


# With a rule


def _chosen(raster: Raster, foreground: str) -> np.ndarray:
    chosen, tolerance = parse(foreground), TINT * raster.lossy
    values = raster.values.astype(np.int64)
    if not chosen:
        alpha = raster.alpha
        if alpha is not None and np.ptp(alpha) > 0 and np.ptp(values.reshape(-1, values.shape[2]), axis=0).max() == 0:
            return alpha > 0
        shown = values.max(axis=2) > tolerance
        return shown if alpha is None or not np.ptp(alpha) else shown & (alpha > 0)
    mask = np.zeros(values.shape[:2], bool)
    for one in chosen:
        if isinstance(one, int):
            numbers = raster.indices[..., None] if raster.indices is not None else values
            mask |= (np.abs(numbers - one) <= tolerance).all(axis=2)
        else:
            mask |= _has_colour(values, one, raster)
    return mask if raster.alpha is None or not np.ptp(raster.alpha) else mask & (raster.alpha > 0)


def _has_colour(values: np.ndarray, colour: tuple[int, int, int], raster: Raster) -> np.ndarray:
    """Pixels of this very colour; of a pure one such as red, pixels of that hue which are not dark."""
    if raster.bits > 8 or raster.bits < 8:
        values = values * 255 // (2**raster.bits - 1)
    near = (np.abs(values - colour) <= TINT * raster.lossy).all(axis=2)
    if set(colour) <= {0, 255} and len(set(colour)) == 2:
        brightest = values.max(axis=2, keepdims=True)
        hue = (np.abs(values * 255 // np.maximum(brightest, 1) - colour) <= 96).all(axis=2)
        near |= hue & (brightest[..., 0] >= DARK)
    return near


# Without one


def _by_alpha(raster: Raster, path: Path) -> tuple[np.ndarray, str]:
    """Colours where alpha is the same everywhere or agrees with them; alpha where the ink is."""
    alpha = raster.alpha
    ink = raster.values.reshape(-1, raster.values.shape[2])
    one_ink = bool((ink == ink[0]).all())
    if alpha is None or (np.ptp(alpha) == 0 and (alpha.flat[0] > 0 or not one_ink)):
        if alpha is not None and alpha.flat[0] == 0:
            raise DataError("The mask is transparent everywhere, and its colours differ.", where=path, hint=HINT)
        return _by_colour(raster, path)
    layer = Raster(alpha[..., None], raster.bits if alpha.dtype == np.uint16 else 8, lossy=raster.lossy)
    drawn, level = _by_colour(layer, path)
    if one_ink:
        return drawn, level and "alpha"
    mask, level = _by_colour(raster, path)
    if not np.array_equal(mask, drawn):
        what = f"Its alpha channel marks {drawn.sum()} pixels, its colours mark {mask.sum()}"
        raise DataError(f"The mask is ambiguous: {what}.", where=path, hint=HINT)
    return mask, level


def _by_colour(raster: Raster, path: Path) -> tuple[np.ndarray, str]:
    values = raster.values
    if values.dtype.kind == "f" or values.min() < 0:
        what = f"Its values are {values.dtype}, from {values.min()} to {values.max()}"
        raise DataError(f"The mask is ambiguous: {what}.", where=path, hint=HINT)
    grey = values.max(axis=2)
    if values.shape[2] == 1:
        return _by_value(raster, grey, path)
    spread = np.ptp(values, axis=2)
    if not spread.any():
        return _by_value(raster, grey, path)
    colours, counts = _colours(values)
    if len(colours) == 2 and not raster.lossy and not colours[0].any() and np.ptp(colours[1]) > 0:
        return grey > 0, _colour(colours[1], raster.bits)
    tint = TINT * (2**raster.bits - 1) // 255
    few = len(colours) <= FEW and not raster.lossy
    coloured = spread > (0 if few else tint)
    lit = max(int((grey > DARK * (2**raster.bits - 1) / 255).sum()), 1)
    if coloured.sum() > (0 if few else ARTEFACTS * lit):
        order = np.argsort(-counts)[:5]
        found = ", ".join(f"{_colour(colours[one], raster.bits)} ({counts[one]} pixels)" for one in order)
        more = f" and {len(colours) - 5} more" * (len(colours) > 5)
        what = f"The mask is coloured, and which colour counts is not known: {found}{more}."
        raise DataError(what, where=path, hint=HINT)
    return _by_value(raster, grey, path)


def _counted(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct numbers of (H, W), and how often each occurs; bytes are counted, not sorted."""
    if values.dtype != np.uint8:
        return np.unique(values, return_counts=True)
    counts = np.array(Image.fromarray(values).histogram())
    levels = np.flatnonzero(counts)
    return levels.astype(np.uint8), counts[levels]


def _colours(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct colours of (H, W, 3), in order, and how often each occurs: sorted as one number each."""
    bits = 8 * values.itemsize
    red, green, blue = np.moveaxis(values.astype(np.uint32 if bits == 8 else np.uint64), 2, 0)
    codes, counts = np.unique(red << 2 * bits | green << bits | blue, return_counts=True)
    return np.stack([codes >> place & (2**bits - 1) for place in (2 * bits, bits, 0)], axis=1).astype(np.int64), counts


def _colour(colour: np.ndarray, bits: int) -> str:
    return "#" + "".join(f"{int(one) * 255 // (2**bits - 1):02x}" for one in colour)


def _by_value(raster: Raster, values: np.ndarray, path: Path) -> tuple[np.ndarray, str]:
    levels, counts = _counted(values)
    largest = int(levels[-1])
    if largest <= 1:
        return values == 1, "white" if raster.bits == 1 else "1"
    top = 2**raster.bits - 1 if raster.bits <= 16 else largest
    if len(levels) <= 2:
        darkest = int(levels[0]) if len(levels) == 2 else 0
        mirrored = darkest <= top // 15 and abs(darkest + largest - top) <= top // 60  # 1 and 254, 16 and 235
        if _is_white(largest, raster.bits) and (darkest == 0 or (mirrored and largest < top)):
            return values == largest, "white" if largest >= 0.9 * top or _is_full(largest) else str(largest)
        raise _ambiguous(levels, counts, path)
    if raster.lossy and raster.tables and raster.bits == 8:
        mask = values >= 128
        if not _is_compressed(mask, values, raster.tables):
            raise _ambiguous(levels, counts, path)
        return mask, "white"
    top = largest if _is_full(largest) else top
    scaled = (values.astype(np.int64) * 255 + top // 2) // top
    if not _has_smooth_edges(scaled, len(levels), raster.lossy):
        raise _ambiguous(levels, counts, path)
    return scaled >= 128, "white"


def _is_white(value: int, bits: int) -> bool:
    """Whether a value can only be foreground: in the bright half of its range, or the largest of a narrower range (4095)."""
    if bits < 8:
        return value == 2**bits - 1
    return _is_full(value) or (bits <= 16 and value >= 2 ** (bits - 1))


def _is_full(value: int) -> bool:
    return value >= 255 and value & (value + 1) == 0


def _ambiguous(levels: np.ndarray, counts: np.ndarray, path: Path) -> DataError:
    order = np.sort(np.argsort(-counts)[:5])
    found = ", ".join(f"{levels[one]} ({counts[one]} pixels)" for one in order)
    more = f" and {len(levels) - 5} more" * (len(levels) > 5)
    what = f"The mask is not black and white, and which values count is not known: {found}{more}."
    return DataError(what, where=path, hint=HINT)


def _has_smooth_edges(values: np.ndarray, levels: int, lossy: bool) -> bool:
    """Whether values 0 to 255 between black and white are edges of the foreground, not classes.

    An edge pixel has black and white pixels near by and is no part of a flat area. The fewer values a file has, the more its
    greys look like classes: with one or two of them nothing tells an edge from a class.
    """
    few = levels <= FEW and not lossy
    between = (values > 5) & (values < 250)
    flat = maximum_filter(values, 3) - minimum_filter(values, 3) <= (8 if lossy else 0)
    faint = (values > 0) & (values <= 5)
    if few and (faint.any() or 0 < len(np.unique(values[between])) <= 2):
        return False
    reach = 3 if few else 17 if lossy else 9
    black = minimum_filter(values, reach) < (6 if few else DARK)
    white = maximum_filter(values, reach) >= (250 if few else BRIGHT)
    middle = between if few else (values >= 24) & (values < 232)
    odd = ((between | faint) & flat & ~(lossy & faint)) | (middle & ~(black & white))
    return bool(values.max() >= 128 and odd.sum() <= ARTEFACTS * max(int((values >= DARK).sum()), 1))


def _is_compressed(mask: np.ndarray, values: np.ndarray, tables: dict) -> bool:
    """Whether a JPEG's values are what its compression makes of the binary `mask`; blurred edges are forgiven."""
    buffer = io.BytesIO()
    low, high = _level(values[~mask], 0), _level(values[mask], 255)
    if high < BRIGHT or low >= DARK or (not mask.any() and values.max() > 8):
        return False
    drawn = np.where(mask, high, low).astype(np.uint8)
    Image.fromarray(drawn).save(buffer, "JPEG", qtables=[tables[0]])
    again = np.asarray(Image.open(buffer)).astype(np.int64)
    strange = np.abs(again - values) > STRANGE
    edge = (maximum_filter(values, 3) >= BRIGHT) & (minimum_filter(values, 3) < DARK)  # smooth before it was compressed
    return bool((strange & ~edge).sum() <= ARTEFACTS * max(int(mask.sum()), 1))


def _level(values: np.ndarray, otherwise: int) -> int:
    return int(np.median(values)) if values.size else otherwise
