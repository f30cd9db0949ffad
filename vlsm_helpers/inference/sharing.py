"""What members of an ensemble have in common: a frozen encoder that several contain, and prompts, are encoded once."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from vlsm_helpers.models.segmenter import Features, Segmenter
from vlsm_helpers.models.state import encoder_hash


class Encodings:
    """The logits of `members` for several prompts, with each text and each image encoded once per encoder.

    A member that is a `Segmenter` is called with features and text that were computed before. Encoders that are frozen and equal
    (weights, taps, input size) run once for all members that contain them. Texts are encoded alone, once, when this is made.
    Any other callable gets one image at a time: whether it predicts the same of an image in a batch is not known of it.
    """

    def __init__(self, members: Mapping[str, Callable], prompts: Sequence[str]):
        self.members, self.prompts = members, prompts
        self._sources = _sources(members)
        self._texts: dict[Hashable, dict[str, Tensor]] = {}
        with torch.no_grad():
            for name, sources in self._sources.items():
                if (key := tuple(sources)) not in self._texts:
                    self._texts[key] = {text: members[name].encode_text([text]) for text in prompts}

    def logits(self, images: Tensor) -> dict[str, list[Tensor]]:
        """By prompt, the logits (B, 1, H, W) of each member on the CPU, of images (B, 3, H, W) in [0, 1]."""
        encoded, found = {}, defaultdict(list)
        for name, member in self.members.items():
            for text, logits in self._of_member(name, member, images, encoded):
                found[text].append(logits.float().cpu())
        return found

    def _of_member(
        self, name: str, member: Callable, images: Tensor, encoded: dict[Hashable, Features]
    ) -> Iterator[tuple[str, Tensor]]:
        """Each prompt with the member's logits; `encoded` holds what encoders have computed of these images."""
        if name not in self._sources:
            for text in self.prompts:
                yield text, torch.cat([member(image, [text]) for image in images.split(1)])
            return
        for key, source in self._sources[name].items():
            if key not in encoded:
                encoded[key] = source.encode_images(images)
        features = sum((encoded[key] for key in self._sources[name]), ())
        logits = None
        for text, embedding in self._texts[tuple(self._sources[name])].items():
            if logits is None or embedding.numel():  # no prompt changes what a CNN predicts
                expanded = embedding.expand(len(images), *embedding.shape[1:])
                logits = member(images, text, features=features, text=expanded)
            yield text, logits


def _sources(members: Mapping[str, Callable]) -> dict[str, dict[Hashable, Segmenter]]:
    """Of each member that is a Segmenter the parts that compute its features, by what these follow from."""
    sources = {name: member.feature_sources() for name, member in members.items() if isinstance(member, Segmenter)}
    counts = Counter(_kind(source) for parts in sources.values() for source in parts)

    def key(source: Segmenter) -> Hashable:
        # hashing takes a second per gigabyte, so only where there is something to compare
        shares = counts[_kind(source)] > 1 and source.encoders() and not source.trains_encoders
        return _kind(source), encoder_hash(source) if shares else id(source)

    return {name: {key(source): source for source in parts} for name, parts in sources.items()}


def _kind(source: Segmenter) -> tuple[str, str]:
    """What two encoders must have in common before their weights are worth comparing."""
    return type(source).__name__, json.dumps(source.encoding(), sort_keys=True)
