"""A trained ensemble, saved as one folder and used in three lines: `Predictor.load(folder)(image, "polyp")`.

The folder holds each member's checkpoint, fusion.json (weights and threshold, see `fusion.weighted`), predictor.json and a model
card. Frozen encoders are not in it: they come from the weights that the members' configurations name.
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from vlsm_helpers import settings
from vlsm_helpers.data.images import read_image, to_rgb
from vlsm_helpers.data.pixel_cache import square_image
from vlsm_helpers.errors import SettingsError
from vlsm_helpers.fusion.simple import entropy
from vlsm_helpers.fusion.weighted import WeightedFusion
from vlsm_helpers.io import atomic
from vlsm_helpers.metrics.calibration import disagreement
from vlsm_helpers.models import factory
from vlsm_helpers.models.segmenter import resize

FACTS, FUSION, CARD = "predictor.json", "fusion.json", "README.md"

Picture = Path | str | np.ndarray | Image.Image
Segmenter = Callable[[Tensor, Sequence[str]], Tensor]  # logits (B, 1, H, W) of images in [0, 1] and prompts


@dataclass(frozen=True)
class Segmentation:
    """What a predictor says of an image (H, W), at its own size."""

    mask: np.ndarray  # bool (H, W)
    probability: np.ndarray  # float32 (H, W), in [0, 1]
    uncertainty: np.ndarray  # float32 (H, W): the entropy of the probability in bits, 0 (sure) to 1 (a coin)
    disagreement: float  # of the members, 0 to 0.5: the spread of their probabilities where any marks something


class Predictor:
    """Members and the weights with which their logits are fused.

    `members`: by name, anything that gives logits (B, 1, S, S) for images (B, 3, S, S) in [0, 1] and prompts, so a network of
    your own, too. `size`: pixels a side of what they are shown. `prompt`: what they are told where nothing else is said.
    Raises SettingsError where the weights are of other members.

    >>> import numpy as np
    >>> import vlsm_helpers as vlsm
    >>> from vlsm_helpers.fusion.weighted import WeightedFusion
    >>> members = {name: vlsm.build(name, "tiny") for name in ("clipseg", "unet_d")}
    >>> predictor = vlsm.Predictor(members, WeightedFusion.equal(members), size=128, prompt="polyp")
    >>> found = predictor(np.zeros((48, 64, 3), np.uint8))
    >>> found.mask.shape, found.probability.dtype
    ((48, 64), dtype('float32'))
    """

    def __init__(self, members: Mapping[str, Segmenter], fusion: WeightedFusion, *, size: int, prompt: str = ""):
        if set(members) != set(fusion.weights):
            raise SettingsError(
                f"The weights are of {', '.join(fusion.weights)}, the members are {', '.join(members)}.",
                hint="give weights, 0 among them, for exactly these members.",
            )
        self.members = {name: members[name] for name in fusion.weights}
        self.fusion, self.size, self.prompt = fusion, size, prompt
        for member in self.members.values():
            if isinstance(member, nn.Module):
                member.to(settings.device()).eval()

    @torch.no_grad()
    def __call__(self, image: Picture, prompt: str | None = None) -> Segmentation:
        """Segment one image: a file, a Pillow image or pixels uint8 (H, W, 3) or (H, W). Raises DataError for a broken file."""
        pixels = as_pixels(image)
        square = torch.from_numpy(square_image(pixels, self.size).copy()).permute(2, 0, 1)[None].float() / 255
        square, prompts = square.to(settings.device()), [self.prompt if prompt is None else prompt]
        logits = [member(square, prompts).float().cpu() for member in self.members.values()]
        each = torch.stack([resize(one, pixels.shape[:2])[:, 0] for one in logits])  # (M, 1, H, W)
        probability = self.fusion(each)[0]
        return Segmentation(
            mask=(probability > self.fusion.threshold).numpy(),
            probability=probability.numpy(),
            uncertainty=entropy(torch.logit(probability.double(), eps=1e-12)).float().numpy(),
            disagreement=float(disagreement(each)[0]),
        )

    @classmethod
    def load(cls, folder: Path) -> "Predictor":
        """The predictor in `folder`, as `write_predictor` leaves it. Raises CourseErrors that name what is missing or broken."""
        folder = Path(folder)
        try:
            facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
            prompt, names = str(facts["prompt"]), [str(name) for name in facts["members"]]
            if not names:
                raise ValueError("it names no members")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SettingsError(
                f"There is no predictor here ({error}).", where=folder, hint="name a folder that `vlsm ensemble` wrote."
            ) from error
        checkpoints = {name: folder / f"{name}.safetensors" for name in names}
        for path in checkpoints.values():
            try:
                with safe_open(path, framework="pt"):
                    pass
            except (SafetensorError, OSError) as error:
                hint = (
                    "copy the ensemble's folder again, or save it anew: `vlsm ensemble`, which keeps what is trained."
                )
                raise SettingsError(f"A member is missing or broken ({error}).", where=path, hint=hint) from error
        return cls.of_checkpoints(checkpoints, WeightedFusion.load(folder / FUSION), prompt)

    @classmethod
    def of_checkpoints(cls, checkpoints: Mapping[str, Path], fusion: WeightedFusion, prompt: str) -> "Predictor":
        """The predictor of trained members, by name their best.safetensors. Raises CourseErrors as `factory.load` does, and
        SettingsError for members that were trained at different sizes."""
        loaded = {name: factory.load(path) for name, path in checkpoints.items()}
        sizes = {facts["image_size"] for _, facts in loaded.values()}
        if len(sizes) > 1:
            raise SettingsError(
                f"The members were trained at different sizes: {sorted(sizes)} pixels.", hint="train them alike."
            )
        return cls({name: member for name, (member, _) in loaded.items()}, fusion, size=sizes.pop(), prompt=prompt)


def write_predictor(
    folder: Path, checkpoints: Mapping[str, Path], fusion: WeightedFusion, *, prompt: str, card: str, facts: Mapping
) -> Path:
    """Write members' checkpoints and their fusion to a new `folder`, whole or not at all, for `Predictor.load`; the folder.

    `card`: the model card, Markdown. `facts`: whatever else should be known, JSON-able. Raises SettingsError where the folder
    is there already or cannot be written.
    """
    folder = Path(folder)
    if folder.exists():
        raise SettingsError("There is something here already.", where=folder, hint="name a new folder.")
    for name, path in checkpoints.items():
        if not Path(path).is_file():
            raise SettingsError(f"The checkpoint of {name} is missing.", where=path, hint="train it first.")
    with atomic.new_folder(folder) as fresh:
        for name, path in checkpoints.items():
            shutil.copyfile(path, fresh / f"{name}.safetensors")
        fusion.save(fresh / FUSION)
        written = {"members": list(checkpoints), "prompt": prompt, "versions": settings.versions()} | dict(facts)
        atomic.write_text(fresh / FACTS, atomic.as_json(written, indent=1))
        atomic.write_text(fresh / CARD, card)
    return folder


def as_pixels(image: Picture) -> np.ndarray:
    """Pixels uint8 (H, W, 3) of a file, a Pillow image, or an array. Raises DataError for a file, TypeError for an array."""
    if isinstance(image, (str, Path)):
        return read_image(Path(image))
    if isinstance(image, Image.Image):
        return to_rgb(image, "the image")
    pixels = np.asarray(image)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise TypeError(f"pixels must be uint8 (H, W, 3) or (H, W), not {pixels.dtype} {pixels.shape}")
    return pixels
