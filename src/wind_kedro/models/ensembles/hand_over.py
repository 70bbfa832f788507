"""Hand-over: a new farm begins with the models of other farms, and its own model takes over as its history grows.

Its members are candidates of three kinds: of the farm's own history, of the whole fleet's (`scope: fleet`, fitted once and
attached to every farm), and without history (the physical curve). The weight of each by days of own history is learnt out
of sample: farms are forecast as if only their last days were known, by members that know nothing of the days forecast.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
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
from wind_kedro.models.ensembles.blend import Members, best_weights, contributions_of_members
from wind_kedro.models.registry import ModelConfig, build, load_model, members_with_cards
from wind_kedro.models.tables import feature_matrix, known_at

HAND_OVER = "hand_over.json"
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
        return FleetPart({}, self.names, self.days, self.weights)


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


class HandOver(Forecaster, type_name="hand_over"):
    """Quantiles of its members averaged level by level, with the weights of the farm's days of history.

    Between learnt lengths the weights run in straight lines over the logarithm of days; what the own models count never falls
    as history grows, is nothing at day 0, and is what was best at full history: there own alone, unless the others are proven to
    help beyond chance. A member that is not there (no fleet but
    this farm, no history yet) leaves its weight to the others.
    """

    parameters_type: ClassVar[type[Parameters]] = HandOverParameters
    min_tier: ClassVar[Tier] = "none"
    parameters: HandOverParameters
    _members: dict[str, Forecaster]
    _weights: dict[str, float]
    _days: float

    def __init__(self, levels: Sequence[float], seed: int = 0, parameters: Parameters | None = None) -> None:
        """See `Forecaster`."""
        super().__init__(levels, seed, parameters)
        self._part = FleetPart()
        self._shared: dict[str, Forecaster] = {}

    @classmethod
    def with_cards(cls, params: Mapping[str, Any], farms: Sequence[Farm]) -> dict[str, Any]:
        """See `Forecaster`: what its members take."""
        return members_with_cards(params, farms)

    @property
    def weights(self) -> dict[str, float]:
        """What each member counts, once it has learnt."""
        return dict(self._weights)

    @property
    def members(self) -> Mapping[str, Forecaster]:
        """Those that are its own: all but those of the fleet, without those of weight 0."""
        return self._members

    @property
    def needs_shared(self) -> list[str]:
        """See `Forecaster`."""
        return [name for name in self._weights if name not in self._members] if self._fitted else []

    @property
    def shared_models(self) -> Mapping[str, Forecaster]:
        """See `Forecaster`."""
        return self._shared

    def attach_shared_model(self, name: str, model: Forecaster) -> None:
        """See `Forecaster`."""
        self._shared[name] = model

    def with_fleet(self, part: FleetPart) -> HandOver:
        """Before it learns: what was learnt over all farms; its models are attached afterwards."""
        self._part = part
        return self

    @property
    def needs_history(self) -> bool:
        """See `Forecaster`."""
        return not self._part.names and all(_needs_history(member) for member in self.parameters.members.values())

    @property
    def needed_columns(self) -> list[str]:
        """See `Forecaster`: what any member needs."""
        if not self._fitted:
            return []
        members = [*self._members.values(), *self._shared.values()]
        return list(dict.fromkeys(column for member in members for column in member.needed_columns))

    def _fit(self, features: pd.DataFrame, share: Array) -> None:
        self._days = days_of_history(features)
        known = features.drop(columns="valid_at", errors="ignore")
        self._members = {}
        for name, member in self.parameters.members.items():
            if _of_fleet(member):
                continue
            if _needs_history(member) and len(share) < self.parameters.min_rows and not self.needs_history:
                continue
            self._members[name] = _fitted(name, member, known, share, self.levels, self.seed)
        there = [name for name in self.parameters.members if name in self._members or name in self._part.names]
        self._weights = self._weights_of(there)
        # What counts nothing need not be kept; but something must be there.
        self._weights = {name: weight for name, weight in self._weights.items() if weight > 0}
        self._members = {name: member for name, member in self._members.items() if name in self._weights}
        self._shared = {}

    def _weights_of(self, there: list[str]) -> dict[str, float]:
        names = list(self.parameters.members)
        own = [_is_own(member) for member in self.parameters.members.values()]
        if self._part.weights is not None:
            row = weights_at(self._days, self._part.days, self._part.weights)
        else:
            row = _unjudged(self._days / self.parameters.full_days, own, names, there, list(self._part.names))
        weights = {name: float(weight) for name, weight in zip(names, row, strict=True) if name in there}
        total = sum(weights.values())
        if total <= 0:
            return dict.fromkeys(there, 1 / len(there))
        return {name: weight / total for name, weight in weights.items()}

    def _predict(self, features: pd.DataFrame) -> Array:
        if missing := [name for name in self.needs_shared if name not in self._shared]:
            raise RuntimeError(f"{self}: the fleet's model {', '.join(missing)} is not attached")
        known = features.drop(columns="valid_at", errors="ignore")
        members = self._counted
        return np.asarray(sum(weight * members[name].predict(known) for name, weight in self._weights.items()))

    def contributions(self, features: pd.DataFrame) -> Contributions | None:
        """Attributions of the medians, averaged by weight over the members that have them; none where no member has."""
        known = features.drop(columns="valid_at", errors="ignore")
        return contributions_of_members(self._counted, self._weights, known)

    @property
    def _counted(self) -> dict[str, Forecaster]:
        """Its members that count, own and shared, in the order of their weights."""
        return {name: self._members.get(name) or self._shared[name] for name in self._weights}

    def _save(self, folder: Path) -> None:
        numbers = {name: number for number, name in enumerate(self._members)}
        for name, number in numbers.items():
            self._members[name].save(folder / f"member_{number}")
        learnt = {"days": self._days, "weights": self._weights, "members": numbers}
        (folder / HAND_OVER).write_text(json.dumps(learnt, indent=2) + "\n", encoding="utf-8")

    def _load(self, folder: Path) -> None:
        learnt = json.loads((folder / HAND_OVER).read_text(encoding="utf-8"))
        self._days, self._weights = learnt["days"], learnt["weights"]
        self._members = {name: load_model(folder / f"member_{number}") for name, number in learnt["members"].items()}


def days_of_history(features: pd.DataFrame) -> float:
    """Days on which there are rows; where their times are not known, a day is 24 rows."""
    if "valid_at" in features:
        return float(features["valid_at"].dt.floor("D").nunique())
    return len(features) / _HOURS_PER_DAY


def weights_at(days: float, lengths: Sequence[float], weights: Array) -> Array:
    """The weights at so many days: in straight lines between lengths, over the logarithm of days."""
    at = np.log1p(np.asarray(lengths, dtype=np.float64))
    return np.array([np.interp(np.log1p(days), at, column) for column in weights.T])


def _unjudged(share: float, own: list[bool], names: list[str], there: list[str], shared: list[str]) -> Array:
    """Own counts its share of full history; the rest is the fleet's, and without a fleet that of those who need no history."""
    own_there = [name for name, mine in zip(names, own, strict=True) if mine and name in there]
    others = [name for name in there if name not in own_there]
    begins = [name for name in others if name in shared] or others
    mine = min(share, 1.0) if begins else 1.0
    row = dict.fromkeys(names, 0.0)
    row |= {name: mine / len(own_there) for name in own_there}
    row |= {name: (1 - mine) / len(begins) for name in begins}
    return np.array(list(row.values()))


