"""What names of columns say."""

from __future__ import annotations

import pytest

from wind_kedro.onboarding import names


@pytest.mark.parametrize(
    ("name", "signal"),
    [
        ("Active Power (kW)", "power_kw"),
        ("Wirkleistung [kW]", "power_kw"),
        ("Potencia activa", "power_kw"),
        ("Moc czynna", "power_kw"),
        ("有功功率(kW)", "power_kw"),
        ("Активная мощность", "power_kw"),
        ("WTC_ActPower_mean", "power_kw"),
        ("Nacelle Wind Speed", "wind_speed_ms"),
        ("WNAC.WdSpd", "wind_speed_ms"),
        ("Vitesse du vent (m/s)", "wind_speed_ms"),
        ("Vindhastighed", "wind_speed_ms"),
        ("风速", "wind_speed_ms"),
        ("Windrichtung [°]", "wind_direction_deg"),
        ("風向", "wind_direction_deg"),
        ("Außentemperatur", "temperature_c"),
        ("Amb_Temp_Avg", "temperature_c"),
        ("Blattwinkel", "pitch_deg"),
    ],
)
def test_a_signal_is_known_in_many_languages(name: str, signal: str) -> None:
    meaning = names.meaning_of(name)
    assert (meaning.signal, meaning.unexplained) == (signal, ())


@pytest.mark.parametrize(
    "name",
    [
        "Reactive power",
        "Blindleistung [kvar]",
        "无功功率",
        "Nacelle position",
        "Gear oil temperature",
        "Power setpoint",
        "Yaw error",
        "Getriebe Temperatur",
        "Theoretical power",
        "Rotor speed",
        "Wind direction relative",
    ],
)
def test_another_quantity_is_no_signal(name: str) -> None:
    assert names.signal_of(name) is None


@pytest.mark.parametrize("name", ["Temperatura multiplicadora", "Puissance souscrite", "Generatortemperatur"])
def test_words_that_nobody_knows_are_left_over(name: str) -> None:
    meaning = names.meaning_of(name)
    assert meaning.signal is not None
    assert meaning.unexplained


@pytest.mark.parametrize(
    ("name", "statistic"),
    [
        ("Power max", "max"),
        ("Power 10min Avg", "mean"),
        ("Leistung Ø [kW]", "mean"),
        ("Wind (min)", "min"),
        ("最大风速", "max"),
        ("P_std", "std"),
        ("Effekt", None),
    ],
)
def test_statistics(name: str, statistic: str | None) -> None:
    assert names.statistic_of(name) == statistic


@pytest.mark.parametrize(
    ("name", "beside", "unit"),
    [
        ("Power (MW)", "", "MW"),
        ("Power", "kW", "kW"),
        ("wind_kmh", "", "km/h"),
        ("Temp [℃]", "", "degC"),
        ("Power (kvar)", "", None),
        ("Power", "", None),
    ],
)
def test_units(name: str, beside: str, unit: str | None) -> None:
    assert names.unit_of(name, beside) == unit


def test_units_of_other_quantities_are_told() -> None:
    assert names.foreign_unit("Power (kvar)") == "kvar"
    assert names.foreign_unit("Leistung [%]") == "%"
    assert names.foreign_unit("Power (kW)") is None


def test_grammar_proves_no_end_of_an_interval() -> None:
    assert not names.has_term("Data do registro", "end")
    assert names.has_term("Period end", "end")
