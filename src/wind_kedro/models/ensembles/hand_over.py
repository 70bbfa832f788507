"""Hand-over: a new farm begins with the models of other farms, and its own model takes over as its history grows.

Its members are candidates of three kinds: of the farm's own history, of the whole fleet's (`scope: fleet`, fitted once and
attached to every farm), and without history (the physical curve). The weight of each by days of own history is learnt out
of sample: farms are forecast as if only their last days were known, by members that know nothing of the days forecast.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from wind_kedro.cards import Farm
from wind_kedro.cards.tiers import Tier
from wind_kedro.evaluation.gate import chance
from wind_kedro.evaluation.scores import pinball_loss
from wind_kedro.models.base import Array, Contributions, Forecaster, Parameters
from wind_kedro.models.ensembles.blend import Ensemble, Members, best_weights, fitted_member
from wind_kedro.models.registry import ModelConfig
from wind_kedro.models.tables import feature_matrix, known_at

_HOURS_PER_DAY = 24
#: Issues of so many days in a row may forecast the same interval.
_DAYS_AHEAD = 2
#: The most that chance may have to do with a gain over the own model at full history.
_SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class FleetPart:
    """What is learnt once over all farms of a product.

    Attributes:
        models: of the whole fleet, by the name of the member; none: there is one farm only.
        names: of these models, also where they have stayed behind.
        days: lengths of own history, rising from 0, at which ``weights`` holds.
        weights: one row a length, one column a member; none: nothing could be judged.
    """

    models: Mapping[str, Forecaster] = field(default_factory=dict)
    names: Sequence[str] = ()
    days: Sequence[float] = ()
    weights: Array | None = None

    def without_models(self) -> FleetPart:
        """All but the models: what is needed to fit, and small enough to travel."""
        return replace(self, models={})


class HandOverParameters(Parameters):
    """Settings of `HandOver`."""

    members: Members = Field(description="candidates by name; in configuration also a list of names of other candidates")
    judged_farms: int = Field(3, gt=0, description="so many farms, drawn by the seed, are forecast as if they were new")
    judged_days: int = Field(30, gt=0, description="over so many days, which no member has seen")
    cuts: int = Field(2, gt=0, description="so many times, each with the past as it was then")
    cut_every_days: int = Field(91, gt=0, description="so far apart: a season")
    lengths_days: list[float] = Field(
        [7, 14, 30, 60, 90, 180, 365], description="with the last so many days of their own history, and with all of it"
    )
    full_days: float = Field(
        240,
        gt=0,
        description="where nothing could be judged, own counts days/full_days: worked with farms left out of GEFCom2014",
    )
    min_rows: int = Field(24, gt=0, description="with fewer rows no model of its own is fitted: a day")


class HandOver(Ensemble, type_name="hand_over"):
    """Quantiles of its members averaged level by level, with the weights of the farm's days of history.

    Between learnt lengths the weights run in straight lines over the logarithm of days; the weight of the own models never falls
    as history grows, is 0 at day 0, and is what was best at full history: there own alone, unless the others are proven to
    help beyond chance. A member that is not there (no fleet but this farm, no history yet) leaves its weight to the others.
    """

    parameters_type: ClassVar[type[Parameters]] = HandOverParameters
    min_tier: ClassVar[Tier] = "none"
    parameters: HandOverParameters
    _part: FleetPart = FleetPart()

    @property
    def needs_shared(self) -> list[str]:
        """See `Forecaster`."""
        return [name for name in self._weights if name not in self._members] if self._fitted else []

    def with_fleet(self, part: FleetPart) -> HandOver:
        """Before it learns: what was learnt over all farms; its models are attached afterwards."""
        self._part = part
        return self

    @property
    def needs_history(self) -> bool:
        """See `Forecaster`."""
        return not self._part.names and all(config.needs_history for config in _parsed(self.parameters.members).values())

    @property
    def members(self) -> Mapping[str, Forecaster]:
        """Its members that count, own and shared, in the order of their weights."""
        members = self._members | self.shared_models
        return {name: members[name] for name in self._weights if name in members}

    def _fit(self, features: pd.DataFrame, share: Array) -> None:
        configs, known = _parsed(self.parameters.members), _without_times(features)
        enough = len(share) >= self.parameters.min_rows or self.needs_history
        own = {
            name: fitted_member(name, config, known, share, self.levels, self.seed)
            for name, config in configs.items()
            if config.scope == "farm" and (enough or not config.needs_history)
        }
        there = [name for name in configs if name in own or name in self._part.names]
        days = days_of_history(features)
        if self._part.weights is not None:
            row = weights_at(days, self._part.days, self._part.weights)
            weights = {name: float(weight) for name, weight in zip(configs, row, strict=True) if name in there}
        else:
            weights = self._unjudged(days, configs, there)
        total = sum(weights.values())
        weights = (
            {name: weight / total for name, weight in weights.items()} if total > 0 else dict.fromkeys(there, 1 / len(there))
        )
        # A member of weight 0 need not be stored.
        self._weights = {name: weight for name, weight in weights.items() if weight > 0}
        self._members = {name: member for name, member in own.items() if name in self._weights}
        self.shared_models = {}

    def _unjudged(self, days: float, configs: Mapping[str, ModelConfig], there: list[str]) -> dict[str, float]:
        """Own has its share of full history; the rest is the fleet's, or, without a fleet, that of members without history."""
        own = [name for name in there if configs[name].needs_history]
        others = [name for name in there if name not in own]
        begins = [name for name in others if name in self._part.names] or others
        mine = min(days / self.parameters.full_days, 1.0) if begins else 1.0
        row = dict.fromkeys(there, 0.0)
        row |= {name: mine / len(own) for name in own}
        return row | {name: (1 - mine) / len(begins) for name in begins}

    def _predict(self, features: pd.DataFrame) -> Array:
        members = self.members
        if missing := [name for name in self._weights if name not in members]:
            raise RuntimeError(f"{self}: the fleet's model {', '.join(missing)} is not attached")
        known = _without_times(features)
        return np.asarray(sum(weight * members[name].predict(known) for name, weight in self._weights.items()))

    def contributions(self, features: pd.DataFrame) -> Contributions | None:
        """See `Ensemble`."""
        return super().contributions(_without_times(features))


