"""Write CLIPSeg, BiomedCLIP, CLIP and ResNet checkpoints with random weights, file for file as the hub holds the published.

`python tools/random_checkpoints.py FOLDER` and then VLSM_WEIGHTS=FOLDER: all that loads the published weights loads these,
without a hub. 2 GB, or 55 MB with --tiny. Their logits mean nothing. What the hub holds: docs/outside.md.
"""

import argparse
import copy
import gzip
import json
from collections import OrderedDict
from pathlib import Path

import torch
import torchvision
from safetensors.torch import save_file
from transformers import BertConfig, BertTokenizer, CLIPSegConfig, CLIPSegForImageSegmentation

from vlsm_helpers.models.biomedclip import CONFIG, LEFTOVERS, PUBLISHED_CONFIG, build_biomedclip
from vlsm_helpers.models.biomedclipseg import reset_decoder
from vlsm_helpers.models.open_clip_resnet import RN50, build_clip

WORDS = (
    "a an the one two small medium large pink red brown black white dark bright round oval flat square polyp polyps bump "
    "lesion tumor tumors nodule mass mole patch spot blob lung lungs heart left right upper lower centre top bottom of in "
    "on and with no is which located image ultrasound endoscopy skin chest breast colon benign malignant irregular shaped"
)
BEGIN, END = "<|startoftext|>", "<|endoftext|>"
PUBLISHED_MERGES = 49152 - 256 - 2  # of the vocabulary's file, CLIP uses so many
IMAGENET_STATISTICS = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
CLIP_CONTEXT = 77

# As deep as the published encoders, so that taps keep their numbers.
TINY_SIZE, TINY_CONTEXT = 128, 24
TINY_TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2}
TINY_CLIP_TEXT = TINY_TEXT | {"max_position_embeddings": TINY_CONTEXT}
TINY_VISION = {"image_size": TINY_SIZE, "hidden_size": 48, "intermediate_size": 96, "num_attention_heads": 3}
TINY_DECODER = {"projection_dim": 32, "reduce_dim": 16, "decoder_intermediate_size": 64}
TINY_RN50 = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 96, "layers": [1, 1, 1, 1], "width": 12, "patch_size": None},
    "text_cfg": {"context_length": TINY_CONTEXT, "width": 64, "heads": 1, "layers": 2},
}
TINY_VIT = {"img_size": TINY_SIZE, "patch_size": 16, "embed_dim": 48, "depth": 12, "num_heads": 3, "mlp_ratio": 2}


def write_clipseg(folder: Path, tiny: bool = False, vocabulary: Path | None = None) -> None:
    """A CLIPSeg like rd64-refined; `vocabulary`: CLIP's file of merges (gzipped), else some are made from WORDS."""
    folder.mkdir(parents=True, exist_ok=True)
    merges = _published_merges(vocabulary) if vocabulary else _merges_of_words()
    entries = write_clip_tokenizer(folder, merges, context=TINY_CONTEXT if tiny else CLIP_CONTEXT)
    ids = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}  # published like this, whatever the vocabulary says
    config = CLIPSegConfig(
        text_config=ids | (TINY_CLIP_TEXT | {"vocab_size": entries} if tiny else {}),
        vision_config={"patch_size": 16} | (TINY_VISION | {"num_hidden_layers": 12} if tiny else {}),
        use_complex_transposed_convolution=True,
        **(TINY_DECODER if tiny else {}),
    )
    model = CLIPSegForImageSegmentation(config)
    reset_decoder(model.decoder)
    model.save_pretrained(folder)
    write_clipseg_preprocessor(folder, size=TINY_SIZE if tiny else 352)


def write_clipseg_preprocessor(folder: Path, size: int) -> None:
    """Write how images are prepared, as published: `size` pixels a side, ImageNet's statistics."""
    steps = {"do_normalize": True, "do_rescale": True, "rescale_factor": 1 / 255, "do_resize": True, "resample": 2}
    kinds = {"feature_extractor_type": "ViTImageProcessor", "processor_class": "CLIPSegProcessor"}
    sizes = {"size": {"height": size, "width": size}}
    _write(folder / "preprocessor_config.json", steps | kinds | sizes | IMAGENET_STATISTICS)


def write_biomedclip(folder: Path, tiny: bool = False, vocabulary: Path | None = None) -> None:
    """A BiomedCLIP; `vocabulary`: BERT's list of word pieces, else some are made from WORDS."""
    write_biomedclip_config(folder, tiny, vocabulary)
    model = build_biomedclip(folder, load_weights=False)[0]
    positions = model.text.transformer.config.max_position_embeddings
    tensors = OrderedDict(model.state_dict()) | {LEFTOVERS[0]: torch.arange(positions)[None]}
    torch.save(tensors, folder / "open_clip_pytorch_model.bin")


