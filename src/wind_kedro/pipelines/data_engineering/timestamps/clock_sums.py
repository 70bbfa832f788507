"""Sums by which farm clocks are calibrated: wind of signals and of weather, by week and lag, of the rows of each calibration.

The rows of a farm are divided into blocks, by the first calibration that uses them. The sums of a block do not change once its
rows and the weather known by then do not, so that a calibration is computed from the sums of earlier ones.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wind_kedro.cards import Farm, Fleet
from wind_kedro.cards.farms import at_leading_points
from wind_kedro.clock import Clock
from wind_kedro.datasets.derived import Derived, days_of, frame_of
from wind_kedro.pipelines.data_engineering.parse.signals import READINGS
from wind_kedro.pipelines.data_engineering.settings import ClockSearch, DataEngineering
from wind_kedro.pipelines.data_engineering.signals.unit_checks import with_suspicions
from wind_kedro.pipelines.data_engineering.tables import Table, exact, ibis, interpolated, naive
from wind_kedro.storage.fingerprints import Recipe, around, mixed, of_cards, overlapping

if TYPE_CHECKING:
    import pyarrow as pa

Floats = NDArray[np.float64]
#: Change it when the sums change that the same input gives.
VERSION = 1
#: Wind of finer cadences is averaged to this interval. Readings of a stamp differ by whole quarter hours, so that the intervals
#: are the same under all of them.
_COMPARED_SECONDS = 300
#: Range of the step between lags, minutes; the peak is interpolated.
_FINEST_LAG_MINUTES = 5
_COARSEST_LAG_MINUTES = 15
WEEK_MINUTES = 7 * 24 * 60
#: Maximum number of distinct phases of stamps within a lag step for the lookup table; with more, all are interpolated.
_FEW_PHASES = 8
_MEANS = ("farm_id", "block", *READINGS)
_MONTHS = 12
_FIRST = -1  # number of the first block; others have that of their month
_NEVER = pd.Timestamp(9999, 1, 1).as_unit("us")
_WEATHER = ("farm_id", "weather_model", "weather_point", "run_at", "available_at", "valid_at", "wind_speed_100m_ms")

#: Sums over a period for Pearson's correlation at every lag, shape (reading, 6, lag): n, Σx, Σy, Σx², Σy², Σxy with x signals
#: and y weather.
Sums = Floats
#: Week of the stamp and offset of the local clock, minutes → its sums.
Weeks = dict[tuple[int, int], Sums]


# --- the derived table ------------------------------------------------------------------------------------------------


def derive_clock_sums(
    parsed_signals: Derived,
    weather: Derived | pd.DataFrame,
    suspected_units: Derived | pd.DataFrame,
    fleet: Fleet,
    clock: Clock,
    data_engineering: DataEngineering,
) -> Recipe:
    """Sum up wind of signals and of weather for each calibration (`sum_weeks`): one shard per farm and calibration.

    A shard depends on the days of signals of which rows arrived between its calibration and the one before, on the weather around
    these days that was available by then, and on what was suspected of units by then.
    """
    search = data_engineering.clock_search
    firsts = first_calibrations(parsed_signals.days, search)
    suspected = naive(frame_of(suspected_units), ["since", "found_at", "until"])
    spans = _blocks(parsed_signals.days, firsts, clock)
    blocks = around(spans.drop(columns="day").rename(columns={"block": "day"}), ["farm_id"])
    first_days = spans.groupby(["farm_id", "block"], as_index=False).agg(first=("day", "min")).rename(columns={"block": "day"})
    blocks = blocks.merge(first_days, on=["farm_id", "day"])
    reach = {farm.id: _reach(farm) + pd.Timedelta(days=1) for farm in fleet.farms}
    asked = pd.DataFrame(
        {
            "farm_id": blocks["farm_id"],
            "first": blocks["first"] - blocks["farm_id"].map(reach).astype("timedelta64[us]"),
            "last": blocks["day"],
        }
    )
    runs = days_of(weather, ["farm_id"], "run_at")
    begun = np.maximum(runs["day"], runs["first_at"]) if "first_at" in runs else runs["day"]
    seen = runs[["farm_id"]].assign(first=begun, last=begun, number=mixed(runs["digest"], runs["day"]))
    wrong = suspected[suspected["signal"] == "wind_speed_ms"]
    turbines = pd.util.hash_pandas_object(wrong["turbine_id"].astype("str"), index=False)
    doubts = wrong[["farm_id"]].assign(
        first=wrong["found_at"], last=_NEVER, number=mixed(turbines, wrong["since"], wrong["until"], wrong["found_at"])
    )
    cards = {
        farm.id: [
            farm.signals.cadence_seconds,
            [(source.model, source.length_hours) for source in farm.weather],
            [(since, version.leading_points) for since, version in farm.versions],
        ]
        for farm in fleet.farms
    }
    step = of_cards(cards, VERSION, search.max_lag_minutes, search.max_weather_gap_hours)[blocks["farm_id"]].to_numpy()
    fingerprint = mixed(
        blocks["digest"],
        overlapping(seen, asked, "farm_id"),
        overlapping(doubts, asked.assign(first=asked["last"]), "farm_id"),
        firsts[blocks["farm_id"]],
        step,
    )
    wanted = blocks[["farm_id", "day", "rows"]].assign(step=step, fingerprint=fingerprint)

    def work(part: pd.DataFrame) -> pa.Table:
        own = part[["farm_id", "day"]].rename(columns={"day": "block"})
        days = spans.merge(own, on=["farm_id", "block"])[["farm_id", "day"]].drop_duplicates()
        means = wind_by_block(parsed_signals.shards(days), firsts, suspected, fleet)
        wind = means.semi_join(ibis.memtable(own), ["farm_id", "block"]).to_pandas()
        # The first write of the table may have no shard: no farm has its first calibration yet.
        longest = max((reach[farm_id] for farm_id in own["farm_id"].unique()), default=pd.Timedelta(0))
        first = days["day"].min() - longest
        runs = frame_of(weather, _WEATHER, first=first, last=own["block"].max())
        return sum_weeks(wind, runs[runs["farm_id"].isin(own["farm_id"])], fleet, search)

    return Recipe(wanted, work)


def _blocks(days: pd.DataFrame, firsts: pd.Series, clock: Clock) -> pd.DataFrame:
    """One row per shard of signals and block by as_of that may use rows of it: ``farm_id, day, block, digest, rows``."""
    days = days.loc[days["valid"] > 0, ["farm_id", "day", "digest", "rows", "first_arrived", "last_arrived"]]
    days = days[days["farm_id"].isin(firsts.index)].reset_index(drop=True)
    first = days["farm_id"].map(firsts)

    def number(arrived: pd.Series) -> Any:
        before = arrived - pd.Timedelta(microseconds=1)  # blocks are (previous, this]
        month = before.dt.year * _MONTHS + before.dt.month
        return month.where(arrived > first, _FIRST).astype("int64").to_numpy()

    begin, end = number(days["first_arrived"]), number(days["last_arrived"])
    early = days[begin == _FIRST].assign(block=first[begin == _FIRST])
    # Behind the first calibration: the months from the first row's, or from the first calibration's, to the last row's.
    begin = np.where(begin == _FIRST, number(first + pd.Timedelta(microseconds=1)), begin)
    counts = np.where(end == _FIRST, 0, end - begin + 1)
    later: pd.DataFrame = days.loc[days.index.repeat(counts)]
    month = np.repeat(begin, counts) + later.groupby(level=0).cumcount().to_numpy()
    starts = (month - 1970 * _MONTHS).astype("datetime64[M]").astype("datetime64[us]")  # of the following month
    found: pd.DataFrame = pd.concat([early, later.assign(block=starts)], ignore_index=True).astype({"block": "datetime64[us]"})
    known = found["block"] <= pd.Timestamp(clock.as_of).tz_localize(None)
    return found.loc[known, ["farm_id", "day", "block", "digest", "rows"]]


def of_clock_sums(rows: Table) -> dict[str, Any]:
    """Statistics: the newest week of a block; missing where there is no weather to compare with."""
    return {"last_week": rows.week.max()}


# --- pure functions ---------------------------------------------------------------------------------------------------


def first_calibrations(days: pd.DataFrame, search: ClockSearch) -> pd.Series:
    """Time of the first clock calibration by farm, before which its rows cannot be used (UTC without zone).

    Args:
        days: statistics of parsed signals (`statistics_of`): ``farm_id``, ``day``, ``valid``, ``first_arrived``.
        search: how many days with valid rows it needs.
    """
    days = days[days["valid"] > 0].groupby(["farm_id", "day"], as_index=False).agg(arrived=("first_arrived", "min"))
    days = days.sort_values(["farm_id", "arrived"])
    firsts = {}
    for farm_id, own in days.groupby("farm_id"):
        latest = own["arrived"].iloc[0] + pd.Timedelta(days=2 * search.min_history_days)
        if len(own) >= search.min_history_days:
            latest = min(latest, own["arrived"].iloc[search.min_history_days - 1])
        firsts[farm_id] = latest.ceil("D")
    return pd.Series(firsts, dtype="datetime64[us]")


def sum_weeks(wind: pd.DataFrame, weather: pd.DataFrame, fleet: Fleet, search: ClockSearch) -> pa.Table:
    """Sums of wind of signals and weather at every lag.

    Args:
        wind: mean wind speed, m/s, by ``farm_id``, ``block`` and the readings of its stamp.
        weather: contract `Weather`, or the columns that are read.
        fleet: the cards.
        search: lags and gaps.

    Returns:
        One row per farm, block, ``week`` of the stamps and ``local_minutes`` (offset of the local clock), with ``sums``: those of
        `Sums`, flat. A block without any weather to compare with has one row, without week.
    """
    import pyarrow as pa

    runs = naive(at_leading_points(weather, fleet.farms), ["run_at", "available_at", "valid_at"])
    of_farm, nothing = dict(list(runs.groupby("farm_id"))), runs.iloc[:0]
    rows: list[tuple[Any, ...]] = []
    # In order, so that sums are the same in every run.
    key: Any
    for key, own in wind.sort_values(list(_MEANS)).groupby(["farm_id", "block"], sort=True):
        farm, block = fleet.farm(key[0]), key[1]
        found = _week_sums(farm, own, of_farm.get(farm.id, nothing), block, lags_of(farm, search), search)
        rows += [(farm.id, block, *week, sums.ravel()) for week, sums in found.items()] or [(farm.id, block, None, None, None)]
    types = {
        "farm_id": pa.string(), "block": pa.timestamp("us"), "week": pa.int64(), "local_minutes": pa.int64(),
        "sums": pa.list_(pa.float64()),
    }  # fmt: skip
    columns = zip(*rows, strict=True) if rows else ([] for _ in types)
    return pa.table({name: pa.array(list(values), kind) for (name, kind), values in zip(types.items(), columns, strict=True)})


def weeks_of(sums: pd.DataFrame, farm: Farm, search: ClockSearch) -> Weeks:
    """The sums of one farm (results of `sum_weeks`) by week and offset, added in the order of blocks."""
    shape = (len(READINGS), 6, len(lags_of(farm, search)))
    known = sums[sums["week"].notna()].sort_values(["block", "week", "local_minutes"])
    weeks: Weeks = {}
    for week, offset, flat in zip(known["week"], known["local_minutes"], known["sums"], strict=True):
        key = int(week), int(offset)
        weeks[key] = weeks.get(key, 0.0) + np.asarray(flat, dtype="float64").reshape(shape)
    return weeks


def compared_seconds(farm: Farm) -> int:
    """Length of the intervals whose mean wind is compared, seconds."""
    cadence = farm.signals.cadence_seconds
    return cadence if _COMPARED_SECONDS % cadence else _COMPARED_SECONDS


def lags_of(farm: Farm, search: ClockSearch) -> Floats:
    """Lags searched, minutes, in steps that divide the cadence or are its multiple, so that weather is interpolated once."""
    cadence = compared_seconds(farm) / 60
    if cadence > _COARSEST_LAG_MINUTES:
        step = float(max(n for n in range(1, _COARSEST_LAG_MINUTES + 1) if cadence % n == 0))
    else:
        step = cadence * math.ceil(_FINEST_LAG_MINUTES / cadence)
    count = int(search.max_lag_minutes // step)
    return np.arange(-count, count + 1, dtype="float64") * step


def _reach(farm: Farm) -> pd.Timedelta:
    """How long before a row a run may start that is compared with it: as long as a run, and the lags and gaps around it."""
    return pd.Timedelta(hours=max((source.length_hours for source in farm.weather), default=0)) + pd.Timedelta(days=1)


def wind_by_block(parsed: Table, firsts: pd.Series, suspected_units: pd.DataFrame, fleet: Fleet) -> Table:
    """Mean wind speed of farms per stamp (under all three readings) and block, the first calibration that uses it."""
    known = ibis.memtable(pd.DataFrame({"farm_id": firsts.index.astype("str"), "first": firsts.to_numpy()}))
    seconds = {farm.id: (compared_seconds(farm), farm.signals.cadence_seconds) for farm in fleet.farms}
    # Cadences at least as coarse as the interval compared are not averaged.
    compared = [longer if longer > cadence else 1 for longer, cadence in seconds.values()]
    steps = ibis.memtable(pd.DataFrame({"farm_id": list(seconds), "compared": compared}))
    rows = parsed.filter(parsed.reason.isnull()).inner_join(known, "farm_id").inner_join(steps, "farm_id")
    # Blocks are (previous, this]: a row that arrives at the time of a calibration is used by it.
    month = (rows.arrived - ibis.interval(microseconds=1)).truncate("M") + ibis.interval(months=1)
    rows = rows.mutate(block=ibis.ifelse(rows.arrived <= rows["first"], rows["first"], month))
    rows = rows.filter(rows.wind_speed_ms.notnull())
    wrong = suspected_units[suspected_units["signal"] == "wind_speed_ms"]
    if len(wrong):
        rows = with_suspicions(rows, wrong, "wall_clock_is_utc")
        rows = rows.filter(~(rows.wind_speed_ms_suspected_at <= rows.block).fill_null(False))
    rows = rows.mutate(**{name: rows[name] - (rows[name].epoch_seconds() % rows.compared).as_interval("s") for name in READINGS})
    return rows.group_by(*_MEANS).agg(wind_speed_ms=exact(rows.wind_speed_ms).mean().cast("float64"))


def _week_sums(
    farm: Farm, wind: pd.DataFrame, weather: pd.DataFrame, block: pd.Timestamp, lags: Floats, search: ClockSearch
) -> Weeks:
    """Sums over the rows first used by this calibration, by week and offset of the local clock; they are additive."""
    since = wind["wall_clock_is_utc"].min() - _reach(farm)
    known = weather[(weather["available_at"] <= block) & (weather["valid_at"] <= block) & (weather["run_at"] >= since)]
    if wind.empty or known.empty:
        return {}
    # The card's first model that is available: per time, its newest run, and the newest version of that.
    there = set(known["weather_model"].unique())
    known = known[known["weather_model"] == next(source.model for source in farm.weather if source.model in there)]
    known = known.sort_values(["run_at", "available_at"]).drop_duplicates("valid_at", keep="last").sort_values("valid_at")
    weather_at, weather_ms = _minutes(known["valid_at"]), known["wind_speed_100m_ms"].to_numpy()
    x = wind["wind_speed_ms"].to_numpy()
    stamp = _minutes(wind["wall_clock_is_utc"])
    week_and_offset = np.column_stack([stamp // WEEK_MINUTES, stamp - _minutes(wind["wall_clock_is_local"])]).astype("int64")
    keys, of = np.unique(week_and_offset, axis=0, return_inverse=True)
    found: Weeks = {(int(w), int(o)): np.zeros((len(READINGS), 6, len(lags))) for w, o in keys}
    for place, reading in enumerate(READINGS):
        middle = _minutes(wind[reading]) + compared_seconds(farm) / 60 / 2
        # Positive lag: signals are late, so the matching weather is earlier than their stamp.
        y = _at_lags(middle, lags, weather_at, weather_ms, search.max_weather_gap_hours * 60)
        for number, sums in enumerate(found.values()):
            rows = of.ravel() == number
            present = ~np.isnan(y[rows])
            xs, ys = np.where(present, x[rows][:, None], 0.0), np.where(present, y[rows], 0.0)
            sums[place] = [term.sum(0) for term in (present, xs, ys, xs * xs, ys * ys, xs * ys)]
    return found


def _minutes(times: pd.Series) -> Floats:
    return times.to_numpy(dtype="datetime64[s]").astype("int64") / 60.0


def _at_lags(at: Floats, lags: Floats, known_at: Floats, known: Floats, longest_gap: float) -> Floats:
    """Interpolate known values at every time minus every lag, shape (time, lag)."""
    step = float(lags[1] - lags[0])
    phases = np.unique(at % step)
    if len(phases) > _FEW_PHASES:
        return interpolated(at[:, None] - lags[None, :], known_at, known, longest_gap)
    # Stamps on a grid: interpolate every time once and look it up at all lags.
    found = np.empty((len(at), len(lags)))
    reach = len(lags) // 2
    for phase in phases:
        own = at % step == phase
        place = np.round((at[own] - phase) / step).astype("int64")
        first = int(place.min()) - reach
        grid = (np.arange(first, int(place.max()) + reach + 1) * step) + phase
        values = interpolated(grid, known_at, known, longest_gap)
        found[own] = values[(place - first)[:, None] - np.arange(-reach, reach + 1)[None, :]]
    return found
