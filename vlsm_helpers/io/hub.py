"""Files of a repository on the Hugging Face Hub: found in its local cache, or downloaded into it.

The hub's client keeps nothing of a large file whose download was interrupted, so the one large file of a repository is
downloaded here: continued where it stopped, verified by its SHA-256. The client does the rest. The cache's layout is the
documented one, https://huggingface.co/docs/hub/local-cache: other programs find what was downloaded.
"""

import errno
import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock

from vlsm_helpers.io.progress import tqdm

MAIN = "main"
HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")  # git's, or the SHA-256 of a large file
TRIES = 5  # in a row that bring no byte


class Listing(NamedTuple):
    """What a repository holds at one commit."""

    commit: str
    names: list[str]


def cached_folder(hub_id: str, names: Iterable[str], revision: str = MAIN) -> Path | None:
    """The folder of the cache that holds any of the files `names` at this revision; no request is made.

    Raises ValueError for an id that none can have.
    """
    from huggingface_hub import try_to_load_from_cache

    for name in names:
        path = try_to_load_from_cache(hub_id, name, revision=revision)
        if isinstance(path, str):
            return Path(path).parent
    return None


def commit_of(folder: Path, file: str) -> str | None:
    """The commit that `file` in `folder` is of, where the folder tells: one of the cache, or one of `hf download --local-dir`."""
    if folder.parent.name == "snapshots" and HASH.fullmatch(folder.name):
        return folder.name
    metadata = folder / ".cache" / "huggingface" / "download" / f"{file}.metadata"
    try:
        commit = metadata.read_text(encoding="utf-8").partition("\n")[0].strip()
    except OSError:
        return None
    return commit if HASH.fullmatch(commit) else None


def list_files(hub_id: str, revision: str = MAIN) -> Listing:
    """The repository's files at a revision: a branch, a tag or a commit. Raises what the hub's client raises."""
    from huggingface_hub import HfApi

    info = HfApi().model_info(hub_id, revision=revision)
    return Listing(info.sha, [sibling.rfilename for sibling in info.siblings or []])


def download(hub_id: str, commit: str, large: str, others: Iterable[str], revision: str = MAIN) -> Path:
    """Download files of one commit into the cache, `large` last; the folder with them.

    Progress is shown in megabytes. Interrupted, the next call goes on where the large file stopped. `revision` is written
    down as this commit once all is there. Raises what the hub's client raises, and OSError for a full disk or a file that is
    not the announced one.
    """
    from huggingface_hub import hf_hub_download

    root = _repository(hub_id)
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / ".download.lock"):  # of several processes one downloads, the others find the files
        for name in others:
            hf_hub_download(hub_id, name, revision=commit)
        folder = Path(_download_large(root, hub_id, commit, large)).parent
        if revision != commit:
            _write_ref(root, revision, commit)
    return folder


def _repository(hub_id: str) -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"models--{hub_id.replace('/', '--')}"


def _write_ref(root: Path, revision: str, commit: str) -> None:
    path = root / "refs" / revision
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    fresh.write_text(commit, encoding="utf-8")
    os.replace(fresh, path)


def _download_large(root: Path, hub_id: str, commit: str, name: str) -> str:
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    url = hf_hub_url(hub_id, name, revision=commit)
    announced = get_hf_file_metadata(url)
    etag, size = announced.etag, announced.size
    if not (etag and size and HASH.fullmatch(etag)):
        return hf_hub_download(hub_id, name, revision=commit)  # the client says what is wrong with the answer
    blob = root / "blobs" / etag
    blob.parent.mkdir(exist_ok=True)
    if not blob.exists():
        partial = blob.with_name(f"{etag}.incomplete")
        _require_space(partial, size)
        _fetch(url, partial, size, f"downloading {name}")
        _verify(partial, size, etag)
        os.replace(partial, blob)
    pointer = hf_hub_download(hub_id, name, revision=commit)
    if not Path(pointer).is_symlink():  # where the system has no symbolic links, the client has copied
        blob.unlink(missing_ok=True)
    return pointer


def _require_space(partial: Path, size: int) -> None:
    left = size - (partial.stat().st_size if partial.exists() else 0)
    free = shutil.disk_usage(partial.parent).free
    if left > free:
        what = f"{left / 1e6:.0f} MB are still to come, and {free / 1e6:.0f} MB are free"
        raise OSError(errno.ENOSPC, what, str(partial.parent))


def _fetch(url: str, partial: Path, size: int, title: str) -> None:
    """Append to `partial` what it lacks of `size` bytes. A connection that fails is tried again."""
    from huggingface_hub.errors import HfHubHTTPError, HTTPError

    partial.touch()
    failures = 0
    with tqdm(total=size, desc=title, unit="B", unit_scale=True) as bar:
        while (have := partial.stat().st_size) < size:
            bar.n = bar.initial = have
            try:
                return _append(url, partial, have, bar)  # a connection that breaks off is an error, so this is the end
            except HTTPError as error:
                failures = 0 if partial.stat().st_size > have else failures + 1
                if isinstance(error, HfHubHTTPError) or failures >= TRIES:
                    raise
                time.sleep(failures)


def _append(url: str, partial: Path, have: int, bar: tqdm) -> None:
    from huggingface_hub import constants, get_session
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

    headers = build_hf_headers() | {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    with get_session().stream("GET", url, headers=headers, timeout=timeout, follow_redirects=True) as response:
        hf_raise_for_status(response)
        continued = response.status_code == 206  # a server may send all of it in spite of the range
        if not continued:
            bar.n = bar.initial = 0
        with partial.open("ab" if continued else "wb") as file:
            for piece in response.iter_bytes():  # of no set size, which would be gathered and lost when the line breaks
                file.write(piece)
                bar.update(len(piece))


def _verify(partial: Path, size: int, etag: str) -> None:
    """Raise OSError, and delete the file, unless it is the announced one. A git hash does not tell, so its size must do."""
    have = partial.stat().st_size
    with partial.open("rb") as file:
        same = have == size and (len(etag) != 64 or hashlib.file_digest(file, "sha256").hexdigest() == etag)
    if not same:
        partial.unlink()
        raise OSError(
            f"what came, {have:,} bytes, is not the file that the hub announced, {size:,} bytes: a sign-in page of your network, "
            "or a damaged download"
        )
