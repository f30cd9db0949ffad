import os
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from tests.training.test_loop import Killed, killed
from vlsm_helpers.data.dataset import SegmentationDataset
from vlsm_helpers.data.prompts import names_side
from vlsm_helpers.data.samples import load_split
from vlsm_helpers.errors import CourseError, SettingsError
from vlsm_helpers.evaluation.scoring import evaluate
from vlsm_helpers.models import factory
from vlsm_helpers.models.biomedclipseg import BiomedCLIPSeg
from vlsm_helpers.models.clipseg import CLIPSeg
from vlsm_helpers.models.cris import CRIS
from vlsm_helpers.models.unet_d import UNetD
from vlsm_helpers.settings.profiles import PROFILES
from vlsm_helpers.training import feature_cache
from vlsm_helpers.training.feature_cache import LIMIT, PromptEmbeddings, cache_features
from vlsm_helpers.training.feature_files import FeatureFiles
from vlsm_helpers.training.loop import fit
from vlsm_helpers.training.recipes import CNN
from vlsm_helpers.training.run_folder import BEST, LAST, METRICS

SIZE = 32
SHORT = replace(CNN, epochs=3, batch_size=4)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VLSM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"


@pytest.fixture
def clipseg(tiny_weights):
    return CLIPSeg(tiny_weights / "clipseg").eval()


def dataset(split="train", prompt="p2", augment=True, seed=0):
    return SegmentationDataset(load_split("toy", split), SIZE, prompt=prompt, augment=augment, seed=seed)


def items(some, indices=None):
    return [some[index] for index in (range(len(some)) if indices is None else indices)]


def watch(segmenter, monkeypatch, part):
    """A list that grows, whenever the segmenter calls its `part`, by the number of images or prompts."""
    counts, original = [], getattr(segmenter, part)
    monkeypatch.setattr(segmenter, part, lambda given: counts.append(len(given)) or original(given))
    return counts


@pytest.mark.parametrize("kind", ["clipseg", "biomedclipseg", "cris"])
def test_logits_from_cached_features_are_those_computed_anew(toy, tiny_weights, kind):
    torch.manual_seed(0)
    if kind == "clipseg":
        segmenter = CLIPSeg(tiny_weights / "clipseg")
    elif kind == "cris":
        segmenter = CRIS(tiny_weights / "clip_rn50", image_size=64, train="decoder")
    else:
        segmenter = BiomedCLIPSeg(tiny_weights / "biomedclip", reduce_dim=16, mlp_dim=64)
    batch = torch.utils.data.default_collate(items(cache_features(segmenter, dataset("test", augment=False))))
    texts = PromptEmbeddings(segmenter)(batch["prompt"])
    with torch.no_grad():
        anew = segmenter(batch["image"], batch["prompt"])
        kept = segmenter(batch["image"], batch["prompt"], features=tuple(batch["features"]), text=texts)
    assert anew.std() > 1e-3
    torch.testing.assert_close(kept, anew, atol=1e-5, rtol=0)


def test_an_unaugmented_dataset_is_kept_as_it_is(toy, clipseg):
    plain = dataset("val", augment=False)
    kept = cache_features(clipseg, plain)
    assert (len(kept), kept.views) == (4, 1)
    for epoch in range(3):
        kept.set_epoch(epoch)
        for item, expected in zip(items(kept), items(plain), strict=True):
            assert torch.equal(item["image"], expected["image"])
            assert torch.equal(item["mask"], expected["mask"])
            assert (item["prompt"], item["id"]) == (expected["prompt"], expected["id"])


def test_view_0_is_the_image_itself_and_view_v_what_the_dataset_draws_in_epoch_v(toy, clipseg):
    source, plain = dataset(), dataset(augment=False)
    kept = cache_features(clipseg, source, views=3)
    seen = set()
    for epoch in range(6):
        kept.set_epoch(epoch)
        for index in range(len(kept)):
            item, view = kept[index], kept.view(index)
            source.set_epoch(view)
            expected = source[index] if view else plain[index]
            for part in ("image", "mask"):
                assert torch.equal(item[part], expected[part])
            assert item["prompt"] == expected["prompt"]
            with torch.no_grad():
                features = clipseg.encode_images(expected["image"][None])
            for one, other in zip(item["features"], features, strict=True):
                torch.testing.assert_close(one, other[0], atol=1e-5, rtol=0)
            seen.add((index, view))
    assert len(seen) > 2 * len(kept)  # all images, and most of their views


