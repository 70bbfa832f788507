"""Rows stamped twice at a clock change, put back into the hour they belong to, where that can be proven."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wind_kedro.pipelines.data_engineering.settings import Retiming

Floats = NDArray[np.float64]
#: What continuity is judged by. Power and pitch follow the wind speed: they would count it again.
_SIGNALS = ("wind_speed_ms", "wind_direction_deg", "temperature_c")
_DIRECTION = _SIGNALS.index("wind_direction_deg")
#: So many turbines are judged together: their joint states are two to this power.
_JOINTLY = 6
#: Steps smaller than this in all hours before are no measure: the signal stands still.
_NO_STEP = 1e-9


@dataclass(frozen=True)
class _Doubled:
    """One turbine's hour whose every stamp came twice, beside an hour of which no row came."""

    rows: pd.DataFrame  # index: valid_at
    stamps: list[pd.Timestamp]
    pairs: list[pd.DataFrame]
    first_hour: pd.Timestamp  # start of the earlier of the two hours
    length: pd.Timedelta

    @property
    def values(self) -> Floats:
        """Signals, (pair, row of the pair, signal)."""
        return np.array([pair[list(_SIGNALS)].to_numpy(dtype="float64") for pair in self.pairs])


@dataclass(frozen=True)
class Change:
    """One change of a farm's local clock."""

    at: pd.Timestamp  # UTC without zone
    minutes: int  # by how much, forward positive


def retime(rows: pd.DataFrame, change: Change, cadence_seconds: int, settings: Retiming) -> pd.DataFrame:
    """Put right what a farm's logger stamped wrongly around one change of the local clock.

    Rows that say when they came prove it one by one, so that what comes later changes nothing:

    - A row that came more than half the change before its interval was over is of the interval one change earlier.
    - In the hour that a local clock repeats, stamps are read as its first pass. A row that came when the second pass of
      its interval was over, after another one that came before that, is of the second pass.

    Rows that do not can only be judged together. A logger that skips an hour in spring with its labels only leaves a
    mark: of a turbine, every stamp of a stretch as long as the change came exactly twice, and the stretch right before or
    right after it is wholly missing. Then the doubled rows are both stretches, and only which row of a pair is the earlier
    is open. Each assignment of a turbine's pairs gives two stretches that follow one another between the row before and
    the row after. Steps of wind speed, direction and temperature are taken as Laplace distributed, with the mean absolute
    step of the hours before as scale, and the chance of each pair's order is summed over all assignments
    (forward-backward). The turbines of a farm are judged together: they stand in the same weather, so that their
    differences are Laplace distributed too, around the usual difference of the hours before. A pair whose order is surer
    than ``min_probability`` is put right; another stays as it is, in conflict. Signals, and turbines, are not independent
    witnesses, so that logarithms of likelihoods count by ``evidence_share`` only.

    Args:
        rows: a farm's rows around the change, none a repetition: ``turbine_id``, ``source_file``, ``source_row``,
            ``reading``, ``valid_at``, ``received_at``, ``arrived_at``, ``available_at`` and the signals.
        change: of the local clock.
        cadence_seconds: from stamp to stamp.
        settings: see above.

    Returns:
        One row per row put in order: ``source_file, source_row, valid_at, available_at`` (when the last row it was
        judged by could be used) and ``moved``, whether its stamp changed.
    """
    step = pd.Timedelta(seconds=cadence_seconds)
    out = _by_arrival(rows[rows["received_at"].notna()], change, step)
    found = {
        str(turbine): doubled
        for turbine, own in rows[rows["received_at"].isna()].groupby("turbine_id")
        if (doubled := _doubled(own, abs(change.minutes), cadence_seconds)) is not None
        # Only with a row before and a row after; without, it is too early to tell.
        and _before(doubled) is not None
        and _after(doubled) is not None
    }
    known = max((_judged_at(one) for one in found.values()), default=None)
    for turbine, (earlier, sure) in _orders(found, settings.evidence_share).items():
        one = found[turbine]
        for pair, stamp, first, probability in zip(one.pairs, one.stamps, earlier, sure, strict=True):
            if probability < settings.min_probability:
                continue
            hour = one.first_hour + (stamp - one.stamps[0])
            for row, valid_at in ((pair.iloc[first], hour), (pair.iloc[1 - first], hour + one.length)):
                out.append((row["source_file"], row["source_row"], valid_at, known, valid_at != stamp))
    kinds = {
        "source_file": "str",
        "source_row": "int64",
        "valid_at": "datetime64[us]",
        "available_at": "datetime64[us]",
        "moved": "bool",
    }
    return pd.DataFrame(out, columns=list(kinds)).astype(kinds)


