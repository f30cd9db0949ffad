from dataclasses import fields

import pytest
import timm

from vlsm_helpers.settings.profiles import PROFILES
from vlsm_helpers.settings.published import BIOMEDCLIP, CLIPSEG, RESNET, TINY_WEIGHTS


def test_profiles_have_the_same_fields_and_are_called_by_their_names():
    tiny, full = PROFILES["tiny"], PROFILES["full"]
    assert {name: profile.name for name, profile in PROFILES.items()} == {"tiny": "tiny", "full": "full"}
    different = [field.name for field in fields(tiny) if getattr(tiny, field.name) != getattr(full, field.name)]
    assert different == [field.name for field in fields(tiny)]


def test_tiny_downloads_nothing_and_full_takes_what_is_published():
    tiny, full = PROFILES["tiny"], PROFILES["full"]
    assert {tiny.clipseg_weights, tiny.biomedclip_weights} == {TINY_WEIGHTS}
    assert tiny.smp_weights is None
    named = [full.clipseg_weights, full.biomedclip_weights, full.smp_weights]
    assert named == [CLIPSEG.hub_id, BIOMEDCLIP.hub_id, RESNET.hub_id]


@pytest.mark.parametrize("profile", PROFILES.values(), ids=list(PROFILES))
def test_sizes_fit_the_networks(profile):
    assert profile.image_size % 32 == 0  # five halvings; patches of 16
    assert profile.unet_width > 0
    assert profile.batch_size >= 2  # batch norm


def test_tinys_encoder_is_one_that_timm_knows():
    assert timm.is_model(PROFILES["tiny"].smp_encoder.removeprefix("tu-"))
