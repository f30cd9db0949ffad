"""Fetching files by URL and unpacking archives, so that nothing half-done or unexpected is left behind."""

import lzma
import re
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import pooch
import requests

from vlsm_helpers.errors import DataError
from vlsm_helpers.io.progress import tqdm
from vlsm_helpers.settings import writable

TIMEOUT = 20  # seconds that a server may stay silent
NESTED = 2  # archives within archives are unpacked down to this depth
UNPACKING_ERRORS = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError),
    *(RuntimeError, ValueError, OSError),  # encrypted or a compression Python lacks; damaged names; disk full
)


def fetch(url: str, folder: Path, sha256: str | None, otherwise: str) -> Path:
    """The file at `url`, downloaded into `folder` under its own name; one that already lies there is not fetched again.

    Says the size first, and shows a progress bar. The file appears only when it is complete and, where `sha256` is
    known, is the right one. `otherwise` tells the user what to do where the address cannot be reached. Raises DataError
    for that, for a wrong checksum and for a web page in the file's place, SettingsError for an unwritable folder.
    """
    path = writable(folder) / PurePosixPath(urlsplit(url).path).name
    if path.exists() and (sha256 is None or pooch.file_hash(str(path)) == sha256):
        return path
    pooch.get_logger().setLevel("WARNING")  # we say ourselves what is fetched
    try:
        answer = requests.head(url, allow_redirects=True, timeout=TIMEOUT)
        if answer.ok and "text/html" in answer.headers.get("Content-Type", ""):
            raise _web_page(url, hint=otherwise)
        print(f"Downloading {url} ({_announced_size(answer)})")
        with tqdm(total=0, unit="B", unit_scale=True, desc=path.name, delay=2) as bar:
            downloader = pooch.HTTPDownloader(progressbar=bar, timeout=TIMEOUT)
            pooch.retrieve(url, sha256, fname=path.name, path=path.parent, downloader=downloader)
    except requests.RequestException as error:
        raise DataError(f"The download failed: {_reason(error)}.", where=url, hint=otherwise) from error
    except ValueError as error:  # pooch's word for a wrong checksum
        what = "The downloaded file is not the expected one: its sha256 differs, so it was thrown away."
        raise DataError(what, where=url, hint=f"try again later; if that does not help, {otherwise}") from error
    if _is_web_page(path):
        path.unlink()
        raise _web_page(url, hint=otherwise)
    if sha256 is None:
        print(f"No checksum is published for {path.name}; its sha256 is {pooch.file_hash(str(path))}.")
    return path


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip or tar archive (also .tar.gz, .tar.bz2, .tar.xz), and archives within it, into `folder`, which may exist.

    Backslashes in a zip's names separate folders. Nothing is written outside `folder`: zipfile drops what leads out of it, and
    tarfile's data filter refuses it. Raises DataError, naming the archive, for one that is broken or of another kind.
    """
    _unpack(archive, folder, archive)


def _unpack(archive: Path, folder: Path, where: Path, depth: int = 0) -> None:
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as file:
                for entry in _progress(file.infolist(), archive):
                    entry.filename = entry.filename.replace("\\", "/")
                    file.extract(entry, folder)
        elif tarfile.is_tarfile(archive):
            with tarfile.open(archive) as file:
                for entry in _progress(file.getmembers(), archive):
                    file.extract(entry, folder, filter="data")
        else:
            raise _no_archive(archive, where)
    except UNPACKING_ERRORS as error:
        what = f"The archive cannot be unpacked ({error})."
        raise DataError(what, where=where, hint="fetch it again, or unpack it yourself and give the folder.") from error
    for inner in archives_in(folder) if depth < NESTED else ():
        _unpack(inner, inner.parent / inner.name.partition(".")[0], where, depth + 1)
        inner.unlink()


def archives_in(folder: Path) -> list[Path]:
    """The zip and tar archives at or below a folder, by their names."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name[0] != "."]
    return [path for path in files if re.search(r"\.(zip|tar|tgz|tar\.\w+)$", path.name, re.IGNORECASE)]


def _announced_size(answer: requests.Response) -> str:
    if not answer.ok or "Content-Length" not in answer.headers:
        return "size unknown"
    return f"{int(answer.headers['Content-Length']) / 1e6:.1f} MB"


def _reason(error: requests.RequestException) -> str:
    if isinstance(error, requests.HTTPError):
        return f"the server answered {error.response.status_code} {error.response.reason}"
    reasons = {
        requests.exceptions.SSLError: "the server's certificate is not accepted",
        requests.Timeout: f"no answer within {TIMEOUT} seconds",
        requests.exceptions.ChunkedEncodingError: "the connection broke off",
        requests.ConnectionError: "no connection to the server (is there a network?)",
    }
    return next((text for kind, text in reasons.items() if isinstance(error, kind)), str(error))


def _is_web_page(path: Path) -> bool:
    return _first_bytes(path).lstrip().lower().startswith((b"<!doctype html", b"<html"))


def _web_page(where: str | Path, hint: str) -> DataError:
    what = "This is a web page, not the file: the server asks for a login, or the file has moved."
    return DataError(what, where=where, hint=hint)


def _no_archive(path: Path, where: Path) -> DataError:
    """What is wrong with a file that is neither a zip nor a tar archive, judged by its first bytes."""
    start = _first_bytes(path)
    if _is_web_page(path):
        return _web_page(where, hint="fetch the archive with a browser, signed in where the home page asks for it.")
    if start.startswith((b"Rar!", b"7z\xbc\xaf")):
        kind = "rar" if start.startswith(b"Rar!") else "7z"
        hint = "unpack it yourself (7-Zip, unar or The Unarchiver do) and give the folder instead."
        return DataError(f"{kind} archives cannot be unpacked here.", where=where, hint=hint)
    if start.startswith(b"PK"):
        return DataError("The zip archive is truncated.", where=where, hint="fetch it again.")
    what = "The file is no zip or tar archive."
    return DataError(what, where=where, hint="give the authors' archive, or its unpacked folder.")


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(512)


def _progress(entries: list, archive: Path) -> tqdm:
    return tqdm(entries, desc=f"unpacking {archive.name}", unit="file", delay=2)
