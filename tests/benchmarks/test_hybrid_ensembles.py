import numpy as np
import pandas as pd
import pytest

from benchmarks import hybrid_ensembles
from benchmarks.hybrid_ensembles import ENTRANTS, JOINED, MEMBERS, WITHOUT_CNN, table, width_for
from vlsm_helpers import settings
from vlsm_helpers.models import factory
from vlsm_helpers.models.segmenter import trainable_parameters
from vlsm_helpers.models.unet_d import UNetD


def rows(model, dice, seed=0, val_dice=0.5, dataset="phantom_skin"):
    ids = [f"image {number}" for number in range(len(dice))]
    return pd.DataFrame(
        {"id": ids, "dice": dice, "dataset": dataset, "model": model, "seed": seed, "val_dice": val_dice}
    )


def test_an_ensemble_is_compared_image_by_image_with_the_member_that_validation_prefers():
    hard = np.linspace(0.2, 0.9, 40)
    parts = []
    for seed in range(2):
        parts += [rows("UNet-D", hard, seed, val_dice=0.7), rows("BiomedCLIPSeg", hard + 0.1, seed, val_dice=0.6)]
        parts += [rows("A", hard + 0.05, seed)]
    lines = table(pd.concat(parts)).splitlines()
    assert lines[-1] == "| phantom_skin | A | 60.0 ± 0.0 | 2 | +5.0 (+5.0 to +5.0) v UNet-D |"
    assert "| phantom_skin | UNet-D | 55.0 ± 0.0 | 2 |  |" in lines


def test_everything_that_is_measured_exists_and_the_large_cnn_is_as_large(monkeypatch):
    assert set(ENTRANTS.values()) <= set(factory.MEMBERS)
    assert all(set(parts) <= set(MEMBERS) for parts in JOINED.values())
    monkeypatch.setenv("VLSM_PROFILE", "tiny")
    profile, _ = settings.choose_profile()
    assert 0.125 < hybrid_ensembles.options("a CNN as large as A", profile)["width"] < 0.3
    assert hybrid_ensembles.options("A", profile) == {}


def test_what_is_said_to_have_no_cnn_has_none(monkeypatch):
    monkeypatch.setenv("VLSM_PROFILE", "tiny")
    profile, _ = settings.choose_profile()
    for label, name in ENTRANTS.items():
        network = factory.build(name, profile)
        assert any(isinstance(module, UNetD) for module in network.modules()) == (label not in WITHOUT_CNN)


@pytest.mark.parametrize("parameters", [50_000, 185_689, 11_833_593])
def test_a_cnn_has_about_as_many_parameters_as_another_network(parameters):
    assert trainable_parameters(UNetD(width_for(parameters))) == pytest.approx(parameters, rel=0.02)
    assert width_for(11_833_593) == 1.0
