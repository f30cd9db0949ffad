"""Helpers of the course VLSM-Ensemble, step by step: one idea a module, see CONTRIBUTING.md for the floors.

Not for clinical use.
"""

from importlib.metadata import version

__version__ = version("vlsm-helpers")
