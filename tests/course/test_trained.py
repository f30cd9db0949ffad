from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from tools import tiny_hybrid
from vlsm_helpers import settings
from vlsm_helpers.course import trained
from vlsm_helpers.data.dataset import SegmentationDataset
from vlsm_helpers.data.samples import load_split
from vlsm_helpers.errors import SettingsError
from vlsm_helpers.evaluation.scoring import predict
from vlsm_helpers.experiments.reference import measured
from vlsm_helpers.experiments.runs import train_member
from vlsm_helpers.io.checkpoints import load_checkpoint
from vlsm_helpers.metrics.overlap import mask_dice


@pytest.mark.parametrize("label", trained.NETWORKS)
def test_a_shipped_network_has_the_dice_that_its_training_measured(label):
    network = trained.network(label)
    _, facts = load_checkpoint(trained.FOLDER / f"{trained.NETWORKS[label]}.safetensors")
    images = SegmentationDataset(
        load_split(settings.DEFAULT_DATASET, "val"), facts["image_size"], prompt=facts["prompt"]
    )
    logits = torch.stack([one for _, one in predict(network, images)])
    dice = mask_dice(logits > 0, torch.as_tensor(np.stack(images.masks)) > 0).mean().item()
    assert dice == pytest.approx(facts["val_dice"], abs=2e-3)
    assert trained.histories()[label]["val_dice"].max() == pytest.approx(facts["val_dice"], abs=1e-5)


def test_they_are_runs_like_those_of_the_table():
    """Seed 0 of the shipped measurements; another machine's rounding moves a training a little.

    The table's networks with BiomedCLIP have the former miniature, than which the present one is better.
    """
    rows = measured("hybrid_ensembles").query("dataset == @settings.DEFAULT_DATASET and seed == @trained.SEED")
    of_table = rows.groupby("model")["val_dice"].first()
    best = {label: history["val_dice"].max() for label, history in trained.histories().items()}
    assert best.pop("UNet-D") == pytest.approx(of_table["UNet-D"], abs=0.02)
    assert {label for label, dice in best.items() if dice > of_table[label]} == {
        "BiomedCLIPSeg",
        "A without the CNN",
        "A",
    }


def test_they_fit_the_default_settings_only(monkeypatch):
    for variable in ("VLSM_DATASET", "VLSM_SEED", "VLSM_EPOCHS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("VLSM_PROFILE", "tiny")  # which start() sets, so that it is put back
    chosen = settings.start()
    assert trained.fits(chosen)
    assert not trained.fits(replace(chosen, seed=1))
    assert not trained.fits(replace(chosen, dataset="kvasir_polyp"))
    assert not trained.fits(replace(chosen, profile=replace(chosen.profile, name="full")))


def test_an_unknown_network_is_refused():
    with pytest.raises(SettingsError, match="UNet-D"):
        trained.network("B")


def test_halving_keeps_counters_and_refuses_what_overflows():
    assert tiny_hybrid.halved(torch.tensor([70000])).tolist() == [70000]
    assert tiny_hybrid.halved(torch.tensor([0.5])).dtype == torch.float16
    with pytest.raises(OverflowError):
        tiny_hybrid.halved(torch.tensor([70000.0]))


def test_the_tool_writes_what_is_loaded(toy, tmp_path, monkeypatch, own_runs):
    monkeypatch.setattr(trained, "FOLDER", tmp_path / "hybrid")
    monkeypatch.setattr(trained, "NETWORKS", {"UNet-D": "unet_d"})
    run = train_member("unet_d", "toy", size=32, width=1 / 16, epochs=1)
    tiny_hybrid.write(trained.FOLDER, {"UNet-D": run})
    exact, _ = load_checkpoint(run / "best.safetensors")
    for name, tensor in trained.network("UNet-D").state_dict().items():
        torch.testing.assert_close(tensor, exact[name], rtol=1e-3, atol=1e-4)
    assert isinstance(trained.histories()["UNet-D"], pd.DataFrame)
    assert len(trained.histories()["UNet-D"]) == 1
