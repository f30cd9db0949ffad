import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import index, toy_store
from vlsm_helpers.data.samples import load_split
from vlsm_helpers.errors import DataError, SettingsError
from vlsm_helpers.evaluation import predictions
from vlsm_helpers.evaluation.predictions import PredictionStore
from vlsm_helpers.evaluation.scoring import score_image
from vlsm_helpers.fusion.weighted import WeightedFusion

WEIGHTS = st.lists(st.floats(0, 1), min_size=1, max_size=6).filter(lambda values: sum(values) > 1e-3)


def test_one_pixel_by_hand():
    logits = torch.logit(torch.tensor([0.9, 0.5], dtype=torch.float64)).view(2, 1, 1, 1)
    weights = {"a": 0.25, "b": 0.75}
    assert WeightedFusion(weights)(logits).item() == pytest.approx(0.25 * 0.9 + 0.75 * 0.5)
    assert WeightedFusion(weights, "logits")(logits).item() == pytest.approx(9**0.25 / (1 + 9**0.25))
    assert WeightedFusion({"a": 1.0}, temperature=2)(logits[:1]).item() == pytest.approx(0.75)


def test_it_is_stored_as_a_few_numbers(tmp_path):
    one = WeightedFusion({"a": 0.2, "b": 0.8}, "logits", temperature=1.5, threshold=0.35)
    one.save(tmp_path / "fusion.json")
    assert WeightedFusion.load(tmp_path / "fusion.json") == one
    stored = {"weights": {"a": 0.2, "b": 0.8}, "mean_of": "logits", "temperature": 1.5, "threshold": 0.35}
    assert json.loads((tmp_path / "fusion.json").read_text()) == stored
    with pytest.raises(SettingsError, match="nowhere"):
        one.save(tmp_path / "nowhere" / "fusion.json")


def test_weights_belong_to_names_and_an_unknown_one_is_refused_with_the_nearest():
    members = toy_store()
    fusion = WeightedFusion({"clipseg": 0.8, "unet_d": 0.2})
    probabilities = members.probabilities(32)
    fused = fusion.probabilities(members, 32)
    torch.testing.assert_close(fused, 0.2 * probabilities[0] + 0.8 * probabilities[1])
    torch.testing.assert_close(fusion.probabilities(members, (32, 32), images=[2, 1]), fused[[2, 1]])
    with pytest.raises(DataError, match="did you mean clipseg"):
        WeightedFusion({"clip_seg": 0.8, "unet_d": 0.2}).probabilities(members, 32)


def test_all_weight_on_one_member_scores_as_that_member_does(toy):
    members = toy_store()
    table = WeightedFusion({"unet_d": 0.0, "clipseg": 1.0}, threshold=0.4).score(members)
    masks, logits = members.true_masks(), members.logits(16)[1]
    expected = [score_image(one, mask, 0.4) for one, mask in zip(logits, masks, strict=True)]
    assert table["id"].tolist() == list(members.ids)
    assert table["dice"].tolist() == pytest.approx([row["dice"] for row in expected])
    assert table.columns.tolist() == ["id", *expected[0]]


@given(weights=WEIGHTS, data=st.data())
def test_weights_sum_to_one_wherever_they_are_moved(weights, data):
    fusion = WeightedFusion({f"m{number}": weight / sum(weights) for number, weight in enumerate(weights)})
    for _ in range(data.draw(st.integers(1, 8))):
        before, name = fusion, data.draw(st.sampled_from(list(fusion.weights)))
        weight = data.draw(st.one_of(st.floats(0, 1), st.sampled_from([0.0, 1.0])))
        fusion = fusion.moved(name, weight)  # it refuses weights that do not sum to one
        assert list(fusion.weights) == list(before.weights)
        assert sum(fusion.weights.values()) == pytest.approx(1, abs=1e-9)
        if len(weights) > 1:
            assert fusion.weights[name] == weight


def test_moving_one_weight_keeps_the_proportions_of_the_others():
    fusion = WeightedFusion({"a": 0.2, "b": 0.2, "c": 0.6})
    assert fusion.moved("a", 0.6).weights == pytest.approx({"a": 0.6, "b": 0.1, "c": 0.3})
    assert fusion.moved("a", 1.0).moved("a", 0.5).weights == pytest.approx({"a": 0.5, "b": 0.25, "c": 0.25})
    assert WeightedFusion.equal(["a"]).moved("a", 0.3).weights == {"a": 1.0}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"weights": {}}, "must be numbers by member"),
        ({"weights": [0.5, 0.5]}, "must be numbers by member"),
        ({"weights": {"a": 0.7, "b": 0.7}}, "sum to 1.4, not to 1.*\n.*divide each by 1.4"),
        ({"weights": {"a": 0.0}}, "sum to 0, not to 1.*\n.*more than 0"),
        ({"weights": {"a": 1.2, "b": -0.2}}, "weight of 'b' is -0.2"),
        ({"weights": {"a": 1.0, "b": float("nan")}}, "weight of 'b' is nan"),
        ({"weights": {"a": "1"}}, "weight of 'a' is '1'"),
        ({"weights": {"a": True}}, "weight of 'a' is True"),
        ({"weights": {"a": 1.0}, "mean_of": "votes"}, "no mean of 'votes'.*\n.*probabilities, logits"),
        ({"weights": {"a": 1.0}, "temperature": 0.0}, "temperature is 0.0.*\n.*0.05 to 20"),
        ({"weights": {"a": 1.0}, "temperature": float("inf")}, "temperature is inf"),
        ({"weights": {"a": 1.0}, "threshold": 1.0}, "threshold is 1.0"),
        ({"weights": {"a": 1.0}, "threshold": float("nan")}, "threshold is nan"),
    ],
)
def test_settings_that_no_fusion_has_are_refused_and_the_file_is_named(tmp_path, settings, said):
    with pytest.raises(SettingsError, match=said):
        WeightedFusion(**settings)
    (tmp_path / "x.json").write_text(json.dumps(settings))
    with pytest.raises(SettingsError, match=r"where: .*x\.json"):
        WeightedFusion.load(tmp_path / "x.json")


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"0.5", b'{"weight": {"a": 1}}', b"\x89PNG", b"\xff\xfe\0"])
def test_a_file_of_something_else_is_refused(tmp_path, content):
    (tmp_path / "x.json").write_bytes(content)
    for name in ("x.json", "nowhere.json"):
        with pytest.raises(SettingsError, match=rf"holds no weighted fusion.*\n.*{name}\n.*FusionExplorer"):
            WeightedFusion.load(tmp_path / name)


def test_a_store_without_its_images_cannot_be_scored(toy):
    other = PredictionStore(
        [predictions.Prediction(index("unet_d", ["lost"]), np.zeros((1, 4, 4), np.float16))], load_split("toy", "val")
    )
    with pytest.raises(DataError, match="no image 'lost' any more"):
        WeightedFusion({"unet_d": 1.0}).score(other)
