import pytest

from benchmarks import wirings
from benchmarks.wirings import FEATURES, IMAGES, PUBLISHED, table
from tools.random_checkpoints import write_biomedclip, write_clipseg


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    write_biomedclip(folder / "biomedclip", tiny=True)
    write_clipseg(folder / "clipseg", tiny=True)
    return folder


@pytest.mark.parametrize(("name", "encoders"), [("ensemble_a", 2), ("ensemble_b", 2), ("ensemble_c", 4)])
def test_each_encoder_runs_once_a_step_and_not_at_all_from_cached_features(weights, name, encoders):
    passes = {}
    for way in (IMAGES, FEATURES):
        model, logits = wirings.network(name, way, weights, tiny=True)
        wirings.training_step(model, logits, wirings.optimizer_of(model))
        passes[way] = list(wirings.encoder_passes(model, logits).values())
    assert passes == {IMAGES: [1] * encoders, FEATURES: [0] * encoders}


def test_the_table_says_how_many_times_faster():
    rows = [
        {"ensemble": "ensemble_a", "way": way, "training": training, "inference": 1.0, "gigabytes": 3.0, "passes": [1]}
        for way, training in ((PUBLISHED, 6.0), (FEATURES, 2.0))
    ]
    assert table(rows).splitlines() == [
        "| A, 224 px | published | 6.00 (x 1.0) | 1.00 (x 1.0) | 3.0 | 1 |",
        "| A, 224 px | default, from cached features | 2.00 (x 3.0) | 1.00 (x 1.0) | 3.0 | 1 |",
    ]