def _parsed(members: Mapping[str, Mapping[str, Any]]) -> dict[str, ModelConfig]:
    return {name: ModelConfig.model_validate(member) for name, member in members.items()}


def _without_times(features: pd.DataFrame) -> pd.DataFrame:
    return features.drop(columns="valid_at", errors="ignore")


def days_of_history(features: pd.DataFrame) -> float:
    """Days on which there are rows; where their times are not known, a day is 24 rows."""
    if "valid_at" in features:
        return float(features["valid_at"].dt.floor("D").nunique())
    return len(features) / _HOURS_PER_DAY


def weights_at(days: float, lengths: Sequence[float], weights: Array) -> Array:
    """The weights at so many days: in straight lines between lengths, over the logarithm of days."""
    at = np.log1p(np.asarray(lengths, dtype=np.float64))
    return np.array([np.interp(np.log1p(days), at, column) for column in weights.T])


def learn_from_fleet(
    member_configs: Mapping[str, Mapping[str, Any]],
    pool: pd.DataFrame,
    judged: Mapping[str, tuple[pd.DataFrame, Sequence[Farm]]],
    levels: Sequence[float],
    seed: int,
    parameters: HandOverParameters | None,
    alone: bool = False,
) -> FleetPart:
    """What is learnt once over all farms: models of the fleet, and of a hand-over its weights by days of history.

    Args:
        member_configs: by name, the candidates that are to be learnt or judged.
        pool: rows of `contracts.ModelInput` of all farms, a bounded number of each, known by now.
        judged: all rows of those farms that are forecast as if they were new, and their cards.
        levels: quantile levels.
        seed: of all random numbers.
        parameters: of the hand-over; none: only models of the fleet are wanted.
        alone: whether there is one farm and no other that could share a model.
    """
    configs = _parsed(member_configs)
    # Of a single farm the fleet's model would be its own once more, so it is only fitted as a candidate of its own.
    models = {
        member: _fitted_to(member, config, pool, levels, seed)
        for member, config in configs.items()
        if config.scope == "fleet" and not (alone and parameters is not None)
    }
    part = FleetPart(models, list(models))
    forecasts = {} if parameters is None else _judge(configs, pool, judged, levels, seed, parameters)
    if not forecasts:
        return part
    days, weights = _learn_weights(forecasts, configs, levels)
    return replace(part, days=days, weights=weights)


@dataclass(frozen=True)
class _Rows:
    """Forecasts of the members (members, rows, levels), the observed power, and the day of the issue of each row."""

    quantiles: Array
    observed: Array
    day: NDArray[np.datetime64]

    @classmethod
    def joined(cls, parts: Sequence[_Rows]) -> _Rows:
        return cls(
            np.concatenate([part.quantiles for part in parts], axis=1),
            np.concatenate([part.observed for part in parts]),
            np.concatenate([part.day for part in parts]),
        )

    def losses(self, weights: Array, levels: Sequence[float]) -> Array:
        """Pinball of the members so weighted, mean of each day of issue over all farms."""
        there = weights > 0
        mix = np.tensordot(weights[there], self.quantiles[there], axes=1)
        loss = pinball_loss(self.observed, mix, list(levels)).mean(axis=1)
        return np.asarray(pd.Series(loss).groupby(self.day).mean().to_numpy(np.float64))


