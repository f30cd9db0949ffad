import numpy as np
import pytest

from vlsm_helpers.data.formats import Reading
from vlsm_helpers.data.frames import frames, opened
from vlsm_helpers.data.images import as_rgb
from vlsm_helpers.errors import DataError, SettingsError

pydicom = pytest.importorskip("pydicom")

from pydicom.dataset import Dataset  # noqa: E402
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless  # noqa: E402

from tests.dicoms import dataset  # noqa: E402


@pytest.fixture
def shown(tmp_path):
    """The pixels, uint8 (H, W, 3), that a dataset shows; `index`: of this frame."""

    def show(one, index=0, reading=None):
        path = tmp_path / "scan.dcm"
        one.save_as(path, enforce_file_format=True)
        return as_rgb(opened(path, reading or Reading()).image(index), path)

    return show


def grey(pixels):
    return np.repeat(np.asarray(pixels, np.uint8)[..., None], 3, axis=2)


RAMP = np.array([[-1000, -160, 40], [240, 1000, 3000]], np.int16)


def test_a_window_is_applied_after_the_rescale(shown):
    stored = (RAMP + 1024).astype(np.uint16)
    one = dataset(stored, RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=40.5, WindowWidth=401)
    # LINEAR: 40.5 - 0.5 is the middle, 401 - 1 the width: -160 is black, 240 is white (PS3.3 C.11.2.1.2.1)
    np.testing.assert_array_equal(shown(one), grey([[0, 0, 128], [255, 255, 255]]))


def test_the_users_window_takes_the_place_of_the_files(shown):
    one = dataset(RAMP, WindowCenter=0, WindowWidth=10)
    np.testing.assert_array_equal(shown(one, reading=Reading(window=(1000, 4000))), grey([[0, 54, 66], [79, 128, 255]]))


def test_the_first_of_several_windows_counts(shown):
    one = dataset(RAMP, WindowCenter=[40.5, 0], WindowWidth=[401, 10])
    np.testing.assert_array_equal(shown(one), grey([[0, 0, 128], [255, 255, 255]]))


def test_monochrome1_is_inverted(shown):
    one = dataset(np.array([[0, 100, 255]], np.uint8), PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(shown(one), grey([[255, 155, 0]]))


def test_twelve_bits_with_a_window_of_their_range(shown):
    stored = np.array([[0, 2048, 4095]], np.uint16)
    one = dataset(stored, BitsStored=12, HighBit=11, WindowCenter=2048, WindowWidth=4096)
    np.testing.assert_array_equal(shown(one), grey([[0, 128, 255]]))


def test_without_a_window_percentiles_of_the_file_are_black_and_white(shown, tmp_path):
    stored = np.linspace(1000, 2000, 10_201).round().astype(np.uint16).reshape(101, 101)
    image = shown(dataset(stored))[..., 0].astype(int)
    assert not opened(tmp_path / "scan.dcm").windowed
    expected = ((stored - 1005.0) / 990 * 255).clip(0, 255)
    assert np.abs(image - expected).max() <= 1


def test_padding_does_not_count_among_the_percentiles(shown):
    stored = np.full((20, 20), -2000, np.int16)
    stored[5:15, 5:15] = np.linspace(100, 199, 100).reshape(10, 10)
    image = shown(dataset(stored, PixelPaddingValue=-2000))
    assert image[0, 0, 0] == 0
    assert 120 < image[10, 5, 0] < 136


def test_a_modality_lut_and_a_voi_lut(shown):
    modality, voi = Dataset(), Dataset()
    modality.LUTDescriptor, modality.LUTData, modality.ModalityLUTType = [4, 0, 16], [0, 100, 200, 300], "US"
    voi.LUTDescriptor, voi.LUTData = [301, 0, 16], [200 * value for value in range(301)]
    modality["LUTData"].VR = voi["LUTData"].VR = "US"
    one = dataset(np.array([[0, 1], [2, 3]], np.uint8), ModalityLUTSequence=[modality], VOILUTSequence=[voi])
    np.testing.assert_array_equal(shown(one), grey([[0, 78], [156, 233]]))  # 20000, 40000 and 60000 of 65535


def test_colours_rgb_ybr_and_palette(shown):
    pixels = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [10, 20, 30]]], np.uint8)
    np.testing.assert_array_equal(shown(dataset(pixels, colour=True)), pixels)
    ybr = pydicom.pixels.convert_color_space(pixels, "RGB", "YBR_FULL")
    found = shown(dataset(ybr, colour=True, PhotometricInterpretation="YBR_FULL")).astype(int)
    assert np.abs(found - pixels).max() <= 2
    palette = {
        f"{name}PaletteColorLookupTable{part}": value
        for name, levels in zip(("Red", "Green", "Blue"), ([0, 65535], [0, 257 * 128], [257 * 7, 0]), strict=True)
        for part, value in (("Descriptor", [2, 0, 16]), ("Data", np.array(levels, np.uint16).tobytes()))
    }
    one = dataset(np.array([[0, 1]], np.uint8), PhotometricInterpretation="PALETTE COLOR", **palette)
    np.testing.assert_array_equal(shown(one), [[[0, 0, 7], [255, 128, 0]]])


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless])
def test_compressed_pixels_are_the_same(shown, syntax):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 48), np.uint8)
    one = dataset(pixels)
    one.compress(syntax, generate_instance_uid=False)
    np.testing.assert_array_equal(shown(one), grey(pixels))


