"""The card that findings make, and where it is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from wind_kedro.cards import Farm
from wind_kedro.onboarding import Findings, OnboardingError
from wind_kedro.onboarding.card import (
    ENVIRONMENT,
    answer,
    append_card,
    bring_files,
    card_of,
    choices,
    path_of,
    write_isolated_configuration,
)

FIELDS: dict[str, Any] = {
    "id": "moor",
    "name": "Moor",
    "latitude_deg": 52.0,
    "longitude_deg": 8.0,
    "time_zone": "Europe/Berlin",
    "hub_height_m": 90,
    "capacity_kw": 4500.0,
    "latency_minutes": 10,
    "turbines": ["A", "B"],
    "rated_power_kw": 2000.0,
    "rated_power_kw.B": 2500.0,
    "signals.timestamp": "Zeit",
    "signals.turbine": "Anlage",
    "signals.separator": ";",
    "signals.decimal": ",",
    "signals.cadence_seconds": 600,
    "signals.columns.power_kw.name": "Leistung [kW]",
    "signals.columns.power_kw.unit": "kW",
    "signals.sentinels.power_kw": [-999.0],
}
FARMS = """# Which farms.
farms:
  # The first.
  - id: hill   # on a hill
    name: Hill

groups: []   # none
"""


def found_with(**changes: Any) -> Findings:
    found = Findings()
    for name, value in (FIELDS | changes).items():
        found.proven(name, value, "test")
    return found


def test_the_card_is_valid_and_says_no_more_than_was_found() -> None:
    card = card_of(found_with(), "moor/export.csv")
    farm = Farm.model_validate(card)
    assert [turbine.rated_power_kw for turbine in farm.turbines] == [2000, 2500]
    assert farm.signals.columns["power_kw"].name == "Leistung [kW]"
    assert set(card["signals"]) == {
        "path",
        "timestamp",
        "turbine",
        "separator",
        "decimal",
        "cadence_seconds",
        "columns",
        "sentinels",
    }


def test_fields_that_make_no_card_are_named() -> None:
    with pytest.raises(OnboardingError, match=r"time_zone: 'Mars' is not an IANA time zone"):
        card_of(found_with(time_zone="Mars"), "moor/export.csv")
    with pytest.raises(OnboardingError, match=r"capacity"):
        card_of(found_with(capacity_kw=9000.0), "moor/export.csv")


def test_a_card_is_appended_and_every_comment_stays(tmp_path: Path) -> None:
    file = tmp_path / "farms.yml"
    file.write_text(FARMS, encoding="utf-8")
    card = card_of(found_with(), "moor/export.csv")
    append_card(file, card)
    text = file.read_text("utf-8")
    assert [line for line in FARMS.splitlines() if line not in text.splitlines()] == []
    content = yaml.safe_load(text)
    assert content["farms"] == [{"id": "hill", "name": "Hill"}, card]
    assert content["groups"] == []
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("text", ["farms: []\n", "farms:\n", "farms:\n- id: hill\n  name: Hill\n"])
def test_lists_of_other_shapes_take_a_card(tmp_path: Path, text: str) -> None:
    file = tmp_path / "farms.yml"
    file.write_text(text, encoding="utf-8")
    append_card(file, {"id": "moor", "name": "Moor"})
    assert yaml.safe_load(file.read_text("utf-8"))["farms"][-1] == {"id": "moor", "name": "Moor"}


def test_an_environment_without_cards_begins_with_those_it_has_had(tmp_path: Path) -> None:
    base, own = tmp_path / "base.yml", tmp_path / "mine" / "farms.yml"
    base.write_text(FARMS, encoding="utf-8")
    append_card(own, {"id": "moor", "name": "Moor"}, base)
    assert [card["id"] for card in yaml.safe_load(own.read_text("utf-8"))["farms"]] == ["hill", "moor"]
    assert base.read_text("utf-8") == FARMS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (FARMS, "farm 'hill' already exists"),
        ("farms: [{id: shore}]\n", "cannot be appended"),
        ("groups: []\n", "no list `farms:`"),
    ],
)
def test_a_file_that_takes_no_card_is_left_as_it_is(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "farms.yml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(OnboardingError, match=message):
        append_card(file, {"id": "hill", "name": "Hill"})
    assert file.read_text("utf-8") == text
    assert list(tmp_path.iterdir()) == [file]


def test_files_are_copied_and_another_of_the_name_is_refused(tmp_path: Path) -> None:
    for name in ("wtg_1.csv", "wtg_12.csv"):
        (tmp_path / name).write_text(name, encoding="utf-8")
    files = sorted(tmp_path.glob("*.csv"))
    raw = tmp_path / "01_raw" / "moor"
    assert bring_files(files, raw) == "moor/wtg_1*.csv"
    assert bring_files(files, raw) == "moor/wtg_1*.csv"
    assert sorted(path.name for path in raw.iterdir()) == ["wtg_1.csv", "wtg_12.csv"]
    files[0].write_text("other", encoding="utf-8")
    with pytest.raises(OnboardingError, match=r"wtg_1\.csv: another file of that name"):
        bring_files(files, raw)
    assert path_of(files[:1], "moor") == "moor/wtg_1.csv"


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("id", "007", "007"),
        ("name", "No", "No"),
        ("signals.decimal", ",", ","),
        ("signals.turbine", "null", None),
        ("signals.separator", "tab", "\t"),
        ("turbines", "[T1, T2]", ["T1", "T2"]),
        ("hub_height_m", "80", 80),
        ("signals.columns.power_kw.unit", "MW", "MW"),
        ("rated_power_kw.T1", "2050", 2050),
    ],
)
def test_an_answer_is_read_as_its_field_is(field: str, text: str, value: Any) -> None:
    assert answer(field, text) == value


@pytest.mark.parametrize(
    ("field", "text", "message"),
    [
        ("hub_heigth_m", "80", "no field 'hub_heigth_m'; did you mean hub_height_m"),
        ("hub_height_m", "high", "hub_height_m: Input should be a valid number"),
        ("latitude_deg", "525", "latitude_deg: Input should be less than or equal to 90"),
        ("time_zone", "Berlin", "time_zone: 'Berlin' is not an IANA time zone"),
        ("id", "De mo", "id: 'De mo' is not an identifier"),
        ("signals.stamps", "end", "signals.stamps: Input should be 'interval_start' or 'interval_end'"),
        ("signals.columns.power_kw.unit", "hp", "unknown unit 'hp'; choose one of kW, MW"),
        ("turbines", "[T1", "is not a valid value"),
    ],
)
def test_an_answer_that_cannot_be_is_refused_at_once(field: str, text: str, message: str) -> None:
    with pytest.raises(OnboardingError) as error:
        answer(field, text)
    assert message in str(error.value)


def test_few_words_are_offered() -> None:
    assert choices("signals.stamps") == ["interval_start", "interval_end"]
    assert "km/h" in choices("signals.columns.wind_speed_ms.unit")
    assert choices("id") == []


def test_a_newcomer_is_alone_in_the_copy(tmp_path: Path) -> None:
    conf, raw, aside = tmp_path / "conf", tmp_path / "data" / "01_raw", tmp_path / "aside"
    for name, text in (("base/farms.yml", FARMS), ("mine/globals.yml", "data: data/mine\nregistered_model: x\n")):
        (conf / name).parent.mkdir(parents=True)
        (conf / name).write_text(text, encoding="utf-8")
    (raw / "moor").mkdir(parents=True)
    (raw / "moor" / "export.csv").write_text("x", encoding="utf-8")
    aside.mkdir()
    card = card_of(found_with(), "moor/export.csv")
    copied = write_isolated_configuration(conf, "mine", card, [{"id": "hours", "members": ["hill"]}], raw, aside)
    own = copied / ENVIRONMENT
    assert yaml.safe_load((own / "farms.yml").read_text("utf-8")) == {"farms": [card], "groups": []}
    assert yaml.safe_load((own / "products.yml").read_text("utf-8")) == {"products": [{"id": "hours", "members": ["moor"]}]}
    shared = yaml.safe_load((own / "globals.yml").read_text("utf-8"))
    assert shared["registered_model"] == "x"
    assert (Path(shared["data"]) / "01_raw" / "moor" / "export.csv").read_text("utf-8") == "x"
