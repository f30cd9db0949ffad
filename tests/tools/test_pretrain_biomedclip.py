"""Pretraining of the miniature BiomedCLIP: the folder, the card and the vocabulary that a short run writes."""

import contextlib
import json
import shutil
from dataclasses import replace

import numpy as np
import open_clip
import pytest
import torch
from safetensors import safe_open

from tools.pretrain import biomedclip, biomedclip_folder
from vlsm_helpers.models.biomedclipseg import BiomedCLIPSeg
from vlsm_helpers.models.pretrained import BIOMEDCLIP, find, load_biomedclip, load_clipseg

FEW = 4  # phantoms of each modality: 16 in all
PLAN = biomedclip.Plan(
    steps=3, batch_size=4, memory=8, phantoms=FEW, held_out=FEW, warm_up=1, measure_every=2, save_every=1
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache folder that the tests of this module draw into once."""
    return tmp_path_factory.mktemp("pretraining")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, cache):
    """The run, its folder and its first tensors, after three steps on 16 phantoms."""
    folder = tmp_path_factory.mktemp("out") / "biomedclip"
    run = biomedclip.Pretraining(folder, PLAN, cache)
    before = {name: tensor.clone() for name, tensor in run.contrast.clip.state_dict().items()}
    run.run()
    return run, folder, before


def test_the_vision_tower_starts_from_the_miniature_clipsegs_and_moves(trained):
    run, _, before = trained
    general = load_clipseg(run.plan.general)[0].clip.vision_model
    torch.testing.assert_close(before["visual.trunk.cls_token"][0, 0], general.embeddings.class_embedding)
    torch.testing.assert_close(before["visual.trunk.blocks.5.mlp.fc1.weight"], general.encoder.layers[5].mlp.fc1.weight)
    assert [row["cosine"] for row in run.history] == sorted([row["cosine"] for row in run.history], reverse=True)


def test_a_stopped_run_resumes_and_ends_as_one_that_was_not(trained, cache, tmp_path):
    whole = trained[0]
    stopped = biomedclip.Pretraining(tmp_path / "biomedclip", PLAN, cache)
    stopped.measure(None)
    stopped.step(1)
    stopped.done = 1
    stopped._save()
    resumed = biomedclip.Pretraining(tmp_path / "biomedclip", PLAN, cache)
    assert (resumed.done, resumed.history) == (1, stopped.history)
    resumed.run()
    own, theirs = resumed.contrast.state_dict(), whole.contrast.state_dict()
    assert all(torch.allclose(own[name], tensor, atol=1e-5) for name, tensor in theirs.items())
    assert [row["step"] for row in resumed.history] == [row["step"] for row in whole.history]


def test_the_state_of_another_run_is_refused(trained, cache):
    _, folder, _ = trained
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(SystemExit, match="seed"):
        biomedclip.Pretraining(folder, replace(PLAN, seed=1), cache)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_open_clip_alone_loads_the_folder_from_within(trained):
    _, folder, _ = trained
    with contextlib.chdir(folder):
        plain = open_clip.create_model("local-dir:.").eval()
        tokenizer = open_clip.get_tokenizer("local-dir:.")
    clip, own_tokenizer, *_ = load_biomedclip(folder)
    pixels, captions = torch.rand(2, 3, 128, 128), ["a pink bump", "no tumor, breast ultrasound image"]
    with torch.no_grad():
        torch.testing.assert_close(plain.encode_image(pixels), clip.eval().encode_image(pixels))
        ids = own_tokenizer(captions, padding=True, return_tensors="pt")["input_ids"]
        torch.testing.assert_close(plain.encode_text(tokenizer(captions)), clip.encode_text(ids), atol=1e-5, rtol=1e-5)


def test_a_short_run_writes_a_folder_that_loads(trained):
    _, folder, before = trained
    assert find(folder, BIOMEDCLIP) == folder
    model, tokenizer, context, preprocessing = load_biomedclip(folder)
    assert (context, preprocessing.size) == (biomedclip_folder.CONTEXT, 128)
    assert tokenizer.model_max_length == biomedclip_folder.CONTEXT
    assert len(model.visual.trunk.blocks) == 8
    state = model.state_dict()
    moved = {
        name.split(".")[0] for name, tensor in before.items() if not torch.equal(state[name], tensor.half().float())
    }
    assert {"visual", "text"} <= moved
    assert model.visual.trunk.blocks[7].mlp.fc2.weight.any()  # it began as nothing
    segmenter = BiomedCLIPSeg(folder, mlp_dim=256)
    assert segmenter.taps == (2, 4, 6)
    assert segmenter(torch.rand(1, 3, 128, 128), "a pink bump").shape == (1, 1, 128, 128)


def test_the_tensors_are_float16_and_the_folder_small(trained):
    _, folder, _ = trained
    with safe_open(BIOMEDCLIP.tensors_in(folder), framework="pt") as file:
        kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118 - no dict
    assert {kind for name, kind in kinds.items() if not name.endswith("position_ids")} == {"F16"}
    assert sum(path.stat().st_size for path in folder.rglob("*")) < 8e6


def test_the_card_is_written_from_what_was_measured(trained):
    run, folder, _ = trained
    card = (folder / "README.md").read_text(encoding="utf-8")
    facts = json.loads((folder / biomedclip.FACTS).read_text(encoding="utf-8"))
    assert facts["history"] == run.history
    assert [row["step"] for row in run.history] == [0, 2, 3]
    assert "Not for clinical use" in card
    assert f"{run.history[-1]['retrieval']['mixed']['top1']:.3f} |" in card
    assert f"{facts['parameters']:,} parameters" in card
    assert f"on {4 * FEW} held-out examples" in card


def test_no_word_of_the_course_is_unknown(trained):
    run, _, _ = trained
    tokenizer = run.embedder.tokenizer
    for prompt in (
        "a pink bump",
        "two small brown oval polyps, located in top left of the image",
        "x-ray",
        "zyx 47 q!",
    ):
        assert tokenizer.unk_token_id not in tokenizer(prompt)["input_ids"]
    for word in ("polyp", "bump", "located", "tumor", "left", "mole", "malignant", "purple"):
        assert tokenizer.tokenize(word) == [word]


def test_the_vocabulary_is_the_same_every_time():
    captions = [f"a small pink polyp in the {place}" for place in ("left", "right", "top")] * 5
    first, second = (biomedclip_folder.train_vocabulary(captions) for _ in range(2))
    assert first == second
    assert len(first) == len(set(first)) <= 1000
    assert first[:5] == biomedclip_folder.MARKS


def test_the_learning_rate_warms_up_and_falls():
    plan = biomedclip.Plan(steps=1000, warm_up=100)
    rates = [plan.learning_rate_at(step) for step in range(1, 1001)]
    top = int(np.argmax(rates))
    assert 90 <= top <= 110
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] == pytest.approx(plan.learning_rate / 100)


def test_what_a_resumed_run_changes_is_on_the_card(trained, cache, tmp_path):
    run, folder, _ = trained
    shutil.copytree(folder, tmp_path / "biomedclip")
    shutil.copy(run.state, tmp_path / run.state.name)
    resumed = biomedclip.Pretraining(tmp_path / "biomedclip", replace(PLAN, steps=4, words=2.0), cache)
    assert resumed.done == run.done
    resumed.run()
    card = (tmp_path / "biomedclip" / "README.md").read_text(encoding="utf-8")
    assert "4 steps of" in card
    assert "until step 3 planned for 3 steps, with a weight of 1.0" in card
