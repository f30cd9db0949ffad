import json

import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers import keep
from vlsm_helpers.data.formats import Reading
from vlsm_helpers.errors import CourseError, DataError, SettingsError
from vlsm_helpers.fusion.weighted import WeightedFusion
from vlsm_helpers.inference import predictor as predictor_module
from vlsm_helpers.inference.predictor import BATCH, Predictor, Segmentation, as_pixels, label_map, write_predictor
from vlsm_helpers.models.unet_d import UNetD


def brightness(images, prompts):
    """A member that marks what is bright: logit 4 for white, -4 for black."""
    return 8 * images.mean(1, keepdim=True) - 4


def yes(images, prompts):
    """A member that is always fairly sure."""
    return torch.full_like(images[:, :1], 1.0)


HALVES = np.zeros((4, 4, 3), np.uint8)
HALVES[:, 2:] = 255


def predictor(**changes):
    fusion = WeightedFusion({"bright": 0.75, "yes": 0.25}, "logits", threshold=0.5)
    return Predictor(**({"members": {"yes": yes, "bright": brightness}, "fusion": fusion, "size": 4} | changes))


def test_members_are_fused_by_their_weights_whatever_their_order():
    found = predictor()(HALVES)
    left, right = (torch.sigmoid(torch.tensor(0.75 * value + 0.25)).item() for value in (-4, 4))
    np.testing.assert_allclose(found.probability, np.repeat([[left, left, right, right]], 4, axis=0), atol=1e-6)
    np.testing.assert_array_equal(found.mask, HALVES[..., 0] > 0)


def test_uncertainty_is_the_entropy_in_bits_and_disagreement_the_spread():
    coin = WeightedFusion({"bright": 0.2, "yes": 0.8}, "logits")  # 0.2 * -4 + 0.8 * 1 = 0: a coin on the left
    found = predictor(fusion=coin)(HALVES)
    np.testing.assert_allclose(found.uncertainty[:, :2], 1, atol=1e-6)
    p = found.probability[0, 3].astype(float)
    expected = -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
    np.testing.assert_allclose(found.uncertainty[:, 2:], expected, atol=1e-5)
    left, right, one = (torch.sigmoid(torch.tensor(value)).item() for value in (-4.0, 4.0, 1.0))
    assert found.disagreement == pytest.approx((abs(one - left) + abs(right - one)) / 4, abs=1e-6)


def test_a_pixel_that_is_sure_beyond_float32_has_no_doubt():
    sure = {"yes": lambda images, prompts: 1e4 * yes(images, prompts), "bright": brightness}
    found = predictor(members=sure, fusion=WeightedFusion({"bright": 0, "yes": 1}, "logits"))(HALVES)
    assert np.isfinite(found.uncertainty).all()
    assert found.uncertainty.max() < 1e-3


def test_the_answer_has_the_images_own_size():
    wide = np.zeros((30, 50, 3), np.uint8)
    found = predictor(size=16)(wide)
    assert found.mask.shape == found.probability.shape == found.uncertainty.shape == (30, 50)
    assert (found.mask.dtype, found.probability.dtype, found.uncertainty.dtype) == (bool, np.float32, np.float32)


def test_every_kind_of_picture_gives_the_same_answer(tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(HALVES).save(path)
    expected = predictor()(HALVES).probability
    for picture in (path, str(path), Image.fromarray(HALVES), HALVES[..., 0]):
        np.testing.assert_array_equal(predictor()(picture).probability, expected)


def test_a_pillow_image_is_turned_and_scaled_as_its_file_is(tmp_path):
    deep = Image.fromarray(np.arange(16, dtype=np.uint16).reshape(4, 4) * 4000)
    deep.save(tmp_path / "deep.png")
    turned = Image.fromarray(HALVES)
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.png", exif=exif)
    for name in ("deep.png", "turned.png"):
        with Image.open(tmp_path / name) as image:
            np.testing.assert_array_equal(as_pixels(image), as_pixels(tmp_path / name))


@pytest.mark.parametrize("pixels", [np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8), np.zeros(4, np.uint8)])
def test_other_arrays_are_refused(pixels):
    with pytest.raises(TypeError, match="must be uint8"):
        as_pixels(pixels)


def test_a_broken_file_is_told(tmp_path):
    (tmp_path / "image.png").write_text("no image")
    with pytest.raises(DataError, match="no image that can be read"):
        predictor()(tmp_path / "image.png")


