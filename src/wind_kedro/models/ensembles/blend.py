"""Blend: the mean of other candidates' quantiles, with weights and spread learnt on time that they had not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Self

import numpy as np
import pandas as pd
from pydantic import BeforeValidator, Field, model_validator

from wind_kedro.models.base import Array, Contributions, Forecaster, Parameters, numbers
from wind_kedro.models.registry import ModelConfig, build
from wind_kedro.models.spread import MIN_ROWS_TO_CALIBRATE, spread_that_holds, stretched
from wind_kedro.models.tabular import blocks_of_time

#: Blocks of equally many rows into which the history of a blend is cut; its folds begin and end between them.
_STEPS = 20
#: Tells which rows, in order of issue and interval, are neighbours.
LEAD = "lead_minutes"


def _named(members: Any) -> Any:
    if isinstance(members, list):
        raise ValueError(f"members are names of candidates, which only training can resolve: {', '.join(members)}")
    return members


#: Candidates that another is made of, by name.
Members = Annotated[dict[str, dict[str, Any]], Field(min_length=1), BeforeValidator(_named)]


class BlendParameters(Parameters):
    """Settings of `Blend`."""

    members: Members = Field(
        description="candidates by name; in configuration a list of names, each another candidate of training"
    )
    weights: dict[str, float] | None = Field(
        None, description="by member, where they were chosen elsewhere, on months that are not judged; none: learnt"
    )
    folds: int = Field(
        2,
        ge=0,
        description="blocks of time, one after the other, that members forecast after learning from all before it; "
        "the first after half of the rows; 0: no weight is learnt (each counts the same, unless given), nothing is calibrated",
    )
    spread: float = Field(
        1.0,
        gt=0,
        description="times the distance of quantiles from the median, where no spread is learnt; likewise chosen elsewhere",
    )
    smoothing: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="share that each neighbouring interval of the same issue has in an interval's quantiles: errors of members "
        "are independent from hour to hour, the wind is not",
    )

    @model_validator(mode="after")
    def _one_weight_each(self) -> Self:
        if self.weights is not None:
            if set(self.weights) != set(self.members):
                raise ValueError(f"weights are of {', '.join(self.weights)}, but members are {', '.join(self.members)}")
            if min(self.weights.values()) < 0 or sum(self.weights.values()) <= 0:
                raise ValueError("weights are at least 0, and not all 0")
        return self


class Ensemble(Forecaster):
    """A weighted mean of the quantiles of members, level by level."""

    learnt: ClassVar[tuple[str, ...]] = ("_members", "_weights")
    _members: dict[str, Forecaster]
    _weights: dict[str, float]

    @property
    def weights(self) -> dict[str, float]:
        """What each member counts, once it has learnt."""
        return dict(self._weights)

    @property
    def members(self) -> Mapping[str, Forecaster]:
        """The members by name, in the order of their weights."""
        return self._members

    @property
    def needed_columns(self) -> list[str]:
        """See `Forecaster`: what any member needs."""
        members = self.members.values() if self._fitted else ()
        return list(dict.fromkeys([*self.needed, *(column for member in members for column in member.needed_columns)]))

    def contributions(self, features: pd.DataFrame) -> Contributions | None:
        """Attributions of the medians, averaged by weight over the members that have them; none where no member has."""
        found = [
            (name, weight, self.members[name].contributions(features)) for name, weight in self._weights.items() if weight > 0
        ]
        able = [(name, weight, own) for name, weight, own in found if own is not None]
        if not able:
            return None
        total = sum(weight for _, weight, _ in able)
        base = sum((weight / total * own.base for _, weight, own in able), np.zeros(len(features)))
        columns = pd.concat([own.columns * (weight / total) for _, weight, own in able], axis=1)
        return Contributions(
            base,
            columns.T.groupby(level=0, sort=False).sum().T,
            {} if len(able) == len(found) else {name: weight for name, weight, _ in able},
        )


def fitted_member(
    name: str, config: ModelConfig, features: pd.DataFrame, share: Array, levels: Sequence[float], seed: int
) -> Forecaster:
    """A candidate, fitted with those of the feature columns that it gets."""
    own = features[config.columns_of(features.columns)].reset_index(drop=True)
    return build(name, config, levels, seed).fit(own, pd.Series(share, dtype=np.float64))


class Blend(Ensemble, type_name="blend"):
    """Quantiles averaged level by level; weights are at least 0, add up to one, and have the least pinball loss.

    Families that err differently are better together, and averaging quantiles keeps the width of its members' bands, where
    averaging probabilities would widen it (Lichtendahl, Grushka-Cockayne and Winkler, Management Science 59, 2013). The
    weights are those of forecasts of rolling blocks of time: what learnt a row never weighs it.
    """

    parameters_type: ClassVar[type[Parameters]] = BlendParameters
    parameters: BlendParameters
    learnt = ("_spread",)
    _spread: Array

    @property
    def needed_columns(self) -> list[str]:
        """See `Forecaster`: what any member needs, and the lead time where neighbours are smoothed."""
        own = [LEAD] if self._fitted and self.parameters.smoothing else []
        return list(dict.fromkeys([*own, *super().needed_columns]))

    def _fit(self, features: pd.DataFrame, share: Array) -> None:
        given = self.parameters.weights or dict.fromkeys(self.parameters.members, 1.0)
        weights = np.array([given[name] for name in self.parameters.members]) / sum(given.values())
        self._spread = np.full(len(self.levels), self.parameters.spread)
        if self.parameters.folds and len(share) >= MIN_ROWS_TO_CALIBRATE:
            forecasts, observed = self._forecast_blocks(features, share)
            if len(weights) > 1 and self.parameters.weights is None:
                weights = best_weights(forecasts, observed, self.levels)
            if len(observed) >= MIN_ROWS_TO_CALIBRATE and len(self.levels) > 1:
                self._spread = spread_that_holds(np.tensordot(weights, forecasts, axes=1), observed, self.levels)
        self._weights = dict(zip(self.parameters.members, weights.tolist(), strict=True))
        self._members = self._fitted_members(features, share)

    def _forecast_blocks(self, features: pd.DataFrame, share: Array) -> tuple[Array, Array]:
        """Forecasts of each block by members fitted on all blocks before it (members, rows, levels), and the observed power."""
        steps = blocks_of_time(features, _STEPS)
        first = max(1, min(_STEPS // 2, _STEPS - self.parameters.folds))
        edges = np.round(np.linspace(first, _STEPS, self.parameters.folds + 1)).astype(int)
        forecasts, observed = [], []
        for start, end in pairwise(edges):
            before, ahead = steps < start, (steps >= start) & (steps < end)
            forecasts.append(self._forecasts(self._fitted_members(features[before], share[before]), features[ahead]))
            observed.append(share[ahead])
        return np.concatenate(forecasts, axis=1), np.concatenate(observed)

    def _fitted_members(self, features: pd.DataFrame, share: Array) -> dict[str, Forecaster]:
        return {
            name: fitted_member(name, ModelConfig.model_validate(member), features, share, self.levels, self.seed)
            for name, member in self.parameters.members.items()
        }

    def _predict(self, features: pd.DataFrame) -> Array:
        weights = np.array(list(self._weights.values()))
        blended = np.tensordot(weights, self._forecasts(self._members, features), axes=1)
        return stretched(blended, self._spread, self.levels)

    def _forecasts(self, members: Mapping[str, Forecaster], features: pd.DataFrame) -> Array:
        """Forecasts of each member (members, rows, levels), smoothed where configured."""
        forecasts = np.stack([member.predict(features) for member in members.values()])
        if not self.parameters.smoothing:
            return forecasts
        lead = numbers(features, LEAD)
        return np.stack([smoothed(quantiles, lead, self.parameters.smoothing) for quantiles in forecasts])


def best_weights(forecasts: Array, share: Array, levels: Sequence[float]) -> Array:
    """Weights of members, at least 0 and adding up to one, with which the blend has the least pinball loss.

    The loss is convex in the weights, so that there is one best.

    Args:
        forecasts: quantiles of shape (members, rows, levels).
        share: the observed power.
        levels: of the last axis.
    """
    from scipy.optimize import minimize

    count, at = len(forecasts), np.asarray(levels)

    def loss(weights: Array) -> tuple[float, Array]:
        missed = share[:, None] - np.tensordot(weights, forecasts, axes=1)
        pull = np.where(missed > 0, at, at - 1)
        return float((pull * missed).mean()), -np.tensordot(forecasts, pull, axes=2) / pull.size

    equal = np.full(count, 1 / count)
    found = minimize(
        loss,
        equal,
        jac=True,
        method="SLSQP",
        bounds=[(0, 1)] * count,
        constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1, "jac": lambda _: np.ones(count)},
        options={"ftol": 1e-9},
    ).x
    weights = np.clip(found, 0, 1)
    return np.asarray(weights / weights.sum(), dtype=np.float64)


def smoothed(quantiles: Array, lead_minutes: Array, share: float) -> Array:
    """Each row's quantiles with a share of those of the intervals before and after it in the same issue.

    Args:
        quantiles: one row per interval, in order of issue and interval, as training and forecasting give them; a row whose
            neighbour is missing keeps that neighbour's share.
        lead_minutes: of each row: the next interval of an issue has the least rise that there is.
        share: of each neighbour.
    """
    rise = np.diff(lead_minutes)
    if not (rise > 0).any():
        return quantiles
    follows = rise == rise[rise > 0].min()
    change = np.where(follows[:, None], np.diff(quantiles, axis=0), 0.0)
    result = quantiles.copy()
    result[:-1] += share * change
    result[1:] -= share * change
    return result
