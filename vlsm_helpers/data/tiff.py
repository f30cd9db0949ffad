"""TIFF files: the samples of a page, as tifffile and Pillow decode them."""

from io import BytesIO
from pathlib import Path

import numpy as np
import tifffile
from PIL import ExifTags, Image, UnidentifiedImageError

from vlsm_helpers.data.raster import AS_PNG, SPLIT_PAGES, TURNS, Raster, from_file, too_large, upright
from vlsm_helpers.errors import DataError


def page_count(path: Path) -> int:
    """The number of pages of a TIFF file, thumbnails left out; 1 for a file that only Pillow may read.

    Raises DataError for pages that are channels of one picture, not pictures.
    """
    try:
        with tifffile.TiffFile(path) as file:
            count = _count(file)
            axes = file.series[0].axes if len(file.series) == 1 else ""
    except Exception:  # damaged: decoding tells what is wrong
        return 1
    if count > 1 and "C" in axes:
        what = f"The {count} pages of the TIFF file are channels of one picture (axes {axes})."
        raise DataError(what, where=path, hint=AS_PNG)
    return count


def from_tiff(path: Path, number: int | None = None) -> Raster:
    """The numbers of the page `number`, from 0; without it, of the only page."""
    try:
        file = tifffile.TiffFile(path)
    except Exception:  # tifffile raises many kinds of errors on damaged files, and Pillow may still decode such a file
        return from_file(path)
    with file:
        try:
            pages = [place for place, page in enumerate(file.pages) if not page.is_reduced]  # thumbnails are no pages
            count, first = _count(file), file.pages[0].aspage()
        except Exception:
            return from_file(path)
        if count > 1 and number is None:
            raise DataError(f"The TIFF file has {count} pages, not one.", where=path, hint=SPLIT_PAGES)
        if len(pages) < count:  # a stack with one directory for all its pages
            _refuse(first, path)
            return _as_raster(np.asarray(file.series[0].asarray()).reshape(-1, *first.shape)[number or 0], first)
        place = pages[number or 0] if count > 1 else 0
        return _from_directory(file.pages[place].aspage(), path, place)


def _count(file: tifffile.TiffFile) -> int:
    """The number of pages; a stack may have one directory for all its pages."""
    pages = [page for page in file.pages if not page.is_reduced]
    size = file.series[0].size if len(file.series) == 1 else 0
    return max(len(pages), size // max(file.pages[0].aspage().size, 1))


def _refuse(page: tifffile.TiffPage, path: Path) -> None:
    """Raise DataError for a page that is too large or whose samples have no agreed meaning."""
    if page.imagewidth * page.imagelength > 2 * Image.MAX_IMAGE_PIXELS:
        raise too_large(page.imagewidth * page.imagelength, path)
    if reason := _disagreement(page):
        raise DataError(f"The TIFF file has {_described(page)}: {reason}.", where=path, hint=AS_PNG)


def _from_directory(page: tifffile.TiffPage, path: Path, place: int) -> Raster:
    _refuse(page, path)
    if not _pillow_suffices(page):
        return _from_page(page, path)
    try:
        return from_file(path, page.bitspersample, counted=True, page=place)
    except UnidentifiedImageError:
        if page.samplesperpixel > 1:
            return _from_page(page, path)
        what = f"The TIFF file has {_described(page)}, which has no agreed meaning."
        raise DataError(what, where=path, hint=AS_PNG) from None


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
    return _as_raster(pixels, page)


def _as_raster(pixels: np.ndarray, page: tifffile.TiffPage) -> Raster:
    tag = page.tags.get(ExifTags.Base.Orientation)
    turn = int(tag.value) if tag else 1
    pixels = np.ascontiguousarray(upright(pixels if pixels.ndim == 3 else pixels[..., None], turn))
    channels = 1 if page.samplesperpixel == 2 else 3
    alpha = pixels[..., channels] if pixels.shape[2] > channels else None
    return Raster(pixels[..., :channels], page.bitspersample, alpha, turn=turn if turn in TURNS else 1)


def _recompressed(page: tifffile.TiffPage, path: Path) -> np.ndarray | None:
    """Pixels of 8-bit colours in a compression that only Pillow decodes, by a copy whose tag says RGB; None where it cannot."""
    if page.bitspersample != 8 or page.samplesperpixel != 3:
        return None
    copy = BytesIO(path.read_bytes())
    with tifffile.TiffFile(copy, mode="r+") as file:
        file.pages[page.index].tags["PhotometricInterpretation"].overwrite(int(tifffile.PHOTOMETRIC.RGB))
        if orientation := file.pages[page.index].tags.get("Orientation"):
            orientation.overwrite(1)  # the caller turns
        copy.seek(0)
        with Image.open(copy) as image:
            image.seek(page.index)
            return np.moveaxis(np.array(image), -1, 0) if page.planarconfig == 2 else np.array(image)
