"""Readiness of farms: facts about their data, the fit of their weather, and the tier of model that they allow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wind_kedro.cards import Farm, Fleet
from wind_kedro.cards.columns import FORECAST_WEATHER, PERFECT_WEATHER
from wind_kedro.cards.tiers import TIERS, Tier
from wind_kedro.clock import Clock
from wind_kedro.contracts.observations import Readiness, WeatherFit
from wind_kedro.datasets.derived import Derived, frame_of, table_of
from wind_kedro.evaluation.scores import latest_versions
from wind_kedro.pipelines.data_engineering.settings import ReadinessSettings, WeatherFitting
from wind_kedro.pipelines.data_engineering.shards import of_shards
from wind_kedro.pipelines.data_engineering.tables import Floats, Table, ibis, interpolated, pearson
from wind_kedro.storage.fingerprints import Recipe, mixed, number_of

Wholes = NDArray[np.int16]

#: Change it when the assessment changes that the same input gives.
VERSION = 1

_HOUR = 60  # minutes
_MINUTES_PER_DAY = 1440
#: Power in ten-thousandths of capacity and wind in cm/s are integers, whose sums are exact in any order.
_SCALE_POWER, _SCALE_WIND = 10_000, 100
_LARGEST = 32_000
_MISSING = np.int16(-32768)
#: Number of points compared at once, which limits the memory to about 10 MB per year of hours.
_BLOCK = 256
_MONTH_HOURS = 30 * 24
#: Minimum number of hours of a month that is compared.
_MIN_MONTH_HOURS = 120
#: Columns that are read.
_OBSERVED = (
    "entity_id", "granularity_minutes", "valid_at", "available_at", "power_kw", "available_capacity_kw", "coverage_share",
    "imputed_share",
)  # fmt: skip
_RUNS = ("farm_id", "weather_model", "weather_point", "run_at", "available_at", "valid_at", "wind_speed_100m_ms")
_OPERATING_STATES = {"stopped": ["stopped"], "curtailed": ["curtailed", "derated"], "iced": ["iced"]}


# --- the node ---------------------------------------------------------------------------------------------------------


def derive_readiness(
    parsed_signals: Derived,
    parsed_weather: Derived,
    timed_signals: Derived,
    signals: Derived,
    observations: Derived,
    weather: Derived,
    clock_calibration: Derived,
    fleet: Fleet,
    clock: Clock,
    readiness: ReadinessSettings,
) -> tuple[Recipe, Recipe]:
    """Assess readiness (`assess_readiness`) as of the midnights before the run and before its training time.

    One shard per farm and midnight, of readiness and of the fit of weather. They change when anything changes that was available
    by then, of any farm, as farms are compared with each other. So a run assesses the farms only if it is the first one of the
    day, or if data came late.
    """
    times = sorted({pd.Timestamp(time).floor("D") for time in (clock.training_time(fleet), clock.as_of)})
    tables = (timed_signals, signals, observations, weather, clock_calibration)
    unreadable = sorted(_unreadable(parsed_signals, parsed_weather).items())
    read = {"model", "point", "kind", "run_every_minutes", "delay_minutes"}
    cards = [
        (farm.id, farm.place, farm.signals.received_at, [source.model_dump(include=read) for source in farm.weather])
        for farm in fleet.farms
    ]
    step = np.uint64(number_of([VERSION, readiness, cards]))
    numbers = [_number_by(tables, at.tz_localize(None), unreadable) for at in times]
    shards = [(farm.id, at.tz_localize(None), number) for at, number in zip(times, numbers, strict=True) for farm in fleet.farms]
    wanted = pd.DataFrame(shards, columns=["farm_id", "day", "number"]).astype({"day": "datetime64[us]", "number": np.uint64})
    wanted = wanted.assign(step=step, fingerprint=mixed(wanted.pop("number"), step))

    @cache
    def assessed(midnights: tuple[pd.Timestamp, ...]) -> tuple[pd.DataFrame, pd.DataFrame]:
        return assess_readiness(parsed_signals, parsed_weather, *tables, fleet, midnights, readiness)

    def recipe(place: int) -> Recipe:
        def work(part: pd.DataFrame) -> pd.DataFrame:
            midnights = tuple(pd.DatetimeIndex(part["day"].unique()).tz_localize("UTC").sort_values())
            return of_shards(assessed(midnights)[place], part, "assessed_at")

        return Recipe(wanted, work)

    return recipe(0), recipe(1)


def _number_by(tables: Iterable[Derived], at: pd.Timestamp, unreadable: Sequence[tuple[str, int]]) -> np.uint64:
    """A number of all shards of which any row was available by a time."""
    found = number_of(unreadable)
    for table in tables:
        days = table.days
        # Rows without a time are always available; those of calibrations are from their day on.
        known = days["first_at"].isna() | (days["first_at"] <= at) if "first_at" in days else days["day"] <= at
        digests = mixed(days.loc[known, "digest"], days.loc[known, "day"])
        found = int(mixed(np.uint64(found), digests.sum(dtype=np.uint64))[()])
    return np.uint64(found)


def assess_readiness(
    parsed_signals: Derived | Table,
    parsed_weather: Derived | Table,
    timed_signals: Derived | Table,
    signals: Derived | Table,
    observations: Derived | pd.DataFrame,
    weather: Derived | pd.DataFrame,
    clock_calibration: Derived | pd.DataFrame,
    fleet: Fleet,
    times: Sequence[pd.Timestamp],
    readiness: ReadinessSettings,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Assess which tier of model every farm allows, and how well each weather point explains its power.

    Assessed as of each of ``times``, from the data available by then. A file that cannot be read has no time and counts for
    all.

    The fit of a point is the correlation of the farm's hourly power, as a share of the available capacity, with the point's
    wind speed at 100 m in the middle of the hour (newest run of at most ``max_lead_hours``). Matrix products compare all points
    of the fleet with all farms: time grows with farms × points × hours (1,000 farms with 2,000 points over a year: 34 s and
    0.5 GB on two busy cores), memory with points × hours × 2 bytes.

    Of parsed signals and weather only the rows of unreadable sources are used; other tables are of their contracts.

    Returns:
        Contract `Readiness`: one row per farm and ``assessed_at``; contract `WeatherFit`: one row per farm,
        ``assessed_at`` and point compared.
    """
    observations, weather = frame_of(observations, _OBSERVED), frame_of(weather, _RUNS)
    clock_calibration = frame_of(clock_calibration)
    unreadable = _unreadable(parsed_signals, parsed_weather)
    rows, fits = [], []
    for at, counted in zip(times, _counted(table_of(timed_signals), table_of(signals), times, readiness), strict=True):
        farms = _histories(observations, weather, fleet, at, readiness)
        fit = _compare(farms, at, readiness.weather_fit)
        fits.append(fit)
        newest = clock_calibration[clock_calibration["fitted_at"] <= at].sort_values("fitted_at", kind="stable")
        fitted = newest.drop_duplicates("farm_id", keep="last").set_index("farm_id")
        best = {str(farm_id): part for farm_id, part in fit.groupby("farm_id")}
        for farm in fleet.farms:
            facts = farms[farm.id].facts | dict.fromkeys(_COUNTED) | counted.get(farm.id, {})
            if farm.signals.received_at is None:  # the latency was taken from the card, not measured
                facts |= {"latency_median_minutes": None, "latency_95_minutes": None}
            facts |= {"unreadable_sources": unreadable[farm.id], "reading": "", "offset_minutes": None, "agrees": None}
            if farm.id in fitted.index:
                own = fitted.loc[farm.id].to_dict()
                offset = round(own["offset_minutes"], 1)
                facts |= {"reading": own["reading"], "offset_minutes": offset, "agrees": bool(own["agrees"])}
            facts |= _best_fit(best.get(farm.id, fit.iloc[:0]), readiness.weather_fit)
            tier, reason = judge(facts, readiness)
            rows.append({"farm_id": farm.id, "assessed_at": at, "tier": tier, "reason": reason} | facts)
    places = ["farm_id", "assessed_at", "rank", "of_farm", "weather_model", "weather_point"]
    table = Readiness.table(rows).sort_values(["farm_id", "assessed_at"], ignore_index=True)
    return table, pd.concat(fits, ignore_index=True).sort_values(places, ignore_index=True)


