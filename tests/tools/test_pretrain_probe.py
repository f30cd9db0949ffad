"""What the probes of a BiomedCLIP measure, on models that know everything, nothing, or one thing."""

import numpy as np
import pytest
import torch

from tools.pretrain import probe
from tools.pretrain.captions import MODALITIES

ENDOSCOPY, ULTRASOUND = "phantom_endoscopy", "phantom_ultrasound"
PLACES = ("left", "right", "top", "center")


def polyp(place, colour="pink"):
    words = {"modality": ("colonoscopy",), "finding": ("polyp", "bump"), "number": ("one",), "size": ("small",)}
    return words | {"colour": (colour,), "shape": ("round",), "kind": ("flat",), "place": (place,)}


def tumor(place):
    return polyp(place, "grey") | {"modality": ("breast ultrasound",), "finding": ("tumor",), "kind": ("benign",)}


NORMAL = {"modality": ("breast ultrasound",), "finding": ("no tumor", "no finding")}


class Telling:
    """An embedder whose captions have one axis per one of `words` that they name; images come embedded in the same way."""

    def __init__(self, *words):
        self.words = words

    def text(self, captions):
        rows = torch.tensor(
            [[float(f" {word} " in f" {caption.replace(',', ' ')} ") for word in self.words] for caption in captions]
        )
        return torch.nn.functional.normalize(rows + 1e-6, dim=1)

    def embedded(self, name, descriptions):
        said = [" ".join(word for words in description.values() for word in words) for description in descriptions]
        return probe.Embedded(name, self.text(said), descriptions)


def test_retrieval_by_a_model_that_knows_the_place_alone():
    images = [polyp(place, colour) for place in PLACES for colour in ("pink", "red")] * 8
    knowing = Telling(*PLACES)
    found = probe.retrieval(knowing, [knowing.embedded(ENDOSCOPY, images)])
    assert found["mixed"] == found[ENDOSCOPY]  # one modality
    assert found[ENDOSCOPY]["chance"] == pytest.approx(1 / 8)
    assert found[ENDOSCOPY]["top5"] >= found[ENDOSCOPY]["top1"] >= 1 / 8


def test_retrieval_by_a_model_that_knows_all_is_perfect_in_and_across_modalities():
    polyps, tumors = [polyp(place) for place in PLACES] * 16, [tumor(place) for place in PLACES] * 16
    knowing = Telling("polyp", "tumor", *PLACES)
    embedded = [knowing.embedded(ENDOSCOPY, polyps), knowing.embedded(ULTRASOUND, tumors)]
    found = probe.retrieval(knowing, embedded)
    assert [found[name]["top1"] for name in ("mixed", ENDOSCOPY, ULTRASOUND)] == [1, 1, 1]
    assert found["mixed"]["chance"] == pytest.approx(1 / 8)
    assert found[ULTRASOUND]["chance"] == pytest.approx(1 / 4)
    blind = probe.retrieval(
        Telling("zebra"), [Telling("zebra").embedded(own.name, own.descriptions) for own in embedded]
    )
    assert blind["mixed"]["top1"] < 0.3


def test_the_nearest_caption_answers_what_the_model_knows():
    knowing = Telling("left", "right", "no")
    embedded = knowing.embedded(ULTRASOUND, [tumor("left"), tumor("left"), tumor("right"), NORMAL])
    scores = probe.nearest_caption(knowing, [embedded])
    assert scores["place"] == {
        "accuracy": 1.0,
        "usual": pytest.approx(2 / 3),
    }  # the image without a target has no place
    assert scores["absence"] == {"accuracy": 1.0, "usual": 0.75}
    assert scores["size"]["usual"] == 1.0


def test_two_targets_have_no_one_place():
    two = polyp("left") | {"place": ("left", "right"), "number": ("two",)}
    images, answers, captions = probe.asked([Telling("left").embedded(ENDOSCOPY, [two, polyp("top")])], "place")[0]
    assert (len(images), answers, list(captions)) == (1, ["top"], ["top"])


def test_an_xrays_kind_is_its_finding():
    said = polyp("left") | {"modality": ("chest x-ray",), "finding": ("lung mass", "mass", "shadow")}
    del said["kind"]
    (_, answers, captions), *_ = probe.asked([Telling("mass").embedded("phantom_xray", [said])], "kind")
    assert (answers, captions) == (["lung mass"], {"lung mass": "a lung mass"})


def test_the_modality_is_asked_across_all():
    embedded = [Telling("polyp").embedded(ENDOSCOPY, [polyp("left")]), Telling("tumor").embedded(ULTRASOUND, [NORMAL])]
    ((_, answers, captions),) = probe.asked(embedded, "modality")
    assert answers == [MODALITIES[ENDOSCOPY][0], MODALITIES[ULTRASOUND][0]]
    assert list(captions) == answers


def test_the_linear_probe_finds_what_is_linear_and_guesses_what_is_not_there():
    knowing, rng = Telling("left", "right", "top", "center"), np.random.default_rng(0)
    images = [polyp(place, str(rng.choice(["pink", "red"]))) for place in PLACES for _ in range(30)]
    training, held_out = knowing.embedded(ENDOSCOPY, images[::2]), knowing.embedded(ENDOSCOPY, images[1::2])
    scores = probe.linear([training], [held_out])
    assert scores["place"]["accuracy"] == 1.0
    assert scores["colour"]["accuracy"] < 0.8
