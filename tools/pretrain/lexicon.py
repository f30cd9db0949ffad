"""Descriptions and claims as rows of 0 and 1, one column per word: a product says which captions are true of which images."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from torch import Tensor

from tools.pretrain.captions import WHERE, Claim, Description, interval, mirrored, vocabulary

Rows = np.ndarray | Tensor


class Lexicon:
    """Every word that is true of some of the images `described`, or of a mirrored one, by attribute.

    One more column, the last one, stands for all other words; they are true of no image.
    """

    def __init__(self, described: Sequence[Description]):
        self.vocabulary = vocabulary([*described, *map(mirrored, described)])
        self.words = [(key, word) for key, words in self.vocabulary.items() for word in words]
        self._columns = {entry: number for number, entry in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words) + 1

    def columns(self, attribute: str) -> slice:
        """Where the words of an attribute are, in the order of the vocabulary."""
        own = [number for number, (key, _) in enumerate(self.words) if key == attribute]
        return slice(own[0], own[-1] + 1)

    def shown(self, descriptions: Sequence[Description]) -> np.ndarray:
        """float32 (N, columns): what is true of each image; words that are not in the lexicon are passed over."""
        return self._rows(descriptions)

    def said(self, claims: Sequence[Claim]) -> np.ndarray:
        """float32 (N, columns): what each caption says; the last column counts its words that are not in the lexicon."""
        return self._rows([{key: (word,) for key, word in claim.items()} for claim in claims], unknown=1.0)

    def mirrored(self, shown: np.ndarray) -> np.ndarray:
        """What is true of the images flipped left to right."""
        other = [self._columns[_flipped(entry)] for entry in self.words]
        return shown[:, [*other, len(self.words)]]

    def regions(self, side: int) -> dict[str, np.ndarray]:
        """By attribute, bool (words, side * side): the patches of a grid that overlap the place which a word names."""
        edges = np.arange(side + 1) / side
        found = {}
        for key in (key for key in WHERE if key in self.vocabulary):
            spans = [interval(key, word) for word in self.vocabulary[key]]
            found[key] = np.array(
                [np.outer(*((edges[:-1] < end) & (edges[1:] > start) for start, end in span)).ravel() for span in spans]
            )
        return found

    def _rows(self, described: Sequence[Mapping[str, Iterable[str]]], unknown: float = 0.0) -> np.ndarray:
        rows = np.zeros((len(described), len(self)), np.float32)
        for row, description in zip(rows, described, strict=True):
            for key, words in description.items():
                for word in words:
                    number = self._columns.get((key, word))
                    if number is None:
                        row[-1] += unknown
                    else:
                        row[number] = 1
        return rows


def _flipped(entry: tuple[str, str]) -> tuple[str, str]:
    key, word = entry
    return key, mirrored({key: (word,)})[key][0]


def agree(shown: Rows, said: Rows) -> Rows:
    """bool (B, C): whether caption c is true of image b, that is, all that it says is shown."""
    return shown @ said.T >= said.sum(1)
