"""Where version 0.1.0 had segment_files; today `vlsm_helpers.inference.batch`."""

from vlsm_helpers.inference.batch import segment_files

__all__ = ["segment_files"]