def test_an_item_follows_from_seed_epoch_and_index_alone(toy, clipseg):
    one, other = (cache_features(clipseg, dataset(seed=1), views=4) for _ in range(2))
    first = [item["image"] for item in items(one)]
    items(other, [5, 3])  # what was asked before does not matter
    assert all(torch.equal(a, b["image"]) for a, b in zip(first, items(other), strict=True))
    one.set_epoch(1)
    assert not all(torch.equal(a, b["image"]) for a, b in zip(first, items(one), strict=True))


def test_a_mirrored_view_never_goes_with_a_prompt_that_names_a_side(toy, clipseg):
    """Mirrored, a square that is not in the middle jumps; turned and shifted a little, it does not."""
    prompts = {"both": ("square on the left", "square")}
    samples = [replace(sample, prompts=prompts) for sample in load_split("toy", "train")]
    plain = SegmentationDataset(samples, SIZE, prompt="both")
    kept = cache_features(clipseg, SegmentationDataset(samples, SIZE, prompt="both", augment=True), views=8)
    moved = {True: [], False: []}
    for epoch in range(24):
        kept.set_epoch(epoch)
        for index, item in enumerate(items(kept)):
            before, after = (mask.nonzero()[:, -1].float().mean() for mask in (plain[index]["mask"], item["mask"]))
            moved[names_side(item["prompt"])].append(abs(after - before).item())
    assert max(moved[True]) < 6
    assert max(moved[False]) > 8


def test_a_cache_is_read_again_without_the_encoder(toy, clipseg, monkeypatch, capsys):
    first = cache_features(clipseg, dataset(), views=2)
    # 12 images in 2 views, each 32 * 32 * 4 bytes of pixels and mask, and 3 taps of 65 tokens of 48 values of 4 bytes
    assert f"24 views of 12 images: {24 * (32 * 32 * 4 + 3 * 65 * 48 * 4) / 1e6:,.1f} MB" in capsys.readouterr().out
    counts = watch(clipseg, monkeypatch, "encode_images")
    second = cache_features(clipseg, dataset(), views=2)
    assert (second.folders[0], counts, capsys.readouterr().out) == (first.folders[0], [], "")
    assert all(isinstance(array, np.memmap) for array in (second._images, second._masks, *second._features))


def test_samples_are_counted_where_several_share_an_image(toy, clipseg, monkeypatch, capsys):
    samples = load_split("toy", "train")
    two_classes = [replace(one, id=f"{one.id}-{noun}") for one in samples for noun in ("polyp", "instrument")]
    kept = SegmentationDataset(two_classes, SIZE, augment=True)
    cache_features(clipseg, kept, views=2)
    assert "48 views of 24 samples" in capsys.readouterr().out
    monkeypatch.setenv(LIMIT, "0.0001")
    with pytest.warns(UserWarning, match="72 views of 24 samples"):
        cache_features(clipseg, kept, views=3)


def test_an_ensemble_reads_the_cache_of_the_segmenters_that_it_is_built_around(toy, monkeypatch, capsys):
    torch.manual_seed(0)
    members = ("biomedclipseg", "ensemble_a", "clipseg", "ensemble_b", "ensemble_c")
    biomed, a, clipseg, b, both = (factory.build(name, PROFILES["tiny"]).eval() for name in members)
    kept = [cache_features(one, dataset(), views=2) for one in (biomed, clipseg)]
    capsys.readouterr()
    counts = [watch(vlsm, monkeypatch, "encode_images") for vlsm in (a.vlsm, b.vlsm, both.a.vlsm, both.b.vlsm)]
    assert [cache_features(one, dataset(), views=2).folders for one in (a, b)] == [one.folders for one in kept]
    shared = cache_features(both, dataset(), views=2)
    assert shared.folders == kept[0].folders + kept[1].folders
    assert (counts, capsys.readouterr().out) == ([[], [], [], []], "")
    monkeypatch.undo()
    with torch.no_grad():
        expected = both.encode_images(shared[3]["image"][None])
    assert len(shared[3]["features"]) == len(expected) == 6
    for one, other in zip(shared[3]["features"], expected, strict=True):
        torch.testing.assert_close(one, other[0], atol=1e-5, rtol=0)
    shared.check(both)
    with pytest.raises(SettingsError):
        shared.check(a)


def test_ensemble_c_computes_what_the_caches_of_its_parts_lack(toy, monkeypatch, capsys):
    torch.manual_seed(0)
    clipseg, both = (factory.build(name, PROFILES["tiny"]).eval() for name in ("clipseg", "ensemble_c"))
    kept = cache_features(clipseg, dataset(), views=2)
    capsys.readouterr()
    counts = watch(both.b.vlsm, monkeypatch, "encode_images")
    shared = cache_features(both, dataset(), views=2)
    assert (shared.folders[1], sum(counts)) == (kept.folders[0], 1)  # one image, for the size
    assert capsys.readouterr().out.count("24 views of 12 images") == 1


