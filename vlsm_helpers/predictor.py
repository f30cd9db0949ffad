"""Where version 0.1.0 had Predictor, which its model cards import; today `vlsm_helpers.Predictor`."""

from vlsm_helpers.inference.predictor import Predictor

__all__ = ["Predictor"]
