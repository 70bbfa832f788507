"""From raw text to features: a card that changes on a day changes no row of a time before it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from wind_kedro.cards import Fleet

from ..data_engineering import conftest as room
from . import test_leakage_from_raw as shared
from .building import features_of

# Fixtures of the pipeline before: raw text in, every table out, through its real nodes.
backend, settle, derive, parameters = room.backend, room.settle, room.derive, room.parameters
raw_signals, raw_weather, run_room = room.raw_signals, room.raw_weather, room.run_room
settings_of_the_room = shared.settings_of_the_room
pytestmark = shared.pytestmark

Cards = dict[str, list[dict[str, Any]]]
#: Also a turbine and a weather model that are on no card at first, and a third farm.
SIGNALS = shared.SIGNALS + [row | {"turbine_id": "T9"} for row in shared.SIGNALS if row["turbine_id"] == "T1"]
#: With temperature and pressure, so that there is air density at the hub.
_AIR = {"temperature_c": "10", "pressure_pa": "100000"}
WEATHER = [
    row | _AIR
    for row in (
        *shared.WEATHER,
        *(row | {"weather_model": "beta", "wind_speed_100m_ms": "9.5"} for row in shared.WEATHER if row["farm_id"] == "hill"),
        *(row | {"farm_id": "dale"} for row in shared.WEATHER if row["farm_id"] == "shore"),
    )
]


def _hill(cards: Cards) -> dict[str, Any]:
    return next(farm for farm in cards["farms"] if farm["id"] == "hill")


def _extended(cards: Cards, day: str) -> None:
    _hill(cards)["turbines"].append({"id": "T9", "rated_power_kw": 1000, "hub_height_m": 120, "valid_from": day})


def _shrunk(cards: Cards, day: str) -> None:
    _hill(cards)["turbines"][2]["valid_until"] = day


def _repowered(cards: Cards, day: str) -> None:
    _hill(cards)["turbines"][2]["valid_until"] = day
    _hill(cards)["turbines"].append({"id": "T2b", "named": "T2", "rated_power_kw": 1400, "hub_height_m": 100, "valid_from": day})


def _joined(cards: Cards, day: str) -> None:
    cards["groups"][0]["farms"].append({"farm": "shore", "valid_from": day})


def _left(cards: Cards, day: str) -> None:
    cards["groups"][1]["farms"][0] = {"farm": "hill", "valid_until": day}


def _another_model(cards: Cards, day: str) -> None:
    _hill(cards)["weather"][0]["valid_until"] = day
    _hill(cards)["weather"].append({**_hill(cards)["weather"][0], "model": "beta", "path": "beta.csv"})
    _hill(cards)["weather"][1].pop("valid_until")
    _hill(cards)["weather"][1]["valid_from"] = day


def _another_farm(cards: Cards, day: str) -> None:
    dale = copy.deepcopy(_hill(cards)) | {"id": "dale", "name": "dale", "latitude_deg": 50.1, "valid_from": day}
    _shore_is_far(cards, day)  # so that it is nearer to the hill than the shore
    cards["farms"].append(dale)


def _shore_is_far(cards: Cards, day: str) -> None:
    next(farm for farm in cards["farms"] if farm["id"] == "shore")["latitude_deg"] = 51.0


@pytest.fixture(scope="module")
def chain(raw_signals: Any, raw_weather: Any, run_room: Any, settings_of_the_room: Any) -> Callable[..., dict[str, pd.DataFrame]]:
    """Cards changed from a day on; all tables from the same raw rows, features included."""
    fleet, data_engineering = settings_of_the_room
    signals = raw_signals(shared._sent(SIGNALS))
    base = fleet.model_dump(mode="json", exclude_unset=True)
    base["groups"] = [
        {"id": name, "name": name, "farms": farms} for name, farms in (("alone", ["hill"]), ("both", ["hill", "shore"]))
    ]
    for source in (source for farm in base["farms"] for source in farm["weather"]):
        source["columns"] |= {"temperature_c": {"name": "t", "unit": "degC"}, "pressure_pa": {"name": "p", "unit": "Pa"}}
    # Groups of which no farm is a member have a model of their own, and so features.
    [hours] = base["products"]
    base["products"] = [hours | {"members": ["hill"]}, hours | {"id": "groups", "members": ["alone", "both"]}]

    def run(changes: list[Callable[[Cards, str], None]], day: str) -> dict[str, pd.DataFrame]:
        cards = copy.deepcopy(base)
        for change in changes:
            change(cards, day)
        changed = Fleet.model_validate(cards)
        sources = {(farm.id, source.model) for farm in changed.farms for source in farm.weather}
        weather = [row for row in WEATHER if (row["farm_id"], row["weather_model"]) in sources]
        found = run_room(signals, raw_weather(shared._sent(weather)), changed, shared.NOW, data_engineering)
        features = features_of(found["observations"], found["weather"], changed, shared.NOW, shared.FEATURES)[0]
        return {name: found[name] for name in ("signals", "observations", "weather")} | {"features": features}

    return run


def _before(table: pd.DataFrame, moment: pd.Timestamp, columns: pd.Index) -> pd.DataFrame:
    """Rows of a time before, in order; a column that one of both tables lacks is empty."""
    keys = [name for name in _KEYS if name in table]
    rows = table[table["valid_at"] < moment]
    if "farm_id" in rows:  # the farm that is added has rows of its own
        rows = rows[rows["farm_id"] != "dale"]
    return rows.reindex(columns=columns).sort_values(keys, ignore_index=True)


_KEYS = [
    "product_id", "farm_id", "entity_id", "turbine_id", "granularity_minutes", "weather_model", "run_at", "issued_at", "valid_at",
    "available_at", "source_file", "source_row",
]  # fmt: skip


@pytest.fixture(scope="module")
def unchanged(chain: Callable[..., Any]) -> Callable[[Any], dict[str, pd.DataFrame]]:
    """The tables without the change; a farm far from the hill stays far in both."""
    near, far = chain([], ""), chain([_shore_is_far], "")
    return lambda changes: far if _another_farm in changes else near


@pytest.mark.parametrize(
    ("changes", "days"),
    [
        # Of turbines, and of the groups of farms, which have no part in each other.
        pytest.param([_extended, _joined], 3, id="a turbine more, and a group"),
        pytest.param([_shrunk, _left], 4, id="a turbine less, and a group"),
        pytest.param([_repowered], 2, id="a turbine in place of another"),
        pytest.param([_another_model], 4, id="a weather model"),
        pytest.param([_another_farm], 4, id="a farm"),
    ],
)
def test_a_card_that_changes_on_a_day_changes_nothing_before(
    chain: Callable[..., Any], unchanged: Callable[[Any], Any], changes: list[Callable[[Cards, str], None]], days: int
) -> None:
    day = shared.WIND.index[0] + pd.Timedelta(days=days)
    moment = pd.Timestamp(f"{day:%Y-%m-%d}", tz="Europe/Paris").tz_convert("UTC")
    before, after = unchanged(changes), chain(changes, f"{day:%Y-%m-%d}")
    for name, table in before.items():
        columns = table.columns.union(after[name].columns, sort=False)
        pd.testing.assert_frame_equal(_before(after[name], moment, columns), _before(table, moment, columns))
    # From the day on something is another.
    assert any(not table.equals(after[name]) for name, table in before.items())
