"""Segmenters: networks that read images and prompts and give logits."""
