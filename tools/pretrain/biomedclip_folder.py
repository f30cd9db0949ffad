"""The folder of a miniature BiomedCLIP in the published format: configs, tokenizer, tensors.

Its config names the towers by paths from the folder, so that open_clip alone loads it where the folder is the working one:
`open_clip.create_model("local-dir:.")`.
"""

import json
import string
from collections.abc import Iterable
from pathlib import Path

from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import nn
from transformers import BertConfig

from tools.pretrain.general_start import LIKE_CLIP
from tools.random_checkpoints import write_biomedclip_config

VIT = {"img_size": 128, "patch_size": 16, "embed_dim": 128, "depth": 8, "num_heads": 4, "mlp_ratio": 4} | LIKE_CLIP
VIT |= {"global_pool": "map"}  # attention over the patches, as in SigLIP: a class token learns too slowly where to look
ARCHITECTURE, VISION = (
    "vit_tiny_patch16_224",
    "vision",
)  # timm's name for what has VIT's sizes; the folder of its config
BERT = {"hidden_size": 128, "intermediate_size": 512, "num_attention_heads": 4, "num_hidden_layers": 2}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}  # no caption is worded twice
EMBED_DIM, CONTEXT = 128, 48
PIECES = 900
MARKS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# Words of the course's prompts and of readers' own that no caption has.
GENERAL_WORDS = (
    "cyst tumors polyps masses nodules lesions effusions opacity infiltrate fluid tissue cancer carcinoma melanoma nevus "
    "lung lungs heart breast colon chest abdomen bowel stomach liver gland healthy disease abnormal finding findings "
    "located photo photograph picture image scan ultrasound x-ray dermoscopy colonoscopy of the with and or without not "
    "no this that which is are there several many few some each other background foreground nothing anything something "
    "white pink red orange yellow tan brown black green blue purple grey gray dark bright light pale colourful color "
    "round oval elongated irregular square triangle circle star ring cross stripe line dot disc ellipse rectangle shape "
    "bump blob patch spot mark stain hole ball lump thing object region area edge corner border left right top bottom "
    "upper lower middle center centre side near above below between inside outside tiny small medium large big huge "
    "little long short thin thick flat smooth rough shiny blurry striped textured plain one two three four five"
)


def train_vocabulary(captions: Iterable[str]) -> list[str]:
    """Word pieces of BERT: its marks, every letter, digit and sign, then the words of `captions` and the general ones.

    Whole words, most frequent first: training pieces within words breaks ties at random, and nothing would be made twice.
    """
    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordLevelTrainer(vocab_size=PIECES, special_tokens=MARKS, show_progress=False)
    tokenizer.train_from_iterator([*captions, GENERAL_WORDS], trainer)
    words = sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
    characters = [*string.ascii_lowercase, *string.digits]
    signs = [*string.punctuation, *characters, *("##" + character for character in characters)]
    return list(dict.fromkeys([*MARKS, *signs, *(word for word, _ in words)]))


def write_config(folder: Path, pieces: list[str]) -> None:
    """All of the folder but its tensors: as published, with the miniature's sizes."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(pieces) + "\n", encoding="utf-8")
    write_biomedclip_config(folder, vocabulary=vocabulary)
    config = _read(folder / "open_clip_config.json")
    model = config["model_cfg"]
    model["embed_dim"] = EMBED_DIM
    model["vision_cfg"] |= {"timm_model_name": f"local-dir:{VISION}", "image_size": VIT["img_size"]}
    model["text_cfg"] |= {"context_length": CONTEXT, "hf_model_name": ".", "hf_tokenizer_name": "."}
    _write(folder / "open_clip_config.json", config)
    view = config["preprocess_cfg"] | {"input_size": [3, VIT["img_size"], VIT["img_size"]], "fixed_input_size": True}
    (folder / VISION).mkdir(exist_ok=True)
    _write(folder / VISION / "config.json", {"architecture": ARCHITECTURE, "model_args": VIT, "pretrained_cfg": view})
    BertConfig(vocab_size=len(pieces), max_position_embeddings=CONTEXT, **BERT, **NO_DROPOUT).save_pretrained(folder)
    kind = _read(folder / "tokenizer_config.json")
    _write(folder / "tokenizer_config.json", kind | {"model_max_length": CONTEXT})


def save_tensors(folder: Path, clip: nn.Module) -> None:
    """The model's tensors in float16, whole or not at all."""
    halves = {
        name: tensor.half().contiguous() if tensor.is_floating_point() else tensor.contiguous()
        for name, tensor in clip.state_dict().items()
    }
    fresh = folder / "open_clip_model.safetensors.tmp"
    save_file(halves, fresh)
    fresh.replace(folder / "open_clip_model.safetensors")


def _read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def _write(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
