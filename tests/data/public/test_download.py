import hashlib
import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests import archives
from tests.server import Page, closed_port, serve
from vlsm_helpers.data.public.download import fetch, unpack
from vlsm_helpers.errors import DataError, SettingsError

BODY = b"some bytes " * 1000
HASH = hashlib.sha256(BODY).hexdigest()
HTML = b"\n<!DOCTYPE html><html><body>Please sign in</body></html>"


def test_says_the_size_and_fetches_once(tmp_path, capsys):
    with serve({"/files/data.zip": Page(BODY)}) as server:
        path = fetch(f"{server.url}/files/data.zip?token=1", tmp_path / "cache", HASH, otherwise="")
        assert path == tmp_path / "cache" / "data.zip"
        assert path.read_bytes() == BODY
        assert "0.0 MB" in capsys.readouterr().out
        asked = len(server.requests)
        assert fetch(f"{server.url}/files/data.zip", tmp_path / "cache", HASH, otherwise="") == path
        assert fetch(f"{server.url}/files/data.zip", tmp_path / "cache", None, otherwise="") == path
        assert len(server.requests) == asked


def test_an_unknown_checksum_is_said(tmp_path, capsys):
    with serve({"/data.zip": Page(BODY)}) as server:
        fetch(f"{server.url}/data.zip", tmp_path, None, otherwise="")
    assert HASH in capsys.readouterr().out


def test_a_file_that_is_not_the_expected_one_is_fetched_again(tmp_path):
    (tmp_path / "data.zip").write_bytes(b"old")
    with serve({"/data.zip": Page(BODY)}) as server:
        assert fetch(f"{server.url}/data.zip", tmp_path, HASH, otherwise="").read_bytes() == BODY


def test_wrong_checksum(tmp_path):
    (tmp_path / "data.zip").write_bytes(b"old")
    with serve({"/data.zip": Page(BODY)}) as server, pytest.raises(DataError, match="sha256 differs") as caught:
        fetch(f"{server.url}/data.zip", tmp_path, "0" * 64, otherwise="fetch it by hand")
    assert "/data.zip" in str(caught.value)
    assert "fetch it by hand" in str(caught.value)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


@pytest.mark.parametrize(
    ("page", "what"),
    [
        (Page(HTML, "text/html; charset=utf-8"), "web page"),
        (Page(HTML, "application/zip"), "web page"),
        (None, "404 Not Found"),
        (Page(BODY, missing=10), "broke off"),
        ("no server", "no connection"),
    ],
)
def test_a_download_that_fails_leaves_nothing_and_says_what_to_do(page, what, tmp_path):
    with serve({"/data.zip": page} if isinstance(page, Page) else {}) as server:
        url = f"http://127.0.0.1:{closed_port()}" if page == "no server" else server.url
        with pytest.raises(DataError, match=what) as caught:
            fetch(f"{url}/data.zip", tmp_path, None, otherwise="use a browser")
    assert "/data.zip" in str(caught.value)
    assert "use a browser" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_unwritable_folder(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SettingsError) as caught:
        fetch("http://127.0.0.1/data.zip", tmp_path / "file" / "sub", None, otherwise="")
    assert str(tmp_path / "file" / "sub") in str(caught.value)


@pytest.mark.parametrize("pack", [archives.as_zip, archives.as_tar])
def test_unpacks(pack, tmp_path):
    (tmp_path / "in/deep er").mkdir(parents=True)
    (tmp_path / "in/deep er/a..b.txt").write_text("content")
    unpack(pack(tmp_path / "in", tmp_path / "any.name"), tmp_path / "out")
    assert (tmp_path / "out/deep er/a..b.txt").read_text() == "content"


