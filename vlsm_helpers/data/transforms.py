"""Augmentation: albumentations behind one function."""

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # read at import: without it albumentations calls home

import albumentations as A
import numpy as np


def build_transforms(train: bool, size: int, *, mirror: bool = True) -> A.Compose:
    """A transform `t(image=uint8 (H, W, 3), mask=uint8 (H, W) of 0 and 1)` that gives both square, `size` pixels a side.

    For training: spatial changes (mirror, turn, zoom, shift; the same for image and mask, which stays 0 and 1) and
    photometric ones (brightness, contrast, colour; the image alone). Otherwise only the resize. `mirror`
    is False for samples whose prompt names a side, which a mirrored image would contradict; they are shifted and turned
    little, too. `reseed(t, n)` makes the next draw repeatable.
    """
    resize = A.Resize(size, size)
    return A.Compose([resize, *_augmentations(mirror)] if train else [resize])


def reseed(transforms: A.Compose, seed: int) -> None:
    """Make the next draw of `transforms` follow from `seed`.

    albumentations' own `set_random_seed` gives every step the same numbers: an image would be mirrored only when it is
    turned, too. Here each step gets its own.
    """
    steps = transforms.transforms
    for step, own in zip(steps, np.random.SeedSequence(seed).generate_state(len(steps)), strict=True):
        step.set_random_seed(int(own))


def _augmentations(mirror: bool) -> list[A.BasicTransform]:
    # Mild and sparse on purpose: with a few hundred images and minutes to learn, more changes cost more than they gave.
    turn, shift = (20, 0.06) if mirror else (10, 0.03)
    return ([A.HorizontalFlip(p=0.5)] if mirror else []) + [
        A.Affine(rotate=(-turn, turn), scale=(0.85, 1.15), translate_percent=(-shift, shift), p=0.25),
        A.RandomBrightnessContrast(brightness_limit=0.2, contrast_limit=0.2, p=0.3),
        A.HueSaturationValue(hue_shift_limit=5, sat_shift_limit=20, val_shift_limit=10, p=0.05),
    ]
