import pytest
import torch
from torch import nn

from benchmarks import limits
from benchmarks.limits import CONVOLUTION, MATMUL, Limit, Work, slowest_operators, work
from benchmarks.timing import interleaved


def test_work_is_counted_by_hand():
    matrices, images = torch.rand(2, 4, 6), torch.rand(1, 3, 8, 8)
    layer = nn.Conv2d(3, 5, 3, padding=1)

    def call():
        matrices[0] @ matrices[1].T
        layer(images)

    assert work(call) == Work(matmul=2 * 4 * 6 * 4, convolution=2 * 5 * 3 * 9 * 64)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 6, 3, padding=1),
        nn.Conv2d(4, 4, 3, stride=2, groups=4),
        nn.Conv2d(4, 6, 1, groups=2),
        nn.ConvTranspose2d(4, 6, 2, stride=2),
    ],
    ids=["dense", "depthwise", "grouped", "transposed"],
)
def test_a_backward_pass_of_a_convolution_counts_twice_its_forward_pass(layer):
    images = torch.rand(2, 4, 8, 8)
    with torch.no_grad():
        forward = work(lambda: layer(images)).convolution
    assert forward > 0
    assert work(lambda: layer(images.clone().requires_grad_()).sum().backward()).convolution == 3 * forward
    assert work(lambda: layer(images).sum().backward()).convolution == 2 * forward  # images need no gradient


def test_a_transformer_layer_counts_in_inference_as_in_training():
    """In inference it is one fused operator, which the counter alone would take for no work."""
    layer, tokens = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), torch.rand(2, 5, 16)
    counted = work(lambda: layer.train()(tokens))
    with torch.no_grad():
        assert work(lambda: layer.eval()(tokens)) == counted
    assert torch.backends.mha.get_fastpath_enabled()
    assert counted.matmul > 2 * 2 * 5 * (
        4 * 16 * 16 + 2 * 16 * 32
    )  # projections and the two linear layers, and attention


def test_the_share_compares_each_kind_of_work_with_its_own_rate():
    rates = {MATMUL: 100.0, CONVOLUTION: 50.0}
    assert Work(100, 0).share(2.0, rates) == 0.5
    assert Work(0, 100).share(2.0, rates) == 1.0
    assert Work(100, 50).share(4.0, rates) == 0.5


def test_a_call_that_is_the_limit_reaches_about_all_of_it():
    limit = Limit(side=256, maps=8)
    taken = interleaved(limit.ways | {"same": limit.ways[MATMUL]}, rounds=9)
    rates = limit.rates(taken)
    assert all(rate > 1e8 for rate in rates.values())
    share = work(limit.ways[MATMUL]).share(min(taken["same"]), rates | {MATMUL: rates[MATMUL]})
    assert share > 0.3  # on a busy machine, too


def test_the_slowest_operators_are_named_with_their_shares():
    matrix = torch.rand(300, 300)
    named = slowest_operators(lambda: matrix @ matrix, most=1)
    assert named.startswith("mm ")
    assert 0 < float(named.split()[1].rstrip("%")) <= 100


@pytest.mark.parametrize(
    ("has", "native"), [({"avx512_bf16": True}, True), ({"bf16": True}, True), ({"avx2": True}, False)]
)
def test_bfloat16_is_measured_where_the_cpu_multiplies_it(monkeypatch, has, native):
    monkeypatch.setattr(limits.torch.cpu, "get_capabilities", lambda: has)
    assert limits.native_bf16() is native
