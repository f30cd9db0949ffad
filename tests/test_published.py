import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.golden import formula
from tools.random_checkpoints import write_biomedclip_config
from vlsm_helpers.models import biomedclipseg
from vlsm_helpers.models.biomedclip import build_biomedclip
from vlsm_helpers.models.biomedclipseg import PUBLISHED_TAPS, BiomedCLIPSeg
from vlsm_helpers.models.published import load_published_state_dict
from vlsm_helpers.models.unet_d import UNetD

GOLDEN = Path(__file__).parent / "golden"


def published_state_dict(name):
    shapes = json.loads((GOLDEN / f"{name}.params.json").read_text())
    return {key: torch.from_numpy(np.asarray(formula.weights(key, tuple(shape)))) for key, shape in shapes.items()}


@pytest.fixture(scope="module")
def unet_d():
    model = UNetD()
    placement = load_published_state_dict(model, published_state_dict("unet_d"))
    return model.eval(), placement


@pytest.mark.golden
def test_unet_d_gives_the_published_logits(unet_d):
    golden = np.load(GOLDEN / "unet_d.npz")
    size, stride, seed = int(golden["size"]), int(golden["stride"]), int(golden["seed"])
    pixel_values, _, _ = formula.inputs(size, seed=seed)
    with torch.no_grad():
        logits = unet_d[0](torch.from_numpy(pixel_values)).numpy()
    assert logits.std() > 0.05
    np.testing.assert_allclose(logits[..., ::stride, ::stride], golden["logits"], atol=1e-4, rtol=0)


def test_the_dead_convolution_is_said_to_be_unused(unet_d):
    assert unet_d[1].unused == ["outconv2.weight", "outconv2.bias"]
    assert unet_d[1].unplaced == []


def test_names_of_nobody_are_returned_as_unplaced():
    state_dict = published_state_dict("unet_d") | {"teacher.weight": torch.zeros(1)}
    assert load_published_state_dict(UNetD(), state_dict).unplaced == ["teacher.weight"]


def test_a_missing_entry_is_an_error_that_names_it():
    state_dict = published_state_dict("unet_d")
    del state_dict["outconv.bias"]
    with pytest.raises(RuntimeError, match="head.bias"):
        load_published_state_dict(UNetD(), state_dict)


def test_integer_buffers_are_accepted():
    state_dict = published_state_dict("unet_d") | {"bn1.num_batches_tracked": torch.tensor(7)}
    model = UNetD()
    assert load_published_state_dict(model, state_dict).unplaced == []
    assert model.encoder[0].norm.num_batches_tracked == 7


def random_biomedclip(folder):
    """As `load_biomedclip` gives it, from the architecture alone."""
    return build_biomedclip(folder, load_weights=False)


@pytest.mark.golden
def test_biomedclipseg_gives_the_published_logits(tmp_path, monkeypatch):
    write_biomedclip_config(tmp_path)
    monkeypatch.setattr(biomedclipseg, "load_biomedclip", random_biomedclip)
    model = BiomedCLIPSeg(tmp_path, taps=PUBLISHED_TAPS).eval()
    assert load_published_state_dict(model, published_state_dict("biomedclipseg")) == ([], [])
    golden = np.load(GOLDEN / "biomedclipseg.npz")
    size, stride, seed = int(golden["size"]), int(golden["stride"]), int(golden["seed"])
    pixel_values, input_ids, attention_mask = map(torch.from_numpy, formula.inputs(size, seed=seed))
    images = pixel_values * model.std + model.mean  # the vectors' pixels are normalised already
    with torch.no_grad():
        text = model.embed(input_ids, attention_mask)
        logits = model.decode(model.encode_images(images), text, images, (size, size)).numpy()
    assert logits.std() > 0.05
    np.testing.assert_allclose(logits[..., ::stride, ::stride], golden["logits"], atol=1e-4, rtol=0)


def test_biomedclipsegs_names_are_told_apart(tiny_weights):
    model = BiomedCLIPSeg(tiny_weights / "biomedclip")
    before = {name: value + 1 for name, value in model.state_dict().items()}
    theirs = {("biomed" + name if name.startswith("clip") else name): value for name, value in before.items()}
    old = "biomedclip.text.transformer.embeddings.position_ids"
    placement = load_published_state_dict(model, theirs | {old: torch.arange(32), "teacher.weight": torch.zeros(1)})
    assert placement == ([old], ["teacher.weight"])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
