import json
import shutil

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from vlsm_helpers.errors import WeightsError
from vlsm_helpers.models.biomedclip import build_biomedclip
from vlsm_helpers.models.pretrained import load_biomedclip

TENSORS = "open_clip_pytorch_model.bin"


def rewrite(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.fixture
def folder(tiny_weights, tmp_path):
    """A BiomedCLIP folder of one's own."""
    return shutil.copytree(tiny_weights / "biomedclip", tmp_path / "biomedclip")


def test_the_key_that_old_releases_of_the_library_saved_does_not_stop_biomedclip(folder):
    tensors = torch.load(folder / TENSORS, weights_only=True)
    loaded = load_biomedclip(folder)[0].state_dict()
    assert tensors.keys() - loaded.keys() == {"text.transformer.embeddings.position_ids"}
    assert all(torch.equal(tensors[name], value) for name, value in loaded.items())


def test_a_copy_in_safetensors_gives_the_same_bits(folder, tiny_weights):
    tensors = torch.load(folder / TENSORS, weights_only=True)
    save_file(tensors, folder / "open_clip_model.safetensors")
    (folder / TENSORS).unlink()
    theirs, ours = load_biomedclip(tiny_weights / "biomedclip")[0].state_dict(), load_biomedclip(folder)[0].state_dict()
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())


def test_a_config_as_it_was_spelled_until_november_2023(folder, tiny_weights):
    def old(config):
        text = config["model_cfg"]["text_cfg"]
        text["proj"], text["pooler_type"] = text.pop("hf_proj_type"), text.pop("hf_pooler_type")
        text["hf_model_name"] = text["hf_tokenizer_name"] = "microsoft/BiomedNLP-PubMedBERT-base-uncased-abstract"

    rewrite(folder / "open_clip_config.json", old)
    (model, tokenizer, *_), (theirs, *_) = load_biomedclip(folder), load_biomedclip(tiny_weights / "biomedclip")
    ids = tokenizer(["polyp"], return_tensors="pt")["input_ids"]
    assert torch.equal(model.eval().encode_text(ids), theirs.eval().encode_text(ids))


def test_a_tokenizer_may_be_a_list_of_word_pieces(folder, tiny_weights):
    (folder / "tokenizer.json").unlink()
    theirs, ours = load_biomedclip(tiny_weights / "biomedclip")[1], load_biomedclip(folder)[1]
    assert ours("A Polyp, no xyz")["input_ids"] == theirs("A Polyp, no xyz")["input_ids"]


def test_the_text_towers_shape_is_bert_bases_where_the_folder_does_not_say(folder, monkeypatch):
    """The published folder has no config.json: open_clip would ask the hub for another repository's."""
    seen = {}

    def create(name, load_weights, vision_cfg, text_cfg):
        with open(f"{text_cfg['hf_model_name']}/config.json", encoding="utf-8") as file:
            seen.update(json.load(file))
        raise RuntimeError("that will do")

    (folder / "config.json").unlink()
    monkeypatch.setattr(open_clip, "create_model", create)
    with pytest.raises(WeightsError, match="that will do"):
        load_biomedclip(folder)
    assert (seen["vocab_size"], seen["hidden_size"], seen["num_hidden_layers"]) == (30522, 768, 12)


def test_vision_towers_of_one_name_and_other_shapes_live_side_by_side(folder, tiny_weights):
    tensors = torch.load(folder / TENSORS, weights_only=True)
    torch.save({key: value for key, value in tensors.items() if ".blocks.11." not in key}, folder / TENSORS)
    rewrite(folder / "open_clip_config.json", lambda config: config["timm_model_args"].update(depth=11))
    assert len(load_biomedclip(folder)[0].visual.trunk.blocks) == 11
    assert len(load_biomedclip(tiny_weights / "biomedclip")[0].visual.trunk.blocks) == 12


def test_a_vision_tower_that_nothing_describes_is_an_error(folder):
    rewrite(folder / "open_clip_config.json", lambda config: config.pop("timm_model_args"))
    with pytest.raises(WeightsError, match="timm does not know 'vit_random_patch16_128'"):
        load_biomedclip(folder)


def test_a_folder_needs_nothing_but_itself_wherever_it_lies_and_whatever_it_calls_its_parts(
    tiny_weights, tmp_path, monkeypatch
):
    """open_clip would look these names up on the hub, and takes a folder with a dot in its path for an unknown model."""

    def rename(config):
        config["model_cfg"]["text_cfg"].update(hf_model_name="no/such-model", hf_tokenizer_name="no/such-tokenizer")

    folder = shutil.copytree(tiny_weights / "biomedclip", tmp_path / "my weights v1.0" / "biomed.clip")
    rewrite(folder / "open_clip_config.json", rename)
    monkeypatch.chdir("/")
    model, tokenizer, context_length, preprocessing = load_biomedclip(folder)
    ids = tokenizer(["polyp"], return_tensors="pt")["input_ids"]
    expected = load_biomedclip(tiny_weights / "biomedclip")[0].eval().encode_text(ids)
    assert torch.equal(model.eval().encode_text(ids), expected)
    assert (context_length, preprocessing.size) == (24, 128)


def test_a_vision_tower_may_be_a_folder_within(folder, tiny_weights, tmp_path, monkeypatch):
    """Paths in the config start from the folder, wherever the process runs, so that timm's own format needs no registration."""

    def point(config):
        (folder / "vision").mkdir()
        own = {
            "architecture": "vit_tiny_patch16_224",
            "model_args": config.pop("timm_model_args"),
            "pretrained_cfg": {},
        }
        (folder / "vision" / "config.json").write_text(json.dumps(own))
        config["model_cfg"]["vision_cfg"]["timm_model_name"] = "local-dir:vision"

    rewrite(folder / "open_clip_config.json", point)
    monkeypatch.chdir(folder.parent)
    pixels = torch.rand(1, 3, 128, 128)
    own, theirs = (
        load_biomedclip(one)[0].eval().encode_image(pixels) for one in (folder.name, tiny_weights / "biomedclip")
    )
    assert torch.equal(own, theirs)


def test_random_weights_follow_from_the_seed_and_nothing_is_logged(folder, caplog):
    (folder / TENSORS).unlink()
    drawn = []
    for _ in range(2):
        torch.manual_seed(1)
        drawn.append(build_biomedclip(folder, load_weights=False)[0].state_dict())
    assert all(torch.equal(value, drawn[1][name]) for name, value in drawn[0].items())
    assert caplog.records == []


def test_loaded_weights_may_be_trained_and_the_file_stays_as_it_was(folder):
    before = (folder / TENSORS).read_bytes()
    model = load_biomedclip(folder)[0]
    weight = model.visual.trunk.blocks[0].mlp.fc1.weight
    assert weight.requires_grad
    with torch.no_grad():
        weight.add_(1)
    assert (folder / TENSORS).read_bytes() == before