@pytest.mark.parametrize("folder", ["images", "masks"])
def test_the_key_changes_with_what_the_files_show_and_not_with_their_age(toy, clipseg, folder):
    first = cache_features(clipseg, dataset("val", augment=False)).folders[0]
    file = toy / folder / "val_2.png"
    os.utime(file, (1, 1))
    assert cache_features(clipseg, dataset("val", augment=False)).folders[0] == first
    file.write_bytes((toy / folder / "val_1.png").read_bytes())
    assert cache_features(clipseg, dataset("val", augment=False)).folders[0] != first


def test_the_key_changes_with_weights_and_not_with_their_place_or_the_decoders(toy, clipseg, tiny_weights, tmp_path):
    first = cache_features(clipseg, dataset()).folders[0]
    copied = CLIPSeg(shutil.copytree(tiny_weights / "clipseg", tmp_path / "copy"))
    with torch.no_grad():
        next(copied.decoder.parameters()).add_(1)
    assert cache_features(copied, dataset()).folders[0] == first
    with torch.no_grad():
        copied.clip.vision_model.encoder.layers[0].layer_norm1.bias[0].add_(1e-3)
    assert cache_features(copied, dataset()).folders[0] != first


def test_the_key_changes_with_taps_and_sizes(toy, tiny_weights, clipseg, monkeypatch):
    biomedclip = tiny_weights / "biomedclip"
    segmenters = [
        clipseg,
        CLIPSeg(tiny_weights / "clipseg", image_size=64),
        BiomedCLIPSeg(biomedclip),
        BiomedCLIPSeg(biomedclip, taps=[3, 6, 10]),
    ]
    samples = load_split("toy", "train")
    folders = [cache_features(segmenter, dataset()).folders[0] for segmenter in segmenters]
    folders.append(cache_features(clipseg, SegmentationDataset(samples, 48, prompt="p2", augment=True)).folders[0])
    monkeypatch.setattr(feature_cache, "FORMAT", feature_cache.FORMAT + 1)
    folders.append(cache_features(clipseg, dataset()).folders[0])
    assert len(set(folders)) == len(segmenters) + 2


def test_the_key_changes_with_what_augmentations_follow_from(toy, clipseg):
    folders = [cache_features(clipseg, dataset(), views=views).folders[0] for views in (1, 2, 3)]
    folders.append(cache_features(clipseg, dataset(seed=1), views=2).folders[0])
    folders.append(
        cache_features(clipseg, dataset(prompt="p6"), views=2).folders[0]
    )  # names a side: nothing is mirrored
    assert len(set(folders)) == 5


def test_features_of_images_as_they_are_serve_every_prompt_and_seed(toy, clipseg):
    plain = [dataset(prompt=prompt, augment=False, seed=seed) for prompt, seed in (("p1", 0), ("p6", 1))]
    one, other = (cache_features(clipseg, some) for some in plain)
    assert one.folders[0] == other.folders[0]
    assert (one[0]["prompt"], other[0]["prompt"]) == ("square", "square on the left")


@pytest.mark.parametrize("spoil", ["truncated", "no stamp", "killed while writing"])
def test_a_cache_that_is_not_whole_is_made_anew(toy, clipseg, own_cache, monkeypatch, spoil):
    first = cache_features(clipseg, dataset(), views=2)
    before = items(first)
    if spoil == "truncated":
        os.truncate(first.folders[0] / "features01.npy", 5000)
    elif spoil == "no stamp":
        (first.folders[0] / "stamp.json").unlink()
    else:
        (first.folders[0] / "stamp.json").unlink()
        os.truncate(first.folders[0] / "features02.npy", 5000)
        first.folders[0].rename(first.folders[0].with_name(f".{first.folders[0].name}.partial-1"))
    counts = watch(clipseg, monkeypatch, "encode_images")
    again = cache_features(clipseg, dataset(), views=2)
    assert sum(counts) >= 24
    for item, expected in zip(items(again), before, strict=True):
        assert torch.equal(item["image"], expected["image"])
        assert all(torch.equal(a, b) for a, b in zip(item["features"], expected["features"], strict=True))


