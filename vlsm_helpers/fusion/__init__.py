"""Late fusion: rules that combine the stored logits of members, fit on validation and evaluated on test."""

from vlsm_helpers.fusion.learned import PixelGate, Stacking, TemperatureMean
from vlsm_helpers.fusion.rule import MemberLogits as MemberLogits
from vlsm_helpers.fusion.rule import Rule
from vlsm_helpers.fusion.search import WeightedMean
from vlsm_helpers.fusion.shrunk import ShrunkMean
from vlsm_helpers.fusion.simple import And, BestSingle, EntropyWeighted, MajorityVote, MeanLogit, MeanProbability, Or

RULES: tuple[Rule, ...] = (
    BestSingle(),
    MeanProbability(),
    MeanLogit(),
    WeightedMean(),
    WeightedMean(of_logits=True),
    ShrunkMean(of_logits=True),
    TemperatureMean(),
    Stacking(),
    PixelGate(),
    EntropyWeighted(),
    MajorityVote(),
    And(),
    Or(),
)
