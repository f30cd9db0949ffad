"""The members by name: made from their configuration, loaded from a checkpoint."""

import difflib
from pathlib import Path

from vlsm_helpers.checkpoints import load_checkpoint
from vlsm_helpers.errors import SettingsError
from vlsm_helpers.models.segmenter import Segmenter
from vlsm_helpers.models.unet_d import UNetD

MEMBERS: dict[str, type[Segmenter]] = {"unet_d": UNetD}


def build(name: str, **options) -> Segmenter:
    """A member with fresh weights. Raises SettingsError, with the nearest name, for one there is not."""
    if name not in MEMBERS:
        nearest = difflib.get_close_matches(name, MEMBERS, n=1, cutoff=0.3)
        meant = f"did you mean {nearest[0]}? " if nearest else ""
        raise SettingsError(f"There is no member {name!r}.", mend=f"{meant}Members: {', '.join(MEMBERS)}.")
    return MEMBERS[name](**options)


def load(checkpoint: Path) -> tuple[Segmenter, dict]:
    """The trained member of a best.safetensors, in evaluation mode, and the checkpoint's facts (image_size, val_dice ...)."""
    tensors, facts = load_checkpoint(checkpoint)
    segmenter = build(**facts["member"])
    segmenter.load_state_dict(tensors)
    return segmenter.eval(), facts