def _unreadable(*parsed: Derived | Table) -> Counter[str]:
    """Numbers of sources that could not be read, by farm."""
    found: Counter[str] = Counter()
    for table in parsed:
        if isinstance(table, Derived):
            counts = table.days.groupby("farm_id")["unreadable"].sum()
        else:
            counts = (
                table.group_by("farm_id").agg(sources=(table.source_row == 0).sum()).to_pandas().set_index("farm_id")["sources"]
            )
        found.update({str(farm_id): int(count) for farm_id, count in counts.items()})
    return found


# --- counts of rows ---------------------------------------------------------------------------------------------------

_COUNTED = [
    "quarantined_rows_share",
    "latency_median_minutes",
    "latency_95_minutes",
    *(f"{name}_rows_share" for name in _OPERATING_STATES),
]


def _counted(
    timed: Table, signals: Table, times: Sequence[pd.Timestamp], settings: ReadinessSettings
) -> Iterator[dict[str, dict[str, float | None]]]:
    """For each time, shares of rows and latency by farm; each table is read once for all times."""
    # The status of rows repeated by a clock change depends on later rows, so they are left out.
    settled = timed.filter(~timed.retimed.fill_null(False), timed.reason.isnull() | (timed.reason != "conflicting_stamp"))
    wait = (settled.arrived_at.epoch_seconds() - settled.valid_at.epoch_seconds() - settled.cadence) / 60
    first = settled.status.isin(["kept", "superseded"]) & (settled.version == 0)
    asked: dict[str, Any] = {}
    labelled: dict[str, Any] = {}
    for number, at in enumerate(times):
        moment = ibis.literal(at.tz_localize(None).to_pydatetime(), "timestamp")
        # A row without a time is available at any time, as in `time_signals`.
        known = settled.available_at.isnull() | (settled.available_at <= moment)
        fresh = first & known & (settled.valid_at > moment - ibis.interval(minutes=round(settings.latency_days * 1440)))
        asked |= {
            f"rows_{number}": known.sum(),
            f"quarantined_{number}": (known & (settled.status == "quarantined")).sum(),
            f"median_{number}": wait.quantile(0.5, where=fresh),
            f"late_{number}": wait.quantile(0.95, where=fresh),
        }
        there = signals.available_at <= moment
        labelled[f"rows_{number}"] = there.sum()
        labelled |= {
            f"{name}_{number}": (there & signals.operating_state.isin(of)).sum() for name, of in _OPERATING_STATES.items()
        }
    rows = settled.group_by("farm_id").agg(**asked).to_pandas().set_index("farm_id")
    labels = signals.group_by("farm_id").agg(**labelled).to_pandas().set_index("farm_id").reindex(rows.index)
    for number in range(len(times)):
        found: dict[str, dict[str, float | None]] = {}
        for farm_id, own in rows.iterrows():
            states = labels.loc[farm_id]
            found[str(farm_id)] = {
                "quarantined_rows_share": _share(own[f"quarantined_{number}"], own[f"rows_{number}"]),
                "latency_median_minutes": _minutes_or_none(own[f"median_{number}"]),
                "latency_95_minutes": _minutes_or_none(own[f"late_{number}"]),
            } | {f"{name}_rows_share": _share(states[f"{name}_{number}"], states[f"rows_{number}"]) for name in _OPERATING_STATES}
        yield found


