"""The predictor behind a name: a saved ensemble, a trained run, CLIPSeg's weights in a folder or on the hub."""

import re
from pathlib import Path

from vlsm_helpers import settings
from vlsm_helpers.errors import SettingsError
from vlsm_helpers.fusion.weighted import WeightedFusion
from vlsm_helpers.inference.predictor import FACTS, Predictor
from vlsm_helpers.models import factory
from vlsm_helpers.models.clipseg import CLIPSeg
from vlsm_helpers.training.run_folder import BEST

ZERO_SHOT = "clipseg"  # the one member whose pretrained weights segment without training
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


def predictor_from(source: str, prompted: bool) -> Predictor:
    """The predictor that `source` names.

    One of: a folder that `vlsm ensemble` wrote; a run (its folder, or its name in the runs folder), as a predictor of its one
    member; "clipseg", with the weights of the profile; a folder or a hub id with weights of CLIPSeg. The last two segment
    zero-shot. `prompted`: whether the user gives a prompt: only an ensemble, and a member without text input, can do without.
    Raises SettingsError for anything else and for a missing prompt, and WeightsError for weights that cannot be loaded.
    """
    folder = Path(source)
    if (folder / FACTS).is_file():
        return Predictor.load(folder)
    if run := find_run(source):
        member, facts = factory.load(run / BEST)
        name, size = facts["member"]["name"], facts["image_size"]
    else:
        if not is_zero_shot(source):
            hint = (
                "name a folder that `vlsm ensemble` wrote, a run, or weights of CLIPSeg (clipseg, a folder, a hub id)."
            )
            if source in factory.MEMBERS:
                hint = f"{source} segments once it is trained (`vlsm train {source} DATASET`); clipseg also segments without."
            raise SettingsError("There is no predictor here.", where=source, hint=hint)
        member = factory.build(ZERO_SHOT, settings.choose_profile()[0]) if source == ZERO_SHOT else CLIPSeg(source)
        name, size = ZERO_SHOT, member.image_size
    if not prompted and member.encode_text([""]).numel():
        raise SettingsError("The model needs a prompt.", where=source, hint='name the target: `--prompt "a polyp"`.')
    return Predictor({name: member}, WeightedFusion.equal([name]), size=size)


def find_run(source: str) -> Path | None:
    """The folder of the run that `source` names, by its path or its name; None where there is none."""
    return next((run for run in (Path(source), settings.runs_folder() / source) if (run / BEST).is_file()), None)


def is_zero_shot(source: str) -> bool:
    """Whether `source` is "clipseg", a folder with a model's config.json, or looks like an id on the hub."""
    folder = Path(source)
    return (
        source == ZERO_SHOT
        or (folder / "config.json").is_file()
        or (not folder.exists() and bool(HUB_ID.fullmatch(source)))
    )
