import pytest

from vlsm_helpers.settings.published import BIOMEDCLIP, CLIPSEG, PRETRAINED

NEEDED = {"model.safetensors", "config.json", "preprocessor_config.json", "vocab.json"}


def test_each_kind_has_a_folder_of_its_own():
    assert len({kind.name for kind in PRETRAINED.values()}) == len(PRETRAINED)
    assert all(kind.hub_id == name for name, kind in PRETRAINED.items())


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        (NEEDED, []),
        (NEEDED - {"vocab.json"}, ["tokenizer.json or vocab.json"]),
        (NEEDED - {"model.safetensors", "config.json"}, ["model.safetensors or pytorch_model.bin", "config.json"]),
    ],
)
def test_what_a_folder_lacks_is_named_with_its_alternatives(tmp_path, names, missing):
    for name in names:
        (tmp_path / name).touch()
    assert CLIPSEG.missing_among(names) == CLIPSEG.missing_in(tmp_path) == missing
    assert CLIPSEG.missing_in(tmp_path / "nowhere") == CLIPSEG.missing_among([])


def test_the_first_of_several_files_of_tensors_is_taken(tmp_path):
    names = ["pytorch_model.bin", "open_clip_pytorch_model.bin", "README.md"]
    for name in names:
        (tmp_path / name).touch()
    assert BIOMEDCLIP.tensors_among(names) == BIOMEDCLIP.tensors_in(tmp_path).name == "open_clip_pytorch_model.bin"
    assert BIOMEDCLIP.tensors_among(["README.md"]) is None
    with pytest.raises(FileNotFoundError, match="none of"):
        BIOMEDCLIP.tensors_in(tmp_path / "nowhere")


def test_files_that_are_not_used_are_not_fetched():
    assert CLIPSEG.others_among([*NEEDED, "merges.txt", "README.md"]) == [
        *("config.json", "preprocessor_config.json", "vocab.json", "merges.txt")
    ]
