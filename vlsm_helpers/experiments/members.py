"""The datasets and members of the paper's table, and which of the members an ensemble joins."""

from collections.abc import Sequence

from vlsm_helpers import settings
from vlsm_helpers.data.samples import has_classes, load_split
from vlsm_helpers.models import imagenet
from vlsm_helpers.models.cris import EFFICIENTNET

LATE_FUSION = "late_fusion"
LIGHT_CNN = "unet_imagenet"
CRIS = "cris"
FUSED = ("biomedclipseg", "clipseg", "unet_d")  # what the paper's late fusion joins: its members, trained separately
PROMPTED = ("biomedclipseg", "clipseg")  # those of them that a prompt conditions
PAPER = ("kvasir_polyp", "clinicdb_polyp", "bkai_polyp", "busi", "chexlocalize")  # the paper's datasets
MEMBERS = (*FUSED, "smp_unet", LIGHT_CNN, CRIS, "ensemble_a", "ensemble_b", "ensemble_c", LATE_FUSION)


def ensemble_members() -> tuple[str, ...]:
    """The members that an ensemble joins unless told otherwise: the paper's three, and the light CNN where it is at hand."""
    return at_hand((*FUSED, LIGHT_CNN))


def members_for(dataset: str) -> tuple[str, ...]:
    """The members that an ensemble of this dataset joins unless told otherwise: of images with several classes those with a text
    input, since nothing else says which class is meant. Raises DataError as `load_split` does."""
    if "+" not in dataset and has_classes(load_split(dataset, "train")):
        return PROMPTED
    return ensemble_members()


def at_hand(members: Sequence[str]) -> tuple[str, ...]:
    """`members` without those that start from ImageNet where its weights are not on this machine; no request is made."""
    if imagenet.at_hand():
        return tuple(members)
    profile, _ = settings.choose_profile()
    without = {LIGHT_CNN, CRIS} if profile.cris_image_encoder == EFFICIENTNET else {LIGHT_CNN}
    return tuple(member for member in members if member not in without)


def left_out(members: Sequence[str]) -> str:
    """A sentence on why the light CNN is not among `members`, and how to get its weights where they are missing; else nothing."""
    if LIGHT_CNN in members:
        return ""
    if tuple(members) == PROMPTED:
        return (
            "The images show several classes: networks without a text input, which cannot be told which, are left out."
        )
    return f"{LIGHT_CNN} is left out: its ImageNet weights are not on this machine. To add it, {imagenet.ways()}"
