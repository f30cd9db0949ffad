"""Files that somebody else wrote, spoilt at random: each time a clear error or a right result, and nothing written by half.

Anything but a CourseError would reach the user as a traceback.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.helpers import all_samples, draw_toy, write_toy
from vlsm_helpers.data.dataset import SegmentationDataset
from vlsm_helpers.data.own import adopt
from vlsm_helpers.data.samples import load_split
from vlsm_helpers.errors import CourseError
from vlsm_helpers.evaluation import predictions
from vlsm_helpers.fusion.weighted import WeightedFusion
from vlsm_helpers.inference.predictor import Predictor, write_predictor
from vlsm_helpers.io.checkpoints import load_checkpoint, save_checkpoint
from vlsm_helpers.settings import choose_profile, start

CASES = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@st.composite
def damages(draw):
    """A function that spoils bytes: cut off, emptied, some changed, zeros in the middle, something else altogether."""
    kind = draw(st.sampled_from(["cut", "empty", "flip", "zeros", "other", "twice"]))
    place, byte = draw(st.floats(0, 1)), draw(st.integers(1, 255))
    other = draw(
        st.sampled_from([b"", b"{}", b"[]", b"null", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"PK\x03\x04"])
    )

    def spoil(content: bytes) -> bytes:
        at = int(place * max(0, len(content) - 1))
        changed = bytearray(content)
        if kind == "flip" and content:
            changed[at] ^= byte
        return {
            "cut": content[:at],
            "empty": b"",
            "flip": bytes(changed),
            "zeros": content[:at] + bytes(min(40, len(content) - at)) + content[at + 40 :],
            "other": other,
            "twice": content + content,
        }[kind]

    return spoil


def outcome(action: Callable[[], object]) -> tuple[object, CourseError | None]:
    """What an action gives, or the CourseError that it raises, which must say what was wrong in more than a word."""
    try:
        return action(), None
    except CourseError as error:
        if len(error.what.split()) <= 2:
            raise AssertionError(f"too short a message: {error.what!r}") from error
        return None, error


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if "partial" in path.name]


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A folder that each case begins anew, where datasets lie."""
    monkeypatch.setenv("VLSM_DATA", str(tmp_path / "work" / "data"))

    def begin() -> Path:
        shutil.rmtree(tmp_path / "work", ignore_errors=True)
        (tmp_path / "work").mkdir()
        return tmp_path / "work"

    return begin


@pytest.mark.parametrize("kind", ["images", "masks"])
@CASES
@given(spoil=damages(), number=st.integers(0, 5), suffix=st.sampled_from([".png", ".jpg", ".tif"]))
def test_images_and_masks_of_a_user(work, kind, spoil, number, suffix):
    root, generator = work(), np.random.default_rng(number)
    for part in ("images", "masks"):
        (root / part).mkdir()
    for place in range(6):
        image, mask = draw_toy(generator)
        Image.fromarray(image).save(root / "images" / f"{place}{suffix}")
        Image.fromarray(mask).save(root / "masks" / f"{place}.png")
    file = sorted((root / kind).iterdir())[number]
    file.write_bytes(spoil(file.read_bytes()))
    _, error = outcome(lambda: adopt("mine", root / "images", root / "masks", "square"))
    if error:
        assert not (root / "data" / "mine").exists()
    else:
        samples = all_samples()
        assert len(samples) == 6
        assert SegmentationDataset(samples, 16).masks.max() == 1
    assert leftovers(root) == []


@CASES
@given(spoil=damages(), split=st.sampled_from(["train", "val", "test"]))
def test_annotations(work, spoil, split):
    root = work()
    file = write_toy(root / "data", entries={"train": 3, "val": 2, "test": 2}) / "anns" / f"{split}.json"
    before = file.read_bytes()
    file.write_bytes(spoil(before))
    dataset, error = outcome(lambda: SegmentationDataset(load_split("toy", split), 16))
    assert error or 1 <= len(dataset) <= 3


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=True) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@CASES
@given(key=st.sampled_from(["img_name", "mask_name", "prompts", None]), value=JSON)
def test_annotations_of_other_kinds(work, key, value):
    file = write_toy(work() / "data", entries={"train": 3, "val": 2, "test": 2}) / "anns" / "train.json"
    entries = json.loads(file.read_text())
    if key is None:
        entries = value
    else:
        entries[1][key] = value
    file.write_text(json.dumps(entries))
    item, error = outcome(lambda: SegmentationDataset(load_split("toy", "train"), 16)[1])
    assert error or item["prompt"] in ("square", value.get("p1") if isinstance(value, dict) else None)


