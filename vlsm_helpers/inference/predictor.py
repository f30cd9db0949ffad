"""A trained ensemble, saved as one folder and used in three lines: `Predictor.load(folder)(image, "polyp")`.

The folder holds each member's checkpoint, fusion.json (weights and threshold, see `fusion.weighted`), predictor.json and a model
card. Frozen encoders are not in it: they come from the weights that the members' configurations name.
"""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from vlsm_helpers import settings
from vlsm_helpers.data.formats import AS_FILED, Reading
from vlsm_helpers.data.frames import Frame
from vlsm_helpers.data.images import as_rgb, read_image, to_rgb
from vlsm_helpers.data.pixel_cache import square_image
from vlsm_helpers.data.samples import source_facts
from vlsm_helpers.errors import DataError, SettingsError
from vlsm_helpers.fusion.weighted import WeightedFusion
from vlsm_helpers.inference.sharing import Encodings
from vlsm_helpers.io import atomic
from vlsm_helpers.io.ahead import ahead
from vlsm_helpers.metrics.calibration import binary_entropy, spread
from vlsm_helpers.models import factory
from vlsm_helpers.models.segmenter import resize

FACTS, FUSION, CARD = "predictor.json", "fusion.json", "README.md"
BATCH = 4  # images per pass through the networks: more are hardly faster, and as many decoded ones are held
STRIP = 1 << 16  # pixels that are fused at a time: few enough for the processor's cache

Picture = Path | str | np.ndarray | Image.Image | Frame
Segmenter = Callable[[Tensor, Sequence[str]], Tensor]  # logits (B, 1, H, W) of images in [0, 1] and prompts


@dataclass(frozen=True)
class Segmentation:
    """What a predictor finds in an image (H, W), at its own size."""

    mask: np.ndarray  # bool (H, W)
    probability: np.ndarray  # float32 (H, W), in [0, 1]
    uncertainty: np.ndarray  # float32 (H, W): the entropy of the probability in bits, 0 (certain) to 1 (chance level)
    disagreement: float  # of the members, 0 to 0.5: the spread of their probabilities where any predicts foreground


def label_map(found: Mapping[str, Segmentation]) -> np.ndarray:
    """One map, uint8 (H, W), of the masks of several prompts: 0 is background, 1 the first prompt, 2 the second.

    Where masks overlap, the prompt with the highest probability wins, and the first of equal ones. Raises ValueError for more
    than 255 prompts.
    """
    if len(found) > 255:
        raise ValueError(f"a label map holds 255 prompts at most, not {len(found)}")
    inside = np.stack([np.where(one.mask, one.probability, -1) for one in found.values()])
    return np.where(inside.max(0) < 0, 0, 1 + inside.argmax(0)).astype(np.uint8)


