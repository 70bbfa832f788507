"""Raw data and what landed: text as it was read, checked by its columns."""

from __future__ import annotations

import pandas as pd
import pandera.pandas as pa
from pandera.typing import Series

from wind_kedro.cards import WEATHER_UNITS
from wind_kedro.contracts.base import Contract, RawTable, Utc


class SignalsRaw(RawTable):
    """One row per row of a farm's signal files, columns renamed by its card, values as text."""

    columns = RawTable.columns | {
        "turbine_id", "timestamp", "received_at", "power_kw", "wind_speed_ms", "wind_direction_deg", "temperature_c", "pitch_deg",
    }  # fmt: skip


class WeatherRaw(RawTable):
    """One row per row of a farm's weather files, columns renamed by its card, values as text."""

    columns = RawTable.columns | {"weather_model", "weather_point", "run_at", "available_at", "valid_at", "lead", *WEATHER_UNITS}


class Landings(Contract, key=["feed_id", "landed_at"]):
    """One row per batch that a feed landed, and per fetch that failed. Append-only."""

    feed_id: Series[str]
    landed_at: Series[Utc] = pa.Field(description="when the batch landed; of a failed fetch: when it failed")
    landed_on: Series[str] = pa.Field(description="the day of that, UTC", str_matches=r"^\d{4}-\d{2}-\d{2}$")
    folder: Series[str] = pa.Field(description="relative to the raw folder; '': nothing landed")
    files: Series[int] = pa.Field(ge=0)
    bytes: Series[int] = pa.Field(ge=0)
    rows: Series[pd.Int64Dtype] = pa.Field(nullable=True, ge=0, description="null: the feed does not know")
    fault: Series[str] = pa.Field(description="why the fetch failed, or what of the batch could not land; '': nothing")


class RawManifest(Contract, key=["farm_id", "source_table", "path"]):
    """One row per farm and raw file that its card names, as the newest run of data_engineering read it."""

    farm_id: Series[str]
    source_table: Series[str] = pa.Field(isin=["signals", "weather"])
    path: Series[str] = pa.Field(description="relative to the raw folder")
    bytes: Series[int] = pa.Field(ge=0)
    modified_ns: Series[int] = pa.Field(description="when the file was changed last, nanoseconds since 1970")
    sha256: Series[str] = pa.Field(str_length=64)
