import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock
from PIL import Image

from tests.dicoms import dataset
from tests.inference.test_predictor import HALVES, predictor, prompted
from vlsm_helpers.errors import BusyError, SettingsError
from vlsm_helpers.fusion.weighted import WeightedFusion
from vlsm_helpers.inference.batch import LOCK, segment_files
from vlsm_helpers.inference.predictor import Predictor

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def images(tmp_path):
    paths = [tmp_path / "in" / f"{name}.png" for name in ("one", "two")]
    paths[0].parent.mkdir()
    for path in paths:
        Image.fromarray(HALVES.repeat(8, 0).repeat(8, 1)).save(path)
    return paths


def test_masks_overlays_uncertainties_and_a_table(images, tmp_path):
    table, broken = segment_files(predictor(), images, tmp_path / "out")
    assert broken == []
    files = {path.name for path in (tmp_path / "out").glob("[!.]*")}
    assert files == {
        *("one.png", "one_overlay.jpg", "one_uncertainty.png", "two.png", "two_overlay.jpg", "two_uncertainty.png"),
        "segmented.csv",
        "segmented.json",
    }
    mask = np.asarray(Image.open(tmp_path / "out" / "one.png"))
    assert set(np.unique(mask)) == {0, 255}
    assert mask.mean() == 255 / 2
    written = pd.read_csv(tmp_path / "out" / "segmented.csv", keep_default_na=False, na_values={"area_mm2": [""]})
    pd.testing.assert_frame_equal(written, table)
    assert list(table["foreground"]) == [0.5, 0.5]
    assert list(table["area_px"]) == [512, 512]
    assert table["area_mm2"].isna().all()
    overlay = np.asarray(Image.open(tmp_path / "out" / "one_overlay.jpg")).astype(int)
    assert overlay[16, 4].max() < 40  # black stays black,
    assert overlay[16, 24, 2] < 230  # white is tinted


def test_a_broken_image_does_not_stop_the_others(images, tmp_path):
    images[0].write_text("no image")
    table, broken = segment_files(predictor(), images, tmp_path / "out")
    assert [error.where for error in broken] == [images[0]]
    assert list(table["image"]) == [str(images[1])]
    assert not (tmp_path / "out" / "one.png").exists()


def test_nothing_is_overwritten(images, tmp_path):
    (tmp_path / "masks").mkdir()
    truth = tmp_path / "masks" / "two.png"
    truth.write_text("drawn by hand")
    with pytest.raises(SettingsError, match="1 files are there already, such as two.png"):
        segment_files(predictor(), images, tmp_path / "masks")
    assert [path.name for path in (tmp_path / "masks").iterdir()] == ["two.png"]
    assert truth.read_text() == "drawn by hand"


@pytest.mark.parametrize("name", ["elsewhere/one.jpg", "in/one_uncertainty.png"])
def test_an_image_whose_outputs_would_have_the_names_of_another_ones_is_refused(images, tmp_path, name):
    other = tmp_path / name
    other.parent.mkdir(exist_ok=True)
    Image.fromarray(HALVES).save(other)
    with pytest.raises(SettingsError, match=f"2 images .* {other.stem}.png"):
        segment_files(predictor(), [*images, other], tmp_path / "out")


class Counted(Predictor):
    """A predictor that counts its images, and is stopped, once, at the image number `stop`, from 1."""

    def __init__(self, stop=None):
        one = predictor()
        super().__init__(one.members, one.fusion, size=one.size)
        self.asked, self.stop = 0, stop

    def stream(self, images, prompt=None):
        for found in super().stream(images, prompt):
            self.asked += 1
            if self.asked == self.stop:
                raise KeyboardInterrupt
            yield found


def asked_again(images, output):
    """How many images the same call asks the predictor for, once more, and its table."""
    counted = Counted()
    table, _ = segment_files(counted, images, output)
    return counted.asked, table


