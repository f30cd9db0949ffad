"""Which classes count and what they are called: the option `--labels`, for label maps and for the classes of annotation tools."""

import csv
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vlsm_helpers.errors import DataError, SettingsError, some_of

HEADERS = ("name", "class", "label", "noun", "prompt")  # of the second column of a CSV file
EXAMPLE = (
    "write --labels 1=polyp,2=instrument, colours as in red=polyp,'#00ff00'=instrument, or name a CSV or JSON file."
)


@dataclass(frozen=True)
class Classes:
    """The noun of each class, by what a file calls it: a value, a colour or a name. An empty noun: this class does not count."""

    nouns: dict[str, str]
    where: Path | None = None

    @property
    def names(self) -> list[str]:
        """The nouns that count, each once, in their order."""
        return [noun for noun in dict.fromkeys(self.nouns.values()) if noun]

    @classmethod
    def parse(cls, text: str) -> "Classes":
        """The classes of the option: VALUE=NAME,VALUE=NAME, or a CSV file (value, name) or a JSON file ({value: name}).

        A name alone stands for itself, and `VALUE=` leaves a class out. Raises SettingsError for anything else, and DataError
        for a file that cannot be read.
        """
        if "=" not in text and Path(text).suffix.lower() in (".csv", ".tsv", ".txt", ".json"):
            return cls._checked(_from_file(Path(text)), text, Path(text))
        found = []
        for word in filter(None, (part.strip() for part in text.split(","))):
            key, equals, noun = word.partition("=")
            found.append((key.strip(), noun.strip() if equals else key.strip()))
        return cls._checked(found, text)

    @classmethod
    def own(cls, labels: Iterable[str]) -> "Classes":
        """Classes that keep the names that a file gives them. Raises SettingsError for names that cannot be told apart."""
        pairs = [(label, label.strip()) for label in labels]
        return cls._checked(pairs, ", ".join(label for label, _ in pairs))

    @classmethod
    def _checked(cls, pairs: list[tuple[str, str]], text: str, where: Path | None = None) -> "Classes":
        nouns = dict(pairs)
        if not any(nouns.values()) or len(nouns) < len(pairs) or "" in nouns:
            twice = " more than once" * (len(nouns) < len(pairs))
            what = f"The labels {text!r} name no class, or a value{twice}."
            raise SettingsError(what, where=where, hint=EXAMPLE)
        slugs: dict[str, str] = {}
        for noun in filter(None, nouns.values()):
            if not (slug := slug_of(noun)) or slugs.setdefault(slug, noun) != noun:
                what = f"The class {noun!r} cannot be told from {slugs.get(slug, '')!r} in the names of files."
                raise SettingsError(what, where=where, hint="give names that differ in letters or digits.")
        return cls(nouns, where)

    def noun(self, label: str, where: str | Path) -> str:
        """The noun of a label, "" where it does not count. Raises DataError, naming `where`, for one that is not named."""
        if label not in self.nouns:
            known = some_of([f"{key}={noun}" for key, noun in self.nouns.items()])
            hint = f"--labels names {known}: add {label}=NOUN, or {label}= to leave it out."
            raise DataError(f"There is a class {label!r} that the labels do not name.", where=where, hint=hint)
        return self.nouns[label]


def slug_of(noun: str) -> str:
    """A class as it stands in the names of files, as CheXlocalize's findings do: "Pleural Effusion" is pleural_effusion.

    >>> slug_of("Non-neoplastic polyp")
    'non-neoplastic_polyp'
    """
    return re.sub(r"[^\w-]+", "_", noun.strip().lower()).strip("_")


def _from_file(path: Path) -> list[tuple[str, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".json":
            return [(str(key), _as_noun(noun)) for key, noun in json.loads(text).items()]
        rows = [row for row in csv.reader(text.splitlines(), delimiter=_delimiter(text)) if any(map(str.strip, row))]
        if rows and rows[0][1].strip().lower() in HEADERS:
            rows = rows[1:]
        return [(row[0].strip(), row[1].strip()) for row in rows]
    except (OSError, ValueError, AttributeError, IndexError, csv.Error) as error:
        hint = "write value,name in each line of a CSV file, or one JSON object {value: name}."
        raise DataError(f"The file of labels cannot be read ({error}).", where=path, hint=hint) from None


def _delimiter(text: str) -> str:
    first = text.partition("\n")[0]
    return max(",;\t", key=first.count)


def _as_noun(noun: object) -> str:
    if not isinstance(noun, str):
        raise ValueError(f"{noun!r} is no text")
    return noun.strip()