class Predictor:
    """Members and the weights with which their logits are fused.

    `members`: by name, anything that gives logits (B, 1, S, S) for images (B, 3, S, S) in [0, 1] and prompts, so a network of
    your own, too. `size`: pixels per side of the images that members receive. `prompt`: the one that is used where no other is
    given. `bit_depth`: bits per channel of the images that the members were trained on, where they are more than 8; new images
    of 16 bits are scaled by it (see `read_image`). `reading`: how DICOM files and volumes became their pictures; used for files
    that hold such. `trained_on`: the prompts of the training images, where they are known. Raises SettingsError for weights of
    other members.

    >>> import numpy as np
    >>> import vlsm_helpers as vlsm
    >>> from vlsm_helpers.fusion.weighted import WeightedFusion
    >>> members = {name: vlsm.build(name, "tiny") for name in ("clipseg", "unet_d")}
    >>> predictor = vlsm.Predictor(members, WeightedFusion.equal(members), size=128, prompt="polyp")
    >>> found = predictor(np.zeros((48, 64, 3), np.uint8))
    >>> found.mask.shape, found.probability.dtype
    ((48, 64), dtype('float32'))
    >>> images = [np.zeros((48, 64, 3), np.uint8), np.zeros((32, 32, 3), np.uint8)]
    >>> both = predictor(images, ["polyp", "instrument"])
    >>> len(both), list(both[1]), both[1]["polyp"].mask.shape
    (2, ['polyp', 'instrument'], (32, 32))
    """

    def __init__(
        self,
        members: Mapping[str, Segmenter],
        fusion: WeightedFusion,
        *,
        size: int,
        prompt: str = "",
        bit_depth: int | None = None,
        reading: Reading = AS_FILED,
        trained_on: Sequence[str] = (),
    ):
        if set(members) != set(fusion.weights):
            raise SettingsError(
                f"The weights are of {', '.join(fusion.weights)}, the members are {', '.join(members)}.",
                hint="give weights, 0 among them, for exactly these members.",
            )
        self.members = {name: members[name] for name in fusion.weights}
        self.fusion, self.size, self.prompt = fusion, size, prompt
        self.bit_depth, self.reading = bit_depth if bit_depth and bit_depth > 8 else None, reading
        self.trained_on = tuple(trained_on)
        for member in self.members.values():
            if isinstance(member, nn.Module):
                member.to(settings.device()).eval()

    def __call__(
        self, image: Picture | Sequence[Picture], prompt: str | Sequence[str] | None = None
    ) -> Segmentation | dict[str, Segmentation] | list[Segmentation] | list[dict[str, Segmentation]]:
        """Segment an image: a file of one picture, a frame, a Pillow image or pixels uint8 (H, W, 3) or (H, W).

        A list of images gives a list, computed in batches; a list of prompts gives a dict by prompt. Raises DataError for a
        broken file, ValueError for a prompt that is given twice or for no prompt.
        """
        several = isinstance(image, (list, tuple))
        found = []
        for one in self.stream(image if several else [image], prompt):
            if isinstance(one, DataError):
                raise one
            found.append(next(iter(one[1].values())) if prompt is None or isinstance(prompt, str) else one[1])
        return found if several else found[0]

    def stream(
        self, images: Iterable[Picture], prompt: str | Sequence[str] | None = None
    ) -> Iterator[tuple[np.ndarray, dict[str, Segmentation]] | DataError]:
        """For each image its pixels, uint8 (H, W, 3), and what each prompt finds; the DataError of one that cannot be read.

        Images are decoded in a thread ahead of the networks; two batches of them are held at most.
        """
        prompts = (
            [self.prompt if prompt is None else prompt] if prompt is None or isinstance(prompt, str) else [*prompt]
        )
        if not prompts or len(set(prompts)) < len(prompts):
            raise ValueError(f"prompts must be at least one and differ, not {prompts}")
        encodings = Encodings(self.members, prompts)
        decoded = ahead(self._decode, images, depth=BATCH)
        while batch := list(islice(decoded, BATCH)):
            squares = [one[1] for one in batch if not isinstance(one, DataError)]
            logits = iter(self._logits(squares, encodings) if squares else ())
            for number, one in enumerate(batch):
                batch[number] = None  # its pixels are not held while later images are fused
                if isinstance(one, DataError):
                    yield one
                else:
                    each = next(logits)
                    yield one[0], {text: self._fuse(each[text], one[0].shape[:2]) for text in prompts}

    def _decode(self, image: Picture) -> tuple[np.ndarray, np.ndarray] | DataError:
        """An image's pixels, and those that members receive, uint8 (S, S, 3)."""
        try:
            pixels = as_pixels(image, self.bit_depth)
        except DataError as error:
            return error
        return pixels, square_image(pixels, self.size)

    @torch.no_grad()
    def _logits(self, squares: Sequence[np.ndarray], encodings: "Encodings") -> list[dict[str, Tensor]]:
        """For each image, by prompt, the members' logits (M, S, S) on the CPU."""
        images = torch.from_numpy(np.stack(squares)).to(settings.device()).permute(0, 3, 1, 2).float() / 255
        by_prompt = {text: torch.stack(each, 1)[:, :, 0] for text, each in encodings.logits(images).items()}
        return [{text: logits[number] for text, logits in by_prompt.items()} for number in range(len(squares))]

    @torch.no_grad()
    def _fuse(self, logits: Tensor, size: tuple[int, int]) -> Segmentation:
        """The members' logits (M, S, S) resized to `size`, fused, with what they leave in doubt; strip by strip."""
        each = resize(logits, size)[:, None]
        probability, uncertainty, spreads = torch.empty(size), torch.empty(size), []
        rows = max(1, STRIP // size[1])
        for first in range(0, size[0], rows):
            strip = slice(first, first + rows)
            probability[strip] = self.fusion(each[:, :, strip])[0]
            uncertainty[strip] = binary_entropy(probability[strip])
            spreads.append(spread(each[:, :, strip]))
        total, counted = (sum(values) for values in zip(*spreads, strict=True))
        return Segmentation(
            mask=(probability > self.fusion.threshold).numpy(),
            probability=probability.numpy(),
            uncertainty=uncertainty.numpy(),
            disagreement=float(total / max(counted, 1)),
        )

    @classmethod
    def load(cls, folder: Path) -> "Predictor":
        """The predictor in `folder`, as `write_predictor` leaves it. Raises CourseErrors that name what is missing or broken."""
        folder = Path(folder)
        try:
            facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
            prompt, names = str(facts["prompt"]), [str(name) for name in facts["members"]]
            source = source_facts(facts) | {"trained_on": tuple(map(str, facts.get("prompts") or [prompt]))}
            if not names:
                raise ValueError("it names no members")
        except (OSError, ValueError, LookupError, TypeError) as error:
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
        return cls.of_checkpoints(checkpoints, WeightedFusion.load(folder / FUSION), prompt, **source)

    @classmethod
    def of_checkpoints(
        cls, checkpoints: Mapping[str, Path], fusion: WeightedFusion, prompt: str, **source
    ) -> "Predictor":
        """The predictor of trained members, by name their best.safetensors; `source`: bit_depth, reading, trained_on.

        Raises CourseErrors as `factory.load` does, and SettingsError for members that were trained at different sizes."""
        loaded = {name: factory.load(path) for name, path in checkpoints.items()}
        sizes = {facts["image_size"] for _, facts in loaded.values()}
        if len(sizes) > 1:
            raise SettingsError(
                f"The members were trained at different sizes: {sorted(sizes)} pixels.", hint="train them alike."
            )
        return cls(
            {name: member for name, (member, _) in loaded.items()},
            fusion,
            size=sizes.pop(),
            prompt=prompt,
            **source,
        )


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


def as_pixels(image: Picture, depth: int | None = None) -> np.ndarray:
    """Pixels uint8 (H, W, 3) of a file, a Pillow image, or an array; those of more than 8 bits are scaled by `depth` bits.

    Raises DataError for a file, TypeError for an array.
    """
    if isinstance(image, (str, Path)):
        return read_image(Path(image), depth)
    if isinstance(image, Frame):
        return as_rgb(image.decode(), image.source, depth)
    if isinstance(image, Image.Image):
        return to_rgb(image, "the image", depth)
    pixels = np.asarray(image)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise TypeError(f"pixels must be uint8 (H, W, 3) or (H, W), not {pixels.dtype} {pixels.shape}")
    return pixels