def test_jpeg_lossless_as_clinics_use_it(shown, tmp_path):
    gdcm = pytest.importorskip("gdcm")
    stored = np.random.default_rng(0).integers(0, 4096, (48, 64), np.uint16)
    one = dataset(stored, BitsStored=12, HighBit=11, WindowCenter=2048, WindowWidth=4096)
    plain = shown(one)
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(tmp_path / "scan.dcm"))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(str(tmp_path / "packed.dcm"))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    packed = opened(tmp_path / "packed.dcm")
    np.testing.assert_array_equal(as_rgb(packed.image(0), packed.path), plain)


def test_frames_of_an_enhanced_image_have_windows_of_their_own(shown, tmp_path):
    stored = np.array([[[0, 50, 100]], [[0, 50, 100]]], np.uint16)
    groups = []
    for center, width in ((50.5, 101), (100.5, 201)):
        window, group = Dataset(), Dataset()
        window.WindowCenter, window.WindowWidth = center, width
        group.FrameVOILUTSequence = [window]
        groups.append(group)
    measures, shared = Dataset(), Dataset()
    measures.PixelSpacing = [0.5, 0.25]
    shared.PixelMeasuresSequence = [measures]
    one = dataset(stored, PerFrameFunctionalGroupsSequence=groups, SharedFunctionalGroupsSequence=[shared])
    np.testing.assert_array_equal(shown(one, 0), grey([[0, 128, 255]]))
    np.testing.assert_array_equal(shown(one, 1), grey([[0, 64, 128]]))
    assert opened(tmp_path / "scan.dcm").spacing == (0.5, 0.25)


def test_frames_are_named_by_hashes_and_grouped_by_patient(tmp_path):
    cine = np.random.default_rng(0).integers(0, 256, (3, 8, 8), np.uint8)
    for number, (patient, pixels) in enumerate((("Meyer", cine), ("Meyer", cine[0]), ("Schulze", cine[1]))):
        one = dataset(pixels, patient, PixelSpacing=[0.3, 0.4])
        one.SOPInstanceUID = f"1.2.3.{number}"
        one.save_as(tmp_path / f"{patient}-{number}.dcm", enforce_file_format=True)
    found, again = frames(tmp_path), frames(tmp_path)
    assert [frame.id for frame in found] == [frame.id for frame in again]
    assert len({frame.id for frame in found}) == 5
    groups = [frame.group for frame in found]
    assert groups[:4] == [groups[0]] * 4 != groups[1:]
    assert not {frame.group for frame in again} & set(groups)  # another salt
    assert not any(word in frame.id + frame.group for frame in found for word in ("Meyer", "Schulze", "1.2.3"))
    assert {frame.spacing for frame in found} == {(0.3, 0.4)}
    np.testing.assert_array_equal(found[2].decode().values[..., 0], cine[2])


def test_without_a_patient_the_study_is_the_group(tmp_path):
    for number in range(4):
        one = dataset(np.full((4, 4), number, np.uint8), patient="")
        one.StudyInstanceUID = f"1.2.{number // 2}"
        one.save_as(tmp_path / f"{number}", enforce_file_format=True)  # no ending, as on many discs
    groups = [frame.group for frame in frames(tmp_path)]
    assert groups[0] == groups[1] != groups[2] == groups[3]


def no_pixels(path):
    one = dataset(np.zeros((4, 4), np.uint8))
    del one.PixelData, one.Rows, one.Columns
    one.save_as(path, enforce_file_format=True)


def cut_off(path):
    dataset(np.zeros((64, 64), np.uint8)).save_as(path, enforce_file_format=True)
    path.write_bytes(path.read_bytes()[:-2000])


def text(path):
    path.write_text("Erika Mustermann, born 1964")


def segmentation(path):
    dataset(np.zeros((4, 4), np.uint8), Modality="SEG").save_as(path, enforce_file_format=True)


def unknown_syntax(path):
    one = dataset(np.zeros((4, 4), np.uint8))
    one.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.103"  # MPEG-4: a video, which no decoder here decodes
    one.PixelData = pydicom.encaps.encapsulate([b"\0\0\0\1"])
    one["PixelData"].VR = "OB"
    one.save_as(path, enforce_file_format=True)


def no_uid(path):
    one = dataset(np.zeros((4, 4), np.uint8))
    del one.SOPInstanceUID
    one.save_as(path, enforce_file_format=False)


@pytest.mark.parametrize("spoil", [no_pixels, cut_off, text, segmentation, unknown_syntax, no_uid])
def test_wrong_files_are_named_without_what_is_in_them(tmp_path, spoil, capfd, recwarn):
    path = tmp_path / "scan.dcm"
    spoil(path)
    with pytest.raises(DataError) as caught:
        frames([path])[0].decode()
    told = str(caught.value) + "".join(capfd.readouterr()) + "".join(str(one.message) for one in recwarn)
    assert "scan.dcm" in told
    assert caught.value.hint
    assert "Mustermann" not in told
    assert "Erika" not in told


def test_a_copy_of_a_file_is_told(tmp_path):
    one = dataset(np.zeros((4, 4), np.uint8))
    for name in ("a.dcm", "b.dcm"):
        one.save_as(tmp_path / name, enforce_file_format=True)
    with pytest.raises(DataError, match="a.dcm, b.dcm"):
        frames(tmp_path)


def test_a_missing_package_is_one_sentence(tmp_path, monkeypatch):
    dataset(np.zeros((4, 4), np.uint8)).save_as(tmp_path / "a.dcm", enforce_file_format=True)
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    with pytest.raises(DataError, match="pydicom, which is not installed") as caught:
        frames(tmp_path)
    assert "[dicom]" in caught.value.hint


@pytest.mark.parametrize("wrong", [{"window": (40, 0)}, {"axis": "diagonal"}, {"every": 0}])
def test_a_reading_that_is_none_is_refused(wrong):
    with pytest.raises(SettingsError):
        Reading(**wrong)
