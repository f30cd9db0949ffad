"""A decoded picture, and how Pillow's images become one."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from vlsm_helpers.errors import DataError

SPLIT_PAGES = (
    "split it into files of one page each (ImageMagick: `magick FILE page-%03d.png`), or keep the page that is meant."
)
AS_PNG = "save it as an RGB or grey PNG with 8 or 16 bits per channel (for example with ImageJ or ImageMagick)."
TURNS = {  # EXIF orientation (tag 274): what makes the stored picture upright
    2: np.fliplr,
    3: lambda pixels: np.rot90(pixels, 2),
    4: np.flipud,
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.rot90(pixels, 2).swapaxes(0, 1),
    8: np.rot90,
}


@dataclass(frozen=True)
class Raster:
    """A decoded file, upright: `values` (H, W, 1) or (H, W, 3) as stored (palettes give their colours), `bits` per sample.

    `alpha` (H, W) and `indices` (H, W; of a palette) where the file has them. `turn` is the EXIF orientation that was applied,
    1 where there was none. `lossy` tells formats whose compression changes values; `tables` are a JPEG's quantisation tables.
    """

    values: np.ndarray
    bits: int
    alpha: np.ndarray | None = None
    indices: np.ndarray | None = None
    turn: int = 1
    lossy: bool = False
    tables: dict = field(default_factory=dict)


def from_image(image: Image.Image, where: Path | str, bits: int = 8, counted: bool = False) -> Raster:
    """The numbers of a Pillow image. Raises DataError, naming `where`, for several pages and unknown colour spaces.

    `bits`: per sample of grey images of less than 8; `counted`: its pages were counted before, thumbnails left out.
    """
    pages = 1 if counted else getattr(image, "n_frames", 1)
    if pages > 1 and image.format != "MPO":  # phones write JPEGs with a preview as second frame
        raise DataError(f"The file has {pages} pages (or frames), not one.", where=where, hint=SPLIT_PAGES)
    turn = image.getexif().get(ExifTags.Base.Orientation, 1)
    image.load()
    lossy = image.format in ("JPEG", "MPO", "AVIF", "JPEG2000") or (image.format == "WEBP" and _is_lossy_webp(where))
    tables = getattr(image, "quantization", None) or {}
    image = ImageOps.exif_transpose(image)
    facts = {"turn": turn if turn in TURNS else 1, "lossy": lossy, "tables": tables}
    if image.mode == "1" and "transparency" not in image.info:
        return Raster(np.asarray(image).astype(np.uint8)[..., None], 1, **facts)
    if image.mode[0] in "IF":
        values = np.asarray(image)
        return Raster(values[..., None], 16 if image.mode.startswith("I;16") else 32, **facts)
    indices = np.asarray(image) if image.mode == "P" else None
    try:
        plain = _plain(image)
    except (ValueError, KeyError) as error:
        what = f"Its colour space, {image.mode}, has no conversion to RGB"
        raise DataError(f"{what}.", where=where, hint=AS_PNG) from error
    pixels = np.array(plain)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    channels = 1 if plain.mode in ("L", "LA") else 3
    alpha = pixels[..., channels] if pixels.shape[2] > channels else None
    values = pixels[..., :channels]
    if bits < 8 and image.mode == "L":
        values = values // (255 // (2**bits - 1))  # Pillow spreads 2 and 4 bits over 0 to 255
    return Raster(values, bits if image.mode == "L" else 8, alpha, indices, **facts)


def _plain(image: Image.Image) -> Image.Image:
    """The image as L, LA, RGB, RGBA or RGBX."""
    if "transparency" in image.info:  # one colour, or palette entries, are transparent
        return image.convert("LA" if image.mode in ("1", "L") else "RGBA")
    if image.mode in ("L", "LA", "RGB", "RGBA", "RGBX"):
        return image
    return image.convert({"La": "LA", "PA": "RGBA", "RGBa": "RGBA"}.get(image.mode, "RGB"))


def from_file(path: Path, bits: int = 8, counted: bool = False, page: int = 0) -> Raster:
    """The numbers of a file that Pillow decodes: of its frame number `page` in Pillow's count."""
    with Image.open(path) as image:
        image.seek(page)
        return from_image(image, path, min(bits, 8), counted)


def upright(pixels: np.ndarray, turn: int) -> np.ndarray:
    """Pixels (H, W, ...) turned as the EXIF orientation `turn`, 1 to 8, says; any other number changes nothing."""
    return TURNS.get(turn, lambda same: same)(pixels)


def too_large(pixels: int | str, path: Path) -> DataError:
    """The error for a picture of more `pixels` than Pillow decodes."""
    limit = 2 * Image.MAX_IMAGE_PIXELS // 10**6
    what = f"The picture is too large: {pixels} pixels, more than {limit} million."
    return DataError(what, where=path, hint="cut it into tiles, or save it smaller.")


def _is_lossy_webp(path: Path | str) -> bool:
    try:
        return b"VP8 " in Path(path).read_bytes()[:4096]
    except OSError:
        return True  # an image in memory
