"""`prepare`: from what a dataset's authors publish to the layout of `samples.py`, with the benchmark's splits."""

import json
import shutil
from importlib import resources
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

import numpy as np
import pooch
from PIL import Image

from vlsm_helpers.data import registry
from vlsm_helpers.data.images import read_image
from vlsm_helpers.data.public import convert
from vlsm_helpers.data.public.download import archives_in, fetch, unpack
from vlsm_helpers.data.samples import SPLITS, dataset_folder, read_entries
from vlsm_helpers.errors import DataError, some_of
from vlsm_helpers.io import atomic
from vlsm_helpers.io.progress import tqdm
from vlsm_helpers.settings import cache_folder, data_folder, writable

# Where the MedVLSM benchmark keeps its splits and prompts, and their sha256.
BENCHMARK = json.loads(resources.files("vlsm_helpers.data").joinpath("medvlsm_splits.json").read_text(encoding="utf-8"))

_ISIC = "https://isic-challenge-data.s3.amazonaws.com/2016/ISBI2016_ISIC_Part1"
ARCHIVES = {  # what can be fetched without an account; their authors publish no checksums
    "kvasir_polyp": ["https://datasets.simula.no/downloads/kvasir-seg.zip"],
    "busi": ["https://scholar.cu.edu.eg/Dataset_BUSI.zip"],
    "isic": [
        f"{_ISIC}_{part}.zip" for part in ("Training_Data", "Training_GroundTruth", "Test_Data", "Test_GroundTruth")
    ],
}
ERRANDS = {  # what to fetch by hand where an account is needed
    "clinicdb_polyp": "sign up there, download CVC-ClinicDB.rar and unpack it",
    "bkai_polyp": "sign up there, join the competition and download bkai-igh-neopolyp.zip from its Data page",
    "chexlocalize": "sign up there, accept the agreement, download the folders CheXlocalize and CheXpert into one",
}

UNTOUCHED = {".jpg", ".jpeg", ".png"}  # images of these kinds are copied as they are, others become PNG


def prepare(name: str, source: Path | None = None, splits: Path | None = None, folder: Path | None = None) -> Path:
    """Lay out the public dataset `name` as FOLDER/NAME/{images,masks,anns}; return that folder (phantoms are drawn).

    `source` is what the authors publish: an archive, the folder it unpacks to, or a folder with all their archives;
    without it they are fetched. `splits` is a local copy of the MedVLSM benchmark's splits, SPLITS/NAME/anns/*.json or
    SPLITS/*.json, by default fetched; a copy that is not the benchmark's own is used with a note. `folder` holds
    the datasets, by default the one VLSM_DATA names. Images keep their bytes (JPEG, PNG) or become PNG; masks become
    PNG of 0 and 255 at their original size; only files that the splits name are kept.

    A dataset that was there before is replaced at the very end, so it survives any failure, a kill, too. Raises DataError for a
    dataset that needs an account and has no `source`, a failing download, a bad archive, an empty split, and missing or
    broken files; SettingsError for an unwritable folder; BusyError where another process prepares the dataset.
    """
    card = registry.find(name)
    if card.is_phantom:
        return dataset_folder(name)
    _refuse_source(card, source)
    folder = writable(folder or data_folder())
    print(f"{card.title}. {card.terms}")
    with (
        atomic.owned(folder / f".{name}.lock", "prepares this dataset"),
        TemporaryDirectory(prefix=f".{name}-", dir=folder) as work,
    ):
        atomic.restore(folder / name)
        fresh = Path(work) / name
        entries = _copy_annotations(name, splits, fresh / "anns")
        published = convert.find(name, _unpacked(name, source, Path(work) / "published"), source)
        _refuse_missing(entries, published, source)
        _write_images(entries, published, fresh / "images")
        _write_masks(entries, published, fresh / "masks")
        atomic.swap(fresh, folder / name)
    print(f"Prepared {len(entries)} samples of {card.title} in {folder / name}")
    return folder / name


def _refuse_source(card: registry.Dataset, source: Path | None) -> None:
    command = f"`vlsm data prepare {card.name} --from PATH`"
    if source is None and card.account:
        hint = f"{ERRANDS[card.variant_of or card.name]}; then run {command} with the path of what you got."
        raise DataError(f"{card.title} is only handed out to those who sign up.", where=card.home, hint=hint)
    if source is not None and not source.exists():
        raise DataError("There is no such file or folder.", where=source, hint=f"give the right path: {command}.")


