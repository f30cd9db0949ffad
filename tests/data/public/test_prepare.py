import hashlib
import os
import shutil

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from tests import archives
from tests.server import Page, closed_port, serve
from vlsm_helpers.data import registry
from vlsm_helpers.data.checks import check
from vlsm_helpers.data.images import read_image, read_mask
from vlsm_helpers.data.public import prepare as prepare_module
from vlsm_helpers.data.public.prepare import prepare
from vlsm_helpers.data.samples import load_split
from vlsm_helpers.errors import BusyError, DataError, SettingsError
from vlsm_helpers.io import atomic

PREPARE_MODULE = "vlsm_helpers.data.public.prepare"


class Authors:
    """What the authors of one dataset publish (`source`), with splits, the true masks, and an empty data folder."""

    def __init__(self, name, folder):
        self.name = name
        self.source, self.splits, self.data = folder / "source", folder / "splits", folder / "data"
        self.entries, self.truth = archives.BUILDERS[name](self.source)
        archives.write_splits(self.entries, self.splits)

    def prepare(self, **changes):
        arguments = {"source": self.source, "splits": self.splits, "folder": self.data} | changes
        return prepare(self.name, **arguments)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VLSM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("VLSM_DATA", raising=False)


@pytest.fixture
def authors(tmp_path, monkeypatch):
    """Make the `Authors` of a dataset; their splits count as the benchmark's own."""

    def make(name):
        made = Authors(name, tmp_path)
        benchmark = registry.find(name).variant_of or name
        monkeypatch.setitem(prepare_module.BENCHMARK["sha256"], benchmark, _hashes(made.splits))
        return made

    return make


@pytest.fixture
def kvasir(authors):
    return authors("kvasir_polyp")


def test_the_packaged_splits_cover_every_public_dataset():
    public = {name for name, card in registry.DATASETS.items() if not card.is_phantom and not card.variant_of}
    hashes = prepare_module.BENCHMARK["sha256"]
    assert set(hashes) == public
    assert all(len(value) == 64 for splits in hashes.values() for value in splits.values())
    assert {split for splits in hashes.values() for split in splits} == set(archives.SPLITS)
    with_account = {name for name in public if registry.find(name).account}
    assert set(prepare_module.ERRANDS) == with_account
    assert set(prepare_module.ARCHIVES) == public - with_account


@pytest.mark.parametrize("name", archives.BUILDERS)
def test_prepares_what_the_authors_publish(name, authors, tmp_path):
    made = authors(name)
    root = made.prepare(source=archives.as_zip(made.source, tmp_path / "archive.zip"))
    assert root == made.data / name
    assert _names(made) == [name]
    assert sorted(path.stem for path in (root / "masks").iterdir()) == sorted(made.truth)
    for split in archives.SPLITS:
        if not registry.find(name).variant_of:
            assert (root / f"anns/{split}.json").read_bytes() == (made.splits / f"{split}.json").read_bytes()
        for sample in load_split(name, split, made.data):
            with Image.open(sample.mask) as mask:
                assert (mask.format, mask.mode) == ("PNG", "L")
                assert set(np.unique(mask)) <= {0, 255}
            assert np.array_equal(read_mask(sample.mask), made.truth[sample.id])
            assert read_image(sample.image).shape == (24, 32, 3)


def test_bkai_has_a_sample_for_each_image_and_class(authors):
    made = authors("bkai_polyp_classes")
    made.prepare()
    for split, image in zip(archives.SPLITS, ("a0", "b1", "c2"), strict=True):
        red, green = load_split(made.name, split, made.data)
        assert red.image == green.image
        assert red.image.stem == image
        assert [one.prompt("p1") for one in (red, green)] == ["neoplastic polyp", "non-neoplastic polyp"]
        assert [one.attributes["class"] for one in (red, green)] == ["neoplastic polyp", "non-neoplastic polyp"]
        assert not (read_mask(red.mask) & read_mask(green.mask)).any()
    assert not read_mask(green.mask).any()  # the third image's, which has no such polyp
    assert check(made.name, folder=made.data).ok


def test_the_classes_of_bkai_together_are_its_polyps(authors, tmp_path):
    both, polyps = authors("bkai_polyp_classes"), {"folder": tmp_path / "one"}
    both.prepare()
    prepare("bkai_polyp", source=both.source, splits=both.splits, **polyps)
    for polyp in load_split("bkai_polyp", "train", polyps["folder"]):
        classes = [one for one in load_split(both.name, "train", both.data) if one.image.stem == polyp.id]
        assert np.array_equal(np.logical_or.reduce([read_mask(one.mask) for one in classes]), read_mask(polyp.mask))


