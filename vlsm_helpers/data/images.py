"""Reading one image or one mask from a file, whatever its format, and refusing what cannot be read right."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from vlsm_helpers.errors import DataError

MAX_GREY = 0.02  # of a mask's pixels may lie between black and white: more is no compression artefact
MAX_COLOURED = 0.002
COLOUR_TOLERANCE = 32  # JPEG's colour compression makes grey pixels differ by some levels between channels
BINARY = "write 0 for background and 255 for foreground; `vlsm data prepare` does it for the datasets it knows."


def read_image(path: Path) -> np.ndarray:
    """RGB image, uint8 (H, W, 3), upright as its EXIF orientation says; 16-bit values are scaled to 8 bits.

    Raises DataError, naming the file, when it is missing, truncated or no image.
    """
    return to_rgb(_open(path, "image"), path)


def to_rgb(image: Image.Image, where: Path | str) -> np.ndarray:
    """The pixels of a Pillow image as `read_image` gives them. Raises DataError, naming `where`, for unknown brightness."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        image = Image.fromarray(_to_8_bits(np.asarray(image), where))
    return np.array(image.convert("RGB"))


def read_mask(path: Path) -> np.ndarray:
    """Binary mask, bool (H, W), at the file's own size.

    Largest value 0 or 1: 1 is foreground; else 128 and above of 8 bits, 32768 and above of 16 bits. Raises DataError,
    naming the file, for a missing or broken file, a colour mask, one with more than 2 % grey pixels (64 to 191 of
    255), and one that is neither 0 and 1 nor reaches 128 (class numbers would pass as an empty mask).
    """
    image = _open(path, "mask")
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image)
        if values.max() <= 1:
            return values == 1
        values = _to_8_bits(values, path)
    else:
        values = _as_grey(image, path)
        if values.max() <= 1:
            return values == 1
    grey = np.mean((values >= 64) & (values <= 191))
    if grey > MAX_GREY:
        what = f"{grey:.0%} of its pixels are grey ({len(np.unique(values))} different values)"
        raise DataError(f"The mask is not black and white: {what}.", where=path, hint=BINARY)
    if values.max() < 128:
        raise DataError(
            f"The mask is not black and white: its largest value is {values.max()}.", where=path, hint=BINARY
        )
    return values >= 128


def _open(path: Path, kind: str) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
            return ImageOps.exif_transpose(image)
    except FileNotFoundError:
        hint = "restore the file, or `vlsm data check` the dataset."
        raise DataError(f"The {kind} is missing.", where=path, hint=hint) from None
    except UnidentifiedImageError:
        hint = "replace it by a PNG, JPEG, TIFF or WebP."
        raise DataError(f"The file is no {kind} that can be read.", where=path, hint=hint) from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        what = f"The {kind} is truncated or corrupt ({error})."
        raise DataError(what, where=path, hint="fetch the file again.") from error


def _to_8_bits(values: np.ndarray, path: Path | str) -> np.ndarray:
    if values.dtype.kind == "f" or values.min() < 0 or values.max() > 65535:
        raise DataError(
            f"Pixels of kind {values.dtype} from {values.min()} to {values.max()} have no agreed brightness.",
            where=path,
            hint="save it with 8 or 16 bits a channel.",
        )
    return (values // 256 if values.max() > 255 else values).astype(np.uint8)


def _as_grey(image: Image.Image, path: Path) -> np.ndarray:
    if image.mode in ("1", "L", "LA"):
        return np.array(image.convert("L"))
    channels = np.array(image.convert("RGB")).astype(np.int16)
    coloured = np.mean(np.ptp(channels, axis=2) > COLOUR_TOLERANCE)
    if coloured > MAX_COLOURED:
        raise DataError(
            f"The mask is coloured ({coloured:.1%} of its pixels): which colours are foreground is not known.",
            where=path,
            hint=BINARY,
        )
    return channels[..., 0].astype(np.uint8)
