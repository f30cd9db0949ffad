"""Helpers of the course VLSM-Ensemble, step by step: one idea a module, see CONTRIBUTING.md for the floors.

Not for clinical use.
"""

import os
from importlib.metadata import version

# Read by OpenMP when PyTorch is imported. By default its threads wait by spinning: with another busy program on two
# cores a training step took up to twenty times as long; sleeping costs some 15 % where nothing else runs.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = version("vlsm-helpers")
