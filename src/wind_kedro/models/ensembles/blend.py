"""Blend: the mean of other candidates' quantiles, with weights and spread learnt on time that they had not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import numpy as np
import pandas as pd
from pydantic import BeforeValidator, Field, model_validator

from wind_kedro.cards import Farm
from wind_kedro.models.base import (
    Array,
    Contributions,
    Forecaster,
    Parameters,
    load_arrays,
    numbers,
    save_arrays,
)
from wind_kedro.models.registry import ModelConfig, build, load_model, members_with_cards
from wind_kedro.models.spread import MIN_ROWS_TO_CALIBRATE, spread_that_holds, stretched
from wind_kedro.models.tabular import blocks_of_time

ARTEFACT = "blend.npz"
#: Tells which rows, in order of issue and interval, are neighbours.
LEAD = "lead_minutes"


def _named(members: Any) -> Any:
    if isinstance(members, list):
        raise ValueError(f"members are names of candidates, and only training knows these: {', '.join(members)}")
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
        "0: no weight is learnt (each counts the same, unless given), and nothing is calibrated",
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
    first_share: float = Field(0.5, gt=0, lt=1, description="share of the rows before the first of these blocks")
    calibrate: bool = Field(True, description="spread the quantiles so that they hold on those blocks")

    @model_validator(mode="after")
    def _one_weight_each(self) -> Self:
        if self.weights is not None:
            if set(self.weights) != set(self.members):
                raise ValueError(f"weights are of {', '.join(self.weights)}, but members are {', '.join(self.members)}")
            if min(self.weights.values()) < 0 or sum(self.weights.values()) <= 0:
                raise ValueError("weights are at least nothing, and not all nothing")
        return self


class Blend(Forecaster, type_name="blend"):
    """Quantiles averaged level by level; weights are at least nothing, add up to one, and have the least pinball loss.

    Families that err differently are better together, and averaging quantiles keeps the width of its members' bands, where
    averaging probabilities would widen it (Lichtendahl, Grushka-Cockayne and Winkler, Management Science 59, 2013). The
    weights are those of forecasts of rolling blocks of time: what learnt a row never weighs it.
    """

    parameters_type: ClassVar[type[Parameters]] = BlendParameters
    parameters: BlendParameters
    _members: list[Forecaster]
    _weights: Array
    _spread: Array

    @classmethod
    def with_cards(cls, params: Mapping[str, Any], farms: Sequence[Farm]) -> dict[str, Any]:
        """See `Forecaster`: what its members take."""
        return members_with_cards(params, farms)

    @property
    def weights(self) -> dict[str, float]:
        """What each member counts, once it has learnt."""
        return dict(zip(self.parameters.members, self._weights.tolist(), strict=True))

    @property
    def needed_columns(self) -> list[str]:
        """See `Forecaster`: what any member needs."""
        if not self._fitted:
            return []
        own = [LEAD] if self.parameters.smoothing else []
        return list(dict.fromkeys([*own, *(column for member in self._members for column in member.needed_columns)]))

    def _fit(self, features: pd.DataFrame, share: Array) -> None:
        given = self.parameters.weights or dict.fromkeys(self.parameters.members, 1.0)
        self._weights = np.array([given[name] for name in self.parameters.members]) / sum(given.values())
        self._spread = np.full(len(self.levels), self.parameters.spread)
        if self.parameters.folds and len(share) >= MIN_ROWS_TO_CALIBRATE:
            forecasts, came = self._forecast_blocks(features, share)
            if len(self._weights) > 1 and self.parameters.weights is None:
                self._weights = best_weights(forecasts, came, self.levels)
            if self.parameters.calibrate and len(came) >= MIN_ROWS_TO_CALIBRATE and len(self.levels) > 1:
                blended = np.tensordot(self._weights, forecasts, axes=1)
                self._spread = spread_that_holds(blended, came, self.levels)
        self._members = self._learnt(features, share)

    def _forecast_blocks(self, features: pd.DataFrame, share: Array) -> tuple[Array, Array]:
        """Forecasts of each block by members fitted on all blocks before it (members, rows, levels), and the observed power."""
        # Twenty steps are fine enough for any share of rows to begin after.
        steps = blocks_of_time(features, 20)
        first = max(1, min(round(20 * self.parameters.first_share), 20 - self.parameters.folds))
        edges = np.round(np.linspace(first, 20, self.parameters.folds + 1)).astype(int)
        forecasts, came = [], []
        for start, end in pairwise(edges):
            before, ahead = steps < start, (steps >= start) & (steps < end)
            members = self._learnt(features[before], share[before])
            forecasts.append(self._asked(members, features[ahead]))
            came.append(share[ahead])
        return np.concatenate(forecasts, axis=1), np.concatenate(came)

    def _learnt(self, features: pd.DataFrame, share: Array) -> list[Forecaster]:
        members = []
        for name, member in self.parameters.members.items():
            config = ModelConfig.model_validate(member)
            own = features[config.columns_of(features.columns)]
            members.append(build(name, config, self.levels, self.seed).fit(own, pd.Series(share)))
        return members

    def _predict(self, features: pd.DataFrame) -> Array:
        blended = np.tensordot(self._weights, self._asked(self._members, features), axes=1)
        return stretched(blended, self._spread, self.levels)

    def _asked(self, members: list[Forecaster], features: pd.DataFrame) -> Array:
        """Forecasts of each member (members, rows, levels), smoothed where configured."""
        forecasts = np.stack([member.predict(features) for member in members])
        if not self.parameters.smoothing:
            return forecasts
        lead = numbers(features, LEAD)
        return np.stack([smoothed(quantiles, lead, self.parameters.smoothing) for quantiles in forecasts])

    def contributions(self, features: pd.DataFrame) -> Contributions | None:
        """Attributions of the medians before smoothing, averaged by weight over the members that have them."""
        return contributions_of_members(dict(zip(self.weights, self._members, strict=True)), self.weights, features)

    def _save(self, folder: Path) -> None:
        save_arrays(folder / ARTEFACT, {"weights": self._weights, "spread": self._spread})
        for number, member in enumerate(self._members):
            member.save(folder / f"member_{number}")

    def _load(self, folder: Path) -> None:
        stored = load_arrays(folder / ARTEFACT)
        self._weights, self._spread = stored["weights"], stored["spread"]
        self._members = [load_model(folder / f"member_{number}") for number in range(len(self.parameters.members))]


def contributions_of_members(
    members: Mapping[str, Forecaster], weights: Mapping[str, float], features: pd.DataFrame
) -> Contributions | None:
    """Attributions of the medians, averaged over the members that have a weight and attributions; none where no member has."""
    found = [(name, weights[name], member.contributions(features)) for name, member in members.items() if weights[name] > 0]
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


def best_weights(forecasts: Array, share: Array, levels: Sequence[float]) -> Array:
    """Weights of members, at least nothing and adding up to one, with which the blend has the least pinball loss.

    The loss is convex in the weights, so that there is one best.

    Args:
        forecasts: quantiles of shape (members, rows, levels).
        share: the power that came.
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
        quantiles: one row per interval, in order of issue and interval, as training and forecasting ask; a row whose
            neighbour was not asked for keeps that neighbour's share.
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
