"""Segmenters: networks behind one call, from images and prompts to logits."""
