"""Captions of phantoms: what is true of a picture, and sentences that say some of it.

A description maps an attribute (finding, colour, place ...) to all words for it that are true of the picture. A claim
picks one word of each of some attributes; `wording` makes a sentence of it. A claim is true of every picture whose
description has all its words, so a batch knows which of its captions are true of which of its pictures.
"""

import numpy as np

from vlsm_helpers.data import prompts

Description = dict[str, tuple[str, ...]]
Claim = dict[str, str]

MODALITIES = {
    "phantom_endoscopy": ("colonoscopy", "endoscopy"),
    "phantom_ultrasound": ("breast ultrasound", "ultrasound"),
    "phantom_skin": ("dermoscopy", "skin"),
    "phantom_xray": ("chest x-ray", "x-ray"),
}
FINDINGS = {
    "polyp": ("polyp", "growth", "bump"),
    "tumor": ("tumor", "tumour", "nodule", "lesion", "blob"),
    "skin lesion": ("skin lesion", "lesion", "mole", "spot", "patch"),
    "lung mass": ("lung mass", "mass", "shadow"),
    "consolidation": ("consolidation", "shadow"),
    "pleural effusion": ("pleural effusion", "effusion", "shadow"),
}
ABSENT = ("no finding", "normal")
TINY = 0.025  # of the image: what is smaller may be called tiny as well as small
NEAR = 0.04  # from the middle, as a share of the side: closer than this is neither left nor right
SIXTH = 1 / 6  # "slightly left" is within the middle third, "far left" within this of the edge
TALL = 1.25  # height by breadth of what is "taller than wide"
FULL = 0.4  # the share of captions that say all that a prompt of the course says
_ADJECTIVES = ("size", "colour", "shape", "kind")
_PROMPT = ("finding", "number", *_ADJECTIVES, "place", "modality")
WHERE = ("place", "side", "across", "down")
_ACROSS = ("far left", "slightly left", "slightly right", "far right")
_DOWN = ("very high", "slightly above", "slightly below", "very low")


def describe(name: str, image: np.ndarray, mask: np.ndarray, noun: str, kind: str) -> Description:
    """All that captions may say of a phantom of the dataset `name`; size, shape and colour are the largest part's.

    `image`: uint8 (H, W, 3); `mask`: bool (H, W), empty where nothing is found. Left and right are the picture's.
    """
    modality = {"modality": MODALITIES[name]}
    if not mask.any():
        return modality | {"finding": (*(f"no {word}" for word in FINDINGS[noun]), *ABSENT)}
    parts = prompts.components(mask)
    largest = parts[0]
    size = prompts.size_word(largest)
    said = {
        "finding": FINDINGS[noun],
        "number": (prompts.number_word(len(parts)),),
        "size": (size, "tiny") if largest.mean() < TINY else (size,),
        "colour": (prompts.colour_word(image, largest),),
        "shape": (prompts.shape_word(largest),),
        "place": tuple(dict.fromkeys(prompts.place_word(part) for part in parts)),
    }
    if kind not in FINDINGS:  # an X-ray's kind is its finding
        said["kind"] = (kind,)
    if len(parts) == 1:
        said |= _position(largest)
    return modality | said


def _position(mask: np.ndarray) -> Description:
    """Where one thing is, more finely than its ninth of the picture, and whether it stands or lies."""
    rows, columns = np.nonzero(mask)
    y, x = ((at.mean() + 0.5) / side - 0.5 for at, side in zip((rows, columns), mask.shape, strict=True))
    said = {"side": _sides(x, "left", "right") + _sides(y, "upper", "lower")}
    said["across"] = _steps(x, _ACROSS)
    said["down"] = _steps(y, _DOWN)
    ratio = (np.ptp(rows) + 1) / (np.ptp(columns) + 1)
    said["build"] = ("taller than wide",) if ratio > TALL else ("wider than tall",) if ratio < 1 / TALL else ()
    return {attribute: words for attribute, words in said.items() if words}