def _copy_annotations(name: str, splits: Path | None, folder: Path) -> list[dict]:
    """Put the three annotation files into `folder`, of several classes one entry for each, else unchanged; the entries of all."""
    folder.mkdir(parents=True)
    entries, other, benchmark = [], [], registry.find(name).variant_of or name
    for split in SPLITS:
        path = (
            _fetched_split(benchmark, split)
            if splits is None
            else _local_split(split, splits / benchmark / "anns", splits)
        )
        found = read_entries(path)
        if not found:
            raise DataError(f"The split {split} has no entries.", where=path, hint="give splits that name images.")
        if splits is not None and pooch.file_hash(str(path)) != BENCHMARK["sha256"][benchmark][split]:
            other.append(split)
        made = convert.by_class(name, found)
        if made is found:
            shutil.copyfile(path, folder / f"{split}.json")
        else:
            (folder / f"{split}.json").write_text(json.dumps(made, indent=1), encoding="utf-8")
        entries += made
    if other:
        which = f"The splits {', '.join(other)} in {splits} are not the benchmark's own"
        print(f"Note: {which} (their sha256 differs): results on them do not compare with published ones.")
    return entries


def _fetched_split(name: str, split: str) -> Path:
    url = BENCHMARK["url"].format(name=name, split=split)
    files = ", ".join(f"{split}.json" for split in SPLITS)
    return fetch(
        url,
        cache_folder() / "downloads" / "splits" / name,
        BENCHMARK["sha256"][name][split],
        otherwise=f"fetch {files} of that address with a browser or on another machine, put them into one folder, "
        f"and run `vlsm data prepare {name} --splits FOLDER`.",
    )


def _local_split(split: str, *folders: Path) -> Path:
    places = [folder / f"{split}.json" for folder in folders]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        hint = f"put it at {' or '.join(map(str, places))}."
        raise DataError(f"The split {split} is missing.", where=folders[-1], hint=hint)
    return path


def _unpacked(name: str, source: Path | None, folder: Path) -> Path:
    """The folder with the authors' files: `source`, or `folder` with the archives that it is or holds unpacked."""
    if source is None:
        archives = [_fetched_archive(name, url) for url in ARCHIVES[name]]
    elif source.is_file():
        archives = [source]
    else:
        archives = [source / PurePosixPath(url).name for url in ARCHIVES.get(name, [])]
        if not archives or not all(archive.is_file() for archive in archives):
            archives = archives_in(source) if not _has_pictures(source) else []
        if not archives:
            return source
    for archive in archives:
        unpack(archive, folder)
    return folder


def _has_pictures(folder: Path) -> bool:
    return any(path.suffix.lower() in convert.IMAGE_SUFFIXES for path in folder.rglob("*"))


def _fetched_archive(name: str, url: str) -> Path:
    all_of_them = "it" if len(ARCHIVES[name]) == 1 else f"{', '.join(ARCHIVES[name])}, all into one folder,"
    return fetch(
        url,
        cache_folder() / "downloads" / name,
        sha256=None,
        otherwise=f"fetch {all_of_them} with a browser or on another machine, and run "
        f"`vlsm data prepare {name} --from PATH`.",
    )


def _refuse_missing(entries: list[dict], published: convert.Published, source: Path | None) -> None:
    images, masks = _stems(entries, "img_name"), _stems(entries, "mask_name")
    missing = [f"image {stem}" for stem in images if stem not in published.images]
    missing += [f"mask {stem}" for stem in masks if stem not in published.masks]
    if missing:
        raise DataError(
            f"{len(missing)} of the {len(images) + len(masks)} files that the splits name are missing: {some_of(missing)}.",
            where=source,
            hint="fetch the whole archive again, or give splits that name only what is there.",
        )


def _write_images(entries: list[dict], published: convert.Published, folder: Path) -> None:
    folder.mkdir()
    for stem in tqdm(_stems(entries, "img_name"), desc="images", unit="file", delay=2):
        path = published.images[stem]
        pixels = read_image(path)  # also where only bytes are copied: a broken file must not get in
        if path.suffix.lower() in UNTOUCHED:
            shutil.copyfile(path, folder / f"{stem}{path.suffix.lower()}")
        else:
            Image.fromarray(pixels).save(folder / f"{stem}.png")


def _write_masks(entries: list[dict], published: convert.Published, folder: Path) -> None:
    folder.mkdir()
    for stem in tqdm(_stems(entries, "mask_name"), desc="masks", unit="file", delay=2):
        mask = published.masks[stem]()
        Image.fromarray(mask.astype(np.uint8) * 255).save(folder / f"{stem}.png")


def _stems(entries: list[dict], key: str) -> list[str]:
    return list(dict.fromkeys(Path(entry[key]).stem for entry in entries))
