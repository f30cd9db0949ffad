import os
import sys

import numpy as np
import pytest

from tests.processes import on_a_full_disk
from vlsm_helpers.errors import SettingsError
from vlsm_helpers.io import atomic


def fill(folder):
    with atomic.array_file(folder / "numbers.npy", np.dtype(np.float32), (2, 3)) as file:
        for row in ([1, 2, 3], [4, 5, 6]):
            file.write(np.array(row, np.float32).tobytes())


@pytest.fixture
def folder(tmp_path):
    atomic.write(tmp_path / "made", "key", fill)
    return tmp_path / "made"


def test_what_was_written_piece_by_piece_is_read_as_an_array(folder):
    numbers = np.load(folder / "numbers.npy", mmap_mode="r")
    np.testing.assert_array_equal(numbers, [[1, 2, 3], [4, 5, 6]])
    assert numbers.dtype == np.float32
    assert atomic.is_complete(folder, "key")
    assert [path.name for path in folder.parent.iterdir()] == ["made"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / "numbers.npy").unlink(),
        lambda folder: os.truncate(folder / "numbers.npy", 140),
        lambda folder: (folder / "numbers.npy").open("ab").write(b"more"),
        lambda folder: (folder / atomic.STAMP).unlink(),
        lambda folder: os.truncate(folder / atomic.STAMP, 10),
        lambda folder: (folder / atomic.STAMP).write_text("[]"),
    ],
    ids=["file missing", "file truncated", "file too long", "no stamp", "stamp truncated", "another stamp"],
)
def test_a_folder_that_is_not_whole_is_noticed_and_replaced(folder, spoil):
    spoil(folder)
    assert not atomic.is_complete(folder, "key")
    atomic.write(folder, "key", fill)
    assert atomic.is_complete(folder, "key")


def test_a_folder_of_another_key_is_not_taken(folder, tmp_path):
    assert not atomic.is_complete(folder, "other")
    assert not atomic.is_complete(tmp_path / "nowhere", "key")


def test_a_failure_leaves_nothing_behind(tmp_path):
    def fail(folder):
        fill(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        atomic.write(tmp_path / "made", "key", fail)
    assert list(tmp_path.iterdir()) == []


def test_of_two_that_write_the_same_the_second_keeps_what_the_first_finished(tmp_path):
    def overtaken(folder):
        fill(folder)
        other = tmp_path / "other-process"
        atomic.write(other, "key", fill)
        os.replace(other, tmp_path / "made")
        (tmp_path / "made" / "numbers.npy").touch()

    atomic.write(tmp_path / "made", "key", overtaken)
    assert atomic.is_complete(tmp_path / "made", "key")
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_only_abandoned_half_written_folders_are_thrown_away(tmp_path):
    for name, age in (("fresh", 0), ("old", 2 * atomic.ABANDONED)):
        half = tmp_path / f".{name}.partial-1"
        half.mkdir()
        (half / "numbers.npy").write_bytes(b"half")
        moment = (half / "numbers.npy").stat().st_mtime - age
        os.utime(half / "numbers.npy", (moment, moment))
    atomic.write(tmp_path / "made", "key", fill)
    assert {path.name for path in tmp_path.iterdir()} == {"made", ".fresh.partial-1"}


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files with setrlimit")
def test_a_full_disk_is_told(tmp_path):
    code = (
        "import sys, numpy as np; from pathlib import Path; from vlsm_helpers.io import atomic\n"
        "def fill(folder):\n"
        "    with atomic.array_file(folder / 'a.npy', np.dtype(np.uint8), (1_000_000,)) as file:\n"
        "        file.write(bytes(1_000_000))\n"
        "atomic.write(Path(sys.argv[1]), 'key', fill)"
    )
    told = on_a_full_disk(code, tmp_path / "made")
    assert "SettingsError: The folder could not be written (File too large)" in told
    assert "VLSM_CACHE" in told
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SettingsError, match="could not be written"):
        atomic.write(tmp_path / "file" / "made", "key", fill)


def test_a_new_folder_appears_when_it_is_filled_and_not_before(tmp_path):
    with atomic.new_folder(tmp_path / "made") as fresh:
        (fresh / "part").mkdir()
        assert not (tmp_path / "made").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
    assert (tmp_path / "made" / "part").is_dir()


@pytest.mark.parametrize(
    ("error", "told"), [(OSError(28, "No space left"), SettingsError), (KeyboardInterrupt(), KeyboardInterrupt)]
)
def test_a_new_folder_that_could_not_be_filled_leaves_nothing(tmp_path, error, told):
    def fill():
        with atomic.new_folder(tmp_path / "made") as fresh:
            (fresh / "half").touch()
            raise error

    with pytest.raises(told):
        fill()
    assert list(tmp_path.iterdir()) == []
