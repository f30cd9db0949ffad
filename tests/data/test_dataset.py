import torch

from vlsm_helpers.data.dataset import SegmentationDataset
from vlsm_helpers.data.samples import load_split


def test_an_item(toy):
    item = SegmentationDataset(load_split("toy", "test"), 24, prompt="p1")[3]
    assert item["image"].shape == (3, 24, 24)
    assert item["image"].dtype == torch.float32
    assert 0 <= item["image"].min() < item["image"].max() <= 1
    assert item["mask"].shape == (1, 24, 24)
    assert set(item["mask"].unique().tolist()) == {0, 1}
    assert item["prompt"] == "square"
    assert item["id"] == "test_3"


def test_evaluation_takes_the_first_wording_and_training_draws_one(toy):
    samples = load_split("toy", "train")
    plain = SegmentationDataset(samples, 16, prompt="p2")
    assert {plain[index]["prompt"] for index in range(len(plain))} == {"bright square"}
    drawn = SegmentationDataset(samples, 16, prompt="p2", augment=True)
    assert {drawn[index]["prompt"] for index in range(len(drawn))} == {"bright square", "white square"}


def test_an_item_follows_from_seed_epoch_and_index_alone(toy):
    samples = load_split("toy", "train")
    one, other = (SegmentationDataset(samples, 16, augment=True, seed=1) for _ in range(2))

    def images(dataset, order):
        drawn = {index: dataset[index]["image"] for index in order}
        return torch.stack([drawn[index] for index in range(len(dataset))])

    first = images(one, range(12))
    assert torch.equal(first, images(other, reversed(range(12))))  # what was asked before does not matter
    other.set_epoch(1)
    assert not torch.equal(first, images(other, range(12)))
    one.set_epoch(1)
    assert torch.equal(images(one, range(12)), images(other, range(12)))
    assert not torch.equal(first, images(SegmentationDataset(samples, 16, augment=True, seed=2), range(12)))


def test_images_whose_prompt_names_a_side_are_not_mirrored(toy):
    samples = load_split("toy", "train")
    named = SegmentationDataset(samples, 32, prompt="p6", augment=True)
    for epoch in range(12):
        named.set_epoch(epoch)
        for index in range(4):
            before = named.masks[index].nonzero()[1].mean()
            columns = named[index]["mask"].nonzero()[:, 2].float()
            assert abs(columns.mean().item() - before) < 6
