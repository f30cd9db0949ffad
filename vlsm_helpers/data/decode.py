"""From a file to the numbers it stores: Pillow for most formats, tifffile and OpenCV where Pillow drops samples or bits.

Nothing is scaled or thresholded here: `images` and `masks` say what the numbers mean. What a decoder would misread is refused.
"""

import re
import struct
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import tifffile
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from vlsm_helpers.errors import DataError

# Formats that Pillow decodes itself; it lists the endings of others, such as .pdf and .h5, which it only writes or only names.
FORMATS = {"AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "QOI", "SGI", "TGA", "TIFF", "WEBP"}
SPLIT_PAGES = (
    "split it into files of one page each (ImageMagick: `magick FILE page-%03d.png`), or keep the page that is meant."
)
AS_PNG = "save it as an RGB or grey PNG with 8 or 16 bits per channel (for example with ImageJ or ImageMagick)."
_PNG, _TIFF = b"\x89PNG\r\n\x1a\n", (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_TURNS = {  # EXIF orientation (tag 274): what makes the stored picture upright
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


def is_image_name(path: Path) -> bool:
    """Whether the file's ending is that of a format which can be read."""
    return Image.registered_extensions().get(path.suffix.lower()) in FORMATS


def decode(path: Path, kind: str = "image") -> Raster:
    """Decode a file; `kind` (image or mask) names it in errors.

    Raises DataError, naming the file, if it is missing, broken, too large, of several pages, or of samples without a meaning.
    """
    try:
        with path.open("rb") as file:
            head = file.read(256)
        if head[:4] in _TIFF:
            return _from_tiff(path)
        if head[:8] == _PNG and len(head) > 26 and head[24] == 16 and head[25] in (2, 4, 6):
            return _from_deep_png(path)
        if _has_deep_jpeg2000_colour(head):
            raise DataError("The JPEG 2000 file has colours of more than 8 bits.", where=path, hint=AS_PNG)
        if head[:2] == b"BM" and head[28:30] == b"\x20\0":
            return _from_deep_bmp(path)
        return _from_pillow(path, bits=head[24] if head[:8] == _PNG and len(head) > 26 else 8)
    except FileNotFoundError:
        hint = "restore the file, or `vlsm data check` the dataset."
        raise DataError(f"The {kind} is missing.", where=path, hint=hint) from None
    except Image.DecompressionBombError as error:
        pixels = next(iter(re.findall(r"\((\d+) pixels\)", str(error))), "too many")
        raise _too_large(pixels, path) from None
    except UnidentifiedImageError:
        hint = "replace it with a PNG, JPEG, TIFF, BMP or WebP file."
        raise DataError(f"The file is no {kind} that can be read.", where=path, hint=hint) from None
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, IndexError, KeyError, MemoryError) as error:
        what = f"The {kind} is truncated or corrupt ({error})."
        raise DataError(what, where=path, hint="fetch or export the file again.") from error


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
    facts = {"turn": turn if turn in _TURNS else 1, "lossy": lossy, "tables": tables}
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


def _from_pillow(path: Path, bits: int = 8, counted: bool = False) -> Raster:
    with Image.open(path) as image:
        return from_image(image, path, min(bits, 8), counted)


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
    pixels = _upright(pixels, turn)
    alpha = pixels[..., -1] if pixels.shape[2] in (2, 4) else None
    values = pixels[..., :1] if mode == "LA" or pixels.shape[2] == 2 else pixels[..., 2::-1]
    return Raster(np.ascontiguousarray(values), 16, alpha, turn=turn if turn in _TURNS else 1)


def _from_deep_bmp(path: Path) -> Raster:
    """BMP with 32 bits per pixel, of which Pillow drops the fourth byte where no mask names it; all 0, it is no alpha."""
    raster, content = _from_pillow(path), path.read_bytes()
    start, width, height, compression = *struct.unpack("<I4xii", content[10:26]), content[30]
    pixels = np.frombuffer(content, np.uint8, offset=start)
    if raster.alpha is not None or compression != 0 or len(pixels) < 4 * width * abs(height):
        return raster
    alpha = pixels[: 4 * width * abs(height)].reshape(abs(height), width, 4)[:: -1 if height > 0 else 1, :, 3]
    return replace(raster, alpha=alpha if alpha.any() else None)


def _from_tiff(path: Path) -> Raster:
    try:
        file = tifffile.TiffFile(path)
    except Exception:  # tifffile raises many kinds of errors on damaged files, and Pillow may still decode such a file
        return _from_pillow(path)
    with file:
        try:
            pages = [page for page in file.pages if not page.is_reduced]  # thumbnails are no pages
            page, size = file.pages[0].aspage(), file.series[0].size if len(file.series) == 1 else 0
        except Exception:
            return _from_pillow(path)
        count = max(len(pages), size // max(page.size, 1))  # a stack may have one directory for all its pages
        if count > 1:
            raise DataError(f"The TIFF file has {count} pages, not one.", where=path, hint=SPLIT_PAGES)
        if page.imagewidth * page.imagelength > 2 * Image.MAX_IMAGE_PIXELS:
            raise _too_large(page.imagewidth * page.imagelength, path)
        if reason := _disagreement(page):
            raise DataError(f"The TIFF file has {_described(page)}: {reason}.", where=path, hint=AS_PNG)
        if _pillow_suffices(page):
            try:
                return _from_pillow(path, page.bitspersample, counted=True)
            except UnidentifiedImageError:
                if page.samplesperpixel > 1:
                    return _from_page(page, path)
                what = f"The TIFF file has {_described(page)}, which has no agreed meaning."
                raise DataError(what, where=path, hint=AS_PNG) from None
        return _from_page(page, path)


def _pillow_suffices(page: tifffile.TiffPage) -> bool:
    """Whether Pillow keeps all samples and bits: not for colours with 16 bits, or colours that are tagged as grey."""
    if page.samplesperpixel == 1:
        return True
    return page.bitspersample == 8 and (
        page.samplesperpixel == 2 or page.photometric != tifffile.PHOTOMETRIC.MINISBLACK
    )


def _disagreement(page: tifffile.TiffPage) -> str | None:
    """Why the samples of a page cannot be told from its tags; None where they can."""
    samples, photometric, extra = page.samplesperpixel, page.photometric, tuple(page.extrasamples)
    kinds, black = tifffile.PHOTOMETRIC, photometric == tifffile.PHOTOMETRIC.MINISBLACK
    if page.sampleformat == 2 and page.bitspersample <= 8:
        return "signed numbers have no agreed brightness"
    if photometric == kinds.MINISWHITE and (samples > 1 or page.bitspersample > 8):
        return "how far its values are inverted is not known"
    if samples > 1 and (page.sampleformat != 1 or page.bitspersample not in (8, 16)):
        return "several samples need 8 or 16 bits each"
    if samples > 4:
        return "which samples are colours is not known"
    if samples == 4 and photometric == kinds.RGB:
        return None
    if samples == 4 and not (photometric == kinds.SEPARATED and page.bitspersample == 8):
        return "which samples are colours is not known"
    if samples == 3 and ((black and extra) or photometric == kinds.PALETTE):
        return "which samples are colours is not known"
    if samples == 2 and not (black and extra and int(extra[0]) in (1, 2)):
        return "what the second sample shows is not known"
    if samples == 1 and photometric not in (kinds.MINISBLACK, kinds.MINISWHITE, kinds.PALETTE):
        return "a single sample is no colour"
    return None


def _described(page: tifffile.TiffPage) -> str:
    samples, bits = page.samplesperpixel, page.bitspersample
    extra = f", ExtraSamples {' '.join(str(int(one)) for one in page.extrasamples)}" if page.extrasamples else ""
    tag = getattr(page.photometric, "name", page.photometric)
    return f"{samples} sample{'s' * (samples > 1)} of {bits} bits per pixel, PhotometricInterpretation {tag}{extra}"


def _from_page(page: tifffile.TiffPage, path: Path) -> Raster:
    try:
        pixels = page.asarray()
    except Exception as error:  # of any kind for damaged strips; ValueError for compressions that need another package
        pixels = _recompressed(page, path)
        if pixels is None:
            raise DataError(f"The TIFF file cannot be decoded ({error}).", where=path, hint=AS_PNG) from error
    if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE and pixels.shape[0] == page.samplesperpixel:
        pixels = np.moveaxis(pixels, 0, -1)
    tag = page.tags.get(ExifTags.Base.Orientation)
    turn = int(tag.value) if tag else 1
    pixels = np.ascontiguousarray(_upright(pixels, turn))
    channels = 1 if page.samplesperpixel == 2 else 3
    alpha = pixels[..., channels] if pixels.shape[2] > channels else None
    return Raster(pixels[..., :channels], page.bitspersample, alpha, turn=turn if turn in _TURNS else 1)


def _recompressed(page: tifffile.TiffPage, path: Path) -> np.ndarray | None:
    """Pixels of 8-bit colours in a compression that only Pillow decodes, by a copy whose tag says RGB; None where it cannot."""
    if page.bitspersample != 8 or page.samplesperpixel != 3:
        return None
    from io import BytesIO

    copy = BytesIO(path.read_bytes())
    with tifffile.TiffFile(copy, mode="r+") as file:
        file.pages[0].tags["PhotometricInterpretation"].overwrite(int(tifffile.PHOTOMETRIC.RGB))
        if orientation := file.pages[0].tags.get("Orientation"):
            orientation.overwrite(1)  # the caller turns
        copy.seek(0)
        with Image.open(copy) as image:
            return np.moveaxis(np.array(image), -1, 0) if page.planarconfig == 2 else np.array(image)


def _upright(pixels: np.ndarray, turn: int) -> np.ndarray:
    return _TURNS.get(turn, lambda same: same)(pixels)


def _too_large(pixels: int | str, path: Path) -> DataError:
    limit = 2 * Image.MAX_IMAGE_PIXELS // 10**6
    what = f"The picture is too large: {pixels} pixels, more than {limit} million."
    return DataError(what, where=path, hint="cut it into tiles, or save it smaller.")


def _is_lossy_webp(path: Path | str) -> bool:
    try:
        return b"VP8 " in Path(path).read_bytes()[:4096]
    except OSError:
        return True  # an image in memory


def _has_deep_jpeg2000_colour(head: bytes) -> bool:
    """Whether a JPEG 2000 file has several components of more than 8 bits, of which Pillow keeps 8."""
    if (place := head.find(b"ihdr")) >= 0 and head[4:8] == b"jP  " and len(head) >= place + 15:
        components, bits = struct.unpack(">HB", head[place + 12 : place + 15])
    elif head[:4] == b"\xff\x4f\xff\x51" and len(head) > 42:
        components, bits = struct.unpack(">HB", head[40:43])
    else:
        return False
    return components > 1 and (bits & 127) + 1 > 8
