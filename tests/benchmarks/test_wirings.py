from functools import partial

import pytest
import torch

from benchmarks import wirings
from benchmarks.wirings import DECODER_ONLY, IMAGES, PUBLISHED, table
from tools.random_checkpoints import write_biomedclip, write_clipseg
from vlsm_helpers.models.clipseg import CLIPSeg
from vlsm_helpers.models.unet_d import UNetD


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    write_biomedclip(folder / "biomedclip", tiny=True)
    write_clipseg(folder / "clipseg", tiny=True)
    return folder


@pytest.mark.parametrize(
    ("name", "encoders"),
    [("biomedclipseg", 2), ("clipseg", 2), ("cris", 2), ("ensemble_a", 2), ("ensemble_b", 2), ("ensemble_c", 4)],
)
def test_each_encoder_runs_once_a_step_and_not_at_all_from_cached_features(weights, name, encoders):
    passes = {}
    for way in (IMAGES, DECODER_ONLY):
        model, logits = wirings.network(name, way, weights, tiny=True)
        wirings.training_step(model, logits, wirings.optimizer_of(model))
        passes[way] = list(wirings.encoder_passes(model, logits).values())
    assert passes == {IMAGES: [1] * encoders, DECODER_ONLY: [0] * encoders}


def measured(name, published=6.0):
    """Rows as of `measure`: from features three times as fast."""
    return [
        {"model": name, "way": way, "training step": training, "inference": 1.0, "gigabytes": 3.0, "passes": [1]}
        for way, training in ((PUBLISHED, published), (DECODER_ONLY, published / 3))
    ]


def test_the_table_says_how_many_times_faster():
    assert table(measured("ensemble_a")).splitlines() == [
        "| ensemble_a, 224 px | published | 6.00 (x 1.0) | 1.00 (x 1.0) | 3.0 | 1 |",
        "| ensemble_a, 224 px | default, from cached features | 2.00 (x 3.0) | 1.00 (x 1.0) | 3.0 | 1 |",
    ]


def test_each_ensemble_is_compared_with_its_own_published_wiring(monkeypatch, capsys):
    seconds = {"ensemble_a": 6.0, "ensemble_b": 60.0}
    monkeypatch.setattr(wirings, "measure", lambda name, *_: measured(name, seconds[name]))
    monkeypatch.setattr(wirings.torch, "set_num_threads", lambda number: None)
    wirings.main([*seconds, "--tiny"])
    lines = [line for line in capsys.readouterr().out.splitlines() if DECODER_ONLY in line]
    assert [line.split(" | ")[2] for line in lines] == ["2.00 (x 3.0)", "20.00 (x 3.0)"]


def test_every_model_takes_its_turns_in_every_way(weights, monkeypatch):
    class Published(UNetD):
        def forward_tokens(self, images, ids, attention):
            return self(images, "")

    monkeypatch.setattr(wirings, "MODELS", dict.fromkeys(wirings.MODELS, 64))
    monkeypatch.setattr(wirings.published, "build", lambda name: Published(1 / 32))  # the real one takes minutes
    for name in ("unet_d", "clipseg"):
        for ways in wirings.measured(name, weights, True, 1).values():
            assert tuple(way for way in ways if way != wirings.BF16) == wirings.ways_of(name)
            for one in ways.values():
                assert len(one.seconds) == 1
                assert one.work.total > 0
                assert one.share > 0


def test_ensemble_c_at_equal_size_shows_clipseg_what_the_published_wiring_shows_it(weights, monkeypatch):
    monkeypatch.setattr(wirings, "MODELS", dict.fromkeys(wirings.MODELS, 64))
    equal, ours = (wirings.network(name, IMAGES, weights, tiny=True)[0] for name in (wirings.EQUAL, "ensemble_c"))
    assert equal.b.vlsm.image_size == equal.a.vlsm.image_size
    assert ours.b.vlsm.image_size == CLIPSeg(weights / "clipseg").image_size


def test_a_step_in_bfloat16_computes_the_same_call_under_autocast(weights):
    model = UNetD(1 / 16)
    seen = []
    model.head.register_forward_hook(lambda module, given, logits: seen.append(logits.dtype))
    call = wirings.in_bf16(partial(model, torch.rand(1, 3, 32, 32), ""))
    assert call().dtype == torch.float32
    assert seen == [torch.bfloat16]
