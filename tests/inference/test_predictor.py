import json

import numpy as np
import pytest
import torch
from PIL import Image

from vlsm_helpers.errors import CourseError, DataError, SettingsError
from vlsm_helpers.fusion.weighted import WeightedFusion
from vlsm_helpers.inference.predictor import Predictor, as_pixels, write_predictor
from vlsm_helpers.models.unet_d import UNetD
from vlsm_helpers.training.loop import FACTS as CHECKPOINT_FACTS


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
    from vlsm_helpers.io.checkpoints import save_checkpoint
    from vlsm_helpers.models.state import trainable_state_dict

    paths = {}
    for seed, name in enumerate(("first", "second")):
        torch.manual_seed(seed)
        network = UNetD(1 / 32)
        facts = dict.fromkeys(CHECKPOINT_FACTS) | {"member": network.config, "image_size": 32}
        paths[name] = tmp_path / f"{name}.safetensors"
        save_checkpoint(paths[name], trainable_state_dict(network), facts)
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
        *("first.safetensors", "second.safetensors", "fusion.json", "predictor.json", "README.md"),
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


def test_model_cards_of_version_0_1_0_still_name_a_module_that_is_there():
    from vlsm_helpers.predictor import Predictor as by_old_card

    assert by_old_card is Predictor