def test_images_keep_their_bytes_but_tiff_becomes_png(authors, kvasir):
    root = kvasir.prepare()
    copied = (root / "images/cju2.jpg").read_bytes()
    assert copied == (kvasir.source / "Kvasir-SEG/images/cju2.jpg").read_bytes()
    clinicdb = authors("clinicdb_polyp")
    image = clinicdb.prepare() / "images/2.png"
    with Image.open(image) as converted:
        assert converted.format == "PNG"
    assert np.abs(read_image(image).astype(int) - archives.picture(2)).max() <= 2


def test_only_what_the_splits_name_is_kept(authors):
    bkai = authors("bkai_polyp")
    bkai.entries["test"] = bkai.entries["train"]  # the real splits repeat names, too
    archives.write_splits(bkai.entries, bkai.splits)
    root = bkai.prepare()
    assert sorted(path.name for path in (root / "images").iterdir()) == ["a0.jpeg", "b1.jpeg"]


def test_the_unpacked_folder_and_a_tarball_give_the_same(kvasir, tmp_path):
    from_folder = _contents(kvasir.prepare())
    tarball = archives.as_tar(kvasir.source, tmp_path / "kvasir.tar.gz")
    assert _contents(kvasir.prepare(source=tarball, folder=tmp_path / "other")) == from_folder


def test_a_folder_with_all_the_archives(authors, tmp_path):
    isic = authors("isic")
    (tmp_path / "archives").mkdir()
    for part in isic.source.iterdir():
        (tmp_path / "inner").mkdir()
        part.rename(tmp_path / "inner" / part.name)
        archives.as_zip(tmp_path / "inner", tmp_path / "archives" / f"{part.name}.zip")
        shutil.rmtree(tmp_path / "inner")
    root = isic.prepare(source=tmp_path / "archives")
    assert len(list((root / "images").iterdir())) == 3


def test_splits_in_the_benchmarks_own_layout(kvasir, tmp_path, capsys):
    (tmp_path / "medvlsm/kvasir_polyp").mkdir(parents=True)
    kvasir.splits.rename(tmp_path / "medvlsm/kvasir_polyp/anns")
    root = kvasir.prepare(splits=tmp_path / "medvlsm")
    assert "sha256" not in capsys.readouterr().out
    assert {path.name for path in (root / "anns").iterdir()} == {"train.json", "val.json", "test.json"}


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("kvasir_polyp", "images and masks in capitals"),
        ("clinicdb_polyp", "PNG folders and a table"),
        ("clinicdb_polyp", "images and masks"),
        ("bkai_polyp", "an archive within a folder"),
        ("busi", "an archive within an archive"),
    ],
)
def test_copies_that_others_host(name, layout, authors, tmp_path):
    made = authors(name)
    source = archives.rehosted(made.source, layout, tmp_path / "copy")
    root = made.prepare(source=source)
    for split in archives.SPLITS:
        for sample in load_split(name, split, made.data):
            assert np.array_equal(read_mask(sample.mask), made.truth[sample.id])
    assert len(list((root / "images").iterdir())) == 3


def test_splits_of_ones_own_are_allowed_but_said(kvasir, capsys):
    kvasir.entries["val"][0]["prompts"]["p1"] = "growth"
    archives.write_splits(kvasir.entries, kvasir.splits)
    kvasir.prepare()
    assert [line for line in capsys.readouterr().out.splitlines() if "sha256" in line and "val" in line]


@pytest.mark.parametrize("empty", [["train"], ["test"], ["train", "val", "test"]])
def test_empty_splits_do_not_replace_a_dataset(kvasir, tmp_path, empty):
    before = _contents(kvasir.prepare())
    entries = {split: [] if split in empty else kvasir.entries[split] for split in archives.SPLITS}
    archives.write_splits(entries, tmp_path / "no")
    with pytest.raises(DataError) as caught:
        kvasir.prepare(splits=tmp_path / "no")
    assert caught.value.where == tmp_path / "no" / f"{empty[0]}.json"
    _only(kvasir, before)


def test_missing_split(kvasir):
    (kvasir.splits / "test.json").unlink()
    with pytest.raises(DataError, match="split test is missing") as caught:
        kvasir.prepare()
    assert str(kvasir.splits / "test.json") in str(caught.value)


def test_fetches_archive_and_splits_once(kvasir, monkeypatch, tmp_path, capsys):
    with serve({"/kvasir-seg.zip": Page(archives.as_zip(kvasir.source, tmp_path / "a.zip").read_bytes())}) as server:
        for split in archives.SPLITS:
            server.pages[f"/kvasir_polyp/{split}.json"] = Page((kvasir.splits / f"{split}.json").read_bytes())
        monkeypatch.setitem(prepare_module.BENCHMARK, "url", server.url + "/{name}/{split}.json")
        monkeypatch.setitem(prepare_module.ARCHIVES, "kvasir_polyp", [f"{server.url}/kvasir-seg.zip"])
        monkeypatch.setenv("VLSM_DATA", str(tmp_path / "default"))
        root = prepare("kvasir_polyp")
        assert root == tmp_path / "default/kvasir_polyp"
        said = capsys.readouterr().out
        assert "commercial use needs the authors' permission" in said
        assert "MB)" in said
        assert "No checksum is published" in said
    prepare("kvasir_polyp")  # without the server
    assert len(load_split("kvasir_polyp", "train")) == 1


