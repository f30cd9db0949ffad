"""Code that was written for version 0.1.0, model cards among it, imports what it did."""

import pytest

from tests.processes import python
from vlsm_helpers import evaluation, predictor, segmenting, store
from vlsm_helpers.evaluation import predictions, scoring
from vlsm_helpers.inference import batch
from vlsm_helpers.inference.predictor import Predictor


@pytest.mark.parametrize(
    ("earlier", "today"),
    [
        (predictor.Predictor, Predictor),
        (segmenting.segment_files, batch.segment_files),
        (store.Index, predictions.PredictionInfo),
        (store.Store, predictions.PredictionStore),
        (store.write, predictions.write),
        (store.read, predictions.read),
        (evaluation.keep, scoring.save_scores),
        (evaluation.score_split, scoring.evaluate),
        (evaluation.score_mask, scoring.score_mask),
        (evaluation.summarise, scoring.summarise),
    ],
)
def test_a_name_of_version_0_1_0_is_todays_thing(earlier, today):
    assert earlier is today


def test_they_cost_nothing_until_they_are_used():
    code = "import sys, vlsm_helpers, vlsm_helpers.evaluation; print('torch' in sys.modules, 'vlsm_helpers.store' in sys.modules)"
    assert python(code).split() == ["False", "False"]