def _by_arrival(rows: pd.DataFrame, change: Change, step: pd.Timedelta) -> list[tuple[str, int, Any, Any, bool]]:
    """Rows whose arrival alone proves their stamp wrong."""
    length = pd.Timedelta(minutes=abs(change.minutes))
    out: list[tuple[str, int, Any, Any, bool]] = []
    early = rows[rows["received_at"] < rows["valid_at"] + step - length / 2]
    row: Any
    for row in early.to_dict("records"):
        before = row["valid_at"] - length
        out.append((row["source_file"], row["source_row"], before, max(row["available_at"], before + step), True))
    repeated = rows[
        (change.minutes < 0)
        & (rows["reading"] == "wall_clock_is_local")
        & (rows["valid_at"] >= change.at - length)
        & (rows["valid_at"] < change.at)
    ].sort_values(["received_at", "source_file", "source_row"])
    for _, versions in repeated.groupby(["turbine_id", "valid_at"]):
        second: Any = versions["valid_at"].iloc[0] + length
        over = versions["received_at"] >= second + step
        if len(versions) > 1 and not over.iloc[0] and over.any():
            row = versions[over].iloc[0]
            out.append((row["source_file"], row["source_row"], second, max(row["available_at"], second + step), True))
    return out


def _doubled(rows: pd.DataFrame, change_minutes: int, cadence_seconds: int) -> _Doubled | None:
    step, length = pd.Timedelta(seconds=cadence_seconds), pd.Timedelta(minutes=change_minutes)
    if change_minutes * 60 % cadence_seconds:
        return None
    counts = rows["valid_at"].value_counts()
    stamps = sorted(counts[counts > 1].index)
    whole = [stamps[0] + step * k for k in range(change_minutes * 60 // cadence_seconds)] if stamps else []
    if not stamps or stamps != whole or (counts[stamps] != 2).any():  # noqa: PLR2004 - a pair
        return None
    there = set(counts.index)
    missing = [shift for shift in (-length, length) if not there & {stamp + shift for stamp in stamps}]
    if len(missing) != 1:
        return None  # neither or both: nothing says which
    at = rows.set_index("valid_at").sort_index()
    pairs = [at.loc[[stamp]].sort_values(["arrived_at", "source_file", "source_row"]) for stamp in stamps]
    return _Doubled(at, stamps, pairs, min(stamps[0], stamps[0] + missing[0]), length)


def _before(one: _Doubled) -> pd.DataFrame | None:
    rows = one.rows[one.rows.index < one.first_hour]
    return None if rows.empty else rows


def _after(one: _Doubled) -> pd.DataFrame | None:
    rows = one.rows[one.rows.index >= one.first_hour + 2 * one.length]
    return None if rows.empty else rows.iloc[:1]


def _judged_at(one: _Doubled) -> pd.Timestamp:
    """When the last row that continuity looks at could be used."""
    after = _after(one)
    assert after is not None  # noqa: S101 - asked for by the caller
    latest: pd.Timestamp = one.rows.loc[one.rows.index <= after.index[0], "available_at"].max()
    return latest


# --- by continuity ----------------------------------------------------------------------------------------------------


def _differences(one: Floats, other: Floats) -> Floats:
    """Signal by signal, directions the short way round."""
    away = one - other
    away[..., _DIRECTION] = (away[..., _DIRECTION] + 180.0) % 360.0 - 180.0
    return away


def _scale(steps: Floats) -> Floats:
    """Mean absolute step per signal; a signal that does not move, or is not there, weighs nothing."""
    count = np.isfinite(steps).sum(axis=0)
    mean = np.nansum(np.abs(steps), axis=0) / np.maximum(count, 1)
    return np.where(mean > _NO_STEP, mean, np.inf)


def _cost(away: Floats, scale: Floats) -> Floats:
    cost: Floats = np.nansum(np.abs(away) / scale, axis=-1)
    return cost


def _orders(found: Mapping[str, _Doubled], share: float) -> dict[str, tuple[NDArray[np.int64], Floats]]:
    """For each turbine's pairs the row that is the earlier (0 or 1), and how sure that is."""
    alike: dict[tuple[pd.Timestamp, ...], list[str]] = {}
    for turbine, one in found.items():
        alike.setdefault((one.first_hour, *one.stamps), []).append(turbine)
    orders = {}
    for turbines in alike.values():
        for first in range(0, len(turbines), _JOINTLY):
            some = turbines[first : first + _JOINTLY]
            chances = _chances([found[turbine] for turbine in some], share)
            for turbine, own in zip(some, chances, strict=True):
                orders[turbine] = (own.argmax(axis=1), own.max(axis=1))
    return orders


def _chances(turbines: list[_Doubled], share: float) -> Floats:
    """Chance of each state of each pair, (turbine, pair, state). State 0: the pair's first row belongs to the earlier hour.

    Forward-backward over the pairs, where a joint state is one state of every turbine. In each turbine the earlier hour
    follows on the row before, the later on the earlier, the row after on the later. All is in logarithms.
    """
    bits = np.array(list(np.ndindex(*[2] * len(turbines))))  # (joint state, turbine)
    count = len(turbines[0].stamps)
    links = np.zeros((count - 1, len(bits), len(bits)))
    enter, leave = np.zeros(len(bits)), np.zeros(len(bits))
    join = np.zeros((len(bits), len(bits)))  # last pair's state, first pair's state
    for place, one in enumerate(turbines):
        before, after = _before(one), _after(one)
        assert before is not None  # noqa: S101 - asked for by the caller
        assert after is not None  # noqa: S101
        history = before[list(_SIGNALS)].to_numpy(dtype="float64")
        last = after[list(_SIGNALS)].to_numpy(dtype="float64")[0]
        scale = _scale(_differences(history[1:], history[:-1])) / share
        x = one.values
        own = bits[:, place]
        # steps[k, a, b]: from row a of pair k to row b of the next; in the other hour the other rows step alike.
        steps = _cost(_differences(x[1:, None, :, :], x[:-1, :, None, :]), scale)
        both = steps + steps[:, ::-1, ::-1]
        links -= both[:, own[:, None], own[None, :]]
        enter -= _cost(_differences(x[0], history[-1]), scale)[own]
        leave -= _cost(_differences(last, x[-1]), scale)[1 - own]
        joins = _cost(_differences(x[0][None, :, :], x[-1][:, None, :]), scale)
        join -= joins[own[:, None], 1 - own[None, :]]
    agree = _agreement(turbines, bits, share)

    total = np.full((count, len(bits)), -np.inf)
    for start in range(len(bits)):  # where the later hour begins depends on the first pair's state, so that one is held
        forward = np.full((count, len(bits)), -np.inf)
        forward[0, start] = enter[start] + agree[0, start]
        for k in range(1, count):
            forward[k] = np.logaddexp.reduce(forward[k - 1][:, None] + links[k - 1], axis=0) + agree[k]
        backward = np.zeros((count, len(bits)))
        backward[-1] = leave + join[:, start]
        for k in range(count - 2, -1, -1):
            backward[k] = np.logaddexp.reduce(links[k] + (backward[k + 1] + agree[k + 1])[None, :], axis=1)
        total = np.logaddexp(total, forward + backward)
    weights = np.exp(total - np.logaddexp.reduce(total, axis=1, keepdims=True))
    return np.array(
        [[weights[:, bits[:, place] == state].sum(axis=1) for state in (0, 1)] for place in range(len(turbines))]
    ).transpose(0, 2, 1)


def _agreement(turbines: list[_Doubled], bits: NDArray[np.int64], share: float) -> Floats:
    """How well the turbines agree in each joint state of each pair, (pair, joint state): they stand in the same weather.

    A turbine has as many differences as there are others; together they count as one.
    """
    agree = np.zeros((len(turbines[0].stamps), len(bits)))
    names = list(_SIGNALS)
    for i, one in enumerate(turbines):
        for j in range(i + 1, len(turbines)):
            other = turbines[j]
            past, others = (
                one.rows.loc[one.rows.index < one.first_hour],
                other.rows.loc[other.rows.index < one.first_hour],
            )
            both = past[names].merge(others[names], left_index=True, right_index=True, suffixes=("", "_other"))
            apart = _differences(
                both[names].to_numpy(dtype="float64"),
                both[[f"{name}_other" for name in names]].to_numpy(dtype="float64"),
            )
            usual = np.array([_median(column) for column in apart.T])
            scale = _scale(_differences(apart, usual[None, :])) / share
            x, y = one.values, other.values
            cost = _cost(_differences(x[:, :, None, :] - y[:, None, :, :], usual), scale)
            both_hours = cost + cost[:, ::-1, ::-1]
            agree -= both_hours[:, bits[:, i], bits[:, j]] / (len(turbines) - 1)
    return agree


def _median(values: Floats) -> float:
    there = values[np.isfinite(values)]
    return float(np.median(there)) if len(there) else 0.0