def test_no_network(kvasir, monkeypatch):
    address = f"http://127.0.0.1:{closed_port()}"
    monkeypatch.setitem(prepare_module.ARCHIVES, "kvasir_polyp", [f"{address}/kvasir-seg.zip"])
    before = _contents(kvasir.prepare())
    with pytest.raises(DataError, match="no connection") as caught:
        kvasir.prepare(source=None)
    assert f"{address}/kvasir-seg.zip" in str(caught.value)
    assert "vlsm data prepare kvasir_polyp --from PATH" in str(caught.value)
    monkeypatch.setitem(prepare_module.BENCHMARK, "url", address + "/{name}/{split}.json")
    with pytest.raises(DataError, match="no connection") as caught:
        kvasir.prepare(splits=None)
    assert "vlsm data prepare kvasir_polyp --splits FOLDER" in str(caught.value)
    assert _contents(kvasir.data / "kvasir_polyp") == before


def test_no_network_and_several_archives(authors, monkeypatch):
    isic = authors("isic")
    urls = [f"http://127.0.0.1:{closed_port()}/{part}.zip" for part in "ab"]
    monkeypatch.setitem(prepare_module.ARCHIVES, "isic", urls)
    with pytest.raises(DataError, match="no connection") as caught:
        isic.prepare(source=None)
    assert all(url in str(caught.value) for url in urls)


def test_changed_splits_on_the_server(kvasir, monkeypatch):
    with serve({"/kvasir_polyp/train.json": Page(b"[]")}) as server:
        monkeypatch.setitem(prepare_module.BENCHMARK, "url", server.url + "/{name}/{split}.json")
        with pytest.raises(DataError, match="sha256 differs") as caught:
            kvasir.prepare(splits=None)
    assert "train.json" in str(caught.value)
    _nothing_left(kvasir)


def test_a_login_page_in_place_of_the_archive(kvasir, tmp_path):
    (tmp_path / "kvasir-seg.zip").write_text("<html><body>Sign in</body></html>")
    with pytest.raises(DataError, match="web page") as caught:
        kvasir.prepare(source=tmp_path / "kvasir-seg.zip")
    assert "kvasir-seg.zip" in str(caught.value)
    _nothing_left(kvasir)


@pytest.mark.parametrize("name", prepare_module.ERRANDS)
def test_where_an_account_is_needed(name, authors):
    with pytest.raises(DataError, match="sign up") as caught:
        authors(name).prepare(source=None)
    assert registry.find(name).home in str(caught.value)
    assert f"vlsm data prepare {name} --from PATH" in str(caught.value)


def test_unknown_dataset(tmp_path):
    with pytest.raises(DataError, match="kvasir_poly") as caught:
        prepare("kvasir_poly", folder=tmp_path)
    assert "did you mean kvasir_polyp" in str(caught.value)


def test_source_that_is_not_there(kvasir, tmp_path):
    with pytest.raises(DataError, match="no such file") as caught:
        kvasir.prepare(source=tmp_path / "elsewhere.zip")
    assert "elsewhere.zip" in str(caught.value)


@pytest.mark.parametrize("packed", [True, False])
def test_what_is_not_the_dataset_is_named_by_the_path_that_was_given(kvasir, tmp_path, packed):
    archives.busi(tmp_path / "busi")
    source = archives.as_zip(tmp_path / "busi", tmp_path / "busi.zip") if packed else tmp_path / "busi"
    with pytest.raises(DataError, match="images and masks") as caught:
        kvasir.prepare(source=source)
    assert caught.value.where == source
    _nothing_left(kvasir)


@pytest.mark.parametrize("kind", ["images", "masks"])
def test_missing_file(kind, kvasir):
    before = _contents(kvasir.prepare())
    (kvasir.source / f"Kvasir-SEG/{kind}/cju2.jpg").unlink()
    with pytest.raises(DataError, match=f"1 of the 6 files .* missing: {kind[:-1]} cju2"):
        kvasir.prepare()
    _only(kvasir, before)


