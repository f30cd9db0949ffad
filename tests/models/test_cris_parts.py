import torch
from torch.nn import functional

from vlsm_helpers.models.cris_parts import convolve_each, positions


def test_each_image_is_convolved_with_its_own_kernel():
    pixels, kernels, bias = torch.randn(3, 5, 6, 7), torch.randn(3, 5, 3, 3), torch.randn(3)
    expected = [
        functional.conv2d(one[None], kernel[None], shift[None], padding=1)
        for one, kernel, shift in zip(pixels, kernels, bias, strict=True)
    ]
    torch.testing.assert_close(convolve_each(pixels, kernels, bias), torch.cat(expected), atol=1e-4, rtol=1e-4)


def test_positions_are_the_sinusoids_of_the_transformer():
    found = positions(torch.tensor([0, 3]), 4)
    torch.testing.assert_close(found[0], torch.tensor([0.0, 1.0, 0.0, 1.0]))
    expected = torch.tensor([3.0, 3.0, 0.03, 0.03])
    torch.testing.assert_close(found[1], torch.stack([expected[::2].sin(), expected[::2].cos()], 1).flatten())
