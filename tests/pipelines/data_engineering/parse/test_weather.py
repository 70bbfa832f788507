"""Weather whose file has times and numbers is parsed as the same values written as text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from wind_kedro.cards import Fleet
from wind_kedro.pipelines.data_engineering.parse.weather import parse_weather
from wind_kedro.pipelines.data_engineering.settings import DataEngineering
from wind_kedro.readers.source_table import SourceTable

RUN = pd.Timestamp("2024-01-01T06:00")
WINDS = [5.0, 0.1, -1.0, np.nan, np.inf, -0.0, 1e-3]
YEARS = ["2024-01-01T07:00:00.000001", "1899-12-31T23:00:00", "2200-01-01T00:00:00"]


def parsed(root: Path, cards: dict[str, Any], settings: DataEngineering, **source: Any) -> tuple[pd.DataFrame, bool]:
    """Rows parsed from the hill's file, and whether it was kept with its types."""
    cards["farms"][0]["weather"][0] |= {"run_at": "run", "valid_at": "time", "available_at": "arrived"} | source
    cards["farms"] = cards["farms"][:1]
    cards["groups"], cards["products"] = [], [cards["products"][0] | {"members": ["hill"]}]
    fleet = Fleet.from_config(**cards)
    raw = SourceTable(kind="weather", root=str(root), farms=cards["farms"]).load()
    (rows,) = raw.tables()
    text = raw.table()
    assert {name for name, kind in text.schema().items() if not kind.is_string()} == {"source_row"}
    columns = ["source_row", "reference_at", "run_at", "available_at", "valid_at", "wind_speed_100m_ms", "reason", "detail"]
    frames = [
        parse_weather(one, fleet, settings).to_pandas().sort_values("source_row", ignore_index=True) for one in (rows, text)
    ]
    pd.testing.assert_frame_equal(*(frame.drop(columns="detail") for frame in frames))
    return frames[0][columns], rows["valid_at"].type().is_timestamp()


@pytest.mark.parametrize("zone", [None, "UTC", "Asia/Kolkata"])
@pytest.mark.parametrize("number", ["float64", "float32"])
def test_typed_and_text_give_the_same_rows(
    zone: str | None, number: str, cards: dict[str, Any], settings: DataEngineering, tmp_path: Path
) -> None:
    times = [RUN + pd.Timedelta(hours=hour) for hour in range(len(WINDS))] + list(map(pd.Timestamp, YEARS))
    table = pd.DataFrame({"run": RUN, "time": times, "arrived": [pd.NaT, *times[1:]], "wind": [*WINDS, *[7.5] * len(YEARS)]})
    stamps = {name: pd.to_datetime(table[name]).astype("datetime64[us]") for name in ("run", "time", "arrived")}
    table = table.assign(**stamps).astype({"wind": number})
    written = table.assign(**{name: table[name].map(lambda at: "" if pd.isna(at) else at.isoformat() + "Z") for name in stamps})
    # The shortest notation of a number of 32 bits, as tables of text have it.
    written.assign(wind=table["wind"].map(lambda value: str(np.dtype(number).type(value)) if pd.notna(value) else "")).to_csv(
        tmp_path / "a.csv"
    )
    zoned = {name: table[name].dt.tz_localize("UTC").dt.tz_convert(zone) for name in stamps} if zone else {}
    table.assign(**zoned).to_parquet(tmp_path / "a.parquet")

    text, text_is_typed = parsed(tmp_path, cards, settings, path="a.csv")
    typed, is_typed = parsed(tmp_path, cards, settings, path="a.parquet", format="parquet")
    assert (text_is_typed, is_typed) == (False, True)
    pd.testing.assert_frame_equal(typed.drop(columns="detail"), text.drop(columns="detail"), check_exact=True)
    assert typed["reason"].fillna("").tolist()[2:5] == ["missing_wind", "missing_wind", "unparseable"]
    assert typed["reason"].fillna("").tolist()[-3:] == ["", "bad_stamp", "bad_stamp"]
    assert typed["detail"].iloc[4] == "wind_speed_100m_ms 'inf' is not a number"


def test_columns_of_text_stay_text(cards: dict[str, Any], settings: DataEngineering, tmp_path: Path) -> None:
    pd.DataFrame({"run": [RUN], "time": [RUN], "arrived": [RUN], "wind": ["5,5"]}).to_parquet(tmp_path / "a.parquet")
    rows, is_typed = parsed(tmp_path, cards, settings, path="a.parquet", format="parquet", decimal=",")
    assert (is_typed, rows["wind_speed_100m_ms"].tolist()) == (False, [5.5])


def test_a_batch_arrives_when_it_landed(cards: dict[str, Any], settings: DataEngineering, tmp_path: Path) -> None:
    folder = tmp_path / "feed" / "landed_at=2024-01-01T09-30-00Z"
    folder.mkdir(parents=True)
    pd.DataFrame({"run": [RUN], "time": [RUN], "wind": [5.0]}).to_parquet(folder / "a.parquet")
    card = {"path": "feed/**/*.parquet", "format": "parquet", "available_at": "landed_at"}
    rows, is_typed = parsed(tmp_path, cards, settings, **card)
    assert (is_typed, rows["available_at"].tolist()) == (True, [pd.Timestamp("2024-01-01T09:30")])
