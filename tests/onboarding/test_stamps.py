"""Stamps of any country."""

from __future__ import annotations

import pandas as pd
import pytest

from wind_kedro.onboarding.stamps import looks_like_stamp, offset_minutes, parse, readings


@pytest.mark.parametrize(
    ("cells", "orders"),
    [
        (["31.12.2023 23:50", "01.01.2024 00:00"], ["DMY"]),
        (["12/31/2023 11:50 PM", "01/01/2024 12:00 AM"], ["MDY"]),
        (["03/04/2024 00:00", "03/04/2024 00:10"], ["DMY", "MDY"]),
        (["2024-01-01T00:00:00Z"], ["YMD"]),
        (["202401010010", "202401010020"], ["YMD"]),
        (["1704067200", "1704067800"], [""]),
        (["12.5", "13.5"], []),
        (["abc"], []),
    ],
)
def test_every_order_that_makes_dates_is_a_reading(cells: list[str], orders: list[str]) -> None:
    assert [way.order for way in readings(cells)] == orders


@pytest.mark.parametrize(
    ("cell", "expected", "zone"),
    [
        ("31.12.2023 24:00", "2024-01-01 00:00", ""),
        ("12/31/2023 1:05 p. m.", "2023-12-31 13:05", ""),
        ("2024-01-01 00:00:00+00", "2024-01-01 00:00", "+00"),
        ("31.12.2023 23:50 CET", "2023-12-31 23:50", "CET"),
        ("1704067200", "2024-01-01 00:00", "Z"),
    ],
)
def test_stamps_are_read_as_they_stand(cell: str, expected: str, zone: str) -> None:
    cells = [cell, cell[:-1] + "1"] if cell.isdigit() else [cell]
    frame = parse(cells, readings(cells)[0])
    assert frame["wall"].iloc[0] == pd.Timestamp(expected)
    assert frame["zone"].iloc[0] == zone


@pytest.mark.parametrize(("zone", "minutes"), [("Z", 0), ("+02", 120), ("-0530", -330), ("+05:45", 345), ("MESZ", 120)])
def test_offsets(zone: str, minutes: int) -> None:
    assert offset_minutes(zone) == minutes


def test_a_number_is_no_stamp() -> None:
    assert not looks_like_stamp("1234.5")
    assert looks_like_stamp("2024-01-01")