def test_unpacks_a_plain_tar(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        file.addfile(_tar_entry("a.txt", 3), io.BytesIO(b"abc"))
    unpack(tmp_path / "a.tar", tmp_path / "out")
    assert (tmp_path / "out/a.txt").read_bytes() == b"abc"


WAYS_OUT = ["../evil.txt", "sub/../../evil.txt", "/tmp/evil.txt", "C:/evil.txt", "..\\evil.txt", "\\evil.txt"]


def _outside(folder) -> list:
    """Files that are neither the archive nor below the folder it was unpacked to."""
    return [path for path in folder.rglob("*") if path.parts[len(folder.parts)] != "out" and path.name[:3] != "bad"]


@pytest.mark.parametrize("name", WAYS_OUT)
def test_zip_entries_stay_in_the_folder(name, tmp_path):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as file:
        file.writestr("good.txt", "fine")
        file.writestr(name, "evil")
    unpack(tmp_path / "bad.zip", tmp_path / "out")
    assert (tmp_path / "out/good.txt").read_text() == "fine"
    assert _outside(tmp_path) == []
    assert not Path("/tmp/evil.txt").exists()


@pytest.mark.parametrize("name", ["../evil.txt", "sub/../../evil.txt"])
def test_tar_entries_that_leave_the_folder(name, tmp_path):
    with tarfile.open(tmp_path / "bad.tar.gz", "w:gz") as file:
        file.addfile(_tar_entry(name, 4), io.BytesIO(b"evil"))
    with pytest.raises(DataError, match="cannot be unpacked") as caught:
        unpack(tmp_path / "bad.tar.gz", tmp_path / "out")
    assert caught.value.where == tmp_path / "bad.tar.gz"
    assert _outside(tmp_path) == []


def test_a_link_in_a_zip_is_a_plain_file(tmp_path):
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as file:
        file.writestr(link, "/etc/passwd")
    unpack(tmp_path / "bad.zip", tmp_path / "out")
    assert (tmp_path / "out/link").read_text() == "/etc/passwd"
    assert not (tmp_path / "out/link").is_symlink()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_a_link_that_leaves_the_folder_of_a_tar(kind, tmp_path):
    link = _tar_entry("link", 0)
    link.type, link.linkname = kind, "/etc/passwd"
    with tarfile.open(tmp_path / "bad.tar", "w") as file:
        file.addfile(link)
    with pytest.raises(DataError, match="cannot be unpacked"):
        unpack(tmp_path / "bad.tar", tmp_path / "out")
    assert _outside(tmp_path) == []
    assert not list(tmp_path.glob("out/*"))


def test_backslashes_of_a_zip_are_folders(tmp_path):
    with zipfile.ZipFile(tmp_path / "windows.zip", "w") as file:
        file.writestr("Kvasir\\Images\\", "")
        file.writestr("Kvasir\\Images\\a.txt", "fine")
    unpack(tmp_path / "windows.zip", tmp_path / "out")
    assert (tmp_path / "out/Kvasir/Images/a.txt").read_text() == "fine"


@pytest.mark.parametrize("pack", [archives.as_zip, archives.as_tar])
def test_archives_within_an_archive(pack, tmp_path):
    (tmp_path / "in/part").mkdir(parents=True)
    (tmp_path / "in/part/a.txt").write_text("fine")
    (tmp_path / "outer").mkdir()
    pack(tmp_path / "in", tmp_path / "outer" / f"inner{'.zip' if pack is archives.as_zip else '.tar.gz'}")
    unpack(archives.as_zip(tmp_path / "outer", tmp_path / "outer.zip"), tmp_path / "out")
    assert (tmp_path / "out/inner/part/a.txt").read_text() == "fine"


def test_a_broken_archive_within_an_archive_is_named_by_the_one_given(tmp_path):
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as file:
        file.writestr("inner.zip", b"PK broken")
    with pytest.raises(DataError) as caught:
        unpack(tmp_path / "outer.zip", tmp_path / "out")
    assert caught.value.where == tmp_path / "outer.zip"


@pytest.mark.parametrize(
    ("start", "what"),
    [
        (b"Rar!\x1a\x07\x01\x00", "rar archives"),
        (b"7z\xbc\xaf\x27\x1c", "7z archives"),
        (HTML, "web page"),
        (b"just some text", "no zip or tar"),
        (b"", "no zip or tar"),
    ],
)
def test_other_files(start, what, tmp_path):
    (tmp_path / "file.zip").write_bytes(start)
    with pytest.raises(DataError, match=what) as caught:
        unpack(tmp_path / "file.zip", tmp_path / "out")
    assert "file.zip" in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("pack", [archives.as_zip, archives.as_tar])
def test_truncated_archives(pack, tmp_path):
    archives.kvasir(tmp_path / "in")
    whole = pack(tmp_path / "in", tmp_path / "whole").read_bytes()
    (tmp_path / "cut").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"truncated|cannot be unpacked") as caught:
        unpack(tmp_path / "cut", tmp_path / "out")
    assert str(tmp_path / "cut") in str(caught.value)


def test_a_damaged_zip(tmp_path):
    archives.kvasir(tmp_path / "in")
    path = archives.as_zip(tmp_path / "in", tmp_path / "bad.zip")
    damaged = bytearray(path.read_bytes())
    damaged[200:260] = b"\0" * 60
    path.write_bytes(damaged)
    with pytest.raises(DataError, match="cannot be unpacked"):
        unpack(path, tmp_path / "out")


def test_an_encrypted_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "secret.zip", "w") as file:
        file.writestr("a.txt", "secret")
    content = bytearray((tmp_path / "secret.zip").read_bytes())
    content[6] |= 1  # the flag in the entry's own header,
    content[content.index(b"PK\x01\x02") + 8] |= 1  # and in the table of contents
    (tmp_path / "secret.zip").write_bytes(content)
    with pytest.raises(DataError, match="encrypted"):
        unpack(tmp_path / "secret.zip", tmp_path / "out")


def _tar_entry(name: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size = size
    return entry
