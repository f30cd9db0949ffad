"""Where the model cards of version 0.1.0 import Predictor from; today `vlsm_helpers.Predictor`."""

from vlsm_helpers.inference.predictor import Predictor

__all__ = ["Predictor"]
