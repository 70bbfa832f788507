"""Quarantine of unusable rows, with their original text."""

from __future__ import annotations

import json

import pandas as pd

from wind_kedro.cards import Fleet
from wind_kedro.contracts.observations import Quarantine
from wind_kedro.datasets.derived import Derived, days_of, shards_of
from wind_kedro.pipelines.data_engineering.settings import DataEngineering
from wind_kedro.pipelines.data_engineering.shards import inside
from wind_kedro.pipelines.data_engineering.tables import Table, ibis
from wind_kedro.pipelines.data_engineering.timestamps.placement import around_stamps, stamps_behind
from wind_kedro.readers.source_table import SourceRows, rows_of
from wind_kedro.storage.fingerprints import Recipe, around, mixed

#: Change it when the rows change that the same input gives.
VERSION = 1
_ROW = ["farm_id", "source_file", "source_row"]
#: Column of the time of a row, by table.
_TIMES = {"signals": "valid_at", "weather": "reference_at"}


def build_quarantine(
    timed_signals: Derived | Table,
    judged_weather: Derived | Table,
    parsed_signals: Derived | Table,
    parsed_weather: Derived | Table,
    signals_raw: SourceRows | Table,
    weather_raw: SourceRows | Table,
    fleet: Fleet,
    data_engineering: DataEngineering,
) -> Recipe:
    """Collect the rows in quarantine with their original text (contract `Quarantine`).

    One shard per farm, table and day with any such row. It depends on the rows of that day, and on the files that these may be
    from, as their text is kept.
    """
    judged = {"signals": timed_signals, "weather": judged_weather}
    parsed = {"signals": parsed_signals, "weather": parsed_weather}
    raw = {"signals": signals_raw, "weather": weather_raw}
    pieces = []
    for name, rows in judged.items():
        days = days_of(rows, ["farm_id"], _TIMES[name])
        days = days[days["quarantined"] > 0] if "quarantined" in days else days
        files = _files_by_day(name, parsed[name], fleet, data_engineering)
        digest = days[["farm_id", "day"]].merge(files, on=["farm_id", "day"], how="left")["digest"].fillna(0)
        fingerprint = mixed(days["digest"], digest.to_numpy(), VERSION)
        pieces.append(days[["farm_id", "day"]].assign(source_table=name, fingerprint=fingerprint))

    def work(part: pd.DataFrame) -> pd.DataFrame:
        found = []
        for name, own in part.groupby("source_table"):
            shards = own[["farm_id", "day"]]
            table, time = parsed[str(name)], _TIMES[str(name)]
            rows = inside(shards_of(judged[str(name)], shards), shards, time)
            bad = rows.filter(rows.status == "quarantined").select(*_ROW, "reason", "detail", valid_at=rows[time]).to_pandas()
            if str(name) == "signals" and isinstance(table, Derived):
                shards = stamps_behind(table, shards, fleet, data_engineering)
            found.append(_with_text(bad, _files(raw[str(name)], table, shards)).assign(source_table=name))
        return Quarantine.table(pd.concat(found, ignore_index=True) if found else [])

    return Recipe(pd.concat(pieces, ignore_index=True), work)


def _files_by_day(name: str, parsed: Derived | Table, fleet: Fleet, data_engineering: DataEngineering) -> pd.DataFrame:
    """A number of all files that rows of a farm and day may be from: ``farm_id``, ``day``, ``digest``."""
    if not isinstance(parsed, Derived):
        return pd.DataFrame({"farm_id": [], "day": [], "digest": []}).astype({"farm_id": "str", "day": "datetime64[us]"})
    files = parsed.days.assign(digest=parsed.days["fingerprint"])[["farm_id", "day", "digest", "rows"]]
    return around_stamps(files, fleet, data_engineering) if name == "signals" else around(files, ["farm_id"])


def _files(raw: SourceRows | Table, parsed: Derived | Table, shards: pd.DataFrame) -> Table:
    """Rows of the files that have rows of these shards of parsed rows."""
    if not isinstance(raw, SourceRows) or not isinstance(parsed, Derived):
        return rows_of(raw)
    return raw.table(parsed.days.merge(shards, on=["farm_id", "day"])[["farm_id", "unit"]].drop_duplicates())


def _with_text(bad: pd.DataFrame, raw: Table) -> pd.DataFrame:
    """Add ``raw``: the row as it was read, as JSON."""
    original = raw.semi_join(ibis.memtable(bad[_ROW]), _ROW).to_pandas()
    original["raw"] = [
        json.dumps({key: value for key, value in row.items() if isinstance(value, str)}, ensure_ascii=False)
        for row in original.drop(columns=[*_ROW, "unit"], errors="ignore").to_dict("records")
    ]
    return bad.merge(original[[*_ROW, "raw"]], on=_ROW, how="left")