def _sides(offset: float, first: str, last: str) -> tuple[str, ...]:
    return () if abs(offset) < NEAR else (first if offset < 0 else last,)


def _steps(offset: float, words: tuple[str, str, str, str]) -> tuple[str, ...]:
    if NEAR <= abs(offset) < SIXTH:
        return (words[1] if offset < 0 else words[2],)
    if abs(offset) > 0.5 - SIXTH:
        return (words[0] if offset < 0 else words[3],)
    return ()


def interval(attribute: str, word: str) -> tuple[tuple[float, float], tuple[float, float]]:
    """Where a word for a place says that the centre of the finding is: (top, bottom), (left, right), shares of the sides.

    >>> interval("side", "left")
    ((0.0, 1.0), (0.0, 0.46))
    """
    low, high = (0.0, 0.5 - NEAR), (0.5 + NEAR, 1.0)
    steps = (0.0, SIXTH), (0.5 - SIXTH, 0.5 - NEAR), (0.5 + NEAR, 0.5 + SIXTH), (1 - SIXTH, 1.0)
    whole, thirds = (0.0, 1.0), ((0.0, 1 / 3), (1 / 3, 2 / 3), (2 / 3, 1.0))
    if attribute == "place":
        down, across = (
            thirds[0] if first in word else thirds[2] if last in word else thirds[1]
            for first, last in (("top", "bottom"), ("left", "right"))
        )
        return down, across
    if attribute == "side":
        return {"left": (whole, low), "right": (whole, high), "upper": (low, whole), "lower": (high, whole)}[word]
    return (whole, steps[_ACROSS.index(word)]) if attribute == "across" else (steps[_DOWN.index(word)], whole)


def mirrored(description: Description) -> Description:
    """What is true of the picture flipped left to right."""
    swap = {"left": "right", "right": "left"}
    return {
        attribute: tuple(" ".join(swap.get(word, word) for word in said.split()) for said in words)
        for attribute, words in description.items()
    }


def is_true(claim: Claim, description: Description) -> bool:
    """Whether the picture so described has all that the claim says."""
    return all(word in description.get(attribute, ()) for attribute, word in claim.items())


def full_claim(description: Description) -> Claim:
    """The true claim of the course's longest prompts: all that they say of an image, in the usual words."""
    return {key: description[key][0] for key in _PROMPT if key in description}


def claim_of(rng: np.random.Generator, description: Description) -> Claim:
    """A true claim: the full one at a rate of FULL; else the finding, mostly where it is, and up to four things more."""
    if rng.random() < FULL:
        return {key: _one(rng, description[key]) for key in full_claim(description)}
    names_place = rng.random() < 0.75
    where = [attribute for attribute in WHERE if attribute in description]
    others = [key for key in description if key not in (*WHERE, "finding")]
    chosen = ["finding", *rng.permutation(others)[: rng.integers(0, 5)].tolist()]
    if where and names_place:
        # The ninths are what the course's prompts say, so they come as often as all the rest.
        chosen.append("place" if rng.random() < 0.5 else str(rng.choice(where)))
    return {attribute: _one(rng, description[attribute]) for attribute in chosen}


def _one(rng: np.random.Generator, words: tuple[str, ...]) -> str:
    """The first word, the usual one, or now and then any of them."""
    return words[0] if rng.random() < 0.5 else str(rng.choice(words))


def vocabulary(descriptions: list[Description]) -> Description:
    """By attribute, all words that are said of any of the pictures, in alphabetical order."""
    keys = sorted({key for description in descriptions for key in description})
    return {key: tuple(sorted({word for said in descriptions for word in said.get(key, ())})) for key in keys}


def says_absent(finding: str) -> bool:
    """Whether a word for the finding says that there is none."""
    return finding in ABSENT or finding.startswith("no ")


