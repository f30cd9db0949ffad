"""The explorer's page: what it holds; tests/browser moves its sliders."""

import base64
import json
import re
import zlib

import numpy as np
import pytest

from tests.helpers import toy_store
from vlsm_helpers.course.shipped import tiny_store
from vlsm_helpers.errors import SettingsError
from vlsm_helpers.widgets import FusionExplorer, static
from vlsm_helpers.widgets.fusion_model import FusionModel


def inflated(text):
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)


def undone(differences):
    """The decoder of LOCO-I's predictor, pixel by pixel."""
    levels = np.zeros_like(differences, np.int64)
    for n, row, column in np.ndindex(differences.shape):
        left = levels[n, row, column - 1] if column else 0
        above = levels[n, row - 1, column] if row else 0
        between = levels[n, row - 1, column - 1] if row and column else 0
        expected = sorted([left, above, left + above - between])[1]
        levels[n, row, column] = (int(differences[n, row, column]) + int(expected)) % 256
    return levels


@pytest.fixture(scope="module")
def shipped():
    model = FusionModel(tiny_store("val"))
    return model, static.packed(model)


def test_levels_are_those_of_the_shipped_logits(shipped):
    model, data = shipped
    assert [member["name"] for member in data["members"]] == model.names
    first = model.store.logits(model.size).numpy()[0, model.order()[:2]]
    kept = data["members"][0]
    levels = undone(inflated(kept["levels"]).reshape(-1, model.size, model.size)[:2])
    assert np.array_equal((levels - 127.5) / kept["steps"], first)


def test_masks_and_scores_are_in_the_order_of_the_images(shipped):
    model, data = shipped
    masks = np.unpackbits(inflated(data["masks"])).reshape(-1, model.size, model.size)
    assert np.array_equal(masks, model.store.masks(model.size).numpy()[model.order()])
    assert [image["id"] for image in data["images"]] == [model.ids[number] for number in model.order()]
    assert np.mean([image["single"] for image in data["images"]]) == pytest.approx(model.single.mean(), abs=1e-5)


def test_the_shipped_members_fit_on_a_page_of_two_megabytes_that_names_no_server(shipped):
    page = static.page(shipped[0])
    assert len(page.encode()) < 2_000_000
    assert not re.search(r"(?:https?:)?//[a-z]+\.[a-z]", page)


def test_predicting_neighbours_loses_nothing():
    levels = np.random.default_rng(0).integers(0, 256, (2, 5, 5)).astype(np.uint8)
    assert np.array_equal(undone(static.predicted_away(levels)), levels)
    flat = np.full((1, 4, 4), 200, np.uint8)  # by hand: only the first pixel differs from its neighbours
    assert static.predicted_away(flat)[0].tolist() == [[200, 0, 0, 0], [0] * 4, [0] * 4, [0] * 4]


@pytest.mark.parametrize(
    ("logit", "steps", "level"), [(0.9, 128, 243), (-0.9, 128, 12), (7.9, 16, 254), (40.0, 8, 255)]
)
def test_a_level_is_a_step_that_ends_at_zero(logit, steps, level):
    levels, found = static.quantised(np.full((1, 1, 1), logit, np.float16))
    assert found == steps
    assert levels.item() == level


def test_a_name_cannot_end_the_script(toy):
    store = toy_store()
    model = FusionModel(store.with_member("</script><b>", store.logits(store.size)[0].numpy()))
    part = static.part(model)
    data = part.split('<script type="application/json">')[1].split("</script>")[0]
    assert "</script><b>" in [member["name"] for member in json.loads(data)["members"]]


def test_the_explorer_of_own_members_writes_a_page(toy, tmp_path):
    explorer = FusionExplorer(toy_store(), tmp_path / "fusion.json")
    explorer.save_page(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")
    assert all(f'"{name}"' in text for name in explorer.model.names)
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError):
        explorer.save_page(tmp_path / "file" / "page.html")
