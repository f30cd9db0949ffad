import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.helpers import all_samples, write_toy
from vlsm_helpers.data.folds import CLUSTER, Fold, group_of, in_fold
from vlsm_helpers.data.own import adopt
from vlsm_helpers.data.samples import SPLITS, dataset_folder, load_split
from vlsm_helpers.errors import DataError


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """The 21 images of a toy dataset, train, val and test."""
    folder = tmp_path_factory.mktemp("folds")
    write_toy(folder)
    return all_samples("toy", folder)


def grouped(samples, groups):
    return [dataclasses.replace(one, attributes={"group": group}) for one, group in zip(samples, groups, strict=True)]


def test_a_name_says_which_fold():
    assert Fold.parse("mine@2of5") == ("mine", 2, 5)
    assert Fold("mine", 2, 5).name == "mine@2of5"
    assert Fold.parse("mine") is None
    for wrong in ("mine@0of5", "mine@6of5", "mine@1of2"):
        with pytest.raises(DataError) as failure:
            Fold.parse(wrong)
        assert failure.value.where == wrong


def test_the_rounds_of_three_folds_by_hand():
    assert [[Fold("mine", number, 3).split_of(dealt) for dealt in (1, 2, 3)] for number in (1, 2, 3)] == [
        ["test", "val", "train"],
        ["train", "test", "val"],
        ["val", "train", "test"],
    ]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(groups=st.lists(st.integers(0, 9), min_size=21, max_size=21), folds=st.integers(3, 6))
def test_every_image_is_tested_once_and_no_group_is_in_two_splits(samples, groups, folds):
    with_groups = grouped(samples, groups)
    if len(set(groups)) < folds:
        with pytest.raises(DataError, match="folds"):
            in_fold(Fold("toy", 1, folds), with_groups, "test")
        return
    tested, validated = [], []
    for number in range(1, folds + 1):
        parts = {split: in_fold(Fold("toy", number, folds), with_groups, split) for split in SPLITS}
        assert sorted(one.id for part in parts.values() for one in part) == sorted(one.id for one in samples)
        held = [{group_of(one) for one in part} for part in parts.values()]
        assert all(held)
        assert sum(map(len, held)) == len(set(groups))
        tested += [one.id for one in parts["test"]]
        validated += [one.id for one in parts["val"]]
    assert sorted(tested) == sorted(validated) == sorted(one.id for one in samples)


def test_folds_are_of_one_size_and_the_same_each_time(samples):
    sizes = [len(in_fold(Fold("toy", number, 5), samples, "test")) for number in range(1, 6)]
    assert sorted(sizes) == [4, 4, 4, 4, 5]
    again = [one.id for one in in_fold(Fold("toy", 2, 5), samples, "test")]
    assert [one.id for one in in_fold(Fold("toy", 2, 5), samples, "test")] == again


def test_a_fold_is_a_dataset_for_everything_that_loads_one(samples, monkeypatch):
    folder = samples[0].image.parents[2]
    monkeypatch.setenv("VLSM_DATA", str(folder))
    found = load_split("toy@1of3", "test")
    assert len(found) == 7
    assert {one.dataset for one in found} == {"toy@1of3"}
    assert dataset_folder("toy@1of3") == folder / "toy"
    with pytest.raises(DataError, match="not prepared|unknown|no dataset"):
        load_split("nothing@1of3", "test")


def test_lesions_are_shared_out(tmp_path):
    root = write_toy(tmp_path)
    for path in sorted((root / "masks").iterdir())[:10]:
        Image.fromarray(np.zeros((32, 32), np.uint8)).save(path)  # 10 of 21 without
    empty = [
        sum(not np.asarray(Image.open(one.mask)).any() for one in load_split(f"toy@{number}of5", "test", tmp_path))
        for number in range(1, 6)
    ]
    assert empty == [2] * 5


def test_too_few_lesions_and_names_used_twice_are_refused(tmp_path, samples):
    root = write_toy(tmp_path)
    for path in sorted((root / "masks").iterdir())[2:]:
        Image.fromarray(np.zeros((32, 32), np.uint8)).save(path)
    with pytest.raises(DataError, match="foreground"):
        load_split("toy@1of3", "test", tmp_path)
    with pytest.raises(DataError, match="Names"):
        in_fold(Fold("toy", 1, 3), [*samples, samples[0]], "test")


def test_near_duplicates_that_adopt_joined_stay_together_though_their_groups_differ(tmp_path):
    generator = np.random.default_rng(0)
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    mask = np.zeros((64, 64), np.uint8)
    mask[8:40, 8:40] = 255
    for number in range(12):
        pixels = generator.integers(0, 255, (64, 64, 3), dtype=np.uint8)
        for copy in range(2):
            Image.fromarray(pixels).save(tmp_path / f"images/p{copy}{number:02}_x.png")
            Image.fromarray(mask).save(tmp_path / f"masks/p{copy}{number:02}_x.png")
    adopt("mine", tmp_path / "images", tmp_path / "masks", "polyp", group="^(p[0-9]+)_", folder=tmp_path / "data")
    for number in range(1, 5):
        tested = load_split(f"mine@{number}of4", "test", tmp_path / "data")
        assert all(CLUSTER in one.attributes for one in tested)
        assert {one.id[2:] for one in tested if one.id[1] == "0"} == {one.id[2:] for one in tested if one.id[1] == "1"}