def learn_from_fleet(
    name: str,
    member_configs: Mapping[str, Mapping[str, Any]],
    pool: pd.DataFrame,
    judged: Mapping[str, tuple[pd.DataFrame, Sequence[Farm]]],
    levels: Sequence[float],
    seed: int,
    parameters: HandOverParameters | None,
    *,
    alone: bool = False,
) -> FleetPart:
    """What is learnt once over all farms: models of the fleet, and of a hand-over its weights by days of history.

    Args:
        name: of the candidate, for messages.
        member_configs: by name, the candidates that are to be learnt or judged.
        pool: rows of `contracts.ModelInput` of all farms, a bounded number of each, known by now.
        judged: all rows of those farms that are forecast as if they were new, and their cards.
        levels: quantile levels.
        seed: of all random numbers.
        parameters: of the hand-over; none: only models of the fleet are wanted.
        alone: whether there is one farm and no other that could share a model.
    """
    of_fleet = {member: config for member, config in member_configs.items() if _of_fleet(config)}
    # Of a single farm the fleet's model would be its own once more; but who asks for it alone is given it.
    models = {
        member: _fitted_to(member, config, pool, levels, seed)
        for member, config in of_fleet.items()
        if not alone or parameters is None
    }
    if parameters is None:
        return FleetPart(models, list(models))
    forecasts = _judge(member_configs, pool, judged, levels, seed, parameters)
    if not forecasts:
        return FleetPart(models, list(models))
    days, weights = _learn_weights(forecasts, member_configs, levels)
    return FleetPart(models, list(models), days, weights)


