"""What each issued forecast was made from, or why it was not issued, for the audit: it can be explained months later."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from wind_kedro.cards import Farm, Fleet
from wind_kedro.cards.columns import quantile_columns
from wind_kedro.cards.dated import utc
from wind_kedro.clock import Clock
from wind_kedro.contracts.operation import Audit
from wind_kedro.datasets.derived import Derived, Sliced, frame_of
from wind_kedro.failures import NOT_ISSUED
from wind_kedro.governance.provenance import Provenance
from wind_kedro.models.tables import KEYS, NOT_FEATURES
from wind_kedro.pipelines.forecasting.slices import features_of_run, forecasts_of_run

_ISSUE = KEYS[:3]
#: The runs of so long before the first issue are looked at for the newest of each source.
_RECENT = pd.Timedelta(days=30)
#: What a record takes from the first row of a forecast, and what from a failure.
_ISSUED = [*_ISSUE, "model", "model_version", "rung", "fallback"]
_FAILED = [*_ISSUE, "code", "message", "action"]


def record_issues(
    forecasts: Sliced | pd.DataFrame,
    features: Derived | pd.DataFrame,
    weather_runs: Derived | pd.DataFrame,
    promotions: pd.DataFrame,
    raw_manifest: pd.DataFrame,
    forecasting_failures: pd.DataFrame,
    calibration_failures: pd.DataFrame,
    fleet: Fleet,
    clock: Clock,
    provenance: Provenance,
) -> pd.DataFrame:
    """One row per product, entity and issue of this run: everything that its forecast was made from, and its own hash; or, of an
    issue that was due and not made, the code, message and action of the failure, and what was there to make it from.

    ``data_sha256`` names the raw files of the entity's farms as they were read, ``features_sha256`` what the model saw of the
    issue, ``forecast_sha256`` what was issued, bit for bit. Weather runs are listed per model: that which was
    newest at the issue, and those that were due by then (by the card's cadence and delay) and had not come.
    """
    raw = {str(farm_id): rows for farm_id, rows in raw_manifest.groupby("farm_id")}
    forecasts, features = forecasts_of_run(forecasts, fleet, clock), features_of_run(features, fleet, clock)
    runs = _runs(weather_runs, fleet, clock)
    promoted = promotions.drop_duplicates(["product_id", "entity_id", "model_version"], keep="last")
    made_by = promoted.set_index(["product_id", "entity_id", "model_version"])["run_id"].to_dict()
    fixed = {
        "as_of": pd.Timestamp(clock.as_of),
        "recorded_at": pd.Timestamp(dt.datetime.now(dt.UTC)),
        **provenance.model_dump(include={"git_commit", "configuration_sha256", "lock_sha256", "python"}),
        "platform": f"{provenance.platform}, {provenance.threads}",
        "libraries": json.dumps(provenance.libraries, sort_keys=True),
    }
    failures = pd.concat([forecasting_failures, calibration_failures], ignore_index=True)
    failures = failures[failures["code"].isin(NOT_ISSUED)].drop_duplicates(_ISSUE)
    rows = []
    for product in fleet.products:
        issued = _of_run(forecasts, product.id, clock, fleet)
        left = _of_run(failures, product.id, clock, fleet)
        issues = pd.concat([issued.drop_duplicates(_ISSUE)[_ISSUED], left[_FAILED]], ignore_index=True)
        # Of an issue that is there the table of forecasts is right: a rerun may have left it from an earlier run.
        issues = issues.drop_duplicates(_ISSUE).astype(object).where(lambda table: table.notna(), "")
        revised, number = fleet.calendar(product.id).revisions(
            np.array([utc(time) for time in issues["issued_at"]], dtype="datetime64[us]")
        )
        issues = issues.assign(revised_issue_at=pd.DatetimeIndex(revised).tz_localize("UTC"), revision=number.astype(float))
        seen = dict(issue_hashes(_of_run(features, product.id, clock, fleet), None))
        given = dict(issue_hashes(issued, quantile_columns(product.quantile_levels)))
        data = {entity_id: _fingerprint(raw, fleet.farms_of(entity_id)) for entity_id in product.members}
        for row in issues.to_dict("records"):
            key = (row["product_id"], row["entity_id"], row["issued_at"])
            there = {farm.id for farm in fleet.farms_at(row["entity_id"], row["issued_at"])}
            farms = [farm for farm in fleet.farms_of(row["entity_id"]) if farm.id in there]
            used, missing = _weather_runs(farms, runs, row["issued_at"])
            rows.append(
                {name: row[name] for name in [*_ISSUED, "revised_issue_at", "revision"]}
                | {
                    "run_id": made_by.get((*key[:2], row["model_version"]), ""),
                    "forecast_sha256": given.get(key, ""),
                    "features_sha256": seen.get(key, ""),
                    "data_sha256": data[row["entity_id"]],
                    "weather_runs": json.dumps(used, sort_keys=True),
                    "weather_runs_missing": json.dumps(missing, sort_keys=True),
                }
                | {f"failure_{name}": row[name] for name in _FAILED[len(_ISSUE) :]}
                | fixed
            )
    links = {"sequence", "supersedes", "previous_sha256", "sha256"}  # made by the log when it takes the records
    columns = [name for name in Audit.to_schema().columns if name not in links]
    # In one order, whatever the order of the table: equal runs give equal records but for their times.
    return pd.DataFrame(rows, columns=columns).sort_values(["issued_at", "product_id", "entity_id"], ignore_index=True)


def _of_run(table: pd.DataFrame, product_id: str, clock: Clock, fleet: Fleet) -> pd.DataFrame:
    issues = pd.DatetimeIndex(clock.issues(fleet.calendar(product_id)))
    return table[(table["product_id"] == product_id) & table["issued_at"].isin(issues)]


def issue_hashes(table: pd.DataFrame, columns: list[str] | None) -> Iterator[tuple[tuple[str, str, pd.Timestamp], str]]:
    """Of each issue the hash of its rows: times and values as 64-bit numbers, in order, after the columns' names.

    ``columns``: those that count; none: all features.
    """
    if table.empty:
        return
    columns = sorted(set(table.columns) - set(NOT_FEATURES)) if columns is None else columns
    ordered = table.sort_values(KEYS, kind="stable").reset_index(drop=True)
    values = ordered.reindex(columns=columns).to_numpy(np.float64, na_value=np.nan)
    times = ordered["valid_at"].to_numpy("datetime64[us]").astype(np.int64)
    head = json.dumps(columns).encode()
    first = ordered.loc[~ordered.duplicated(_ISSUE), _ISSUE]
    starts = first.index.to_numpy()
    keys = first.itertuples(index=False, name=None)
    for key, start, end in zip(keys, starts, [*starts[1:], len(ordered)], strict=True):
        digest = hashlib.sha256(head + times[start:end].tobytes() + np.ascontiguousarray(values[start:end]).tobytes())
        yield key, digest.hexdigest()


def _fingerprint(raw: dict[str, pd.DataFrame], farms: list[Farm]) -> str:
    """One hash of all raw files of the farms: paths and checksums."""
    lines = [
        f"{path} {digest}"
        for farm in farms
        if farm.id in raw
        for path, digest in raw[farm.id][["path", "sha256"]].itertuples(index=False, name=None)
    ]
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


#: The runs of a farm, model and point, and when each first could be read, rising: UTC without zone.
_Arrivals = dict[tuple[str, str, str], tuple[np.ndarray, np.ndarray]]


def _runs(weather_runs: Derived | pd.DataFrame, fleet: Fleet, clock: Clock) -> _Arrivals:
    """By farm, model and point, the runs that issues may name."""
    keys = ["farm_id", "weather_model", "weather_point"]
    first, last = (time.tz_localize(None).floor("D") for time in clock.issue_span(fleet))
    if last < first:  # no issue is due
        return {}
    since = first - _RECENT
    if isinstance(weather_runs, Derived):
        # The newest run of a source that stopped is older: then its last days are read too.
        newest = weather_runs.days[weather_runs.days["day"] <= since].groupby("farm_id")["day"].max()
        recent = weather_runs.days[weather_runs.days["day"] > since]["farm_id"].unique()
        since = min([since, *newest.drop(recent, errors="ignore")])
    table = frame_of(weather_runs, [*keys, "run_at", "available_at"], first=since, last=last)
    arrived = table.groupby([*keys, "run_at"], sort=True)["available_at"].min().reset_index()
    times = [arrived[name].dt.tz_localize(None).to_numpy("datetime64[us]") for name in ("run_at", "available_at")]
    places: Any = arrived.groupby(keys, sort=False).indices
    return {(str(key[0]), str(key[1]), str(key[2])): (times[0][own], times[1][own]) for key, own in places.items()}


def _weather_runs(farms: list[Farm], runs: _Arrivals, issued_at: pd.Timestamp) -> tuple[dict[str, str], dict[str, list[str]]]:
    """By ``farm/model/point``: the newest run that was there, and those newer ones that should have been."""
    used: dict[str, str] = {}
    missing: dict[str, list[str]] = {}
    nothing = np.array([], dtype="datetime64[us]")
    issue = utc(issued_at)
    for farm in farms:
        for source in farm.weather:
            name = f"{farm.id}/{source.model}/{source.point}"
            run_at, available_at = runs.get((farm.id, source.model, source.point), (nothing, nothing))
            there = run_at[available_at <= issue]
            since, until = source.period(farm.time_zone)
            ended = until + np.timedelta64(source.length_hours, "h") <= issue
            if len(there) and not ended:
                used[name] = f"{np.datetime_as_string(there[-1], 'm')}Z"
            due = _due_runs(issued_at, source.delay_minutes, source.run_every_minutes)
            late = due[~np.isin(due, there) & (since <= due) & (due < until)]
            if len(late):
                missing[name] = [f"{run}Z" for run in np.datetime_as_string(late, "m")]
    return used, missing


@lru_cache(maxsize=1024)
def _due_runs(issued_at: pd.Timestamp, delay_minutes: int, run_every_minutes: int) -> np.ndarray:
    """The runs of the last day that could have been read by the issue, had they arrived with the card's delay."""
    every = pd.Timedelta(minutes=run_every_minutes)
    newest = (issued_at - pd.Timedelta(minutes=delay_minutes)).floor(every)
    due = [newest - number * every for number in reversed(range(max(1, pd.Timedelta(days=1) // every)))]
    return np.array([utc(run) for run in due])
