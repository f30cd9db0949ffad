"""Phantoms: procedural images that imitate a modality, generated from a seed. Not real patients.

`render` draws one, `seeds` says which seeds a split takes, `ensure` lays a dataset out on disk. A module a modality.
"""

from vlsm_helpers.data.phantoms.disk import ensure
from vlsm_helpers.data.phantoms.rendering import PRETRAINING_SEEDS, Phantom, render, seeds

__all__ = ["PRETRAINING_SEEDS", "Phantom", "ensure", "render", "seeds"]