def test_the_prompt_is_its_own_unless_another_is_given():
    heard = []

    def listens(images, prompts):
        heard.extend(prompts)
        return yes(images, prompts)

    one = predictor(members={"yes": listens, "bright": brightness}, prompt="polyp")
    one(HALVES)
    one(HALVES, "tumor")
    one(HALVES, "")
    assert heard == ["polyp", "tumor", ""]


def test_weights_of_other_members_are_refused():
    with pytest.raises(SettingsError, match="The weights are of bright, yes, the members are bright"):
        predictor(members={"bright": brightness})


# Saved and loaded


@pytest.fixture
def checkpoints(tmp_path):
    """Two networks of random weights, as `fit` saves them."""
    paths = {}
    for seed, name in enumerate(("first", "second")):
        torch.manual_seed(seed)
        paths[name] = keep(UNetD(1 / 32), tmp_path / f"{name}.safetensors")
    return paths


def saved(checkpoints, folder, **changes):
    weights = WeightedFusion({"first": 0.5, "second": 0.5})
    return write_predictor(
        folder, checkpoints, weights, **({"prompt": "p", "card": "# Card", "facts": {"seed": 3}} | changes)
    )


def test_what_was_saved_predicts_the_same(checkpoints, tmp_path):
    before = Predictor.of_checkpoints(checkpoints, WeightedFusion.equal(["first", "second"]), "p")
    folder = saved(checkpoints, tmp_path / "saved")
    assert {path.name for path in folder.iterdir()} == {
        *("first.safetensors", "second.safetensors", "fusion.json", "predictor.json", "README.md")
    }
    assert json.loads((folder / "predictor.json").read_text())["seed"] == 3
    after = Predictor.load(folder)
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    np.testing.assert_array_equal(before(image).probability, after(image).probability)
    assert after.prompt == "p"


def test_nothing_is_overwritten_and_nothing_half_written_is_left(checkpoints, tmp_path):
    saved(checkpoints, tmp_path / "saved")
    with pytest.raises(SettingsError, match="something here already"):
        saved(checkpoints, tmp_path / "saved")
    with pytest.raises(SettingsError, match="The checkpoint of third is missing"):
        saved(checkpoints | {"third": tmp_path / "nowhere.safetensors"}, tmp_path / "other")
    assert not (tmp_path / "other").exists()
    assert not list(tmp_path.glob(".*partial*"))


@pytest.mark.parametrize("name", ["predictor.json", "fusion.json", "first.safetensors"])
@pytest.mark.parametrize("spoil", ["missing", "truncated", "nonsense"])
def test_a_spoilt_folder_is_told(checkpoints, tmp_path, name, spoil):
    file = saved(checkpoints, tmp_path / "saved") / name
    if spoil == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:20] if spoil == "truncated" else b"[1, 2]")
    with pytest.raises(CourseError) as raised:
        Predictor.load(file.parent)
    assert raised.value.hint
    assert str(tmp_path / "saved") in str(raised.value.where)


# Several images and several prompts


def by_prompt(images, prompts):
    """A member that marks what is bright for the prompt "bright", and what is dark for any other."""
    signs = torch.tensor([1.0 if prompt == "bright" else -1.0 for prompt in prompts])
    return signs.view(-1, 1, 1, 1) * brightness(images, prompts)


def prompted(**changes):
    return predictor(members={"one": by_prompt}, fusion=WeightedFusion({"one": 1}, "logits"), **changes)


def test_a_member_of_ones_own_that_depends_on_its_batch_gets_one_image_at_a_time():
    def relative(images, prompts):
        """Marks what is brighter than the mean of all images that it gets, as batch statistics do."""
        return 8 * (images.mean(1, keepdim=True) - images.mean())

    own = predictor(members={"one": relative}, fusion=WeightedFusion({"one": 1}, "logits"))
    dark = np.uint8(HALVES / 5)
    for one, image in zip(own([HALVES, dark]), [HALVES, dark], strict=True):
        np.testing.assert_allclose(one.probability, own(image).probability, atol=1e-6)


def test_a_list_of_images_gives_what_each_gives_alone():
    import vlsm_helpers as vlsm

    names = ("clipseg", "unet_d")
    members = {name: vlsm.build(name, "tiny") for name in names}
    both = Predictor(members, WeightedFusion.equal(names), size=64, prompt="polyp")
    generator = np.random.default_rng(0)
    images = [generator.integers(0, 256, (30 + 7 * n, 90 - n, 3), dtype=np.uint8) for n in range(BATCH + 2)]
    found = both(images)
    assert [one.mask.shape for one in found] == [image.shape[:2] for image in images]
    for one, image in zip(found, images, strict=True):
        alone = both(image)
        np.testing.assert_allclose(one.probability, alone.probability, atol=1e-6)
        np.testing.assert_allclose(one.uncertainty, alone.uncertainty, atol=1e-5)
        assert one.disagreement == pytest.approx(alone.disagreement, abs=1e-6)
    assert both([]) == []


