"""From an export to the fields of a card: right, or asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from wind_kedro.onboarding import Findings, OnboardingError, propose

Export = Callable[..., Path]
MakeSignals = Callable[[Sequence[str], str, int, int], pd.DataFrame]


def proven(found: Findings, name: str) -> Any:
    assert found.is_proven(name), f"{name}: {found.by_field.get(name)}"
    return found.value(name)


def asked(found: Findings, name: str) -> Any:
    assert name in found.by_field, name
    assert not found.is_proven(name), found.by_field[name]
    return found.value(name)


def test_a_plain_export_is_proven(signals: pd.DataFrame, header: dict[str, str], write: Export) -> None:
    found = propose([write(signals, header)])
    assert proven(found, "signals.turbine") == "Turbine"
    assert proven(found, "turbines") == ["T1", "T2"]
    assert proven(found, "signals.cadence_seconds") == 600
    assert proven(found, "signals.clock") == "as_stamped"
    assert proven(found, "signals.columns.power_kw.name") == "Power (kW)"
    assert proven(found, "signals.columns.wind_direction_deg.unit") == "deg"
    assert proven(found, "rated_power_kw") == 2000
    assert proven(found, "capacity_kw") == 4000
    assert asked(found, "signals.stamps") == "interval_start"
    assert {finding.field for finding in found.open} == {
        "signals.stamps", "id", "name", "latitude_deg", "longitude_deg", "time_zone", "hub_height_m", "latency_minutes",
    }  # fmt: skip


# --- numbers and stamps ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("power", "decimal", "thousands"),
    [
        (["1.234,5", "999,25"], ",", "."),
        (["1,234.5", "999.25"], ".", ","),
        (["1 234,5", "999,25"], ",", " "),
        (["1'234.5", "999.25"], ".", "'"),
        (["1234", "999"], ".", None),
    ],
)
def test_marks_of_numbers(
    signals: pd.DataFrame, header: dict[str, str], write: Export, power: list[str], decimal: str, thousands: str | None
) -> None:
    table = signals.assign(power=np.resize(power, len(signals)))[["at", "turbine", "power"]]
    found = propose([write(table, {name: header[name] for name in table}, separator=";")])
    assert (proven(found, "signals.decimal"), proven(found, "signals.thousands")) == (decimal, thousands)


def test_numbers_of_three_decimals_alone_are_asked(signals: pd.DataFrame, header: dict[str, str], write: Export) -> None:
    table = signals.assign(power=np.resize(["1,234", "12,250", "100,125"], len(signals)))[["at", "turbine", "power"]]
    found = propose([write(table, {name: header[name] for name in table}, separator=";")])
    assert asked(found, "signals.decimal") == ","


def test_the_order_of_day_and_month_shows_where_dates_follow_one_another(
    make_signals: MakeSignals, header: dict[str, str], write: Export
) -> None:
    days = make_signals(["T1"], "2024-03-02", 8, 10)
    assert proven(propose([write(days, header, stamps="%d/%m/%Y %H:%M")]), "signals.stamp_format") == "%d/%m/%Y %H:%M"
    assert proven(propose([write(days, header, stamps="%m/%d/%Y %H:%M")]), "signals.stamp_format") == "%m/%d/%Y %H:%M"
    one_day = days[days["at"] < "2024-03-03"]
    asked(propose([write(one_day, header, stamps="%d/%m/%Y %H:%M")]), "signals.stamp_format")


def test_dates_without_times_are_refused(make_signals: MakeSignals, header: dict[str, str], write: Export) -> None:
    with pytest.raises(OnboardingError, match=r"export\.csv: 'Time \(UTC\)' has dates only, 24 rows of each"):
        propose([write(make_signals(["T1"], "2024-05-01", 20, 60), header, stamps="%Y-%m-%d")])


@pytest.mark.parametrize(("name", "end"), [("Period end", "interval_end"), ("Start", "interval_start"), ("Fin", "interval_end")])
def test_a_name_says_which_end_of_the_interval(
    signals: pd.DataFrame, header: dict[str, str], write: Export, name: str, end: str
) -> None:
    assert proven(propose([write(signals, header | {"at": name})]), "signals.stamps") == end


def test_a_clock_change_shows_the_local_clock(make_signals: MakeSignals, header: dict[str, str], write: Export) -> None:
    table = make_signals(["T1", "T2"], "2024-03-25", 12, 10)
    local = table.assign(at=table["at"].dt.tz_localize("UTC").dt.tz_convert("Europe/Berlin").dt.tz_localize(None))
    assert proven(propose([write(local, header | {"at": "Zeit"})]), "signals.clock") == "wall_clock_is_local"
    asked(propose([write(table, header | {"at": "Zeit"})]), "signals.clock")
    # A name that says UTC and an hour that is missing contradict each other.
    asked(propose([write(local, header)]), "signals.clock")


def test_a_true_offset_is_proven_and_a_false_one_asked(make_signals: MakeSignals, header: dict[str, str], write: Export) -> None:
    table = make_signals(["T1", "T2"], "2024-10-24", 8, 10)
    true = table["at"].dt.tz_localize("UTC").dt.tz_convert("Europe/Paris")
    false = table["at"].dt.tz_localize("Europe/Paris", ambiguous=np.zeros(len(table), bool))
    for at, judge, reading in ((true, proven, "as_stamped"), (false, asked, "wall_clock_is_utc")):
        found = propose([write(table.assign(at=[one.isoformat() for one in at]), header | {"at": "Time"})])
        assert judge(found, "signals.clock") == reading


@pytest.mark.parametrize("form", ["%Y-%m-%d %H.%M", "%d-%b-%y %H:%M"])
def test_a_format_that_is_not_found_can_be_given(signals: pd.DataFrame, header: dict[str, str], write: Export, form: str) -> None:
    path = write(signals, header, stamps=form)
    with pytest.raises(OnboardingError, match="is a valid time stamp; give another format, such as --set"):
        propose([path])
    found = propose([path], {"signals.stamp_format": form})
    assert proven(found, "signals.timestamp") == "Time (UTC)"
    assert proven(found, "signals.cadence_seconds") == 600


# --- layouts ---------------------------------------------------------------------------------------------------------


def test_wide(signals: pd.DataFrame, write: Export) -> None:
    wide = signals.pivot_table(index="at", columns="turbine", values=["power", "wind"])
    wide.columns = [f"{turbine}_{ {'power': 'Power', 'wind': 'WindSpeed'}[signal] }" for signal, turbine in wide.columns]
    table = wide.reset_index()
    found = propose([write(table, {name: name for name in table})])
    assert proven(found, "signals.layout") == "wide"
    assert proven(found, "turbines") == ["T1", "T2"]
    assert proven(found, "signals.columns.power_kw.name") == "{turbine}_Power"


def test_columns_that_are_left_are_named_as_a_card_would_name_them(signals: pd.DataFrame, write: Export) -> None:
    table = signals.pivot(index="at", columns="turbine", values=["power", "wind", "direction"])
    table.columns = [f"{turbine} {name}" for name, turbine in table.columns]
    header = {name: name.replace("direction", "Gondelposition [°]") for name in table} | {"at": "Time"}
    path = write(table.reset_index(), header | {"T1 power": "T1 power [kW]", "T2 power": "T2 power [kW]"})
    left = "{turbine} Gondelposition [°]"
    assert propose([path]).unused == [left]
    found = propose([path], {"signals.columns.wind_direction_deg.name": left})
    assert found.unused == []
    assert proven(found, "signals.columns.wind_direction_deg.unit") == "deg"


def test_the_sum_of_the_turbines_is_no_turbine(signals: pd.DataFrame, write: Export) -> None:
    table = signals.pivot(index="at", columns="turbine", values=["power", "wind"])
    table.columns = [f"{turbine} {name}" for name, turbine in table.columns]
    table["Farm power"] = (table["T1 power"] + table["T2 power"]) * 0.98  # behind its transformer
    header = {name: name for name in table} | {"at": "Time"}
    found = propose([write(table.reset_index(), header)])
    assert proven(found, "turbines") == ["T1", "T2"]
    assert proven(found, "signals.columns.wind_speed_ms.name") == "{turbine} wind"
    assert found.unused == ["Farm power"]


def test_rows_of_the_whole_farm_are_no_turbine(signals: pd.DataFrame, header: dict[str, str], write: Export) -> None:
    whole = signals.groupby("at", as_index=False)[["power", "wind", "direction", "temperature"]].mean()
    park = whole.assign(turbine="Park", power=whole["power"] * 2)
    table = pd.concat([signals, park]).sort_values(["at", "turbine"], ignore_index=True)
    found = propose([write(table, header)])
    assert proven(found, "turbines") == ["T1", "T2"]
    assert "the power of 'Park' is the sum of theirs" in found.by_field["turbines"].evidence


def test_what_all_tags_begin_with_is_no_turbine(signals: pd.DataFrame, write: Export) -> None:
    table = signals.melt(["at", "turbine"], ["power", "wind"], "signal", "value")
    table["tag"] = "SITE9." + table["turbine"] + "." + table["signal"].map({"power": "ActivePower", "wind": "WindSpeed"})
    found = propose([write(table, {"at": "ts", "tag": "tag", "value": "val"})])
    assert found.value("turbines") == ["SITE9.T1", "SITE9.T2"]
    asked(found, "signals.turbine")
    assert proven(found, "signals.columns.power_kw.name") == "{turbine}.ActivePower"


def test_blades_are_no_turbines(signals: pd.DataFrame, write: Export) -> None:
    table = signals[signals["turbine"] == "T1"].assign(
        **{f"Pitch {blade}": np.linspace(0, 20 + blade, len(signals) // 2) for blade in (1, 2, 3)}
    )
    names = {"at": "Time", "power": "Power (kW)", "wind": "Wind speed"} | {f"Pitch {n}": f"Pitch {n}" for n in (1, 2, 3)}
    assert propose([write(table, names)]).value("signals.layout") == "table"


def test_long(signals: pd.DataFrame, write: Export) -> None:
    long = signals.rename(columns={"power": "ActivePower", "wind": "WindSpeed"}).melt(
        ["at", "turbine"], ["ActivePower", "WindSpeed"], "Tag", "Value"
    )
    long["Quality"] = np.where(np.arange(len(long)) % 50 == 0, "Bad", "Good")
    found = propose([write(long, {name: name for name in long})])
    assert proven(found, "signals.layout") == "long"
    assert proven(found, "signals.good_quality") == ["Good"]
    assert proven(found, "signals.columns.power_kw.name") == "ActivePower"


def test_a_file_per_turbine_and_month(make_signals: MakeSignals, header: dict[str, str], write: Export) -> None:
    table = make_signals(["7", "12"], "2024-05-25", 14, 10)
    names = {key: name for key, name in header.items() if key != "turbine"}
    files = [
        write(own, names, name=f"scada_{turbine}_{month}.csv")
        for (turbine, month), own in table.groupby(["turbine", table["at"].dt.strftime("%Y-%m")])
    ]
    found = propose(files)
    assert proven(found, "signals.turbine_in_file") == "scada_{turbine}_2024-*.csv"
    assert proven(found, "turbines") == ["7", "12"]


def test_a_column_of_codes_is_no_turbine(signals: pd.DataFrame, header: dict[str, str], write: Export) -> None:
    table = signals[signals["turbine"] == "T1"].assign(turbine=np.resize([0, 0, 0, 1, 2], len(signals) // 2))
    found = propose([write(table, header | {"turbine": "Turbine status"})])
    assert found.value("signals.turbine") is None
    asked(found, "turbines")


def test_names_that_come_twice_are_refused(signals: pd.DataFrame, write: Export) -> None:
    path = write(signals, {"at": "Time", "power": "Power", "wind": "Wind"})
    path.write_text(path.read_text("utf-8").replace("Time,Power,Wind", "Time,Power,Power", 1), encoding="utf-8")
    with pytest.raises(OnboardingError, match=r"export\.csv: columns of the same name \(Power\) cannot be distinguished"):
        propose([path])


def test_turbines_above_the_names_of_their_signals_are_refused(signals: pd.DataFrame, write: Export) -> None:
    """Two rows of names: the upper one alone would make a matrix of one signal."""
    per_turbine = [signals[signals["turbine"] == one].reset_index(drop=True) for one in ("T1", "T2")]
    table = pd.DataFrame({"at": per_turbine[0]["at"]})
    for number, own in enumerate(per_turbine):
        table[f"p{number}"], table[f"w{number}"] = own["power"], own["wind"]
    path = write(table, {name: name for name in table}, between=[",Power (kW),Wind speed (m/s),Power (kW),Wind speed (m/s)"])
    path.write_text(path.read_text("utf-8").replace("at,p0,w0,p1,w1", "Time,T1,T1,T2,T2", 1), encoding="utf-8")
    with pytest.raises(OnboardingError, match=r"\(T1, T2\) .*join the two header rows into one, such as 'T1 Wind speed"):
        propose([path])


# --- signals and units -----------------------------------------------------------------------------------------------


def test_decoys_do_not_pass_for_signals(signals: pd.DataFrame, header: dict[str, str], write: Export) -> None:
    table = signals.assign(
        reactive=signals["power"] * 0.2,
        high=signals["power"] + 50,
        hot=60.0 + signals["temperature"],
        off=signals["direction"] % 7,
    ).rename(columns={"direction": "unused"})
    decoys = {
        "reactive": "Power (kvar)",
        "high": "Power max (kW)",
        "hot": "Temperatura multiplicadora",
        "off": "Wind direction",
    }
    names = decoys | {key: name for key, name in header.items() if key not in {"direction", "temperature"}}
    found = propose([write(table, names)])
    assert proven(found, "signals.columns.power_kw.name") == "Power (kW)"
    asked(found, "signals.columns.temperature_c.name")
    assert "relative to the nacelle" in found.by_field["signals.columns.wind_direction_deg.name"].evidence
    asked(found, "signals.columns.wind_direction_deg.name")


@pytest.mark.parametrize(
    ("name", "factor", "judge", "unit"),
    [("Power [p.u.]", 1, proven, "share"), ("Power", 1, asked, "share"), ("Power (%)", 100, asked, None)],
)
def test_a_share_of_capacity_does_not_pass_for_power(
    signals: pd.DataFrame, header: dict[str, str], write: Export, name: str, factor: float, judge: Any, unit: str | None
) -> None:
    found = propose([write(signals.assign(power=signals["power"] / 2000 * factor), header | {"power": name})])
    assert judge(found, "signals.columns.power_kw.unit") == unit
    assert factor == 100 or asked(found, "rated_power_kw") is None


@pytest.mark.parametrize(("name", "unit", "factor"), [("Power", "kW", 1), ("Power", "W", 1000), ("Power (MW)", "MW", 0.001)])
def test_the_size_of_power_proves_its_unit(
    signals: pd.DataFrame, header: dict[str, str], write: Export, name: str, unit: str, factor: float
) -> None:
    found = propose([write(signals.assign(power=signals["power"] * factor), header | {"power": name})])
    assert proven(found, "signals.columns.power_kw.unit") == unit


def test_a_unit_that_the_numbers_contradict_is_asked(signals: pd.DataFrame, header: dict[str, str], write: Export) -> None:
    found = propose([write(signals.assign(power=signals["power"] / 1000), header)])
    asked(found, "signals.columns.power_kw.unit")


@pytest.mark.parametrize("name", ["Production", "Energie"])
def test_what_may_be_energy_is_asked(signals: pd.DataFrame, header: dict[str, str], write: Export, name: str) -> None:
    found = propose([write(signals.assign(power=signals["power"] / 6), header | {"power": name})])
    asked(found, "signals.columns.power_kw.unit")


def test_energy_of_an_interval_has_its_length_in_its_unit(signals: pd.DataFrame, header: dict[str, str], write: Export) -> None:
    found = propose([write(signals.assign(power=signals["power"] / 6), header | {"power": "Energy (kWh)"})])
    assert proven(found, "signals.columns.power_kw.unit") == "kWh/10min"


@pytest.mark.parametrize(("unit", "factor"), [("m/s", 1), ("km/h", 3.6)])
def test_the_power_curve_proves_the_unit_of_wind(
    signals: pd.DataFrame, header: dict[str, str], write: Export, unit: str, factor: float
) -> None:
    found = propose([write(signals.assign(wind=signals["wind"] * factor), header | {"wind": "Wind speed"})])
    assert proven(found, "signals.columns.wind_speed_ms.unit") == unit


def test_sentinels(signals: pd.DataFrame, header: dict[str, str], write: Export) -> None:
    table = signals.copy()
    table.loc[::100, ["power", "temperature"]] = -999.0
    found = propose([write(table, header)])
    assert proven(found, "signals.sentinels.power_kw") == [-999.0]
    assert proven(found, "signals.sentinels.temperature_c") == [-999.0]


def test_columns_whose_names_mean_no_signal_are_left_to_the_user(signals: pd.DataFrame, write: Export) -> None:
    path = write(signals, {"at": "x1", "turbine": "x2", "power": "a", "wind": "b", "direction": "c"})
    found = propose([path])
    assert asked(found, "signals.columns.power_kw.name") is None
    assert "'a', 'b', 'c'" in found.by_field["signals.columns.power_kw.name"].evidence
    assert "signals.columns.wind_speed_ms.name" not in found.by_field
    given = {"signals.columns.power_kw.name": "a", "signals.columns.wind_speed_ms.name": "b"}
    found = propose([path], given)
    assert asked(found, "signals.columns.power_kw.unit") == "kW"
    found = propose([path], given | {"signals.columns.power_kw.unit": "kW"})
    assert proven(found, "signals.columns.wind_speed_ms.unit") == "m/s"
    assert proven(found, "capacity_kw") == 4000


# --- turbines and answers --------------------------------------------------------------------------------------------


def test_a_turbine_that_never_reaches_its_rating_is_asked(signals: pd.DataFrame, header: dict[str, str], write: Export) -> None:
    found = propose([write(signals[signals["power"] < 1500], header)])
    asked(found, "rated_power_kw")
    asked(found, "capacity_kw")


def test_a_turbine_that_is_held_down_is_asked(signals: pd.DataFrame, header: dict[str, str], write: Export) -> None:
    held = signals.assign(power=signals["power"].where(signals["turbine"] == "T1", signals["power"].clip(upper=1500)))
    found = propose([write(held, header)])
    assert asked(found, "rated_power_kw.T2") == 1500


def test_stacked_turbines_in_a_file_read_in_part_are_asked(
    make_signals: MakeSignals, header: dict[str, str], write: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wind_kedro.onboarding.sample._WHOLE_BYTES", 1 << 18)
    monkeypatch.setattr("wind_kedro.onboarding.sample._BLOCK_BYTES", 1 << 16)
    table = make_signals(["T1", "T2", "T3", "T4"], "2024-05-01", 20, 10)
    assert proven(propose([write(table, header)]), "turbines") == ["T1", "T2", "T3", "T4"]
    found = propose([write(table.sort_values(["turbine", "at"]), header)])
    asked(found, "turbines")
    assert "there may be more" in found.by_field["turbines"].evidence


def test_zones_are_not_taken_for_turbines(signals: pd.DataFrame, header: dict[str, str], write: Export) -> None:
    table = signals.assign(turbine=signals["turbine"].str[1:], power=signals["power"] / 2000)
    path = write(table, header | {"turbine": "ZONEID", "power": "TARGETVAR"})
    found = propose([path], {"signals.columns.power_kw.name": "TARGETVAR"})
    assert asked(found, "turbines") == ["1", "2"]


def test_an_answer_decides_what_follows_from_it(signals: pd.DataFrame, write: Export) -> None:
    table = signals.assign(other=signals["power"] / 1000)
    path = write(table, {"at": "t", "turbine": "Turbine", "power": "power a", "other": "power b", "wind": "wind speed"})
    found = propose([path], {"signals.columns.power_kw.name": "power b"})
    assert found.by_field["signals.columns.power_kw.name"].evidence == "given"
    assert proven(found, "signals.columns.power_kw.unit") == "MW"
    assert proven(found, "capacity_kw") == 4000
    assert proven(propose([path], {"capacity_kw": 5000}), "rated_power_kw") == 2500


def test_an_answer_that_names_no_column_is_refused(signals: pd.DataFrame, header: dict[str, str], write: Export) -> None:
    path = write(signals, header)
    for field in ("signals.columns.power_kw.name", "signals.timestamp", "signals.turbine"):
        with pytest.raises(OnboardingError, match=r"no column 'nowhere'.*Power \(kW\)"):
            propose([path], {field: "nowhere"})


def test_without_power_it_is_asked_and_nothing_guessed(signals: pd.DataFrame, header: dict[str, str], write: Export) -> None:
    found = propose([write(signals, {"at": "Time", "turbine": "Turbine", "wind": "Wind speed (m/s)"})])
    assert asked(found, "signals.columns.power_kw.name") is None
    assert asked(found, "capacity_kw") is None
