"""An interrupted `adopt` leaves no dataset, and goes on where it stopped."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from tests.helpers import all_samples, draw_toy
from vlsm_helpers.data import intake, staging
from vlsm_helpers.data.own import adopt
from vlsm_helpers.data.registry import own_datasets
from vlsm_helpers.errors import BusyError, DataError
from vlsm_helpers.io import atomic

pytestmark = pytest.mark.usefixtures("own_data")


@pytest.fixture
def folders(tmp_path):
    """Twelve images and their masks."""
    generator = np.random.default_rng(0)
    images, masks = tmp_path / "images", tmp_path / "masks"
    images.mkdir()
    masks.mkdir()
    for number in range(12):
        image, mask = draw_toy(generator, 48)
        Image.fromarray(image).save(images / f"i{number:02d}.png")
        Image.fromarray(mask).save(masks / f"i{number:02d}.png")
    return images, masks


def content(folder):
    """Every file of a dataset with its bytes."""
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def decoded(monkeypatch):
    """The names of the images that are decoded."""
    names, read = [], intake._read

    def watched(root, frame, *rest):
        names.append(frame.id)
        return read(root, frame, *rest)

    monkeypatch.setattr(intake, "_read", watched)
    return names


@pytest.fixture
def interrupted(folders, decoded):
    """Begin to adopt the dataset `mine`, with Ctrl-C or another error after so many images, which are forgotten."""

    def begin(images, noun="square", error=KeyboardInterrupt):
        read = intake._read
        decoded.clear()

        def stopping(*given):
            if len(decoded) == images:
                raise error
            return read(*given)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(intake, "_read", stopping)
            with pytest.raises(Exception if isinstance(error, OSError) else KeyboardInterrupt):
                adopt("mine", *folders, noun)
        decoded.clear()

    return begin


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_what_has_been_read_is_not_read_again(folders, own_data, decoded, interrupted, error):
    adopt("whole", *folders, "square")
    interrupted(7, error=error)
    assert not (own_data / "mine").exists()
    assert own_datasets() == ["whole"]
    adopted = adopt("mine", *folders, "square")
    assert len(decoded) == 5
    assert content(own_data / "mine") == content(own_data / "whole")
    assert adopted.report.ok
    assert sorted(path.name for path in own_data.iterdir()) == ["mine", "whole"]


def test_files_that_changed_in_between_are_read_again_and_removed_ones_leave(folders, own_data, decoded, interrupted):
    interrupted(7)
    images, masks = folders
    Image.fromarray(draw_toy(np.random.default_rng(99), 48)[0]).save(images / "i02.png")
    for folder in folders:
        (folder / "i03.png").unlink()
    adopt("mine", *folders, "square")
    assert sorted(decoded) == ["i02", "i07", "i08", "i09", "i10", "i11"]
    for part, folder in (("images", images), ("masks", masks)):
        assert {path.name for path in (own_data / "mine" / part).iterdir()} == {path.name for path in folder.iterdir()}
    assert (own_data / "mine" / "images" / "i02.png").read_bytes() == (images / "i02.png").read_bytes()


def test_other_options_begin_anew(folders, decoded, interrupted):
    interrupted(7)
    adopt("mine", *folders, "rectangle")
    assert len(decoded) == 12
    assert {sample.prompts["p1"] for sample in all_samples()} == {"rectangle"}


def test_a_refusal_leaves_nothing_unless_reading_took_long(folders, own_data, decoded, monkeypatch):
    path = folders[1] / "i05.png"
    good = path.read_bytes()
    Image.fromarray(np.full((48, 48), 100, np.uint8)).save(path)
    with pytest.raises(DataError, match="i05.png"):
        adopt("mine", *folders, "square")
    assert list(own_data.iterdir()) == []
    monkeypatch.setattr(staging, "WORTH_KEEPING", 0)
    with pytest.raises(DataError, match="i05.png"):
        adopt("mine", *folders, "square")
    assert own_datasets() == []
    path.write_bytes(good)
    decoded.clear()
    adopt("mine", *folders, "square")
    assert decoded == ["i05"]


def test_a_file_that_vanishes_meanwhile_is_named(folders, own_data, monkeypatch):
    read = intake._read

    def vanishing(root, frame, *rest):
        (folders[1] / "i09.png").unlink(missing_ok=True)
        return read(root, frame, *rest)

    monkeypatch.setattr(intake, "_read", vanishing)
    with pytest.raises(DataError, match=r"i09\.png"):
        adopt("mine", *folders, "square")
    assert list(own_data.iterdir()) == []


def test_two_at_once_do_not_mix(folders, own_data, interrupted):
    interrupted(3)
    (partial,) = own_data.iterdir()
    with atomic.owned(partial / "lock", "makes it"), pytest.raises(BusyError):
        adopt("mine", *folders, "square")
    assert partial.is_dir()
    adopt("mine", *folders, "square")
    assert [path.name for path in own_data.iterdir()] == ["mine"]


def test_what_was_left_long_ago_is_removed(folders, own_data, interrupted):
    interrupted(3, "other")
    (partial,) = own_data.iterdir()
    for path in partial.iterdir():
        os.utime(path, (1, time.time() - staging.KEPT - 60))
    adopt("mine", *folders, "square")
    assert [path.name for path in own_data.iterdir()] == ["mine"]


SLOWLY = """
import sys, time
from vlsm_helpers.data import intake, own
read = intake._read
def slowly(*given):
    time.sleep(0.2)
    return read(*given)
intake._read = slowly
own.adopt("mine", sys.argv[1], sys.argv[2], "square")
"""


def test_kill_9_in_the_middle_leaves_no_dataset(folders, own_data, decoded):
    process = subprocess.Popen([sys.executable, "-c", SLOWLY, *map(str, folders)])
    deadline = time.monotonic() + 60
    while len(list(own_data.glob(".mine.partial-*/masks/*"))) < 4 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (own_data / "mine").exists()
    assert own_datasets() == []
    adopted = adopt("mine", *folders, "square")
    assert 0 < len(decoded) < 12
    assert adopted.report.ok
    for sample in all_samples():
        assert sample.image.read_bytes() == (folders[0] / sample.image.name).read_bytes()
