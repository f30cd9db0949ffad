"""Fetching files by URL and unpacking archives, so that nothing half-done or unexpected is left behind."""

import lzma
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath, PureWindowsPath
from urllib.parse import urlsplit

import pooch
import requests

from vlsm_helpers.errors import DataError
from vlsm_helpers.io.progress import tqdm
from vlsm_helpers.settings import writable

TIMEOUT = 20  # seconds that a server may stay silent
BAR_AFTER = 2  # seconds: quicker work shows no progress bar
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
        with tqdm(total=0, unit="B", unit_scale=True, desc=path.name, delay=BAR_AFTER) as bar:
            downloader = pooch.HTTPDownloader(progressbar=bar, timeout=TIMEOUT)
            pooch.retrieve(url, sha256, fname=path.name, path=path.parent, downloader=downloader)
    except requests.RequestException as error:
        raise DataError(f"The download failed: {_reason(error)}.", where=url, hint=otherwise) from error
    except ValueError as error:  # pooch's word for a wrong checksum
        raise DataError(
            "The downloaded file is not the expected one: its sha256 differs, so it was thrown away.",
            where=url,
            hint=f"try again later; if that does not help, {otherwise}",
        ) from error
    if _is_web_page(path):
        path.unlink()
        raise _web_page(url, hint=otherwise)
    if sha256 is None:
        print(f"No checksum is published for {path.name}; its sha256 is {pooch.file_hash(str(path))}.")
    return path


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip or tar archive (also .tar.gz, .tar.bz2, .tar.xz) into `folder`, which may exist.

    Raises DataError, naming the archive, for one that is broken or of another kind, and, naming the entry and before
    anything is written, where an entry would leave the folder or is a link.
    """
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as file:
                entries = file.infolist()
                for entry in entries:
                    _refuse_unsafe(entry.filename, stat.S_ISLNK(entry.external_attr >> 16), archive)
                for entry in _progress(entries, archive):
                    file.extract(entry, folder)
        elif tarfile.is_tarfile(archive):
            with tarfile.open(archive) as file:
                entries = file.getmembers()
                for entry in entries:
                    _refuse_unsafe(entry.name, not (entry.isfile() or entry.isdir()), archive)
                for entry in _progress(entries, archive):
                    file.extract(entry, folder, filter="data")
        else:
            raise _no_archive(archive)
    except UNPACKING_ERRORS as error:
        raise DataError(
            f"The archive cannot be unpacked ({error}).",
            where=archive,
            hint="fetch it again, or unpack it by hand and give the folder.",
        ) from error


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


def _no_archive(path: Path) -> DataError:
    """What is wrong with a file that is neither a zip nor a tar archive, judged by its first bytes."""
    start = _first_bytes(path)
    if _is_web_page(path):
        return _web_page(path, hint="fetch the archive with a browser, signed in where the home page asks for it.")
    if start.startswith((b"Rar!", b"7z\xbc\xaf")):
        kind = "rar" if start.startswith(b"Rar!") else "7z"
        return DataError(
            f"{kind} archives cannot be unpacked here.",
            where=path,
            hint="unpack it yourself (7-Zip, unar or The Unarchiver do) and give the folder instead.",
        )
    if start.startswith(b"PK"):
        return DataError("The zip archive is truncated.", where=path, hint="fetch it again.")
    return DataError(
        "The file is no zip or tar archive.", where=path, hint="give the authors' archive, or its unpacked folder."
    )


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(512)


def _refuse_unsafe(entry: str, is_link: bool, archive: Path) -> None:
    # Windows' rules know every way out that POSIX's know (/x, ../x), and C:x and \x besides.
    path = PureWindowsPath(entry)
    if is_link or path.drive or path.root or ".." in path.parts:
        wrong = "is a link" if is_link else "leads out of its folder"
        raise DataError(
            f"The archive holds {entry!r}, which {wrong}: nothing was unpacked.",
            where=archive,
            hint="fetch the archive from its authors.",
        )


def _progress(entries: list, archive: Path) -> tqdm:
    return tqdm(entries, desc=f"unpacking {archive.name}", unit="file", delay=BAR_AFTER)
