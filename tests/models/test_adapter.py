import pytest
import torch

from vlsm_helpers.models.adapter import Adapter, Film, MaskHead, TransformerAdapter, tokens_to_map


def test_tokens_lie_in_the_map_as_patches_lie_in_the_image():
    tokens = torch.tensor([[[1.0, 10], [2, 20], [3, 30], [4, 40]]])  # row by row, from the top left
    expected = torch.tensor([[[[1.0, 2], [3, 4]], [[10, 20], [30, 40]]]])
    assert torch.equal(tokens_to_map(tokens), expected)


def test_a_class_token_is_refused():
    with pytest.raises(ValueError, match="is the class token among them"):
        tokens_to_map(torch.zeros(1, 65, 8))


def test_film_scales_and_shifts_every_channel_by_the_text():
    film = Film(text_dim=1, channels=2)
    with torch.no_grad():
        film.scale.weight.copy_(torch.tensor([[1.0], [0.0]]))
        film.shift.weight.copy_(torch.tensor([[0.0], [5.0]]))
        film.shift.bias.zero_()
    tokens, text = torch.tensor([[[3.0, 7.0]], [[3.0, 7.0]]]), torch.tensor([[0.0], [2.0]])
    # Where the text is 0 all is let through; where it is 2 the scales are 1 + 2 and 1, the shifts 0 and 10.
    assert torch.equal(film(tokens, text), torch.tensor([[[3.0, 7.0]], [[9.0, 17.0]]]))


def adapters():
    torch.manual_seed(0)
    return [Adapter(6, 5, channels=8), TransformerAdapter(6, 5, taps=3, channels=8).eval()]


@pytest.mark.parametrize("adapter", adapters(), ids=["A", "B"])
class TestBoth:
    def test_any_square_number_of_patches_is_accepted(self, adapter):
        for side in (2, 3, 7):
            states, text = [torch.randn(2, 1 + side**2, 6) for _ in range(3)], torch.randn(2, 5)
            assert adapter(states, text).shape == (2, 8, side, side)

    def test_an_image_does_not_depend_on_its_batch(self, adapter):
        states, text = [torch.randn(5, 10, 6) for _ in range(3)], torch.randn(5, 5)
        with torch.no_grad():
            together = adapter(states, text)
            alone = torch.cat([adapter([s[i : i + 1] for s in states], text[i : i + 1]) for i in range(5)])
        torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)

    def test_the_class_token_is_dropped(self, adapter):
        states, text = [torch.randn(1, 10, 6) for _ in range(3)], torch.randn(1, 5)
        changed = [torch.cat([s[:, :1] + 1, s[:, 1:]], dim=1) for s in states]
        with torch.no_grad():
            assert torch.equal(adapter(states, text), adapter(changed, text))

    def test_the_text_matters(self, adapter):
        states = [torch.randn(1, 10, 6) for _ in range(3)]
        with torch.no_grad():
            assert not torch.allclose(adapter(states, torch.randn(1, 5)), adapter(states, torch.randn(1, 5)))


def test_a_uses_the_first_tap_and_b_all_of_them():
    states, text = [torch.randn(1, 10, 6) for _ in range(3)], torch.randn(1, 5)
    for adapter, uses in zip(adapters(), ([True, False, False], [True, True, True]), strict=True):
        for tap, is_used in enumerate(uses):
            changed = [state + (number == tap) for number, state in enumerate(states)]
            with torch.no_grad():
                assert torch.equal(adapter(changed, text), adapter(states, text)) is not is_used


def test_b_needs_one_state_per_tap():
    with pytest.raises(ValueError, match="zip"):
        adapters()[1]([torch.randn(1, 10, 6)], torch.randn(1, 5))


@pytest.mark.parametrize("patch", [4, 9, 16])
def test_a_mask_head_enlarges_every_patch_to_its_pixels(patch):
    assert MaskHead(8, patch)(torch.randn(2, 8, 3, 5)).shape == (2, 1, 3 * patch, 5 * patch)


def test_patches_of_other_sizes_are_refused():
    with pytest.raises(ValueError, match="not 14"):
        MaskHead(8, 14)
