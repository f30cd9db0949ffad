"""What members of an ensemble have in common: a frozen encoder that several contain, and prompts, are encoded once."""

import json
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence

import torch
from torch import Tensor

from vlsm_helpers.models.segmenter import Segmenter
from vlsm_helpers.models.state import encoder_hash


class Encodings:
    """The logits of `members` for several prompts, with each text and each image encoded once per encoder.

    A member that is a `Segmenter` is called with features and text that were computed before. Members whose encoders are
    frozen and equal (weights, taps, input size) share them. Texts are encoded alone, once, when this is made. Any other
    callable is called with images and prompts.
    """

    def __init__(self, members: Mapping[str, Callable], prompts: Sequence[str]):
        self.members, self.prompts = members, prompts
        self._source = _sources(members)
        self._texts: dict[Hashable, dict[str, Tensor]] = {}
        with torch.no_grad():
            for name, key in self._source.items():
                if key not in self._texts:
                    self._texts[key] = {text: members[name].encode_text([text]) for text in prompts}

    def logits(self, images: Tensor) -> dict[str, list[Tensor]]:
        """By prompt, the logits (B, 1, H, W) of each member on the CPU, of images (B, 3, H, W) in [0, 1]."""
        features, found = {}, defaultdict(list)
        for name, member in self.members.items():
            key = self._source.get(name)
            if key is not None and key not in features:
                features[key] = member.encode_images(images)
            same = None
            for text in self.prompts:
                if key is None:
                    logits = member(images, [text] * len(images))
                elif same is not None:
                    logits = same
                else:
                    embedding = self._texts[key][text]
                    expanded = embedding.expand(len(images), *embedding.shape[1:])
                    logits = member(images, text, features=features[key], text=expanded)
                    same = logits if embedding.numel() == 0 else None  # a CNN: no prompt changes its answer
                found[text].append(logits.float().cpu())
        return found


def _sources(members: Mapping[str, Callable]) -> dict[str, Hashable]:
    """For each member that is a Segmenter, what its features and texts follow from: equal for those that may share them."""
    alike = defaultdict(list)
    for name, member in members.items():
        if isinstance(member, Segmenter):
            computed = [(type(source).__name__, source.encoding()) for source in member.feature_sources()]
            alike[json.dumps(computed, sort_keys=True)].append(name)
    keys = {}
    for kind, names in alike.items():
        for name in names:
            sources = members[name].feature_sources()
            # hashing takes a second per gigabyte, so only where there is something to compare
            shares = len(names) > 1 and all(source.encoders() and not source.trains_encoders for source in sources)
            keys[name] = (kind, tuple(map(encoder_hash, sources)) if shares else name)
    return keys