@pytest.mark.parametrize("name", [predictions.INDEX, predictions.LOGITS, "stamp.json"])
@CASES
@given(spoil=damages())
def test_stored_logits(work, name, spoil):
    root = work()
    logits = np.random.default_rng(0).normal(size=(3, 8, 8)).astype(np.float16)
    index = predictions.PredictionInfo("one", "toy", "val", ("a", "b", "c"), ((8, 8),) * 3, "made up")
    predictions.write(root / "prediction", index, logits)
    file = root / "prediction" / name
    before = file.read_bytes()
    file.write_bytes(spoil(before))
    found, error = outcome(lambda: predictions.PredictionStore.open([root / "prediction"]).logits(8))
    if not error:
        assert found.shape == (1, 3, 8, 8)
        if file.read_bytes() == before:
            np.testing.assert_array_equal(found[0], logits.astype(np.float32))


@CASES
@given(spoil=damages(), value=JSON, key=st.sampled_from(["weights", "mean_of", "temperature", "threshold", None]))
def test_fusion_weights(work, spoil, value, key):
    root = work()
    WeightedFusion({"one": 0.25, "two": 0.75}).save(root / "fusion.json")
    facts = json.loads((root / "fusion.json").read_text())
    text = json.dumps(value) if key is None else json.dumps(facts | {key: value})
    for content in (text.encode(), spoil((root / "fusion.json").read_bytes())):
        (root / "fusion.json").write_bytes(content)
        fusion, error = outcome(lambda: WeightedFusion.load(root / "fusion.json"))
        assert error or sum(fusion.weights.values()) == pytest.approx(1)


@CASES
@given(spoil=damages())
def test_checkpoints(work, spoil):
    file = work() / "best.safetensors"
    save_checkpoint(file, {"weight": torch.arange(6.0)}, {"epoch": 3})
    before = file.read_bytes()
    file.write_bytes(spoil(before))
    found, error = outcome(lambda: load_checkpoint(file))
    if not error:
        tensors, facts = found
        assert isinstance(facts, dict)
        assert file.read_bytes() != before or torch.equal(tensors["weight"], torch.arange(6.0))


@CASES
@given(spoil=damages(), value=JSON, key=st.sampled_from(["members", "prompt", None]))
def test_predictors(work, spoil, value, key):
    root = work()
    (root / "one.safetensors").write_bytes(b"no checkpoint")
    members = {"one": root / "one.safetensors"}
    folder = write_predictor(root / "p", members, WeightedFusion({"one": 1}), prompt="", card="", facts={})
    file = folder / "predictor.json"
    facts = json.loads(file.read_text())
    for content in (spoil(file.read_bytes()), json.dumps(value if key is None else facts | {key: value}).encode()):
        file.write_bytes(content)
        _, error = outcome(lambda: Predictor.load(folder))
        assert error  # at the latest because the member is none


@CASES
@given(
    profile=st.none() | st.sampled_from(["tiny", "TINY", "huge", "", "auto "]) | st.text(max_size=5),
    dataset=st.none() | st.text(max_size=12),
    seed=st.none() | st.integers(-5, 5) | st.text(max_size=4) | st.floats(),
)
def test_parameters_of_a_notebook(work, profile, dataset, seed):
    work()
    chosen, error = outcome(lambda: start(profile, dataset, seed))
    if not error:
        assert chosen.profile == choose_profile(profile)[0]
        assert 0 <= chosen.seed < 2**32
    if dataset:
        outcome(lambda: load_split(dataset, "test"))