def wording(rng: np.random.Generator, claim: Claim) -> str:
    """A sentence that says what `claim` says and nothing more; in many orders, short and long."""
    if says_absent(claim["finding"]):
        return _absence(rng, claim)
    adjectives = [claim[key] for key in _ADJECTIVES if key in claim]
    adjectives = rng.permutation(adjectives).tolist() if rng.random() < 0.3 else adjectives
    number = claim.get("number")
    noun = claim["finding"] if number in (None, "one") else _plural(claim["finding"])
    where, build = _where(rng, claim), claim.get("build", "")
    style = rng.integers(5)
    if style == 4 and claim.keys() <= {*_PROMPT}:
        return prompt_of(claim)
    if style == 0:  # a list, as in a report: "polyp, small, pink, top left"
        text = ", ".join(filter(None, [_counted(number, noun), *adjectives, build, where]))
    elif style == 1 and where:  # the place first: "top left: a small pink polyp"
        text = f"{where}: {_phrase(number, adjectives, noun)}" + (f", {build}" if build else "")
    else:
        text = _phrase(number, adjectives, noun) + "".join(f", {part}" for part in (build, where) if part)
        text = text.replace(f", {where}", f" {where}") if where and not build and rng.random() < 0.5 else text
    return _with_modality(rng, text, claim.get("modality"))


def prompt_of(claim: Claim) -> str:
    """The claim as a prompt of the course (p1 to p6) words it: "one small pink polyp, located in left of the image".

    A finer place than the ninth, and what is taller than wide, these prompts do not say.
    """
    number = claim.get("number")
    noun = claim["finding"] if number in (None, "one") else _plural(claim["finding"])
    text = " ".join([*filter(None, [number]), *(claim[key] for key in _ADJECTIVES if key in claim), noun])
    image = f"{claim['modality']} image" if "modality" in claim else "image"
    if "place" in claim:
        return f"{text}, located in {claim['place']} of the {image}"
    return f"{text}, {image}" if "modality" in claim else text


def _phrase(number: str | None, adjectives: list[str], noun: str) -> str:
    words = " ".join([*adjectives, noun])
    article = "an" if words[0] in "aeiou" else "a"
    return f"{number or article} {words}"


def _counted(number: str | None, noun: str) -> str:
    return f"{number} {noun}" if number else noun


def _where(rng: np.random.Generator, claim: Claim) -> str:
    """The first of the claim's words for a place, in one of several ways to say it."""
    frames = {
        "place": ("located in {} of the image", "in the {}", "at the {} of the picture", "{}"),
        "side": ("in the {} half", "in the {} half of the image"),
        "across": ("{}", "{} in the image"),
        "down": ("{} the middle", "{} the center"),
    }
    key = next((key for key in WHERE if key in claim), None)
    if key is None:
        return ""
    word, frame = claim[key], str(rng.choice(frames[key]))
    if key == "place" and rng.random() < 0.3:
        word = word.replace("top ", "upper ").replace("bottom ", "lower ").replace("center", "middle")
    if key == "down" and word.startswith("very"):
        frame = "{} in the image"
    if key == "across" and word.startswith("slightly"):
        frame = "{} of the middle"
    return frame.format(word)


def _absence(rng: np.random.Generator, claim: Claim) -> str:
    modality, finding = claim.get("modality"), claim["finding"]
    if finding == "normal":
        return f"normal {modality or 'image'}"
    frames = ("{}", "{} is seen", "there is {}")
    return _with_modality(rng, str(rng.choice(frames)).format(finding), modality)


def _with_modality(rng: np.random.Generator, text: str, modality: str | None) -> str:
    if modality is None:
        return text
    frames = ("{m}: {t}", "{t}, {m} image")
    if text.startswith(("a ", "an ", "no ")) and " is seen" not in text:
        frames += ("{m} showing {t}", "{m} image with {t}")
    return str(rng.choice(frames)).format(m=modality, t=text)


def _plural(noun: str) -> str:
    return noun + ("es" if noun.endswith("s") else "s")
