"""Where version 0.1.0 had stored predictions, by the names of then; today `vlsm_helpers.evaluation.predictions`."""

from vlsm_helpers.evaluation.predictions import Prediction, read, write
from vlsm_helpers.evaluation.predictions import PredictionInfo as Index
from vlsm_helpers.evaluation.predictions import PredictionStore as Store

__all__ = ["Index", "Prediction", "Store", "read", "write"]
