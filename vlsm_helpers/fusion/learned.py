"""Rules with parameters that are trained on validation: temperatures, stacking by a 1x1 convolution, and a per-pixel gate."""

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor, nn
from torch.nn import functional

from vlsm_helpers.fusion.rule import MemberLogits, Rule
from vlsm_helpers.fusion.simple import MeanProbability, entropy
from vlsm_helpers.metrics.overlap import mask_dice

COOLEST, HOTTEST = 0.05, 20.0  # range of temperatures
PIXELS = 400_000  # for temperatures and stacking; more would not change the third digit
FOLDS = 5
GATE_CHANNELS, GATE_STEPS, GATE_BATCH, GATE_RATE = 8, 150, 8, 5e-3


@dataclass(frozen=True)
class TemperatureMean(Rule):
    """Temperature scaling per member (Guo et al., ICML 2017): logits divided by a temperature, then the mean of probabilities."""

    temperatures: tuple[float, ...] = ()
    name = "temperature, then mean"

    def fitted(self, validation: MemberLogits) -> "TemperatureMean":
        """Each member gets the temperature with the lowest cross-entropy; then the threshold is chosen."""
        pixels, truth = _some_pixels(validation)
        scaled = replace(self, temperatures=tuple(temperature(one, truth) for one in pixels))
        return scaled.with_threshold(validation)

    def __call__(self, logits: Tensor) -> Tensor:
        return MeanProbability()(logits / torch.tensor(self.temperatures).view(-1, 1, 1, 1))


def temperature(logits: Tensor, truth: Tensor) -> float:
    """The temperature, in [0.05, 20], at which logits (P,) have the lowest cross-entropy with truth (P,), 0 or 1."""

    def cost(log_temperature: float) -> float:
        return functional.binary_cross_entropy_with_logits(logits / np.exp(log_temperature), truth).item()

    found = minimize_scalar(cost, bounds=(np.log(COOLEST), np.log(HOTTEST)), method="bounded")
    return float(np.exp(found.x))


@dataclass(frozen=True)
class Stacking(Rule):
    """The paper's fusion, fitted after training: a 1x1 convolution over the members' logits, one weight each and a bias.

    It is a logistic regression over pixels, so its optimum is unique. `folds_dice` is its mean Dice on validation in
    five-fold cross-validation.
    """

    weights: tuple[float, ...] = ()
    bias: float = 0.0
    folds_dice: float = float("nan")
    name = "stacking, 1x1"

    def fitted(self, validation: MemberLogits) -> "Stacking":
        """The weights are fitted on all images, and cross-validated in five folds of images."""
        fitted = self._regressed(validation)
        folds = torch.arange(len(validation.masks)) % min(FOLDS, len(validation.masks))
        if folds.max() == 0:
            return fitted
        found = []
        for fold in folds.unique():
            rest, held = folds != fold, folds == fold
            part = MemberLogits(validation.logits[:, rest], validation.masks[rest], validation.names)
            if not part.masks.any():
                continue
            rule = self._regressed(part)
            found.append(mask_dice(rule.predict(validation.logits[:, held]), validation.masks[held]))
        return replace(fitted, folds_dice=torch.cat(found).mean().item() if found else float("nan"))

    def _regressed(self, validation: MemberLogits) -> "Stacking":
        pixels, truth = _some_pixels(validation)
        layer = nn.Linear(len(pixels), 1).double()
        nn.init.constant_(layer.weight, 1 / len(pixels))
        nn.init.zeros_(layer.bias)
        inputs, truth = pixels.T.double(), truth.double()
        optimizer = torch.optim.LBFGS(layer.parameters(), max_iter=100, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = functional.binary_cross_entropy_with_logits(layer(inputs)[:, 0], truth)
            loss = loss + 1e-4 * layer.weight.square().sum()  # separable pixels would have no finite optimum
            loss.backward()
            return loss

        optimizer.step(closure)
        fitted = replace(self, weights=tuple(layer.weight[0].tolist()), bias=layer.bias.item())
        return fitted.with_threshold(validation)

    def __call__(self, logits: Tensor) -> Tensor:
        weights = torch.tensor(self.weights, dtype=logits.dtype).view(-1, 1, 1, 1)
        return torch.sigmoid((weights * logits).sum(0) + self.bias)


@dataclass(frozen=True)
class PixelGate(Rule):
    """A weighted mean with weights per pixel, which a small convolutional network predicts.

    Its inputs are the logits, their entropies and the disagreement of the members.
    """

    seed: int = 0
    gate: nn.Module | None = field(default=None, repr=False, compare=False)
    name = "per-pixel gate"

    def fitted(self, validation: MemberLogits) -> "PixelGate":
        """The gate is trained with cross-entropy for 150 steps; then the threshold is chosen."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            gate = _gate(len(validation.logits))
            optimizer = torch.optim.Adam(gate.parameters(), lr=GATE_RATE)
            for _ in range(GATE_STEPS):
                some = torch.randint(len(validation.masks), (GATE_BATCH,))
                fused = _gated(gate, validation.logits[:, some]).clamp(1e-6, 1 - 1e-6)
                loss = functional.binary_cross_entropy(fused, validation.masks[some].float())
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return replace(self, gate=gate.eval()).with_threshold(validation)

    @torch.no_grad()
    def __call__(self, logits: Tensor) -> Tensor:
        """Probabilities (B, S, S). Raises ValueError before `fit`."""
        if self.gate is None:
            raise ValueError("the gate is not trained: fit the rule first")
        parts = logits.split(GATE_BATCH, dim=1)
        return torch.cat([_gated(self.gate, part) for part in parts])


def _gate(members: int) -> nn.Module:
    layers = [nn.Conv2d(2 * members + 1, GATE_CHANNELS, 3, padding=1), nn.ReLU()]
    last = nn.Conv2d(GATE_CHANNELS, members, 3, padding=1)
    nn.init.zeros_(last.weight)  # initialised as the plain mean
    nn.init.zeros_(last.bias)
    return nn.Sequential(*layers, last)


def _gated(gate: nn.Module, logits: Tensor) -> Tensor:
    """Probabilities (B, S, S) from logits (M, B, S, S), weighted at each pixel by the output of `gate`."""
    probabilities, members = torch.sigmoid(logits), logits.transpose(0, 1)
    inputs = [members.clamp(-10, 10) / 5, entropy(members), probabilities.std(0, correction=0).unsqueeze(1)]
    weights = gate(torch.cat(inputs, dim=1)).softmax(1).transpose(0, 1)
    return (weights * probabilities).sum(0)


def _some_pixels(validation: MemberLogits) -> tuple[Tensor, Tensor]:
    """Logits (M, P) and ground truth (P,), 0 or 1, of evenly spaced pixels of all images."""
    logits, truth = validation.logits.flatten(1), validation.masks.flatten().float()
    step = max(1, truth.numel() // PIXELS)
    step += 1 - step % 2  # odd: an even step would take the same columns of each row
    return logits[:, ::step], truth[::step]