@dataclass(frozen=True)
class _Rows:
    """Forecasts of the members (members, rows, levels), the observed power, and the day of the issue of each row."""

    quantiles: Array
    came: Array
    day: NDArray[np.datetime64]

    @classmethod
    def joined(cls, parts: Sequence[_Rows]) -> _Rows:
        return cls(
            np.concatenate([part.quantiles for part in parts], axis=1),
            np.concatenate([part.came for part in parts]),
            np.concatenate([part.day for part in parts]),
        )

    def losses(self, weights: Array, levels: Sequence[float]) -> Array:
        """Pinball of the members so weighted, mean of each day of issue over all farms."""
        there = weights > 0
        mix = np.tensordot(weights[there], self.quantiles[there], axes=1)
        loss = pinball_loss(self.came, mix, list(levels)).mean(axis=1)
        return np.asarray(pd.Series(loss).groupby(self.day).mean().to_numpy(np.float64))


#: By days of own history.
_Judged = dict[float, list[_Rows]]


def _judge(
    configs: Mapping[str, Mapping[str, Any]],
    pool: pd.DataFrame,
    judged: Mapping[str, tuple[pd.DataFrame, Sequence[Farm]]],
    levels: Sequence[float],
    seed: int,
    parameters: HandOverParameters,
) -> _Judged:
    end = max(table["issued_at"].max() for table, _ in judged.values()) + pd.Timedelta(days=1)
    found: _Judged = {}
    elsewhere = pool[~pool["entity_id"].isin(list(judged))]
    for cut in range(parameters.cuts):
        until = end - pd.Timedelta(days=cut * parameters.cut_every_days)
        start = until - pd.Timedelta(days=parameters.judged_days)
        # A fleet's model that has never seen the farms that are judged, and nothing that came later.
        others = known_at(elsewhere, start)
        if others.empty and not elsewhere.empty:
            continue
        shared = {
            name: _fitted_to(name, config, others, levels, seed)
            for name, config in configs.items()
            if _of_fleet(config) and not others.empty
        }
        for table, farms in judged.values():
            past = known_at(table, start)
            ahead = table[(table["issued_at"] >= start) & (table["issued_at"] < until)]
            if past.empty or ahead.empty:
                continue
            asked, came = feature_matrix(ahead), ahead["power_share"].to_numpy(np.float64)
            full = days_of_history(past)
            # All of its history counts as the longest length that it reaches nearly: farms differ by days, not in kind.
            lengths = [length for length in parameters.lengths_days if length < 0.8 * full]
            constant = {
                name: member.predict(asked)
                for name, config in configs.items()
                if (member := _without_own(name, config, shared, farms, asked, levels, seed)) is not None
            }
            for length in [*lengths, full]:
                own = past[past["issued_at"] >= start - pd.Timedelta(days=length)]
                if len(own) < parameters.min_rows:
                    continue
                quantiles = [
                    constant[name]
                    if name in constant
                    else _fitted_to(name, config, own, levels, seed).predict(asked)
                    if _is_own(config)
                    else np.full((len(asked), len(levels)), np.nan)
                    for name, config in configs.items()
                ]
                day = ahead["issued_at"].dt.tz_convert(None).dt.floor("D").to_numpy()
                found.setdefault(length, []).append(_Rows(np.stack(quantiles), came, day))
    return _full_together(found, parameters)


