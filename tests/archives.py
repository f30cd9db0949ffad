"""Tiny copies of what each dataset's authors publish, with splits in the benchmark's form."""

import json
import shutil
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (32, 24)  # width, height
SPLITS = ("train", "val", "test")


def picture(seed: int) -> np.ndarray:
    """A smooth colour picture, uint8 (24, 32, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize(SIZE, Image.Resampling.BICUBIC))


def rectangle(left: int, top: int, right: int, bottom: int) -> np.ndarray:
    """A mask, bool (24, 32), with one rectangle of foreground (right and bottom exclusive)."""
    mask = np.zeros(SIZE[::-1], bool)
    mask[top:bottom, left:right] = True
    return mask


def save(pixels: np.ndarray, path: Path, **options) -> Path:
    """Write `pixels` (bool: as 0 and 255), the format by the name's ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = pixels.astype(np.uint8) * 255 if pixels.dtype == bool else pixels
    Image.fromarray(values).save(path, **options)
    return path


def entry(image: str, mask: str, box: tuple[int, ...] = (8, 8, 24, 16)) -> dict:
    return {
        "bbox": list(box),
        "segment_id": Path(image).stem,
        "img_name": image,
        "mask_name": mask,
        "prompts": {"p0": "", "p1": "polyp", "p2": ["round polyp", "oval polyp"]},
        "sentences": [{"idx": 0, "sent_id": 0, "sent": ""}],
        "sentences_num": 1,
    }


