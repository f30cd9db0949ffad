"""Stored predictions and their scores."""

import lazy_loader

# `keep` and `score_split` are names of version 0.1.0
SCORING = ["evaluate", "keep", "predict", "save_scores", "score_image", "score_mask", "score_split", "summarise"]
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"scoring": SCORING})