def _minutes_or_none(value: Any) -> float | None:
    return None if pd.isna(value) else round(float(value), 2)


def _share(part: Any, of: Any) -> float | None:
    return None if pd.isna(of) or not of else round(float(part) / float(of), 6)


# --- one farm ---------------------------------------------------------------------------------------------------------


@dataclass
class _History:
    """Facts of a farm, and its hourly series in the window compared: scaled integers, `_MISSING` where unknown."""

    farm: Farm
    facts: dict[str, Any]
    power: Wholes
    wind: dict[tuple[str, str], Wholes]


def _histories(
    observations: pd.DataFrame, weather: pd.DataFrame, fleet: Fleet, at: pd.Timestamp, settings: ReadinessSettings
) -> dict[str, _History]:
    newest = latest_versions(observations[observations["entity_id"].isin([farm.id for farm in fleet.farms])], at)
    known = weather[weather["available_at"] <= at]
    # From the newest run of at most `max_lead_hours`; sorted once for all farms, which costs less than farm by farm.
    near = known[known["valid_at"] - known["run_at"] <= pd.Timedelta(hours=settings.weather_fit.max_lead_hours)]
    near = near.sort_values(["run_at", "available_at"], kind="stable")
    near = near.drop_duplicates(["farm_id", "weather_model", "weather_point", "valid_at"], keep="last").sort_values("valid_at")
    run = ["farm_id", "weather_model", "weather_point", "run_at"]
    runs = known.groupby(run)["valid_at"].agg(["min", "max"]).reset_index()
    by_farm = ((newest, "entity_id"), (runs, "farm_id"), (near, "farm_id"))
    of, listed, read = (dict(list(table.groupby(key))) for table, key in by_farm)
    return {
        farm.id: _history(
            farm,
            of.get(farm.id, newest.iloc[:0]),
            listed.get(farm.id, runs.iloc[:0]),
            read.get(farm.id, near.iloc[:0]),
            at,
            settings,
        )
        for farm in fleet.farms
    }


