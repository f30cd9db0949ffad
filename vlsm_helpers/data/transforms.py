"""Augmentation: albumentations behind one function."""

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # read at import: without it albumentations calls home

import albumentations as A


def build_transforms(train: bool, size: int, *, seed: int | None = None, mirror: bool = True) -> A.Compose:
    """A transform `t(image=uint8 (H, W, 3), mask=uint8 (H, W) of 0 and 1)` that gives both square, `size` pixels a side.

    For training: spatial changes (mirror, turn, zoom, shift; the same for image and mask, which stays 0 and 1) and
    photometric ones (brightness, contrast, colour, blur, noise; the image alone). Otherwise only the resize. `mirror`
    is False for samples whose prompt names a side, which a mirrored image would contradict; they are shifted and turned
    little, too. `t.set_random_seed(n)` makes the next draw repeatable.
    """
    resize = A.Resize(size, size)
    return A.Compose([resize, *_augmentations(mirror)] if train else [resize], seed=seed)


def _augmentations(mirror: bool) -> list[A.BasicTransform]:
    turn, shift = (45, 0.1) if mirror else (10, 0.05)
    spatial = A.Affine(
        rotate=(-turn, turn),
        scale=(0.75, 1.25),
        translate_percent=(-shift, shift),
        shear=(-8, 8),
        p=0.8,
    )
    photometric = [
        A.RandomBrightnessContrast(brightness_limit=0.25, contrast_limit=0.25, p=0.6),
        A.HueSaturationValue(hue_shift_limit=8, sat_shift_limit=30, val_shift_limit=15, p=0.5),
        A.RandomGamma(gamma_limit=(75, 130), p=0.3),
        A.OneOf([A.GaussianBlur(sigma_limit=(0.3, 1.2), blur_limit=0), A.GaussNoise(std_range=(0.01, 0.05))], p=0.2),
    ]
    return ([A.HorizontalFlip(p=0.5)] if mirror else []) + [spatial, *photometric]
