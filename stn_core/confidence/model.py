"""A logistic model over a few features and their products, calibrated: fitted once, and numbers in JSON since."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

MAX_FEATURES = 32
MAX_DEVIATION = 4.0
"""The standard deviations from the mean that a feature counts for at most: squares grow fast where nothing was seen."""
MAX_LOG_ODDS = 30.0
MIN_SD = 0.01
"""A feature that hardly varies must not decide by what is rounding: one unit is a factor e, a radian, a px, or all."""
PARTS = 5
FITTED_PARTS = 3
RIDGE = 1.0
NEWTON_STEPS, MAX_STEP = 100, 5.0

Floats = NDArray[np.float64]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class LogisticModel(BaseModel):
    """Of F features; ``weights`` are those of the features, then of their products (0, 0), (0, 1), ... (1, 1), ..."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mean: Annotated[tuple[Finite, ...], Field(min_length=1, max_length=MAX_FEATURES)]
    sd: Annotated[tuple[Positive, ...], Field(max_length=MAX_FEATURES)]
    weights: Annotated[tuple[Finite, ...], Field(max_length=MAX_FEATURES * (MAX_FEATURES + 3) // 2)]
    bias: Finite

    @model_validator(mode="after")
    def _lengths_agree(self) -> LogisticModel:
        count = len(self.mean)
        if len(self.sd) != count or len(self.weights) != count * (count + 3) // 2:
            raise ValueError(f"expected an sd for each of the {count} features, and weights for all and their products")
        return self

    def probability(self, features: Floats) -> NDArray[np.float32]:
        """Of what the model was fitted to, ``[N]``; 0 where one of the ``features [N, F]`` is not a number."""
        mean, sd, linear, products = self._arrays
        with np.errstate(invalid="ignore"):
            z = np.clip((features - mean) / sd, -MAX_DEVIATION, MAX_DEVIATION)
            log_odds = np.clip(z @ linear + ((z @ products) * z).sum(axis=1) + self.bias, -MAX_LOG_ODDS, MAX_LOG_ODDS)
        finite = np.isfinite(features).all(axis=1)
        return np.where(finite, 1 / (1 + np.exp(-log_odds)), 0.0).astype(np.float32)

    @cached_property
    def _arrays(self) -> tuple[Floats, Floats, Floats, Floats]:
        count = len(self.mean)
        products = np.zeros((count, count))
        products[np.triu_indices(count)] = self.weights[count:]
        return np.array(self.mean), np.array(self.sd), np.array(self.weights[:count]), products


def fit_model(features: Floats, happened: NDArray[np.bool_], part: NDArray[np.int64]) -> LogisticModel:
    """The model of ``happened [N]`` over ``features [N, F]``, its log odds scaled so that it is calibrated.

    Images of the ``part [N]`` 0, 1 and 2 fit the weights, those of part 3 the scale and the offset of the log odds
    (Platt 1999), and those of part 4 are left to measure it by.
    """
    known = np.isfinite(features).all(axis=1)
    fitted, scaled = known & (part < FITTED_PARTS), known & (part == FITTED_PARTS)
    mean = features[fitted].mean(axis=0)
    sd = np.maximum(features[fitted].std(axis=0), MIN_SD)
    design = _with_products(np.clip((features - mean) / sd, -MAX_DEVIATION, MAX_DEVIATION))
    weights = _logistic(design[fitted], _targets(happened[fitted]), np.zeros(design.shape[1]))
    log_odds = design @ weights
    platt = np.column_stack([np.ones(len(log_odds)), log_odds])
    offset, scale = _logistic(platt[scaled], _targets(happened[scaled]), np.array([0.0, 1.0]))
    weights = weights * max(scale, 0.0)
    return LogisticModel(
        mean=_plain(mean), sd=_plain(sd), weights=_plain(weights[1:]), bias=_plain(weights[:1] + offset)[0]
    )


def _with_products(z: Floats) -> Floats:
    """A column of ones, the features, and their products."""
    first, second = np.triu_indices(z.shape[1])
    return np.concatenate([np.ones((len(z), 1)), z, z[:, first] * z[:, second]], axis=1)


def _targets(happened: NDArray[np.bool_]) -> Floats:
    """Platt's: not quite 0 and 1, so that the odds stay bounded where all came true, or nothing did."""
    yes, no = int(happened.sum()), int((~happened).sum())
    return np.where(happened, (yes + 1) / (yes + 2), 1 / (no + 2))


def _logistic(design: Floats, targets: Floats, prior: Floats) -> Floats:
    """The weights of most likelihood, less half their squared distance from ``prior``; by Newton's method."""
    weights = prior.copy()
    for _ in range(NEWTON_STEPS):
        found = 1 / (1 + np.exp(-np.clip(design @ weights, -MAX_LOG_ODDS, MAX_LOG_ODDS)))
        gradient = design.T @ (targets - found) - RIDGE * (weights - prior)
        curvature = (design.T * (found * (1 - found))) @ design + RIDGE * np.eye(len(weights))
        step = np.linalg.solve(curvature, gradient)
        weights += step * min(1.0, MAX_STEP / max(float(np.abs(step).max()), 1e-12))
        if np.abs(step).max() < 1e-8:
            break
    return weights


def _plain(values: Floats) -> tuple[float, ...]:
    """As numbers of eight digits, which is more than there is in them."""
    return tuple(float(f"{value:.8g}") for value in values)