@pytest.mark.parametrize("kind", ["images", "masks"])
@pytest.mark.parametrize("damage", ["truncated", "text", "empty"])
def test_broken_file(kind, damage, kvasir):
    before = _contents(kvasir.prepare())
    path = kvasir.source / f"Kvasir-SEG/{kind}/cju2.jpg"
    whole = path.read_bytes()
    path.write_bytes({"truncated": whole[: len(whole) // 2], "text": b"no image", "empty": b""}[damage])
    with pytest.raises(DataError) as caught:
        kvasir.prepare()
    assert str(path) in str(caught.value)
    _only(kvasir, before)


def test_an_archive_with_a_way_out(kvasir, tmp_path):
    before = _contents(kvasir.prepare())
    archive = archives.as_zip(kvasir.source, tmp_path / "evil.zip")
    with archives.zipfile.ZipFile(archive, "a") as file:
        file.writestr("../../evil.txt", "evil")
    kvasir.prepare(source=archive)
    assert not list(tmp_path.rglob("evil.txt"))
    _only(kvasir, before)


def test_three_grey_levels_in_a_mask_that_should_be_binary(authors):
    isic = authors("isic")
    grey = np.zeros((24, 32), np.uint8)
    grey[:, 10:20], grey[:, 20:] = 128, 255
    path = next(isic.source.rglob("*_Segmentation.png"))
    archives.save(grey, path)
    with pytest.raises(DataError, match="not black and white") as caught:
        isic.prepare()
    assert path.name in str(caught.value)
    _nothing_left(isic)


@pytest.mark.parametrize("failing", [1, 2])
def test_a_failing_move_loses_nothing(failing, kvasir, monkeypatch):
    before, calls, replace = _contents(kvasir.prepare()), [], os.replace

    def fail_once(source, target):
        calls.append(target)
        if len(calls) == failing:
            raise OSError("disk on fire")
        replace(source, target)

    monkeypatch.setattr("vlsm_helpers.io.atomic.os.replace", fail_once)
    with pytest.raises(OSError, match="on fire"):
        kvasir.prepare()
    _only(kvasir, before)


def test_a_kill_between_the_two_renames_loses_nothing(kvasir, monkeypatch):
    """The dataset then lies aside, under a hidden name: the next attempt, which fails early, puts it back."""
    root = kvasir.prepare()
    before = _contents(root)
    os.replace(root, atomic.sibling(root, atomic.REPLACED))
    (kvasir.source / "Kvasir-SEG/images/cju2.jpg").unlink()
    with pytest.raises(DataError, match="missing"):
        kvasir.prepare()
    _only(kvasir, before)


def test_what_a_killed_attempt_moved_aside_goes_once_the_dataset_stands(kvasir):
    root = kvasir.prepare()
    before, aside = _contents(root), atomic.sibling(root, atomic.REPLACED)
    shutil.copytree(root, aside)
    (aside / "masks/cju1.png").write_bytes(b"older")
    kvasir.prepare()
    assert not aside.exists()
    _only(kvasir, before)


def test_one_process_at_a_time_prepares_a_dataset(kvasir):
    root = kvasir.prepare()
    before = _contents(root)
    with FileLock(root.with_name(f".{root.name}.lock")), pytest.raises(BusyError) as caught:
        kvasir.prepare()
    assert caught.value.where == root.parent
    _only(kvasir, before)


def test_an_interruption_loses_nothing(kvasir, monkeypatch):
    before = _contents(kvasir.prepare())

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"{PREPARE_MODULE}._write_masks", interrupt)
    with pytest.raises(KeyboardInterrupt):
        kvasir.prepare()
    _only(kvasir, before)


def test_preparing_again_replaces(kvasir):
    root = kvasir.prepare()
    before = _contents(root)
    (root / "masks/cju1.png").write_bytes(b"spoilt")
    kvasir.prepare()
    _only(kvasir, before)


@pytest.mark.parametrize("kind", ["data", "cache"])
def test_unwritable_folder(kind, kvasir, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("VLSM_CACHE", str(tmp_path / "file/sub"))
    with pytest.raises(SettingsError) as caught:
        kvasir.prepare(**({"splits": None} if kind == "cache" else {"folder": tmp_path / "file/sub"}))
    assert str(tmp_path / "file/sub") in str(caught.value)
    assert "VLSM_CACHE" in str(caught.value)


def _hashes(splits):
    return {split: hashlib.sha256((splits / f"{split}.json").read_bytes()).hexdigest() for split in archives.SPLITS}


def _contents(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def _only(authors, contents):
    """The data folder holds this dataset with these contents, and nothing half-done beside it."""
    assert _names(authors) == [authors.name]
    assert _contents(authors.data / authors.name) == contents


def _nothing_left(authors):
    assert not _names(authors)


def _names(authors):
    """What lies in the data folder; the file that is locked while a dataset is prepared stays."""
    return [path.name for path in authors.data.iterdir() if path.name != f".{authors.name}.lock"]
