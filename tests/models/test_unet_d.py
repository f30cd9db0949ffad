import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vlsm_helpers.models.unet_d import EfficientChannelAttention, UNetD, receptive_field

IMAGE_SIDES = st.integers(min_value=1, max_value=70)


@pytest.fixture(scope="module")
def narrow():
    torch.manual_seed(0)
    return UNetD(width=1 / 16).eval()


def test_the_full_network_has_the_published_number_of_parameters():
    assert sum(parameter.numel() for parameter in UNetD().parameters()) == 11_833_593


@settings(max_examples=15, deadline=None)
@given(height=IMAGE_SIDES, width=IMAGE_SIDES)
def test_logits_have_the_images_size_whatever_it_is(narrow, height, width):
    with torch.no_grad():
        assert narrow(torch.rand(2, 3, height, width)).shape == (2, 1, height, width)


def test_decode_resizes_to_the_given_size(narrow):
    images = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        logits = narrow.decode((), torch.empty(1, 0), images, (64, 48))
        same = narrow.decode((), torch.empty(1, 0), images, (32, 32))
    assert logits.shape == (1, 1, 64, 48)
    assert logits.min() >= same.min() - 1e-5
    assert logits.max() <= same.max() + 1e-5


def test_a_decoder_level_applies_its_convolution_twice():
    level = UNetD(width=1 / 16).decoder[0].eval()
    calls = []
    level.conv.register_forward_hook(lambda *_: calls.append(1))
    level(torch.rand(1, level.up.in_channels, 2, 2))
    assert len(calls) == 2


@pytest.mark.parametrize(("channels", "kernel"), [(1240, 5), (155, 5), (64, 3), (16, 3)])
def test_the_attention_kernel_grows_with_the_channels(channels, kernel):
    assert EfficientChannelAttention(channels).conv.kernel_size == (kernel,)


def test_attention_scales_each_channel_by_one_number_between_0_and_1():
    maps = torch.rand(2, 16, 4, 4) + 0.1
    ratio = EfficientChannelAttention(16)(maps) / maps
    torch.testing.assert_close(ratio, ratio[..., :1, :1].expand_as(ratio))
    assert 0 < ratio.min() < ratio.max() < 1


def test_the_receptive_field_is_what_gradients_show():
    """The bottleneck's centre must depend on exactly the square of pixels of the formula."""
    encoder = UNetD(width=1 / 16).encoder.eval()
    images = torch.rand(1, 3, 160, 160, requires_grad=True)
    maps = images
    for level in encoder:
        maps = torch.nn.functional.avg_pool2d(level.conv2(level.conv1(maps)), 2)  # a max would hide pixels
    maps[0, :, 5, 5].sum().backward()
    rows = images.grad.abs().sum(dim=(0, 1, 3)).nonzero()
    assert int(rows.max() - rows.min()) + 1 == receptive_field() == 76