def _history(
    farm: Farm,
    observations: pd.DataFrame,
    runs: pd.DataFrame,
    near: pd.DataFrame,
    at: pd.Timestamp,
    settings: ReadinessSettings,
) -> _History:
    """``runs`` are its weather runs with their first and last time (``min``, ``max``); ``near`` the weather of each time that
    farms are compared by, in order of time.
    """
    fitting = settings.weather_fit
    now = int(_minutes(pd.Series([at]))[0]) // _HOUR * _HOUR
    window = round(fitting.window_days * 24)
    # The finest granularity that the farm's cadence divides.
    finest = observations[observations["granularity_minutes"] == observations["granularity_minutes"].min()]
    finest = finest.sort_values("valid_at")
    step = int(finest["granularity_minutes"].iloc[0]) if len(finest) else _HOUR
    start = _minutes(finest["valid_at"])
    begin = min(int(start[0]) // _HOUR * _HOUR if len(start) else now, now - window * _HOUR)
    grid = np.arange(begin, now, _HOUR, dtype=np.float64)
    power = _hourly_power(start, (finest["power_kw"] / finest["available_capacity_kw"]).to_numpy(float), step, grid)
    # Wind speed at 100 m in the middle of each hour.
    middles, max_gap = grid + _HOUR / 2, fitting.max_gap_hours * _HOUR
    wind = {
        (str(model), str(point)): interpolated(
            middles, _minutes(own["valid_at"]), own["wind_speed_100m_ms"].to_numpy(float), max_gap
        )
        for (model, point), own in near.groupby(["weather_model", "weather_point"])
    }
    either = np.any([~np.isnan(series) for series in wind.values()], axis=0) if wind else np.zeros(len(grid), bool)
    paired = int((either & ~np.isnan(power)).sum())
    facts = _production_facts(start, finest["coverage_share"].to_numpy(float), step, at, settings)
    facts |= {"learnable_days": round(paired / 24, 2)} | _weather_facts(farm, runs, at)
    scaled = {key: _whole(series[-window:], _SCALE_WIND) for key, series in wind.items()}
    return _History(farm, facts, _whole(power[-window:], _SCALE_POWER), scaled)


def _minutes(times: pd.Series) -> Floats:
    """Minutes since 1970 of UTC times."""
    return np.asarray(times.dt.tz_localize(None).to_numpy().astype("datetime64[m]").astype("int64"), dtype=np.float64)


def _whole(series: Floats, scale: int) -> Wholes:
    return np.where(np.isnan(series), _MISSING, np.clip(np.round(series * scale), -_LARGEST, _LARGEST)).astype(np.int16)


def _hourly_power(start: Floats, share: Floats, step: int, grid: Floats) -> Floats:
    """Mean share of capacity in each hour of the grid; missing without observations."""
    if not len(start):
        return np.full(len(grid), np.nan)
    parts = max(1, step // _HOUR)  # an interval longer than an hour fills all of its hours
    at = (start[:, None] + np.arange(parts) * _HOUR).ravel()
    value = np.repeat(share, parts)
    hour = ((at - grid[0]) // _HOUR).astype(np.int64)
    inside = (hour >= 0) & (hour < len(grid))
    total = np.bincount(hour[inside], weights=value[inside], minlength=len(grid))
    count = np.bincount(hour[inside], minlength=len(grid))
    mean: Floats = np.divide(total, count, out=np.full(len(grid), np.nan), where=count > 0)
    return mean


def _production_facts(
    start: Floats, coverage: Floats, step: int, at: pd.Timestamp, settings: ReadinessSettings
) -> dict[str, Any]:
    if not len(start):
        nothing = dict.fromkeys(["coverage_share", "longest_gap_hours", "silent_hours"], None)
        return {"history_days": 0.0, "gaps": 0} | nothing
    gaps = (np.diff(start) - step) / _HOUR
    end = start[-1] + step
    return {
        "history_days": round((end - start[0]) / _MINUTES_PER_DAY, 2),
        "gaps": int((gaps >= settings.gap_hours).sum()),
        # Intervals without readings have no row and count as zero.
        "coverage_share": round(float(np.sum(np.round(coverage, 9))) / ((end - start[0]) / step), 6),
        "longest_gap_hours": round(float(gaps.max(initial=0.0)), 2),
        "silent_hours": round((_minutes(pd.Series([at]))[0] - end) / _HOUR, 2),
    }


def _weather_facts(farm: Farm, runs: pd.DataFrame, at: pd.Timestamp) -> dict[str, Any]:
    """Days covered by the weather, and the number of runs missing since the first."""
    farm = farm.at(at)
    label = PERFECT_WEATHER if farm.perfect_weather else FORECAST_WEATHER
    if runs.empty:
        return {"weather_days": 0.0, "missing_runs": 0, "weather": label}
    missing = 0
    every = {source.model: source for source in farm.weather if source.kind == "forecast"}
    for (model, _), seen in runs.groupby(["weather_model", "weather_point"])["run_at"]:
        if model in every:
            source = every[str(model)]
            step = pd.Timedelta(minutes=source.run_every_minutes)
            # A run within its delay is not missing yet.
            last = max(at - pd.Timedelta(minutes=source.delay_minutes), seen.max())
            missing += max(0, int((last - seen.min()) // step) + 1 - len(seen))
    days = (min(runs["max"].max(), at) - runs["min"].min()) / pd.Timedelta(days=1)
    return {"weather_days": round(max(0.0, days), 2), "missing_runs": missing, "weather": label}


# --- points against farms ---------------------------------------------------------------------------------------------


def _compare(farms: Mapping[str, _History], at: pd.Timestamp, fitting: WeatherFitting) -> pd.DataFrame:
    """Compare each farm with its own points, and with the best points of other farms (contract `WeatherFit`)."""
    members = list(farms.values())
    points = [(number, key) for number, member in enumerate(members) for key in member.wind]
    hours = len(members[0].power)
    power = np.stack([member.power for member in members], axis=1)
    wind = np.stack([members[number].wind[key] for number, key in points], axis=1) if points else np.zeros((hours, 0), np.int16)
    counts, correlations = _correlations(power, wind)
    owner = np.array([number for number, _ in points], dtype=np.int64)
    # Ties are broken by farm, so that the order of cards does not matter.
    by_name = sorted(range(len(points)), key=lambda place: (members[owner[place]].farm.id, points[place][1]))
    name_rank = np.empty(len(points), dtype=np.int64)
    name_rank[by_name] = np.arange(len(points))
    rows: list[dict[str, Any]] = []
    for number, member in enumerate(members):
        enough = (counts[number] >= fitting.min_hours) & ~np.isnan(correlations[number])
        judged = np.where(enough, correlations[number], -np.inf)
        mine = np.flatnonzero(owner == number)
        others = np.flatnonzero((owner != number) & enough)
        ranked = others[np.lexsort((name_rank[others], -judged[others]))][: fitting.others]
        best = max(mine, key=lambda place: judged[place], default=None)
        versus: dict[int, float | None] = {}
        if best is not None and len(ranked):
            versus = dict(zip(ranked, _better_months(power[:, number], wind[:, ranked], wind[:, best]), strict=True))
        for place in [*mine, *ranked]:
            of, (model, point) = members[owner[place]], points[place][1]
            apart = member.farm.distance_km(of.farm)
            rows.append(
                {
                    "farm_id": member.farm.id,
                    "assessed_at": at,
                    "weather_model": model,
                    "weather_point": point,
                    "of_farm": of.farm.id,
                    "distance_km": np.nan if apart is None else round(apart, 1),
                    "correlation": correlations[number, place] if enough[place] else np.nan,
                    "hours": int(counts[number, place]),
                    "rank": int((judged > judged[place]).sum()) + 1,
                    "better_months_share": versus.get(place),
                }
            )
    return WeatherFit.table(rows)


def _correlations(power: Wholes, wind: Wholes) -> tuple[NDArray[np.int64], Floats]:
    """Number of common hours, and Pearson's correlation over them, of every farm (rows) with every point (columns).

    The sums are of integers below 2^53, so they are exact and do not depend on the implementation of matrix products.
    """
    counts = np.zeros((power.shape[1], wind.shape[1]), dtype=np.int64)
    found = np.full(counts.shape, np.nan)
    there, value = _known(power)
    for left in range(0, wind.shape[1], _BLOCK):
        block = slice(left, left + _BLOCK)
        blows, speed = _known(wind[:, block])
        n, x, y = there.T @ blows, value.T @ blows, there.T @ speed
        xx, yy, xy = (value * value).T @ blows, there.T @ (speed * speed), value.T @ speed
        counts[:, block] = n.astype(np.int64)
        found[:, block] = np.round(pearson(n, x, y, xx, yy, xy), 6)
    return counts, found


def _known(values: Wholes) -> tuple[Floats, Floats]:
    there = values != _MISSING
    return there.astype(np.float64), np.where(there, values, 0).astype(np.float64)


def _better_months(power: Wholes, others: Wholes, own: Wholes) -> list[float | None]:
    """For each other point (columns) the share of months in which it correlates better than the own one, over common hours."""
    # Months are counted back from the newest, as the oldest may be incomplete.
    missing = -len(power) % _MONTH_HOURS

    def by_month(values: Wholes) -> Wholes:
        """Shape (months, hours, points)."""
        filled = np.pad(values, ((missing, 0), (0, 0)), constant_values=_MISSING)
        return filled.reshape(-1, _MONTH_HOURS, values.shape[1])

    series = [by_month(values) for values in (power[:, None], others, own[:, None])]
    common = np.all(np.broadcast_arrays(*(values != _MISSING for values in series)), axis=0)
    x, y, z = (np.where(common, values, 0).astype(np.float64) for values in series)
    n, of_x, of_xx = common.sum(axis=1).astype(np.float64), x.sum(axis=1), (x * x).sum(axis=1)
    other, mine = (
        np.round(pearson(n, of_x, wind.sum(axis=1), of_xx, (wind * wind).sum(axis=1), (x * wind).sum(axis=1)), 6)
        for wind in (y, z)
    )
    judged = (n >= _MIN_MONTH_HOURS) & ~np.isnan(other) & ~np.isnan(mine)
    better = (judged & (other > mine)).sum(axis=0)
    return [
        round(int(count) / int(months), 6) if months else None for count, months in zip(better, judged.sum(axis=0), strict=True)
    ]


def _best_fit(fit: pd.DataFrame, fitting: WeatherFitting) -> dict[str, Any]:
    """Best own point, best point of another farm, and whether the latter is better by the margin (a wrong own point)."""
    ranked = fit.dropna(subset="correlation").sort_values("rank", kind="stable")
    own = ranked["of_farm"] == ranked["farm_id"]
    mine, best = (None if part.empty else part.iloc[0] for part in (ranked[own], ranked[~own]))
    wrong = (
        mine is not None
        and best is not None
        and best["correlation"] - mine["correlation"] >= fitting.margin
        and best["better_months_share"] >= fitting.better_months_share
    )
    return {
        "best_point": "" if mine is None else f"{mine['weather_model']}/{mine['weather_point']}",
        "best_correlation": None if mine is None else float(mine["correlation"]),
        "other_farm": "" if best is None else best["of_farm"],
        "other_correlation": None if best is None else float(best["correlation"]),
        "wrong_point": bool(wrong),
    }


# --- the verdict ------------------------------------------------------------------------------------------------------


def judge(facts: Mapping[str, Any], readiness: ReadinessSettings) -> tuple[Tier, str]:
    """The tier that these facts (columns of `Readiness`) allow, and a reason with the number and its threshold."""
    unread = facts["unreadable_sources"]
    aside = f"; {unread} of its sources cannot be read: see data_quality" if unread else ""
    days, fit = facts["learnable_days"], facts["best_correlation"]
    physical, needed = readiness.tier_days.physical, readiness.weather_fit.min_correlation
    wrong_point = _wrong_point(facts)
    unexplained = f"its weather does not explain its power: correlation {fit or 0:.2f}, at least {needed:g} is needed"
    for impossible, reason in (
        (not facts["history_days"], "no power is known yet"),
        (not facts["weather_days"], "no weather is known yet"),
        (days < physical, f"{days:.1f} days with power and weather; a power curve needs {physical:g}"),
        (fit is not None and fit < needed, unexplained),
    ):
        if impossible:
            return "none", reason + aside + wrong_point
    if limits := _limits(facts, readiness):
        return "physical", "; ".join(limits) + wrong_point
    tier: Tier = next(tier for tier in reversed(TIERS) if days >= readiness.tier_days.of(tier))
    needs = f"a model of its own needs {readiness.tier_days.local:g}"
    if tier != "local":
        following = TIERS[TIERS.index(tier) + 1]
        needs = f"tier {following} needs {readiness.tier_days.of(following):g}"
    return tier, f"{days:.1f} days with power and weather; {needs}{wrong_point}"


def _limits(facts: Mapping[str, Any], readiness: ReadinessSettings) -> list[str]:
    """Reasons against a learned model: clock error, rows not available, rows in quarantine."""
    off, max_off = facts["offset_minutes"], readiness.max_misalignment_minutes
    lost, max_lost = sum(facts[f"{name}_rows_share"] or 0.0 for name in _OPERATING_STATES), readiness.max_not_available_share
    aside, max_aside = facts["quarantined_rows_share"] or 0.0, readiness.max_quarantined_share
    found = []
    if off is not None and abs(off) >= max_off:
        found.append(f"its clock is {abs(off):.0f} minutes off, a learned model allows less than {max_off:g}")
    if lost > max_lost:
        found.append(f"{lost:.0%} of its rows are stopped, curtailed or iced, a learned model allows {max_lost:.0%}")
    if aside > max_aside:
        found.append(f"{aside:.0%} of its rows cannot be used, a learned model allows {max_aside:.0%}")
    return found


def _wrong_point(facts: Mapping[str, Any]) -> str:
    if not facts["wrong_point"]:
        return ""
    return (
        f"; the weather of '{facts['other_farm']}' explains its power better ({facts['other_correlation']:.2f}) than its own "
        f"({facts['best_correlation']:.2f}): is its point right?"
    )
