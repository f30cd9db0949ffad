"""The members by name: built from their configuration, loaded from a checkpoint."""

import inspect
from pathlib import Path

from vlsm_helpers.errors import SettingsError, TrainingError, unknown
from vlsm_helpers.io.checkpoints import load_checkpoint
from vlsm_helpers.models.biomedclipseg import BiomedCLIPSeg
from vlsm_helpers.models.clipseg import CLIPSeg
from vlsm_helpers.models.cris import CRIS
from vlsm_helpers.models.hybrid import EnsembleA, EnsembleAWithoutCNN, EnsembleB, EnsembleC
from vlsm_helpers.models.segmenter import Segmenter
from vlsm_helpers.models.smp_unet import ImageNetUNet, SMPUNet
from vlsm_helpers.models.state import encoder_hash, load_trainable_state_dict
from vlsm_helpers.models.unet_d import UNetD
from vlsm_helpers.settings import choose_profile
from vlsm_helpers.settings.profiles import Profile

MEMBERS: dict[str, type[Segmenter]] = {
    "unet_d": UNetD,
    "smp_unet": SMPUNet,
    "unet_imagenet": ImageNetUNet,
    "clipseg": CLIPSeg,
    "biomedclipseg": BiomedCLIPSeg,
    "cris": CRIS,
    "ensemble_a": EnsembleA,
    "ensemble_a_no_cnn": EnsembleAWithoutCNN,
    "ensemble_b": EnsembleB,
    "ensemble_c": EnsembleC,
}


def build(name: str, profile: Profile | str | None = None, **options) -> Segmenter:
    """A member with randomly initialised or pretrained weights, as its class says.

    `profile`: a profile or its name, whose sizes and weights the member takes (see `profile_options`); without one it has
    its class's own defaults. `options` are passed to the class and override the profile's. The configuration that a
    checkpoint stores builds the same network again: `build(**config)`.
    Raises SettingsError, with the nearest name, for an unknown member, option or profile, and WeightsError where
    pretrained weights cannot be loaded.

    >>> import vlsm_helpers as vlsm
    >>> unet_d = vlsm.build("unet_d", "tiny")
    >>> narrower = vlsm.build("unet_d", "tiny", width=1 / 16)
    >>> unet_d.config["width"], narrower.config["width"]
    (0.125, 0.0625)
    """
    if profile is not None:
        profile = choose_profile(profile)[0] if isinstance(profile, str) else profile
        options = profile_options(name, profile) | options
    if name not in MEMBERS:
        raise unknown("member", name, MEMBERS, error=SettingsError)
    known = list(inspect.signature(MEMBERS[name]).parameters)
    if extra := [option for option in options if option not in known]:
        raise SettingsError(f"The member {name} has no option {extra[0]!r}.", hint=f"it has {', '.join(known)}.")
    return MEMBERS[name](**options)


def profile_options(name: str, profile: Profile) -> dict:
    """The options of the member `name` that differ between profiles: sizes and weights."""
    width = {"width": profile.unet_width}
    clipseg = {"weights": profile.clipseg_weights}
    pyramid, head = profile.fpn_channels
    biomedclipseg = {"weights": profile.biomedclip_weights, "mlp_dim": profile.decoder_mlp_dim}
    options = {
        "unet_d": width,
        "smp_unet": {"encoder": profile.smp_encoder, "weights": profile.smp_weights},
        "unet_imagenet": {"pyramid": pyramid, "head": head},
        "clipseg": clipseg,
        "biomedclipseg": biomedclipseg,
        "cris": {"weights": profile.cris_weights, "image_encoder": profile.cris_image_encoder},
        "ensemble_a": biomedclipseg | width,
        "ensemble_a_no_cnn": biomedclipseg | width,
        "ensemble_b": clipseg | width,
        "ensemble_c": biomedclipseg | width | {"clipseg_weights": profile.clipseg_weights},
    }
    return options.get(name, {})


def load(checkpoint: Path) -> tuple[Segmenter, dict]:
    """The trained member of a best.safetensors, in evaluation mode, and the checkpoint's facts (image_size, val_dice ...).

    A checkpoint holds no frozen encoders: they come from the weights that the member's configuration names. Raises
    WeightsError where those cannot be loaded, and TrainingError where they are not those that the run was trained on.
    """
    tensors, facts = load_checkpoint(checkpoint)
    segmenter = build(**facts["member"])
    if facts.get("frozen_weights") != encoder_hash(segmenter):
        what = f"The pretrained weights are not those that this run was trained on. The member: {facts['member']}."
        hint = "restore those weights, or train the run again under another name."
        raise TrainingError(what, where=checkpoint, hint=hint)
    load_trainable_state_dict(segmenter, tensors)
    return segmenter.eval(), facts