def test_above_the_limit_features_are_computed_on_the_fly_with_a_warning(
    toy, clipseg, own_cache, monkeypatch, tmp_path
):
    monkeypatch.setenv(LIMIT, "0.0001")
    with pytest.warns(UserWarning, match=f"24 views of 12 images would take 0.00 GB.*{LIMIT}=1 to allow it"):
        train = cache_features(clipseg, dataset(), views=2)
    assert isinstance(train, SegmentationDataset)
    assert list(own_cache.iterdir()) == []
    history = fit(clipseg, train, dataset("val", augment=False), tmp_path / "run", SHORT)
    assert len(history) == 3


def test_where_the_disk_is_too_full_features_are_computed_on_the_fly_with_a_warning(toy, clipseg, monkeypatch):
    usage = shutil._ntuple_diskusage(total=1_000_000, used=900_000, free=100_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.warns(UserWarning, match="has 0.00 GB free .VLSM_CACHE"):
        assert isinstance(cache_features(clipseg, dataset()), SegmentationDataset)


def test_without_a_gpu_as_many_views_are_kept_as_fit(toy, clipseg, own_cache, monkeypatch, capsys):
    one_view = 12 * (32 * 32 * 4 + 3 * 65 * 48 * 4) / 1e9
    monkeypatch.setenv(LIMIT, str(2.5 * one_view))
    with pytest.warns(UserWarning, match="2 of 4 views are cached"):
        cached = cache_features(clipseg, dataset(), views=4)
    assert cached.views == 2
    assert "24 views of 12 images" in capsys.readouterr().out
    with pytest.warns(UserWarning, match="2 of 4"):
        assert cache_features(clipseg, dataset(), views=4).folders[0] == cached.folders[0]
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(feature_cache.settings, "device", lambda: "cuda")
    monkeypatch.setattr(clipseg, "to", lambda device: clipseg)
    monkeypatch.setattr(torch, "zeros", lambda *size, device: torch.ones(size))
    with pytest.warns(UserWarning, match="on the fly"):
        cache_features(clipseg, dataset(), views=4)


def test_size_and_time_are_printed_before_the_features_are_computed(toy, clipseg, monkeypatch, capsys):
    printed = []
    monkeypatch.setattr(FeatureFiles, "_seconds_per_view", lambda self: 100)
    monkeypatch.setattr(FeatureFiles, "_write", lambda self, folder: printed.append(capsys.readouterr().out))
    with pytest.raises(FileNotFoundError, match="images"):  # nothing was written
        cache_features(clipseg, dataset(), views=1)
    assert "about 20 minutes" in printed[0]  # 12 images, 100 s each


def test_a_limit_that_is_no_number_is_refused(toy, clipseg, monkeypatch):
    monkeypatch.setenv(LIMIT, "much")
    with pytest.raises(SettingsError, match="VLSM_FEATURES_GB is no number"):
        cache_features(clipseg, dataset())


@pytest.mark.parametrize("limit", ["0", "-1", "nan"])
def test_a_limit_of_nothing_keeps_nothing(toy, clipseg, own_cache, monkeypatch, limit):
    monkeypatch.setenv(LIMIT, limit)
    with pytest.warns(UserWarning, match="computed on the fly"):
        cache_features(clipseg, dataset())
    assert list(own_cache.iterdir()) == []


def test_less_than_one_view_is_refused(toy, clipseg):
    with pytest.raises(ValueError, match="at least one view, not 0"):
        cache_features(clipseg, dataset(), views=0)


def test_where_nothing_is_frozen_there_is_nothing_to_keep(toy, tiny_weights):
    with pytest.raises(SettingsError, match="has no encoders.*\n.*unet_d"):
        cache_features(UNetD(width=1 / 32), dataset())
    with pytest.raises(SettingsError, match="encoders train.*\n.*clipseg"):
        cache_features(CLIPSeg(tiny_weights / "clipseg", train="encoders"), dataset())


def test_a_prompt_is_embedded_once_and_whatever_stands_beside_it(clipseg, monkeypatch):
    counts = watch(clipseg, monkeypatch, "encode_text")
    texts = PromptEmbeddings(clipseg)
    together = texts(["polyp", "a large dark lesion on the left", "polyp"])
    assert torch.equal(texts(["polyp"])[0], together[0])
    assert torch.equal(together[0], together[2])
    assert counts == [1, 1]
    torch.testing.assert_close(together, clipseg.encode_text(["polyp", "a large dark lesion on the left", "polyp"]))


def pair(segmenter, augment=True):
    return cache_features(segmenter, dataset(augment=augment), views=3), cache_features(
        segmenter, dataset("val", augment=False)
    )


def test_a_decoder_trained_from_the_cache_learns_what_it_would_learn_without(toy, tiny_weights, tmp_path, monkeypatch):
    kept, anew = (CLIPSeg(tiny_weights / "clipseg") for _ in range(2))
    train, validation = pair(kept, augment=False)
    images, prompts = (watch(kept, monkeypatch, part) for part in ("encode_images", "encode_text"))
    history = fit(kept, train, validation, tmp_path / "cached", SHORT)
    assert images == []
    assert prompts == [1]  # of p2, an unaugmented dataset takes the first wording alone
    expected = fit(anew, dataset(augment=False), dataset("val", augment=False), tmp_path / "uncached", SHORT)
    pd.testing.assert_frame_equal(history, expected, atol=1e-4)
    for one, other in zip(kept.decoder.parameters(), anew.decoder.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=0)


def test_without_a_cache_frozen_encoders_embed_each_prompt_once(toy, clipseg, tmp_path, monkeypatch):
    prompts = watch(clipseg, monkeypatch, "encode_text")
    fit(clipseg, dataset(), dataset("val", augment=False), tmp_path / "run", SHORT)
    assert prompts == [1, 1]


def test_scoring_reads_the_cache_too(toy, clipseg, tiny_weights, monkeypatch):
    plain = dataset("test", augment=False)
    kept, expected = cache_features(clipseg, plain), evaluate(clipseg, plain)
    images = watch(clipseg, monkeypatch, "encode_images")
    pd.testing.assert_frame_equal(evaluate(clipseg, kept), expected)
    assert images == []
    with pytest.raises(SettingsError, match="other weights, taps or sizes"):
        evaluate(CLIPSeg(tiny_weights / "clipseg", image_size=64), kept)


def test_a_cached_run_that_died_ends_with_the_same_numbers(toy, tiny_weights, tmp_path):
    whole, dying, resumed = (CLIPSeg(tiny_weights / "clipseg") for _ in range(3))
    expected = fit(whole, *pair(whole), tmp_path / "whole", SHORT)
    with pytest.raises(Killed):
        fit(killed(6, dying), *pair(dying), tmp_path / "killed", SHORT)
    pd.testing.assert_frame_equal(fit(resumed, *pair(resumed), tmp_path / "killed", SHORT), expected)


def test_a_run_does_not_go_on_with_other_views(toy, tiny_weights, tmp_path):
    segmenter = CLIPSeg(tiny_weights / "clipseg")
    train, validation = pair(segmenter)
    fit(segmenter, train, validation, tmp_path / "run", SHORT)
    with pytest.raises(CourseError, match="views: there 3, asked for None"):
        fit(segmenter, dataset(), validation, tmp_path / "run", SHORT)


def test_a_run_keeps_the_decoder_and_not_the_frozen_encoders(toy, clipseg, tmp_path):
    fit(clipseg, *pair(clipseg), tmp_path / "run", SHORT)
    for name in (BEST, LAST):
        names = [key.removeprefix("model.") for key in load_file(tmp_path / "run" / name)]
        assert any(key.startswith("decoder.") for key in names)
        assert not any(key.startswith("clip.") for key in names)
    loaded, facts = factory.load(tmp_path / "run" / BEST)
    image = dataset("test", augment=False)[0]["image"][None]
    with torch.no_grad():
        torch.testing.assert_close(loaded(image, "square"), clipseg(image, "square"), atol=1e-5, rtol=0)
    assert facts["val_dice"] == pd.read_csv(tmp_path / "run" / METRICS)["val_dice"].max()


def test_a_run_does_not_go_on_with_other_weights(toy, clipseg, tmp_path):
    fit(clipseg, dataset(), dataset("val", augment=False), tmp_path / "run", SHORT)
    with torch.no_grad():
        clipseg.clip.vision_model.embeddings.class_embedding.add_(1e-3)
    with pytest.raises(CourseError, match="other settings .frozen_weights: there"):
        fit(clipseg, dataset(), dataset("val", augment=False), tmp_path / "run", SHORT)


def test_features_of_other_weights_are_refused(toy, clipseg, tiny_weights, tmp_path):
    train, validation = pair(clipseg)
    other = CLIPSeg(tiny_weights / "clipseg")
    with torch.no_grad():
        other.clip.vision_model.embeddings.class_embedding.add_(1e-3)
    with pytest.raises(SettingsError, match="other weights, taps or sizes"):
        fit(other, train, validation, tmp_path / "run", SHORT)
    with pytest.raises(SettingsError, match="encoders train"):
        fit(CLIPSeg(tiny_weights / "clipseg", train="encoders"), train, validation, tmp_path / "run", SHORT)
