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
from vlsm_helpers.models.published import checkpoints as published
from vlsm_helpers.models.published.checkpoints import load_published_state_dict

NETWORKS = [name for name in published.PUBLISHED if name != "cris"]  # which has tolerances and a file of its own
GOLDEN = Path(__file__).parents[2] / "golden"


def published_state_dict(name):
    shapes = json.loads((GOLDEN / f"{name}.params.json").read_text())
    return {key: torch.from_numpy(np.asarray(formula.weights(key, tuple(shape)))) for key, shape in shapes.items()}


def golden_inputs(name):
    """Pixels, ids and mask of the vectors, and the vectors."""
    golden = np.load(GOLDEN / f"{name}.npz")
    size, seed = int(golden["size"]), int(golden["seed"])
    return [torch.from_numpy(array) for array in formula.inputs(size, seed=seed)], golden


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    """A name, the network in the published wiring with the vectors' weights, and what became of their names."""
    model = published.build(request.param)
    placement = load_published_state_dict(model, published_state_dict(request.param))
    return request.param, model.eval(), placement


@pytest.fixture(scope="module")
def company(network):
    """The network's logits of the vectors' images, all three in one batch."""
    name, model, _ = network
    with torch.no_grad():
        return model.forward_tokens(*golden_inputs(name)[0])


@pytest.mark.golden
def test_the_published_wiring_gives_the_published_logits(network, company):
    name, model, _ = network
    inputs, golden = golden_inputs(name)
    logits = company.numpy()
    if name == "unet_d":
        with torch.no_grad():
            assert np.array_equal(model(inputs[0]).numpy(), logits)
    stride = int(golden["stride"])
    assert logits.std() > 0.05
    np.testing.assert_allclose(logits[..., ::stride, ::stride], golden["logits"], atol=1e-4, rtol=0)


@pytest.mark.golden
def test_an_image_of_the_published_b_and_c_depends_on_its_neighbours(network, company):
    name, model, _ = network
    inputs, _ = golden_inputs(name)
    with torch.no_grad():
        alone = model.forward_tokens(*(part[:1] for part in inputs))
    change = (company[:1] - alone).abs().max().item()
    if name == "ensemble_b":
        assert 0.005 < change < 0.1
    elif name == "ensemble_c":
        assert 0.0005 < change < 0.01
    else:
        assert change < 1e-5


@pytest.mark.golden
def test_what_the_published_forward_never_uses_is_told(network):
    name, _, placement = network
    assert {entry.removeprefix("clip_seg.").split(".")[0] for entry in placement.unused} - {"decoder2"} == {
        "unet_d": {"outconv2"},
        "biomedclipseg": set(),
        "ensemble_a": {"dense_layer", "trans_conv", "upsample_proj"},
        "ensemble_b": {"reduce", "trans_conv", "trans_conv1", "upsample_proj"},
        "ensemble_c": {"dense_layer", "reduce", "trans_conv", "trans_conv1", "upsample_proj", "textembed"}
        | {"reduce_input_ids"},
    }[name]
    in_the_cnn = {entry.split("decoder2.")[1].split(".")[0] for entry in placement.unused if "decoder2." in entry}
    assert in_the_cnn == {"ensemble_b": {"gn1"}, "ensemble_c": {"gn1", "eca3"}}.get(name, set())
    assert placement.unplaced == []


@pytest.mark.golden
def test_gradients_reach_the_published_networks_decoders_and_no_encoder(network):
    name, model, _ = network
    inputs, _ = golden_inputs(name)
    images = 3 if name == "ensemble_b" else 1  # its adapter runs a layer an image, three at most
    model.forward_tokens(*(part[:images] for part in inputs)).mean().backward()
    reached = {parameter for parameter, value in model.named_parameters() if value.grad is not None}
    model.zero_grad()
    assert not any("clip." in parameter for parameter in reached)
    millions = sum(value.numel() for parameter, value in model.named_parameters() if parameter in reached) / 1e6
    print(f"{name}: {millions:.2f} million parameters receive a gradient")
    counted = {"ensemble_a": 13.7, "ensemble_b": 15.6}  # by whoever ran the authors' code
    if name in counted:
        assert millions == pytest.approx(counted[name], abs=0.05)


@pytest.mark.golden
def test_our_biomedclipseg_with_the_published_taps_gives_the_published_logits(tmp_path, monkeypatch):
    write_biomedclip_config(tmp_path)
    monkeypatch.setattr(biomedclipseg, "load_biomedclip", lambda folder: build_biomedclip(folder, load_weights=False))
    model = BiomedCLIPSeg(tmp_path, taps=PUBLISHED_TAPS).eval()
    assert load_published_state_dict(model, published_state_dict("biomedclipseg")) == ([], [])
    (pixel_values, input_ids, attention_mask), golden = golden_inputs("biomedclipseg")
    images = pixel_values * model.std + model.mean  # the vectors' pixels are normalised already
    with torch.no_grad():
        text = model.embed(input_ids, attention_mask)
        logits = model.decode(model.encode_images(images), text, images, images.shape[-2:]).numpy()
    stride = int(golden["stride"])
    np.testing.assert_allclose(logits[..., ::stride, ::stride], golden["logits"], atol=1e-4, rtol=0)
