"""The datasets and members of the paper's table, and which of the members an ensemble joins."""

from collections.abc import Sequence

from vlsm_helpers.models import imagenet

LATE_FUSION = "late_fusion"
LIGHT_CNN = "unet_imagenet"
FUSED = ("biomedclipseg", "clipseg", "unet_d")  # what the paper's late fusion joins: its members, trained separately
PAPER = ("kvasir_polyp", "clinicdb_polyp", "bkai_polyp", "busi", "chexlocalize")  # the paper's datasets
MEMBERS = (*FUSED, "smp_unet", LIGHT_CNN, "ensemble_a", "ensemble_b", "ensemble_c", LATE_FUSION)


def ensemble_members() -> tuple[str, ...]:
    """The members that an ensemble joins unless told otherwise: the paper's three, and the light CNN where it is at hand."""
    return at_hand((*FUSED, LIGHT_CNN))


def at_hand(members: Sequence[str]) -> tuple[str, ...]:
    """`members` without the light CNN where its ImageNet weights are not on this machine; no request is made."""
    return tuple(member for member in members if member != LIGHT_CNN or imagenet.at_hand())


def left_out(members: Sequence[str]) -> str:
    """A sentence that says how to get the weights of the light CNN where it is not among `members`; else nothing."""
    if LIGHT_CNN in members:
        return ""
    return f"{LIGHT_CNN} is left out: its ImageNet weights are not on this machine. To add it, {imagenet.ways()}"