def test_after_a_stop_in_the_middle_the_same_call_goes_on(images, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        segment_files(Counted(stop=2), images, tmp_path / "out")
    assert list(pd.read_csv(tmp_path / "out" / "segmented.csv")["image"]) == [str(images[0])]
    (tmp_path / "out" / ".two.png.partial-1").write_text("half a mask")  # as a kill while writing leaves it
    asked, table = asked_again(images, tmp_path / "out")
    assert asked == 1
    whole, _ = segment_files(predictor(), images, tmp_path / "whole")
    pd.testing.assert_frame_equal(table, whole)
    assert not list((tmp_path / "out").glob("*.partial-*"))
    for name in ("two.png", "segmented.csv"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_an_image_that_was_repaired_is_segmented_by_the_next_call(images, tmp_path):
    good = images[0].read_bytes()
    images[0].write_text("no image")
    segment_files(predictor(), images, tmp_path / "out")
    images[0].write_bytes(good)
    again = Counted()
    again = Counted()
    table, broken = segment_files(again, images, tmp_path / "out")
    assert (again.asked, broken, len(table)) == (1, [], 2)


def test_masks_of_another_prompt_or_ensemble_are_not_mixed_with_these(images, tmp_path):
    segment_files(predictor(), images[:1], tmp_path / "out")
    with pytest.raises(SettingsError, match="of another ensemble, or of another prompt"):
        segment_files(predictor(), images, tmp_path / "out", "a polyp")
    other = WeightedFusion({"bright": 0.5, "yes": 0.5}, "logits")
    with pytest.raises(SettingsError, match="of another ensemble, or of another prompt"):
        segment_files(predictor(fusion=other), images, tmp_path / "out")


def test_an_image_of_the_same_name_from_elsewhere_does_not_take_the_place_of_this_one(images, tmp_path):
    segment_files(predictor(), images, tmp_path / "out")
    mask = (tmp_path / "out" / "one.png").read_bytes()
    other = tmp_path / "elsewhere" / "one.png"
    other.parent.mkdir()
    Image.fromarray(HALVES[:, ::-1]).save(other)
    with pytest.raises(SettingsError, match=f"one.png is there already, of {images[0]}") as failure:
        segment_files(predictor(), [other], tmp_path / "out")
    assert failure.value.where == other
    assert (tmp_path / "out" / "one.png").read_bytes() == mask


def test_what_has_changed_since_is_segmented_again(images, tmp_path):
    segment_files(predictor(), images, tmp_path / "out")
    (tmp_path / "out" / "two_overlay.jpg").unlink()  # a file is gone,
    later = (tmp_path / "out" / "one.png").stat().st_mtime_ns + 10**9
    Image.fromarray(HALVES[:, ::-1].repeat(8, 0).repeat(8, 1)).save(images[0])  # and an image is another one
    os.utime(images[0], ns=(later, later))
    asked, table = asked_again(images, tmp_path / "out")
    assert asked == 2
    assert sorted(table["image"]) == sorted(map(str, images))
    assert (tmp_path / "out" / "two_overlay.jpg").exists()
    assert np.asarray(Image.open(tmp_path / "out" / "one.png"))[0, 0] == 255


def test_a_row_that_was_cut_short_is_none(images, tmp_path):
    whole, _ = segment_files(predictor(), images, tmp_path / "out")
    path = tmp_path / "out" / "segmented.csv"
    path.write_text(path.read_text()[:-4])
    asked, table = asked_again(images, tmp_path / "out")
    assert asked == 1
    pd.testing.assert_frame_equal(table, whole)


def test_other_images_may_follow_and_their_paths_may_be_relative(images, tmp_path, monkeypatch):
    segment_files(predictor(), images[:1], tmp_path / "out")
    images[0].unlink()  # it was moved away; its mask stays
    monkeypatch.chdir(images[1].parent)
    table, _ = segment_files(predictor(), [Path("two.png")], tmp_path / "out")
    assert list(table["image"]) == [str(image) for image in images]
    assert asked_again([images[1]], tmp_path / "out")[0] == 0


def test_files_of_others_in_a_folder_that_was_begun_are_kept(images, tmp_path):
    """An image in the folder itself, another one's uncertainty, and a mask that a person put there."""
    out = tmp_path / "out"
    segment_files(predictor(), images[:1], out)
    inside = out / "inside.png"
    inside.write_bytes(images[0].read_bytes())
    named_as_output = images[0].with_name("one_uncertainty.png")
    named_as_output.write_bytes(images[0].read_bytes())
    (out / "two.png").write_text("drawn by hand")
    before = {path.name: path.read_bytes() for path in out.glob("[!.]*")}
    for image in (inside, named_as_output, images[1]):
        with pytest.raises(SettingsError, match="there already"):
            segment_files(predictor(), [image], out)
    assert {path.name: path.read_bytes() for path in out.glob("[!.]*")} == before


@pytest.mark.parametrize("stop", range(4), ids=["pictures", "row", "first rename", "second rename"])
def test_killed_at_any_moment_of_writing_it_resumes(images, tmp_path, monkeypatch, stop):
    """Stopped in the second image: while its pictures are written, before the first rename, or between two of them."""
    real_save, real_replace, calls = Image.Image.save, os.replace, []

    def save(self, file, *arguments, **options):
        calls.append("picture")
        if stop == 0 and calls.count("picture") == 5:
            raise KeyboardInterrupt
        real_save(self, file, *arguments, **options)

    def replace(source, target):
        calls.append("rename" if Path(target).suffix in (".png", ".jpg") else "other")
        if stop > 0 and calls.count("rename") == 3 + stop:
            raise KeyboardInterrupt
        real_replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", save)
        patch.setattr(os, "replace", replace)
        with pytest.raises(KeyboardInterrupt):
            segment_files(predictor(), images, tmp_path / "out")
    asked, table = asked_again(images, tmp_path / "out")
    assert asked == 1
    whole, _ = segment_files(predictor(), images, tmp_path / "whole")
    pd.testing.assert_frame_equal(table, whole)
    names = sorted(path.name for path in (tmp_path / "whole").glob("[!.]*"))
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.name != ".segmented.lock") == names


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from tests.inference.test_predictor import predictor
from vlsm_helpers.inference.batch import LOCK, segment_files
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
segment_files(predictor(), [Path(name) for name in sys.argv[3:]], Path(sys.argv[2]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files with setrlimit")
def test_a_full_disk_is_told_and_what_is_done_is_kept(images, tmp_path):
    """The kernel refuses files above a limit, as a full disk does; noise compresses badly, so the second image is too large."""
    noise = np.random.default_rng(0).integers(0, 255, (400, 400, 3), dtype=np.uint8)
    Image.fromarray(noise).save(images[1])
    command = [sys.executable, "-c", FULL_DISK, "9000", str(tmp_path / "out"), *map(str, images)]
    child = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert "SettingsError: The masks of two.png could not be written (File too large)" in child.stderr
    assert "free some space and give the same command again" in child.stderr
    asked, table = asked_again(images, tmp_path / "out")
    assert (asked, len(table)) == (1, 2)
    assert not list((tmp_path / "out").glob("*.partial-*"))


def test_two_calls_at_once_do_not_share_a_folder(images, tmp_path):
    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / LOCK), pytest.raises(BusyError):
        segment_files(predictor(), images, tmp_path / "out")


@pytest.mark.parametrize("name", ["segmented.csv", "segmented.json"])
@pytest.mark.parametrize("content", ["", "my,own\n1,2\n", "[1]"])
def test_a_table_or_a_record_of_others_is_left_as_it_is(images, tmp_path, name, content):
    segment_files(predictor(), images[:1], tmp_path / "out")
    (tmp_path / "out" / name).write_text(content)
    with pytest.raises(SettingsError):
        segment_files(predictor(), images, tmp_path / "out")
    assert (tmp_path / "out" / name).read_text() == content


# Several prompts


PROMPTS = ["bright", "a dark / instrument"]


def test_each_prompt_has_its_mask_and_all_of_them_a_label_map(images, tmp_path):
    table, _ = segment_files(prompted(), images, tmp_path / "out", PROMPTS)
    names = {path.name for path in (tmp_path / "out").glob("one*")}
    assert names == {
        *("one_bright.png", "one_bright_uncertainty.png", "one_labels.png", "one_overlay.jpg"),
        *("one_a_dark_instrument.png", "one_a_dark_instrument_uncertainty.png"),
    }
    labels = np.asarray(Image.open(tmp_path / "out" / "one_labels.png"))
    np.testing.assert_array_equal(labels, np.where(HALVES[..., 0] > 0, 1, 2).repeat(8, 0).repeat(8, 1))
    assert list(table["prompt"]) == PROMPTS * 2
    assert list(table["area_px"]) == [512] * 4


def test_several_prompts_resume_where_they_stopped(images, tmp_path):
    segment_files(prompted(), images, tmp_path / "out", PROMPTS)
    path = tmp_path / "out" / "segmented.csv"
    whole = path.read_text()
    path.write_text("\n".join(whole.splitlines()[:4]) + "\n")  # the second prompt of the second image is lost
    (tmp_path / "out" / "one_labels.png").unlink()
    segment_files(prompted(), images, tmp_path / "out", PROMPTS)
    assert sorted(path.read_text().splitlines()) == sorted(whole.splitlines())
    assert (tmp_path / "out" / "one_labels.png").exists()
    with pytest.raises(SettingsError):
        segment_files(prompted(), images, tmp_path / "out", PROMPTS[::-1])


@pytest.mark.parametrize("prompts", [["a polyp", "a_polyp"], ["labels", "polyp"]])
def test_prompts_whose_files_would_have_one_name_are_refused(images, tmp_path, prompts):
    with pytest.raises(SettingsError, match="prompts"):
        segment_files(prompted(), images, tmp_path / "out", prompts)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_version_0_2_0_began_is_gone_on_with(images, tmp_path):
    """Its table had no areas: its images are segmented again, into the same files."""
    table, _ = segment_files(predictor(), images, tmp_path / "out")
    old = ["image", "foreground", "uncertainty", "disagreement"]
    table[old].to_csv(tmp_path / "out" / "segmented.csv", index=False)
    asked, found = asked_again(images, tmp_path / "out")
    assert asked == 2
    pd.testing.assert_frame_equal(found, table)


# Files of several frames, and what identifies a patient


def test_slices_of_a_volume_have_areas_in_square_millimetres(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    voxels = np.zeros((4, 4, 3), np.int16)
    voxels[:2, :, 1] = 1000  # half of one slice is bright
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([2, 1.5, 5, 1])), tmp_path / "scan.nii.gz")
    table, _ = segment_files(predictor(), [tmp_path / "scan.nii.gz"], tmp_path / "out")
    assert list(table["image"]) == ["scan_0000", "scan_0001", "scan_0002"]
    assert list(table["area_px"]) == [0, 8, 0]
    assert list(table["area_mm2"]) == [0, 8 * 2 * 1.5, 0]
    assert asked_again([tmp_path / "scan.nii.gz"], tmp_path / "out")[0] == 0


def test_nothing_written_for_dicom_files_identifies_a_patient(tmp_path):
    pytest.importorskip("pydicom")
    path = tmp_path / "Mustermann_Erika.dcm"
    dataset(np.uint8(HALVES[..., 0]), PixelSpacing=[0.5, 0.25]).save_as(path, enforce_file_format=True)
    table, broken = segment_files(predictor(), [path], tmp_path / "out")
    assert (broken, list(table["area_mm2"])) == ([], [1.0])
    for file in (tmp_path / "out").iterdir():
        for secret in ("Mustermann", "Erika"):
            assert secret not in file.name
            assert secret.encode() not in file.read_bytes()