def test_several_prompts_give_a_dict_in_their_order():
    found = prompted()(HALVES, ["bright", "dark"])
    assert list(found) == ["bright", "dark"]
    np.testing.assert_array_equal(found["bright"].mask, HALVES[..., 0] > 0)
    np.testing.assert_array_equal(found["dark"].mask, HALVES[..., 0] == 0)
    many = prompted()([HALVES, HALVES[:, ::-1]], ["dark"])
    np.testing.assert_array_equal(many[1]["dark"].mask, HALVES[:, ::-1, 0] == 0)


@pytest.mark.parametrize("prompts", [[], ["a", "a"]])
def test_no_prompt_and_one_twice_are_refused(prompts):
    with pytest.raises(ValueError, match="prompts"):
        prompted()(HALVES, prompts)


def test_a_broken_file_in_a_list_is_told_and_in_a_stream_it_stands_in_its_place(tmp_path):
    (tmp_path / "image.png").write_text("no image")
    images = [HALVES, tmp_path / "image.png", HALVES[:, ::-1]]
    with pytest.raises(DataError):
        predictor()(images)
    first, broken, last = predictor().stream(images)
    assert (broken.where, first[0].shape, last[0].shape) == (tmp_path / "image.png", (4, 4, 3), (4, 4, 3))


def test_a_stream_takes_no_more_images_than_it_needs():
    taken = []

    def images():
        for number in range(100):
            taken.append(number)
            yield HALVES

    next(predictor().stream(images()))
    assert len(taken) <= 3 * BATCH


def test_a_label_map_by_hand():
    """Two prompts: pixels of neither, of each alone, and of both, where the higher probability and then the first one wins."""

    def found(probabilities):
        probability = np.array([probabilities], np.float32)
        return Segmentation(probability > 0.5, probability, probability, 0.0)

    one, other = found([0.1, 0.9, 0.2, 0.7, 0.8]), found([0.5, 0.3, 0.6, 0.9, 0.8])
    labels = label_map({"polyp": one, "instrument": other})
    assert (labels.tolist(), labels.dtype) == ([[0, 1, 2, 2, 1]], np.uint8)


def test_strips_do_not_show(monkeypatch):
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (53, 31, 3), dtype=np.uint8)
    whole = predictor(size=8)(image)
    monkeypatch.setattr(predictor_module, "STRIP", 100)
    strips = predictor(size=8)(image)
    np.testing.assert_allclose(strips.probability, whole.probability, atol=1e-6)
    np.testing.assert_allclose(strips.uncertainty, whole.uncertainty, atol=1e-6)
    assert strips.disagreement == pytest.approx(whole.disagreement, abs=1e-6)


# The brightness of deep images


def test_images_of_16_bits_are_scaled_by_the_bits_of_the_training_images(tmp_path, checkpoints):
    """12 bits in a file of 16: full white is 4095, which a single file does not tell."""
    deep = (HALVES[..., 0] > 0) * np.uint16(4095)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    with pytest.raises(DataError, match="ambiguous"):
        predictor()(tmp_path / "deep.png")
    found = predictor(bit_depth=12)(tmp_path / "deep.png")
    np.testing.assert_array_equal(found.probability, predictor()(HALVES).probability)
    facts = {"bit_depth": 12, "window": [40, 400], "axis": "coronal"}
    loaded = Predictor.load(saved(checkpoints, tmp_path / "saved", facts=facts))
    assert (loaded.bit_depth, loaded.reading) == (12, Reading((40, 400), "coronal"))
    older = Predictor.load(saved(checkpoints, tmp_path / "older", facts={}))
    assert (older.bit_depth, older.reading) == (None, Reading())


def test_images_of_8_bits_in_training_leave_the_scale_of_deeper_ones_open(tmp_path):
    Image.fromarray(HALVES[..., 0].astype(np.uint16) * 257).save(tmp_path / "deep.png")
    found = predictor(bit_depth=8)(tmp_path / "deep.png")
    np.testing.assert_array_equal(found.probability, predictor()(HALVES).probability)