def _judge(
    configs: Mapping[str, ModelConfig],
    pool: pd.DataFrame,
    judged: Mapping[str, tuple[pd.DataFrame, Sequence[Farm]]],
    levels: Sequence[float],
    seed: int,
    parameters: HandOverParameters,
) -> dict[float, list[_Rows]]:
    """Forecasts of the members, by days of own history that they knew, of farms as if these were new."""
    end = max(table["issued_at"].max() for table, _ in judged.values()) + pd.Timedelta(days=1)
    found: dict[float, list[_Rows]] = {}
    elsewhere = pool[~pool["entity_id"].isin(list(judged))]
    for cut in range(parameters.cuts):
        until = end - pd.Timedelta(days=cut * parameters.cut_every_days)
        start = until - pd.Timedelta(days=parameters.judged_days)
        # A fleet's model that has never seen the farms that are judged, and no later outcome.
        others = known_at(elsewhere, start)
        if others.empty and not elsewhere.empty:
            continue
        shared = {
            name: _fitted_to(name, config, others, levels, seed)
            for name, config in configs.items()
            if config.scope == "fleet" and not others.empty
        }
        for table, farms in judged.values():
            past = known_at(table, start)
            ahead = table[(table["issued_at"] >= start) & (table["issued_at"] < until)]
            if past.empty or ahead.empty:
                continue
            features, observed = feature_matrix(ahead), ahead["power_share"].to_numpy(np.float64)
            day = ahead["issued_at"].dt.tz_convert(None).dt.floor("D").to_numpy()
            full = days_of_history(past)
            # Members whose forecast does not depend on the farm's history; one of the fleet is missing without other farms.
            constant = {name: np.full((len(ahead), len(levels)), np.nan) for name in configs}
            constant |= {name: member.predict(features) for name, member in shared.items()}
            for name, config in configs.items():
                if config.scope == "farm" and not config.needs_history:
                    model = fitted_member(name, config.of_farms(farms), features.iloc[:0], np.empty(0), levels, seed)
                    constant[name] = model.predict(features)
            # All of its history counts as the longest length that it reaches nearly: farms differ by days, not in kind.
            for length in [*(days for days in parameters.lengths_days if days < 0.8 * full), full]:
                own = past[past["issued_at"] >= start - pd.Timedelta(days=length)]
                if len(own) < parameters.min_rows:
                    continue
                quantiles = [
                    _fitted_to(name, config, own, levels, seed).predict(features) if config.needs_history else constant[name]
                    for name, config in configs.items()
                ]
                found.setdefault(length, []).append(_Rows(np.stack(quantiles), observed, day))
    # Full histories, each of its own length, are judged as one: at their mean length.
    if full_lengths := [length for length in found if length not in parameters.lengths_days]:
        together = [row for length in full_lengths for row in found.pop(length)]
        found[float(np.mean(full_lengths))] = together
    return found


def _learn_weights(
    forecasts: Mapping[float, list[_Rows]], configs: Mapping[str, ModelConfig], levels: Sequence[float]
) -> tuple[list[float], Array]:
    """Lengths and weights: at day 0 of those members that need no history, then what was best at each length."""

    def best(rows: _Rows, which: NDArray[np.bool_]) -> Array:
        weights = np.zeros(len(rows.quantiles))
        if which.any():
            weights[which] = best_weights(rows.quantiles[which], rows.observed, levels)
        return weights

    own = np.array([config.needs_history for config in configs.values()], dtype=np.bool_)
    lengths = sorted(forecasts)
    rows = [_Rows.joined(forecasts[length]) for length in lengths]
    there = np.asarray(~np.isnan(rows[0].quantiles).any(axis=(1, 2)), dtype=np.bool_)
    weights = np.stack([best(_Rows.joined(rows), there & ~own), *(best(each, there) for each in rows)])
    # At full history it is the own model that counts, unless the others are proven to help.
    alone = best(rows[-1], there & own)
    if alone.any():
        own_alone, mixed = (rows[-1].losses(row, levels) for row in (alone, weights[-1]))
        if chance(own_alone, mixed, _DAYS_AHEAD) > _SIGNIFICANCE:
            weights[-1] = alone
    # The weight of the own models never falls as history grows: a fall is chance.
    for before, row in pairwise(weights) if own.any() else ():
        least = before[own].sum()
        if row[own].sum() < least:
            row[own] = before[own]
            rest = row[~own].sum()
            row[~own] = row[~own] * (1 - least) / rest if rest > 0 else before[~own]
    return [0.0, *lengths], weights


def _fitted_to(name: str, config: ModelConfig, table: pd.DataFrame, levels: Sequence[float], seed: int) -> Forecaster:
    return fitted_member(name, config, feature_matrix(table), table["power_share"].to_numpy(np.float64), levels, seed)
