"""From a file to the numbers it stores: Pillow for most formats, tifffile and OpenCV where Pillow drops samples or bits.

Nothing is scaled or thresholded here: `images` and `masks` say what the numbers mean. What a decoder would misread is refused.
"""

import re
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from vlsm_helpers.data.raster import AS_PNG, SPLIT_PAGES, TURNS, Raster, from_file, too_large, upright
from vlsm_helpers.data.tiff import from_tiff
from vlsm_helpers.errors import DataError

# Formats that Pillow decodes itself; it lists the endings of others, such as .pdf and .h5, which it only writes or only names.
FORMATS = {"AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "QOI", "SGI", "TGA", "TIFF", "WEBP"}
_PNG, _TIFF = b"\x89PNG\r\n\x1a\n", (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def is_image_name(path: Path) -> bool:
    """Whether the file's ending is that of a format which can be read."""
    return Image.registered_extensions().get(path.suffix.lower()) in FORMATS


def decode(path: Path, kind: str = "image", page: int | None = None) -> Raster:
    """Decode a file; `kind` (image or mask) names it in errors. `page`, from 0, chooses one of a TIFF file of several.

    Raises DataError, naming the file, if it is missing, broken, too large, of several pages where none was chosen, or of samples
    without a meaning.
    """
    try:
        with path.open("rb") as file:
            head = file.read(256)
        if head[:4] in _TIFF:
            return from_tiff(path, page)
        if head[:8] == _PNG and len(head) > 26 and head[24] == 16 and head[25] in (2, 4, 6):
            return _from_deep_png(path)
        if _has_deep_jpeg2000_colour(head):
            raise DataError("The JPEG 2000 file has colours of more than 8 bits.", where=path, hint=AS_PNG)
        if head[:2] == b"BM" and head[28:30] == b"\x20\0":
            return _from_deep_bmp(path)
        if head[:2] == b"BM" and head[28:30] in (b"\4\0", b"\x08\0"):
            return _from_palette_bmp(path, bits=head[28])
        return from_file(path, bits=head[24] if head[:8] == _PNG and len(head) > 26 else 8)
    except FileNotFoundError:
        hint = "restore the file, or `vlsm data check` the dataset."
        raise DataError(f"The {kind} is missing.", where=path, hint=hint) from None
    except Image.DecompressionBombError as error:
        pixels = next(iter(re.findall(r"\((\d+) pixels\)", str(error))), "too many")
        raise too_large(pixels, path) from None
    except UnidentifiedImageError:
        hint = "replace it with a PNG, JPEG, TIFF, BMP or WebP file."
        raise DataError(f"The file is no {kind} that can be read.", where=path, hint=hint) from None
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, IndexError, KeyError, MemoryError) as error:
        what = f"The {kind} is truncated or corrupt ({error})."
        raise DataError(what, where=path, hint="fetch or export the file again.") from error


def _from_deep_png(path: Path) -> Raster:
    """PNG with 16 bits per channel and several channels, of which Pillow keeps the upper 8 bits."""
    import cv2

    with Image.open(path) as image:  # it checks the file, as OpenCV does not, and knows the orientation
        if (pages := getattr(image, "n_frames", 1)) > 1:
            raise DataError(f"The file has {pages} pages (or frames), not one.", where=path, hint=SPLIT_PAGES)
        turn, mode = image.getexif().get(ExifTags.Base.Orientation, 1), image.mode
        image.load()
    pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels is None or pixels.dtype != np.uint16 or pixels.ndim != 3:
        raise DataError("The 16-bit PNG file cannot be decoded.", where=path, hint=AS_PNG)
    pixels = upright(pixels, turn)
    alpha = pixels[..., -1] if pixels.shape[2] in (2, 4) else None
    values = pixels[..., :1] if mode == "LA" or pixels.shape[2] == 2 else pixels[..., 2::-1]
    return Raster(np.ascontiguousarray(values), 16, alpha, turn=turn if turn in TURNS else 1)


def _from_deep_bmp(path: Path) -> Raster:
    """BMP with 32 bits per pixel, of which Pillow drops the fourth byte where no mask names it; all 0, it is no alpha."""
    raster, content = from_file(path), path.read_bytes()
    start, width, height, compression = *struct.unpack("<I4xii", content[10:26]), content[30]
    pixels = np.frombuffer(content, np.uint8, offset=start)
    if raster.alpha is not None or compression != 0 or len(pixels) < 4 * width * abs(height):
        return raster
    alpha = pixels[: 4 * width * abs(height)].reshape(abs(height), width, 4)[:: -1 if height > 0 else 1, :, 3]
    return replace(raster, alpha=alpha if alpha.any() else None)


def _from_palette_bmp(path: Path, bits: int) -> Raster:
    """BMP of 4 or 8 bits per pixel: where the palette is black and white Pillow takes its samples for single bits."""
    import cv2

    with Image.open(path) as image:
        if image.mode == "P" or (image.mode == "L" and bits == 8):
            return from_file(path)
    pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)  # with the palette's colours
    if pixels is None:
        raise DataError("The BMP file cannot be decoded.", where=path, hint=AS_PNG)
    return Raster(np.ascontiguousarray(pixels[..., None] if pixels.ndim == 2 else pixels[..., 2::-1]), 8)


def _has_deep_jpeg2000_colour(head: bytes) -> bool:
    """Whether a JPEG 2000 file has several components of more than 8 bits, of which Pillow keeps 8."""
    if (place := head.find(b"ihdr")) >= 0 and head[4:8] == b"jP  " and len(head) >= place + 15:
        components, bits = struct.unpack(">HB", head[place + 12 : place + 15])
    elif head[:4] == b"\xff\x4f\xff\x51" and len(head) > 42:
        components, bits = struct.unpack(">HB", head[40:43])
    else:
        return False
    return components > 1 and (bits & 127) + 1 > 8
