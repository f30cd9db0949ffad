import cv2
import numpy as np
import pytest
import tifffile

from vlsm_helpers.data.formats import Reading
from vlsm_helpers.data.frames import frames
from vlsm_helpers.data.own import adopt
from vlsm_helpers.errors import DataError


@pytest.fixture
def clip(tmp_path):
    """Twelve grey frames, each brighter by 20 than the one before."""
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for number in range(12):
        writer.write(np.full((48, 64, 3), 20 * number, np.uint8))
    writer.release()
    return path


def test_each_nth_frame_of_a_video(clip):
    found = frames([clip], Reading(every=5))
    assert [(frame.id, frame.group) for frame in found] == [(f"clip_{number:04d}", "clip") for number in (0, 5, 10)]
    for frame in (found[2], found[0], found[1]):  # in any order
        raster = frame.decode()
        assert raster.values.shape == (48, 64, 3)
        assert abs(raster.values.mean() - 20 * frame.index) < 3


def test_colours_of_a_video_are_red_green_blue(tmp_path):
    path = tmp_path / "red.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    writer.write(np.full((48, 64, 3), (0, 0, 255), np.uint8))  # OpenCV's order
    writer.release()
    assert np.argmax(frames([path])[0].decode().values.mean(axis=(0, 1))) == 0


@pytest.mark.parametrize("content", [b"", b"no video at all", None])
def test_wrong_videos_are_named(clip, content, capfd):
    clip.write_bytes(clip.read_bytes()[:500] if content is None else content)
    with pytest.raises(DataError) as caught:
        frames([clip])
    assert "clip.avi" in str(caught.value)
    assert caught.value.hint


def test_adopt_tells_how_many_images_are_frames(tmp_path):
    rng = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    for number in range(4):
        tifffile.imwrite(tmp_path / "images" / f"{number}.tif", rng.integers(0, 255, (5, 32, 32), np.uint8))
        masks = np.zeros((5, 32, 32), np.uint8)
        masks[:, 8:20, 8:20] = 255
        tifffile.imwrite(tmp_path / "masks" / f"{number}.tif", masks)
    adopted = adopt("stacks", tmp_path / "images", tmp_path / "masks", "tumor", folder=tmp_path / "data")
    assert "20 images are frames of 4 files" in str(adopted)
    assert adopted.sizes == [5, 5, 5, 5]
