"""Published weights: where they are kept and which files they consist of. One table, free of torch.

What stands here was seen on the hub, see docs/outside.md. Weights of another model are one more entry.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

CLIPSEG_WEIGHTS = "CIDAS/clipseg-rd64-refined"
BIOMEDCLIP_WEIGHTS = "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224"
CLIP_RN50_WEIGHTS = "timm/resnet50_clip.openai"
RESNET_WEIGHTS = "smp-hub/resnet50.imagenet"
EFFICIENTNET_WEIGHTS = "timm/tf_efficientnet_lite0.in1k"
TINY_WEIGHTS = "tiny"  # the miniatures that the package ships


@dataclass(frozen=True)
class Pretrained:
    """Pretrained weights of one kind, and the files that hold them."""

    hub_id: str  # of those published
    name: str  # of their folder in VLSM_WEIGHTS
    megabytes: int  # of the published file of tensors
    tensors: tuple[str, ...]  # files that may hold the tensors; of those that are there, the first is read
    required: tuple[tuple[str, ...], ...]  # of each group, one file is needed
    optional: tuple[str, ...] = ()
    shipped: bool = False  # whether the package holds a miniature

    def tensors_among(self, names: Collection[str]) -> str | None:
        """The file among `names` that holds the tensors, if any does."""
        return next((name for name in self.tensors if name in names), None)

    def missing_among(self, names: Collection[str]) -> list[str]:
        """What `names` lack; "a or b" where either would do."""
        groups = [self.tensors, *self.required]
        return [" or ".join(group) for group in groups if not any(name in names for name in group)]

    def others_among(self, names: Collection[str]) -> list[str]:
        """The files among `names` that are used besides the tensors."""
        known = [*(name for group in self.required for name in group), *self.optional]
        return [name for name in known if name in names]

    def missing_in(self, folder: Path) -> list[str]:
        """What `folder` lacks, as `missing_among`."""
        return self.missing_among(_files(folder))

    def tensors_in(self, folder: Path) -> Path:
        """The file in `folder` that holds the tensors. Raises FileNotFoundError where none does."""
        name = self.tensors_among(_files(folder))
        if name is None:
            raise FileNotFoundError(f"{folder} holds none of {', '.join(self.tensors)}")
        return folder / name


def _files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_file()} if folder.is_dir() else set()


TRANSFORMERS_TENSORS = ("model.safetensors", "pytorch_model.bin")
OPEN_CLIP_TENSORS = (  # in the order in which open_clip 3.3 looks for them in a folder
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.pth",
    "model.pth",
)
CLIPSEG = Pretrained(
    CLIPSEG_WEIGHTS,
    name="clipseg",
    megabytes=603,
    tensors=TRANSFORMERS_TENSORS,
    required=(
        ("config.json",),
        ("preprocessor_config.json", "processor_config.json"),
        ("tokenizer.json", "vocab.json"),
    ),
    optional=("merges.txt", "tokenizer_config.json", "special_tokens_map.json"),
    shipped=True,
)
BIOMEDCLIP = Pretrained(
    BIOMEDCLIP_WEIGHTS,
    name="biomedclip",
    megabytes=784,
    tensors=OPEN_CLIP_TENSORS,
    required=(("open_clip_config.json",), ("tokenizer.json", "vocab.txt")),
    optional=("config.json", "tokenizer_config.json", "special_tokens_map.json"),
    shipped=True,
)
# CLIP with a ResNet-50, for CRIS; its open_clip_config.json had no "quick_gelu" at first, so QuickGELU is set in code.
CLIP_RN50 = Pretrained(
    CLIP_RN50_WEIGHTS,
    name="clip_rn50",
    megabytes=408,
    tensors=OPEN_CLIP_TENSORS,
    required=(("open_clip_config.json",), ("tokenizer.json", "vocab.json")),
    optional=("merges.txt", "tokenizer_config.json", "special_tokens_map.json"),
)
# The encoder of the baseline U-Net; the course needs it in the table of `vlsm reproduce` only.
RESNET = Pretrained(
    RESNET_WEIGHTS, name="resnet50", megabytes=102, tensors=TRANSFORMERS_TENSORS, required=(("config.json",),)
)
# The encoder of the light CNN; a Python package carries the same weights, see vlsm_helpers.models.imagenet.
EFFICIENTNET = Pretrained(
    EFFICIENTNET_WEIGHTS,
    name="efficientnet_lite0",
    megabytes=19,
    tensors=TRANSFORMERS_TENSORS,
    required=(("config.json",),),
)
PRETRAINED = {kind.hub_id: kind for kind in (CLIPSEG, BIOMEDCLIP, CLIP_RN50, RESNET, EFFICIENTNET)}