def write_biomedclip_config(folder: Path, tiny: bool = False, vocabulary: Path | None = None) -> None:
    """All of a BiomedCLIP folder but its tensors: what its architecture and its tokenizer follow from."""
    folder.mkdir(parents=True, exist_ok=True)
    pieces = vocabulary.read_text(encoding="utf-8").splitlines() if vocabulary else _pieces_of_words()
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    config = copy.deepcopy(PUBLISHED_CONFIG)
    model = config["model_cfg"]
    if tiny:
        model["embed_dim"] = TINY_DECODER["projection_dim"]
        model["vision_cfg"] |= {"timm_model_name": "vit_random_patch16_128", "image_size": TINY_SIZE}
        model["text_cfg"]["context_length"] = TINY_CONTEXT
        config["timm_model_args"] = TINY_VIT
        BertConfig(vocab_size=len(pieces), max_position_embeddings=32, **TINY_TEXT).save_pretrained(folder)
    numbers = {piece: number for number, piece in enumerate(pieces)}
    BertTokenizer(vocab=numbers, do_lower_case=True).save_pretrained(folder)  # its length: boundless, as published
    special = {
        "cls_token": "[CLS]",
        "mask_token": "[MASK]",
        "pad_token": "[PAD]",
        "sep_token": "[SEP]",
        "unk_token": "[UNK]",
    }
    _write(folder / "special_tokens_map.json", special)
    _write(folder / CONFIG, config)


def write_clip_rn50(folder: Path, tiny: bool = False, vocabulary: Path | None = None) -> None:
    """A CLIP with a ResNet-50; `vocabulary`: CLIP's file of merges (gzipped), else some are made from WORDS."""
    folder.mkdir(parents=True, exist_ok=True)
    sizes = copy.deepcopy(TINY_RN50 if tiny else RN50)
    merges = _published_merges(vocabulary) if vocabulary else _merges_of_words()
    entries = write_clip_tokenizer(folder, merges, sizes["text_cfg"]["context_length"])
    sizes["text_cfg"].setdefault("vocab_size", entries)
    save_file(build_clip(sizes).state_dict(), folder / "open_clip_model.safetensors")
    preprocessing = PUBLISHED_CONFIG["preprocess_cfg"] | {"interpolation": "bicubic", "resize_mode": "shortest"}
    _write(folder / CONFIG, {"model_cfg": {"quick_gelu": True} | sizes, "preprocess_cfg": preprocessing})


def write_resnet(folder: Path, tiny: bool = False) -> None:
    """The encoder of segmentation_models_pytorch's U-Net, a ResNet-50 (a ResNet-18 if `tiny`), with its ImageNet classifier."""
    folder.mkdir(parents=True, exist_ok=True)
    resnet = torchvision.models.resnet18() if tiny else torchvision.models.resnet50()
    save_file(resnet.state_dict(), folder / "model.safetensors")
    statistics = {name.removeprefix("image_"): values for name, values in IMAGENET_STATISTICS.items()}
    _write(folder / "config.json", statistics | {"input_space": "RGB", "input_range": [0, 1]})


def write_clip_tokenizer(folder: Path, merges: list[str], context: int) -> int:
    """Write CLIP's tokenizer as published, vocab.json and merges.txt; returns its number of entries.

    `merges`: byte pairs such as "p o", most frequent first.
    """
    symbols = _byte_symbols()
    entries = [*symbols, *(symbol + "</w>" for symbol in symbols), *(merge.replace(" ", "") for merge in merges)]
    entries += [BEGIN, END]  # last: the legacy pooling looks for the largest id
    _write(folder / "vocab.json", {entry: number for number, entry in enumerate(entries)})
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n", encoding="utf-8")
    special = {"bos_token": BEGIN, "eos_token": END, "unk_token": END, "pad_token": END}
    _write(folder / "special_tokens_map.json", special)
    kind = {"tokenizer_class": "CLIPTokenizer", "model_max_length": context}
    _write(folder / "tokenizer_config.json", special | kind)
    return len(entries)


def _published_merges(vocabulary: Path) -> list[str]:
    with gzip.open(vocabulary, "rt", encoding="utf-8") as file:
        return file.read().split("\n")[1 : PUBLISHED_MERGES + 1]


def _byte_symbols() -> list[str]:
    """The printable stand-ins of the 256 bytes, in CLIP's order: bytes that print as themselves come first."""
    own = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(byte) for byte in own] + [chr(256 + number) for number in range(256 - len(own))]


def _merges_of_words() -> list[str]:
    """Merges that put WORDS together from the left."""
    merges = {}
    for word in WORDS.split():
        start, *rest = [*word[:-1], word[-1] + "</w>"]
        for symbol in rest:
            merges[f"{start} {symbol}"] = None
            start += symbol
    return list(merges)


def _pieces_of_words() -> list[str]:
    """BERT's marks, then letters at a word's beginning and within it, then WORDS."""
    letters = sorted(set(WORDS) - {" "})
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    return list(dict.fromkeys([*marks, *letters, *("##" + letter for letter in letters), *WORDS.split()]))


def _write(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Write FOLDER/clipseg, FOLDER/biomedclip, FOLDER/clip_rn50 and FOLDER/resnet50."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tiny", action="store_true", help="128 px, widths of some dozens: for tests")
    parser.add_argument("--clip-vocabulary", type=Path, help="bpe_simple_vocab_16e6.txt.gz")
    parser.add_argument("--bert-vocabulary", type=Path, help="vocab.txt of bert-base-uncased")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.manual_seed(given.seed)
    write_clipseg(given.folder / "clipseg", given.tiny, given.clip_vocabulary)
    write_biomedclip(given.folder / "biomedclip", given.tiny, given.bert_vocabulary)
    write_clip_rn50(given.folder / "clip_rn50", given.tiny, given.clip_vocabulary)
    write_resnet(given.folder / "resnet50", given.tiny)


if __name__ == "__main__":
    main()
