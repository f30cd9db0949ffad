"""The datasets the course knows: the paper's public ones and the project's own phantoms, as facts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from vlsm_helpers import settings
from vlsm_helpers.errors import DataError, unknown


@dataclass(frozen=True)
class Dataset:
    """A dataset's card. `entries` counts the images of train, val and test; of several classes, pairs of image and class."""

    name: str
    title: str
    modality: str
    target: str  # what its masks show
    paper: str
    home: str
    terms: str
    account: bool  # whether the home page asks to sign up before it hands out the files
    entries: dict[str, int]
    variant_of: str = ""  # the dataset whose files, splits and account it shares

    @property
    def is_phantom(self) -> bool:
        """Whether the project draws this dataset itself."""
        return self.name.startswith("phantom_")


def _entries(train: int, val: int, test: int) -> dict[str, int]:
    return {"train": train, "val": val, "test": test}


_BKAI = Dataset(
    "bkai_polyp",
    "BKAI-IGH NeoPolyp",
    "colonoscopy",
    "polyp",
    paper="Lan et al., NeoUNet: Towards accurate colon polyp segmentation and neoplasm detection, ISVC 2021",
    home="https://www.kaggle.com/c/bkai-igh-neopolyp/",
    terms="Free for research and education under the rules of the challenge page; cite the paper.",
    account=True,
    entries=_entries(800, 100, 100),
)
_PUBLIC = [
    Dataset(
        "kvasir_polyp",
        "Kvasir-SEG",
        "colonoscopy",
        "polyp",
        paper="Jha et al., Kvasir-SEG: A Segmented Polyp Dataset, MMM 2020 (arXiv:1911.07069)",
        home="https://datasets.simula.no/kvasir-seg/",
        terms="Free for research and education; commercial use needs the authors' permission; cite the paper.",
        account=False,
        entries=_entries(800, 100, 100),
    ),
    Dataset(
        "clinicdb_polyp",
        "CVC-ClinicDB",
        "colonoscopy",
        "polyp",
        paper="Bernal et al., WM-DOVA maps for accurate polyp highlighting in colonoscopy, CMIG 43 (2015) 99-111",
        home="https://polyp.grand-challenge.org/CVCClinicDB/",
        terms="Research and education only, commercial use is forbidden; cite the paper.",
        account=True,
        entries=_entries(490, 61, 61),
    ),
    _BKAI,
    replace(
        _BKAI,
        name="bkai_polyp_classes",
        title="BKAI-IGH NeoPolyp in two classes",
        target="neoplastic or non-neoplastic polyp",
        entries=_entries(1600, 200, 200),
        variant_of="bkai_polyp",
    ),
    Dataset(
        "busi",
        "BUSI, Breast Ultrasound Images",
        "breast ultrasound",
        "tumor",
        paper="Al-Dhabyani et al., Dataset of breast ultrasound images, Data in Brief 28 (2020) 104863",
        home="https://scholar.cu.edu.eg/?q=afahmy/pages/dataset",
        terms="Published for research with citation of the paper; no separate licence file is known.",
        account=False,
        entries=_entries(624, 78, 78),
    ),
    Dataset(
        "chexlocalize",
        "CheXlocalize",
        "chest X-ray",
        "finding",
        paper="Saporta et al., Benchmarking saliency methods for chest X-ray interpretation, Nat. Mach. Intell. 4 (2022)",
        home="https://stanfordaimi.azurewebsites.net/datasets/23c56a0d-15de-405b-87c8-99c30138950c",
        terms="Stanford research use agreement: non-commercial research only, no sharing of the files.",
        account=True,
        entries=_entries(1279, 446, 452),
    ),
    Dataset(
        "isic",
        "ISIC 2016",
        "dermoscopy",
        "skin lesion",
        paper="Gutman et al., Skin lesion analysis toward melanoma detection (ISBI 2016), arXiv:1605.01397",
        home="https://challenge.isic-archive.com/data/#2016",
        terms="CC0 (public domain dedication) as the challenge's data page states; cite the paper.",
        account=False,
        entries=_entries(810, 90, 379),
    ),
]

_PHANTOMS = [
    Dataset(
        f"phantom_{key}",
        f"Phantoms: {modality}",
        modality,
        target,
        paper="drawn by this project from seeds",
        home="",
        terms="Made by this project, Apache-2.0; not real patients.",
        account=False,
        entries=_entries(200, 60, 100),
    )
    for key, modality, target in [
        ("endoscopy", "colonoscopy", "polyp"),
        ("ultrasound", "breast ultrasound", "tumor"),
        ("skin", "dermoscopy", "skin lesion"),
        ("xray", "chest X-ray", "finding"),
    ]
]

DATASETS = {card.name: card for card in _PHANTOMS + _PUBLIC}


def find(name: str, own: Sequence[str] = ()) -> Dataset:
    """The card of the dataset `name`. Raises DataError for one the course does not know, with the names that are nearest to it
    among the course's and `own`."""
    if name in DATASETS:
        return DATASETS[name]
    raise unknown("dataset", name, [*own, *DATASETS], error=DataError, listing="`vlsm data list` shows all:")


def availability(card: Dataset) -> str:
    """Whether the dataset is here: prepared, drawn when used (phantoms), or not."""
    if card.is_phantom:
        return "drawn when used"
    prepared = (settings.data_folder() / card.name / "anns").is_dir()
    return "prepared" if prepared else "no, needs an account" if card.account else "no"


def own_datasets() -> list[str]:
    """The names of datasets in the data folder that the course does not know, as `vlsm data adopt` makes them."""
    folder = settings.data_folder()
    found = [path.parent.name for path in folder.glob("*/anns")] if folder.is_dir() else []
    return sorted(set(found) - set(DATASETS))