def write_splits(entries: dict[str, list[dict]], folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        (folder / f"{split}.json").write_text(json.dumps(entries[split]))
    return folder


def as_zip(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for item in sorted(folder.rglob("*")):
            file.write(item, item.relative_to(folder))
    return path


def as_tar(folder: Path, path: Path) -> Path:
    with tarfile.open(path, "w:gz") as file:
        file.add(folder, ".")
    return path


def kvasir(root: Path) -> tuple[dict, dict]:
    """JPEG masks; the first has the lone white pixel of the release (at best quality, or JPEG would smear it)."""
    names, truth = ["cju1", "cju2", "cju3"], {}
    for number, name in enumerate(names):
        truth[name] = rectangle(8, 8, 24, 16)
        drawn = truth[name].copy()
        drawn[0, 0] = number == 0
        save(picture(number), root / f"Kvasir-SEG/images/{name}.jpg")
        save(drawn, root / f"Kvasir-SEG/masks/{name}.jpg", quality=100)
    (root / "Kvasir-SEG/kavsir_bboxes.json").write_text("{}")
    save(picture(9), root / "__MACOSX/Kvasir-SEG/images/._cju1.jpg")
    return {split: [entry(f"{name}.jpg", f"{name}.jpg")] for split, name in zip(SPLITS, names, strict=True)}, truth


def clinicdb_tiff(pixels: np.ndarray) -> bytes:
    """A TIFF file byte by byte as the authors write it: strips of 16 rows, three samples of 8 bits per pixel that
    PhotometricInterpretation calls grey (1, BlackIsZero), no ExtraSamples, SampleFormat 1 1 1, a copyright tag."""
    height, width, samples = pixels.shape
    strips = [pixels[row : row + 16].tobytes() for row in range(0, height, 16)]
    entries = {  # tag: (type, values); type 2 is text, 3 a short, 4 a long number
        256: (3, [width]),
        257: (3, [height]),
        258: (3, [8] * samples),
        259: (3, [1]),
        262: (3, [1]),
        273: (4, [0] * len(strips)),
        274: (3, [1]),
        277: (3, [samples]),
        278: (3, [16]),
        279: (4, [len(strip) for strip in strips]),
        284: (3, [1]),
        339: (3, [1] * samples),
        33432: (2, list(b"Copyright of its authors\0")),
    }
    size, form = {2: 1, 3: 2, 4: 4}, {2: "B", 3: "H", 4: "I"}
    place, far = 8 + 2 + 12 * len(entries) + 4, {}
    for tag, (kind, values) in entries.items():
        if size[kind] * len(values) > 4:
            far[tag], place = place, place + size[kind] * len(values)
    entries[273] = (4, np.cumsum([place, *map(len, strips[:-1])]).tolist())
    table, after = struct.pack("<H", len(entries)), b""
    for tag, (kind, values) in entries.items():
        packed = struct.pack(f"<{len(values)}{form[kind]}", *values)
        table += struct.pack("<HHI", tag, kind, len(values))
        table += struct.pack("<I", far[tag]) if tag in far else packed.ljust(4, b"\0")
        after += packed if tag in far else b""
    return b"II*\0" + struct.pack("<I", 8) + table + struct.pack("<I", 0) + after + b"".join(strips)


def clinicdb(root: Path) -> tuple[dict, dict]:
    truth = {str(number): rectangle(8, 8, 24, 16) for number in (1, 2, 3)}
    (root / "CVC-ClinicDB/Original").mkdir(parents=True)
    for name, mask in truth.items():
        (root / f"CVC-ClinicDB/Original/{name}.tif").write_bytes(clinicdb_tiff(picture(int(name))))
        save(mask, root / f"CVC-ClinicDB/Ground Truth/{name}.tif")
    return {split: [entry(f"{name}.png", f"{name}.png")] for split, name in zip(SPLITS, truth, strict=True)}, truth


def bkai(root: Path) -> tuple[dict, dict]:
    """Masks: a red polyp and a green one."""
    names, truth = ["a0", "b1", "c2"], {}
    for number, name in enumerate(names):
        red, green = rectangle(8, 8, 16, 16), rectangle(16, 8, 24, 16)
        truth[name] = red | green
        save(picture(number), root / f"train/train/{name}.jpeg")
        colours = np.stack([red, green, np.zeros_like(red)], axis=2).astype(np.uint8) * 255
        save(colours, root / f"train_gt/train_gt/{name}.jpeg", quality=95, subsampling=0)
    save(picture(5), root / "test/test/unlabelled.jpeg")
    return {split: [entry(f"{name}.jpeg", f"{name}.jpeg")] for split, name in zip(SPLITS, names, strict=True)}, truth


def bkai_classes(root: Path) -> tuple[dict, dict]:
    """The same images, with a mask of each class for each; the first green polyp is no rectangle, the third image has none."""
    entries, _ = bkai(root)
    red, green = rectangle(8, 8, 16, 16), rectangle(16, 8, 24, 16)
    greens = {"a0": green | rectangle(24, 8, 32, 12), "b1": green, "c2": np.zeros_like(green)}
    truth = {}
    for name, drawn in greens.items():
        colours = np.stack([red, drawn, np.zeros_like(red)], axis=2).astype(np.uint8) * 255
        save(colours, root / f"train_gt/train_gt/{name}.jpeg", quality=95, subsampling=0)
        truth |= {f"{name}_neoplastic_polyp": red, f"{name}_non-neoplastic_polyp": drawn}
    return entries, truth


def busi(root: Path) -> tuple[dict, dict]:
    """A benign lesion in two masks, a malignant one, and a normal image with an empty mask."""
    folder = root / "Dataset_BUSI_with_GT"
    left, right = rectangle(8, 8, 12, 16), rectangle(20, 8, 24, 16)
    published = {"benign": [left, right], "malignant": [left | right], "normal": [np.zeros_like(left)]}
    truth = {}
    for seed, (kind, masks) in enumerate(published.items()):
        save(picture(seed), folder / f"{kind}/{kind} (1).png")
        save(masks[0], folder / f"{kind}/{kind} (1)_mask.png")
        if len(masks) > 1:
            save(masks[1], folder / f"{kind}/{kind} (1)_mask_1.png")
        truth[f"1_{kind}"] = np.logical_or.reduce(masks)
    boxes = [(8, 8, 24, 16), (8, 8, 24, 16), (32, 24, 0, 0)]
    names = zip(SPLITS, truth, boxes, strict=True)
    return {split: [entry(f"{name}.png", f"{name}.png", box)] for split, name, box in names}, truth


def chexlocalize(root: Path) -> tuple[dict, dict]:
    """Two findings in one frontal view of the validation set, one in each of two views of the test set."""
    views = {"val/patient64541/study1/view1_frontal": ["Cardiomegaly", "Pleural Effusion"]}
    views |= {"test/patient64741/study1/view1_frontal": ["Edema"], "test/patient64741/study1/view2_lateral": ["Edema"]}
    segmentations, entries, truth = {"val": {}, "test": {}}, [], {}
    empty = encode_rle(rectangle(0, 0, 0, 0))
    for seed, (view, findings) in enumerate(views.items()):
        save(picture(seed), root / f"CheXpert/{view}.jpg")
        part, name = view.split("/", 1)[0], view.split("/", 1)[1].replace("/", "_")
        segmentations[part][name] = {"Lung Lesion": empty}
        for finding in findings:
            mask = f"{name}_{finding.lower().replace(' ', '_')}"
            truth[mask] = rectangle(8, 8, 24, 16)
            segmentations[part][name][finding] = encode_rle(truth[mask])
            entries.append(
                entry(f"{name}.jpg", f"{mask}.png", tuple(round(edge * 512 / 24) for edge in (8, 8, 24, 16)))
            )
    for part, content in segmentations.items():
        path = root / f"CheXlocalize/gt_segmentations_{part}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
    return {"train": entries[:2], "val": entries[2:3], "test": entries[3:]}, truth


def isic(root: Path) -> tuple[dict, dict]:
    truth = {}
    for number, part in enumerate(("Training", "Training", "Test")):
        name = f"ISIC_000000{number}"
        truth[f"{name}_Segmentation"] = rectangle(8, 8, 24, 16)
        save(picture(number), root / f"ISBI2016_ISIC_Part1_{part}_Data/{name}.jpg")
        save(truth[f"{name}_Segmentation"], root / f"ISBI2016_ISIC_Part1_{part}_GroundTruth/{name}_Segmentation.png")
    names = zip(SPLITS, truth, strict=True)
    return {split: [entry(f"{mask[:12]}.jpg", f"{mask}.png")] for split, mask in names}, truth


def rehosted(source: Path, layout: str, target: Path) -> Path:
    """A copy of what authors publish as others host it."""
    if layout == "images and masks in capitals":
        shutil.copytree(source / "Kvasir-SEG/images", target / "Kvasir/Images")
        shutil.copytree(source / "Kvasir-SEG/masks", target / "Kvasir/Masks")
        (target / "kavsir_bboxes.json").write_text("{}")
    elif layout == "an archive within a folder":
        target.mkdir()
        as_zip(source, target / "bkai-igh-neopolyp.zip")
    elif layout == "an archive within an archive":
        target.mkdir()
        as_zip(source, target / "Dataset_BUSI.zip")
        return as_zip(target, target.with_suffix(".zip"))
    else:
        names = {"Original": "PNG/Original", "Ground Truth": "PNG/Ground Truth"}
        if layout == "images and masks":
            names = {"Original": "images", "Ground Truth": "masks"}
        for folder, name in names.items():
            for path in (source / "CVC-ClinicDB" / folder).iterdir():
                pixels = picture(int(path.stem)) if folder == "Original" else np.asarray(Image.open(path))
                save(pixels, target / name / f"{path.stem}.png")
        (target / "metadata.csv").write_text("frame_id\n1\n")
    return target


BUILDERS: dict[str, Callable[[Path], tuple[dict, dict]]] = {
    "kvasir_polyp": kvasir,
    "clinicdb_polyp": clinicdb,
    "bkai_polyp": bkai,
    "bkai_polyp_classes": bkai_classes,
    "busi": busi,
    "chexlocalize": chexlocalize,
    "isic": isic,
}


def encode_rle(mask: np.ndarray) -> dict:
    """COCO's run-length code of a mask, number by number: the plain opposite of `runs.decode_rle`."""
    pixels = mask.T.ravel().astype(int)
    changes = np.flatnonzero(np.diff(pixels, prepend=0))
    runs = np.diff([0, *changes, pixels.size]).tolist()
    text = ""
    for position, run in enumerate(runs):
        number = run - runs[position - 2] if position > 2 else run
        while True:
            digit, number = number & 31, number >> 5
            done = number == (-1 if digit & 16 else 0)
            text += chr(48 + digit + (0 if done else 32))
            if done:
                break
    return {"size": list(mask.shape), "counts": text}