def _full_together(found: _Judged, parameters: HandOverParameters) -> _Judged:
    """Full histories, each of its own length, are judged as one: at their mean length."""
    full = [length for length in found if length not in parameters.lengths_days]
    if len(full) < 2:  # noqa: PLR2004 one is its own mean
        return found
    together = {length: rows for length, rows in found.items() if length not in full}
    return together | {float(np.mean(full)): [row for length in full for row in found[length]]}


def _without_own(
    name: str,
    config: Mapping[str, Any],
    shared: Mapping[str, Forecaster],
    farms: Sequence[Farm],
    asked: pd.DataFrame,
    levels: Sequence[float],
    seed: int,
) -> Forecaster | None:
    """A member that forecasts a farm the same whatever its history is; none: it learns from it, or is not there."""
    if _of_fleet(config):
        return shared.get(name)
    if _needs_history(config):
        return None
    carded = ModelConfig.model_validate(config).of_farms(farms).model_dump(mode="json", exclude_defaults=True)
    return _fitted(name, carded, asked.iloc[:0], np.empty(0), levels, seed)


def _learn_weights(
    forecasts: _Judged, configs: Mapping[str, Mapping[str, Any]], levels: Sequence[float]
) -> tuple[list[float], Array]:
    """Lengths and weights: at day 0 of those members that need no history, then what was best at each length."""
    own = np.array([_is_own(config) for config in configs.values()], dtype=np.bool_)
    lengths = sorted(forecasts)
    rows = {length: _Rows.joined(forecasts[length]) for length in lengths}
    there = np.asarray(~np.isnan(next(iter(rows.values())).quantiles).any(axis=(1, 2)), dtype=np.bool_)
    table = [_best(_Rows.joined(list(rows.values())), there & ~own, levels)]
    table += [_best(rows[length], there, levels) for length in lengths]
    # For good it is its own model that counts, unless the others are proven to help.
    alone = _best(rows[lengths[-1]], there & own, levels)
    if alone.any() and not _helps(rows[lengths[-1]], alone, table[-1], levels):
        table[-1] = alone
    weights = np.stack(table)
    if not own.any():
        return [0.0, *lengths], weights
    # Own counts never less for having more history: what falls is chance.
    for before, row in pairwise(weights):
        least = before[own].sum()
        if row[own].sum() < least:
            row[own] = before[own]
            rest = row[~own].sum()
            row[~own] = row[~own] * (1 - least) / rest if rest > 0 else before[~own]
    return [0.0, *lengths], weights


def _best(rows: _Rows, which: NDArray[np.bool_], levels: Sequence[float]) -> Array:
    weights = np.zeros(len(rows.quantiles))
    if which.any():
        weights[which] = best_weights(rows.quantiles[which], rows.came, levels)
    return weights


def _helps(rows: _Rows, alone: Array, mix: Array, levels: Sequence[float]) -> bool:
    return chance(rows.losses(alone, levels), rows.losses(mix, levels), _DAYS_AHEAD) <= _SIGNIFICANCE


def _fitted_to(name: str, config: Mapping[str, Any], table: pd.DataFrame, levels: Sequence[float], seed: int) -> Forecaster:
    share = table["power_share"].to_numpy(np.float64)
    return _fitted(name, config, feature_matrix(table), share, levels, seed)


def _fitted(
    name: str, config: Mapping[str, Any], features: pd.DataFrame, share: Array, levels: Sequence[float], seed: int
) -> Forecaster:
    parsed = ModelConfig.model_validate(config)
    own = features[parsed.columns_of(features.columns)].reset_index(drop=True)
    return build(name, parsed, levels, seed).fit(own, pd.Series(share, dtype=np.float64))


def _of_fleet(config: Mapping[str, Any]) -> bool:
    return config.get("scope") == "fleet"


def _needs_history(config: Mapping[str, Any]) -> bool:
    return ModelConfig.model_validate(config).needs_history


def _is_own(config: Mapping[str, Any]) -> bool:
    return not _of_fleet(config) and _needs_history(config)
