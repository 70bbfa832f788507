# ruff: noqa: E501, RUF001 - tables of dresses read as tables, in the letters of their languages
"""One made farm, whose truth is known, exported in many dresses: those that people wrote down, and others drawn by chance."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from record import PROJECT
from wind_kedro.cards import SIGNAL_UNITS, UNIT_CONVERSIONS

sys.path.append(str(PROJECT / "tests"))  # where the synthetic fleet is

from synthetic import Recipe, made_up_farms, turbines, weather

ZONE = "Europe/Berlin"
SIGNALS = tuple(SIGNAL_UNITS)
RATED_KW = 2050.0
#: What power may be in that has no factor to kW.
NO_UNITS = ("%", "share", "counter")


@dataclass(frozen=True)
class Dress:
    """How one export is dressed.

    Names are those of its columns, with {turbine} in a wide one. ``decoys`` are columns of other quantities, by name and
    kind; ``total`` is what the sum of the turbines is called, a column of a wide export, else a turbine; ``refused`` is a phrase
    of the message with which an export is to be refused that no card can describe.
    """

    id: str
    names: Mapping[str, str]
    units: Mapping[str, str] = field(default_factory=dict)
    stamp: str = "Date_time"
    time_of_day: str | None = None
    turbine: str | None = "Turbine"
    stamp_format: str | None = "%Y-%m-%d %H:%M:%S"
    clock: str = "utc"
    ends: bool = False
    format: str = "csv"
    encoding: str = "utf-8"
    separator: str = ","
    decimal: str = "."
    thousands: str | None = None
    title: tuple[str, ...] = ()
    units_row: tuple[str, ...] | None = None
    footer: tuple[str, ...] = ()
    layout: str = "table"
    quality: bool = False
    per_file: bool = False
    meter: bool = False
    cadence: int = 600
    days: int = 60
    start: str = "2023-10-05"
    extremes: Mapping[str, str] = field(default_factory=dict)
    sentinel: Mapping[str, float] = field(default_factory=dict)
    ids: tuple[str, ...] = ("T01", "T02", "T03")
    shuffled: bool = False
    decoys: Mapping[str, str] = field(default_factory=dict)
    header_mark: str = ""
    quoted: bool = False
    packed: bool = False
    other_sheets: tuple[str, ...] = ()
    monthly: bool = False
    missing: str = ""
    numbered: bool = False
    stacked: bool = False
    received: str | None = None
    total: str | None = None
    refused: str | None = None


def _n(power: str, wind: str, direction: str, temperature: str, pitch: str | None = None) -> dict[str, str]:
    found = dict(zip(SIGNALS, (power, wind, direction, temperature, pitch), strict=True))
    return {signal: name for signal, name in found.items() if name is not None}


DRESSES = (
    Dress("plain", _n("power_kw", "wind_speed_ms", "wind_direction_deg", "temperature_c", "pitch_deg"), stamp="timestamp_utc"),
    Dress("la_haute_borne", _n("P_avg", "Ws_avg", "Wa_avg", "Ot_avg", "Ba_avg"), turbine="Wind_turbine_name", separator=";", clock="false_offset",
          extremes={"power_kw": "P", "wind_speed_ms": "Ws"}, sentinel={"temperature_c": -273.2}),
    Dress("german", _n("Wirkleistung [kW]", "Windgeschwindigkeit [m/s]", "Windrichtung [°]", "Außentemperatur [°C]", "Blattwinkel [°]"), stamp="Zeitstempel",
          turbine="Anlage", separator=";", decimal=",", thousands=".", stamp_format="%d.%m.%Y %H:%M", encoding="cp1252", clock="local", ends=True),
    Dress("us_am_pm", _n("Active Power (kW)", "Wind Speed (mph)", "Wind Direction (deg)", "Ambient Temp (°F)"), units={"wind_speed_ms": "mph", "temperature_c": "degF"},
          stamp="Timestamp", turbine="WTG", stamp_format="%m/%d/%Y %I:%M:%S %p", thousands=","),
    Dress("danish", _n("Effekt (kW)", "Vindhastighed (m/s)", "Vindretning (grader)", "Udetemperatur (°C)"), stamp="Tidspunkt", turbine="Mølle", separator=";", decimal=",",
          stamp_format="%d-%m-%Y %H:%M:%S", clock="local"),
    Dress("spanish", _n("Potencia activa kW", "Velocidad del viento m/s", "Dirección del viento", "Temperatura ambiente °C"), stamp="Fecha", time_of_day="Hora",
          turbine="Aerogenerador", separator=";", decimal=",", stamp_format="%d/%m/%Y %H:%M"),
    Dress("french_wide_mw", _n("Eolienne {turbine} Puissance (MW)", "Eolienne {turbine} Vitesse vent (m/s)", "Eolienne {turbine} Direction vent (°)", "Eolienne {turbine} Temperature exterieure (°C)"),
          units={"power_kw": "MW"}, stamp="Date UTC", layout="wide", separator=";", decimal=",", ids=("1", "2", "3"), encoding="utf-8", stamp_format="%d/%m/%Y %H:%M"),
    Dress("historian_long", _n("ActivePower", "WindSpeed", "WindDirection", "AmbientTemperature"), stamp="Time", turbine="Asset", layout="long", quality=True, stamp_format="iso_z", days=45),
    Dress("historian_tags", _n("{turbine}.WTUR.W", "{turbine}.WNAC.WdSpd", "{turbine}.WNAC.WdDir", "{turbine}.WNAC.ExTmp"), stamp="t", turbine=None, layout="long",
          stamp_format="epoch_milliseconds", days=45),
    Dress("file_per_turbine", _n("Grd_Prod_Pwr_Avg", "Amb_WindSpeed_Avg", "Amb_WindDir_Abs_Avg", "Amb_Temp_Avg", "Blds_PitchAngle_Avg"), stamp="PCTimeStamp", turbine=None,
          per_file=True, stamp_format="%d-%m-%Y %H:%M:%S"),
    Dress("seconds", _n("ActivePower_kW", "WindSpeed_m/s", "WindDir", "Temp"), stamp="ts", cadence=1, days=1, stamp_format="iso_z"),
    Dress("hourly_energy", _n("Energie (MWh)", "Vent (m/s)", "Direction du vent (°)", "Temp ext (°C)"), units={"power_kw": "MWh/h"}, stamp="Début", turbine="Turbine",
          cadence=3600, stamp_format="%d/%m/%Y %H:%M", separator=";", decimal=",", encoding="cp1252"),
    Dress("utf16_tab", _n("wtc_ActPower_mean", "wtc_AcWindSp_mean", "wtc_WindDirection_mean", "wtc_AmbieTmp_mean", "wtc_PitchA_mean"), stamp="TimeStamp", turbine="StationId",
          encoding="utf-16", separator="\t", extremes={"power_kw": "wtc_ActPower", "wind_speed_ms": "wtc_AcWindSp"}),
    Dress("excel_title_units", _n("Power", "Wind speed", "Wind direction", "Outdoor temperature"), stamp="Date/Time", turbine="Unit", format="excel", stamp_format=None,
          title=("Wind park monthly report", ""), units_row=("", "", "kW", "m/s", "°", "°C"), days=30),
    Dress("parquet_zone", _n("active_power", "wind", "wind_direction", "ambient"), units={"power_kw": "MW"}, stamp="time", turbine="unit", format="parquet", stamp_format="iso_z"),
    Dress("epoch_rad_kelvin_kmh", _n("power", "windspeed", "winddir", "airTemp"), units={"wind_speed_ms": "km/h", "wind_direction_deg": "rad", "temperature_c": "K"}, stamp="epoch",
          turbine="device", stamp_format="epoch_seconds"),
    Dress("ambiguous_dates", _n("Power [kW]", "Wind [m/s]", "Wind dir [deg]", "Temp [°C]"), stamp="Date", stamp_format="%d/%m/%Y %H:%M", start="2024-03-03", days=1, cadence=60),
    Dress("dst_local", _n("Moc czynna [kW]", "Predkosc wiatru [m/s]", "Kierunek wiatru [°]", "Temperatura zewnetrzna [°C]"), stamp="Czas", turbine="Turbina", separator=";", decimal=",", clock="local"),
    Dress("true_offsets", _n("P [W]", "v_wind [kn]", "Windrichting", "Buitentemperatuur [°C]"), units={"power_kw": "W", "wind_speed_ms": "kn"}, stamp="Tijd", turbine="Molen", clock="offset"),
    Dress("sentinels", _n("Vermogen (kW)", "Windsnelheid (m/s)", "Windrichting (°)", "Buitentemp (°C)"), stamp="Datum/tijd UTC", turbine="Windmolen", separator=";",
          sentinel={"power_kw": -999, "wind_speed_ms": -999, "temperature_c": -9999, "wind_direction_deg": 9999}),
    Dress("farm_meter", _n("Total Leistung MW", "Wind m/s", "Richtung", "T"), units={"power_kw": "MW"}, stamp="Zeit", turbine=None, meter=True, cadence=900, separator=";", decimal=","),
    Dress("shuffled", _n("Potenza attiva (kW)", "Velocità vento (m/s)", "Direzione vento (°)", "Temperatura esterna (°C)"), stamp="Data UTC", turbine="Turbina", shuffled=True, separator=";", decimal=","),
    Dress("no_words", _n("A17", "A03", "A22", "A40"), stamp="X1", turbine="X2"),
    Dress("title_comment_footer", _n("Potência ativa (kW)", "Velocidade do vento (m/s)", "Direção do vento (°)", "Temperatura ambiente (°C)"), stamp="Data/Hora fim", turbine="Turbina", separator=";",
          decimal=",", title=("Parque eólico;;;;;", "Relatório"), footer=("Fim do relatório",), ends=True, encoding="utf-8"),
    Dress("greenbyte", _n("Power (kW)", "Wind speed (m/s)", "Wind direction (°)", "Nacelle ambient temperature (°C)"), stamp="# Date and time", turbine=None, per_file=True, monthly=True,
          title=("# This file was exported by the operator.", "#", "# Time zone: UTC", "# Turbine: see file name"), missing="NaN",
          decoys={"Power, Minimum (kW)": "low", "Power, Maximum (kW)": "high", "Power, Standard deviation (kW)": "noise", "Reactive power (kvar)": "reactive", "Nacelle position (°)": "angle",
                  "Gear oil temperature (°C)": "hot", "Potential power default PC (kW)": "potential", "Generator RPM (RPM)": "rpm"}),
    Dress("chinese", _n("有功功率(kW)", "风速(m/s)", "风向(°)", "环境温度(℃)", "桨距角(°)"), stamp="时间", turbine="风机编号", encoding="utf-8-sig",
          decoys={"无功功率(kvar)": "reactive", "发电机转速(rpm)": "rpm", "机舱位置(°)": "angle", "理论功率(kW)": "potential", "齿轮箱油温(℃)": "hot", "最大风速(m/s)": "gust"}),
    Dress("polish_cp1250", _n("Moc czynna [kW]", "Prędkość wiatru [m/s]", "Kierunek wiatru [°]", "Temperatura zewnętrzna [°C]"), stamp="Data i godzina", turbine="Elektrownia", separator=";", decimal=",",
          encoding="cp1250", clock="local", decoys={"Moc bierna [kvar]": "reactive", "Temperatura łożyska [°C]": "hot"}),
    Dress("quoted_24h", _n("Leistung Ø [kW]", "Windgeschw. Ø [m/s]", "Windrichtung Ø [°]", "Umgebungstemperatur Ø [°C]"), stamp="Datum/Zeit", turbine="WEA", separator=";", decimal=",", quoted=True,
          stamp_format="%d.%m.%Y %H:%M", ends=True, extremes={"power_kw": "Leistung", "wind_speed_ms": "Windgeschw."}, footer=("Summe;;123,0;5,0;6,0;7,0;8,0;9,0;10,0;11,0;12,0",)),
    Dress("ten_minute_average", _n("Active Power 10min Avg", "Wind Speed 10min Avg", "Wind Direction 10min Avg", "Ambient Temp 10min Avg (C)"), stamp="Period Ending (UTC)", turbine="Turbine", ends=True, numbered=True,
          decoys={"Active Power 10min Max": "high", "Active Power 10min Min": "low", "Wind Speed 10min Max": "gust", "Setpoint 10min Avg": "setpoint"}),
    Dress("per_cent", _n("Leistung [%]", "Wind [m/s]", "Richtung", "Temperatur [°C]"), units={"power_kw": "%"}, stamp="Zeit", turbine="Anlage", separator=";", decimal=","),
    Dress("share", _n("power [p.u.]", "wind_speed", "wind_dir", "temp"), units={"power_kw": "share"}, stamp="time", turbine="turbine"),
    Dress("historian_pipe_gz", _n("power_mw", "wind_speed_kmh", "wind_direction_rad", "temp_k"), units={"power_kw": "MW", "wind_speed_ms": "km/h", "wind_direction_deg": "rad", "temperature_c": "K"}, stamp="ts_utc",
          turbine="asset_id", stamp_format="iso_short", separator="|", packed=True, missing="null"),
    Dress("excel_sheets", _n("Puissance active (kW)", "Vitesse du vent (m/s)", "Direction du vent (°)", "Température ambiante (°C)"), stamp="Date", turbine="Eolienne", format="excel", stamp_format=None, days=30,
          other_sheets=("Lisez-moi", "Parc"), decoys={"Puissance réactive (kvar)": "reactive", "Température huile (°C)": "hot"}),
    Dress("hot_only", _n("Potencia (kW)", "Velocidad viento (m/s)", "Dirección viento", None), stamp="Fecha UTC", turbine="Aero", separator=";", decimal=",", decoys={"Temperatura multiplicadora (°C)": "hot", "Estado turbina": "status"}),
    Dress("relative_direction", _n("Power kW", "Wind m/s", None, "Ambient °C"), stamp="Time", turbine="Unit", decoys={"Wind direction": "relative", "Turbine state": "status"}),
    Dress("one_turbine", _n("Produktion", "Vind", "Vindretning", "Udetemp"), stamp="Tid", turbine=None, ids=("M1",), decoys={"Mølle status": "status", "Generator omdr.": "rpm"}),
    Dress("two_anemometers", _n("Potenza media", "Vento 1", "Direzione vento", "Temp. esterna"), stamp="Data/ora inizio", turbine="Aerogeneratore", separator=";", decimal=",", decoys={"Vento 2": "gust"}),
    Dress("received", _n("ActivePower", "WindSpeed", "WindDirection", "AmbientTemperature"), stamp="measured_at", turbine="device_id", stamp_format="iso_z", received="received_at"),
    Dress("meter_total", _n("Total active power [MW]", "Wind speed mast [m/s]", None, None), units={"power_kw": "MW"}, stamp="Start time", turbine=None, meter=True, cadence=900, decoys={"Total reactive power [Mvar]": "reactive"}),
    Dress("counter", _n("Energie cumulée [MWh]", "Vent [m/s]", "Direction vent [°]", "Température extérieure [°C]"), units={"power_kw": "counter"}, stamp="Horodate", turbine="Eolienne", separator=";", decimal=","),
    Dress("seconds_stacked", _n("Pwr", "Wspd", "Wdir", "Amb"), stamp="t", turbine="wtg", cadence=1, days=2, stamp_format="epoch_seconds", stacked=True, start="2024-05-02"),
    Dress("russian", _n("Активная мощность, кВт", "Скорость ветра, м/с", "Направление ветра, град", "Температура наружного воздуха, °C"), stamp="Время начала", turbine="Турбина", separator=";", decimal=",",
          decoys={"Реактивная мощность, квар": "reactive"}),
    Dress("greek_wide_excel", _n("{turbine} Ενεργός ισχύς (kW)", "{turbine} Ταχύτητα ανέμου (m/s)", "{turbine} Διεύθυνση ανέμου (°)", "{turbine} Θερμοκρασία περιβάλλοντος (°C)"), stamp="Time", turbine=None, layout="wide",
          format="excel", stamp_format=None, days=30, ids=("Α1", "Α2", "Α3")),
    Dress("wide_total", _n("{turbine}_P_kW", "{turbine}_Wind_m/s", "{turbine}_Dir_deg", "{turbine}_Temp_C"), stamp="Time UTC", turbine=None, layout="wide", total="TOTAL_P_kW"),
    Dress("park_rows", _n("Wirkleistung [kW]", "Windgeschwindigkeit [m/s]", "Windrichtung [°]", "Außentemperatur [°C]"), stamp="Zeit (UTC)", turbine="Anlage", separator=";", decimal=",", total="Park"),
    Dress("site_paths", _n("SITE9.{turbine}.ActivePower", "SITE9.{turbine}.WindSpeed", "SITE9.{turbine}.WindDirection", "SITE9.{turbine}.AmbientTemperature"), stamp="ts", turbine=None, layout="long",
          stamp_format="iso_z", days=45, ids=("WTG01", "WTG02", "WTG03")),
    Dress("doubled_names", _n("Power", "Wind", None, None), stamp="Time", turbine=None, layout="doubled", refused="cannot be distinguished"),
    Dress("hours_of_the_day", _n("Power (kW)", "Wind (m/s)", None, None), stamp="Date", turbine="Turbine", stamp_format="hour", cadence=3600, refused="has dates only"),
)  # fmt: skip


# --- the farm and its exports ------------------------------------------------------------------------------------------


@cache
def truth(cadence: int, days: int, start: str, seed: int = 7) -> pd.DataFrame:
    """The made farm's signals: ``turbine_id`` (0, 1, 2), ``valid_at`` and the house's columns."""
    step = 5 if cadence % 600 else 10
    step = 1 if cadence < 300 else step
    recipe = _recipe(seed, start, days, step)
    card = made_up_farms(1, seed, cadence_minutes=max(1, cadence // 60))[0]
    few = card.model_copy(
        update={
            "turbines": [t.model_copy(update={"id": str(i), "rated_power_kw": RATED_KW}) for i, t in enumerate(card.turbines[:3])]
        }
    )
    field_ = weather.wind_field([few], recipe)
    hours, season = weather.solar_hour(field_.times, [few]), weather.season_of(field_.times)
    rows = turbines.turbine_signals(few, 0, field_, recipe, hours[:, [0]], season)
    return rows if cadence >= 60 else _per_second(rows, 181 if days == 1 else 24 * 60 * days)


def _recipe(seed: int, start: str, days: int, step: int) -> Recipe:
    made = yaml.safe_load((PROJECT / "conf" / "test" / "synthetic.yml").read_text(encoding="utf-8"))
    end = str(pd.Timestamp(start) + pd.Timedelta(days=days))
    # Windy enough that full load is reached in a month.
    climates = {"farm_0001": {"mean_speed_ms": 9.0, "weibull_shape": 2.1, "prevailing_from_deg": 250, "prevalence": 0.5}}
    own = {
        "seed": seed,
        "start": start,
        "end": end,
        "step_minutes": step,
        "faults": [],
        "stamping": {},
        "climates": climates,
    }
    return Recipe.model_validate({**made, **own})


def _per_second(rows: pd.DataFrame, minutes: int) -> pd.DataFrame:
    """Second by second, between the minutes."""
    rng = np.random.default_rng(5)
    pieces = []
    for one, own in rows.groupby("turbine_id"):
        table = own.set_index("valid_at")[list(SIGNALS)].iloc[:minutes].resample("1s").interpolate()
        table["power_kw"] += rng.normal(0, 3, len(table))
        pieces.append(table.reset_index().assign(turbine_id=one))
    return pd.concat(pieces).sort_values(["valid_at", "turbine_id"], ignore_index=True)


def _formatted(values: pd.Series[Any], dress: Dress, digits: int = 3) -> list[str]:
    out = []
    for value in values:
        if pd.isna(value):
            out.append(dress.missing)
            continue
        text = f"{value:,.{digits}f}" if dress.thousands else f"{value:.{digits}f}"
        text = text.replace(",", "\0").replace(".", dress.decimal).replace("\0", dress.thousands or "")
        out.append(text)
    return out


_ISO = {"iso_z": "%Y-%m-%dT%H:%M:%SZ", "iso_short": "%Y-%m-%d %H:%M:%S+00", "hour": "%Y-%m-%d"}


def _stamps(times: pd.Series[Any], dress: Dress) -> list[Any]:
    if dress.ends:
        times = times + pd.Timedelta(seconds=dress.cadence)
    if dress.stamp_format in {"epoch_seconds", "epoch_milliseconds"}:
        scale = 1 if dress.stamp_format == "epoch_seconds" else 1000
        return [f"{int(at.timestamp() * scale)}" for at in times]
    if dress.stamp_format in _ISO:
        return list(times.dt.strftime(_ISO[dress.stamp_format]))
    if dress.clock == "local":
        times = times.dt.tz_convert(ZONE).dt.tz_localize(None)
    elif dress.clock == "offset":
        return [at.isoformat() for at in times.dt.tz_convert(ZONE)]
    elif dress.clock == "false_offset":
        wall = times.dt.tz_localize(None).dt.tz_localize(
            ZONE, nonexistent=pd.Timedelta(hours=1), ambiguous=np.zeros(len(times), bool)
        )
        return [at.isoformat() for at in wall]
    else:
        times = times.dt.tz_localize(None)
    if dress.stamp_format is None:
        return list(times.dt.to_pydatetime()) if dress.format == "excel" else [at.isoformat() for at in times]
    shown = times.dt.strftime(dress.stamp_format)
    if dress.id.endswith("_24h"):
        before = (times - pd.Timedelta(days=1)).dt.strftime(dress.stamp_format).str.replace("00:00", "24:00")
        shown = shown.where(times != times.dt.floor("D"), before)
    return list(shown)


def export(dress: Dress, folder: Path, seed: int = 7) -> list[Path]:
    """Write the farm's export in a dress."""
    rows = truth(dress.cadence, dress.days, dress.start, seed)
    rows = rows[rows["turbine_id"].astype(int) < len(dress.ids)].reset_index(drop=True)
    rows["turbine_id"] = [dress.ids[int(one)] for one in rows["turbine_id"]]
    rng = np.random.default_rng(3)
    if dress.meter:
        rows = (
            rows.groupby("valid_at", as_index=False)
            .agg({"power_kw": "sum", **dict.fromkeys(SIGNALS[1:], "first")})
            .assign(turbine_id="")
        )
    if dress.total and dress.layout != "wide":
        park = {"power_kw": "sum", **dict.fromkeys(SIGNALS[1:], "mean")}
        rows = pd.concat([rows, rows.groupby("valid_at", as_index=False).agg(park).assign(turbine_id=dress.total)]).sort_values(
            "valid_at", kind="stable", ignore_index=True
        )
    if dress.missing:
        rows = rows.mask(rng.random(rows.shape) < 0.01).assign(turbine_id=rows["turbine_id"], valid_at=rows["valid_at"])
    if dress.stacked:
        rows = rows.sort_values(["turbine_id", "valid_at"], ignore_index=True)
    if dress.shuffled:
        rows = rows.iloc[rng.permutation(len(rows))].reset_index(drop=True)
    out, shown = _columns(rows, dress, rng)
    table = LAYOUTS[dress.layout](out, shown, dress, rng)
    if dress.total and dress.layout == "wide":
        # Cables and transformers take their share of it.
        total = 0.98 * _in_unit(rows, "power_kw", dress).groupby(out["_stamp"]).sum()
        table[dress.total] = _formatted(total.reindex(table[dress.stamp]), dress)
    folder.mkdir(parents=True, exist_ok=True)
    if dress.per_file:
        month = rows["valid_at"].dt.strftime("_%Y-%m") if dress.monthly else pd.Series("_2024", index=rows.index)
        return [
            _write(own, dress, folder / f"SCADA_WTG{one}{part}.csv")
            for (one, part), own in table.groupby([out["_turbine"], month])
        ]
    suffix = {"csv": "csv.gz" if dress.packed else "csv", "excel": "xlsx", "parquet": "parquet"}[dress.format]
    return [_write(table, dress, folder / f"export.{suffix}")]


def _columns(rows: pd.DataFrame, dress: Dress, rng: np.random.Generator) -> tuple[pd.DataFrame, list[str]]:
    """The signals in the dress's units and writing, beside ``_turbine`` and ``_stamp``; and the names of their columns."""
    out = pd.DataFrame({"_turbine": rows["turbine_id"], "_at": rows["valid_at"], "_stamp": _stamps(rows["valid_at"], dress)})
    shown: list[str] = []
    for name, kind in dress.decoys.items():
        out[name] = _decoy(kind, rows, rng)
        shown.append(name)
    for signal, name in dress.names.items():
        values = _in_unit(rows, signal, dress)
        spread = np.abs(rng.normal(0, 0.05, len(rows))) * (np.abs(values) + 0.1)
        if signal in dress.sentinel:
            # Once or twice, nothing tells it from a value.
            places = rng.choice(len(rows), max(3, len(rows) // 250), replace=False)
            values.iloc[places] = dress.sentinel[signal]
        if signal in dress.extremes:
            stem = dress.extremes[signal]
            for kind, extreme in (("min", values - spread), ("max", values + spread), ("std", spread)):
                out[f"{stem}_{kind}"] = extreme
                shown.append(f"{stem}_{kind}")
        out[name] = values
        shown.append(name)
    if dress.format == "csv":
        for name in shown:
            out[name] = _formatted(out[name], dress)
    return out, shown


def _in_unit(rows: pd.DataFrame, signal: str, dress: Dress) -> pd.Series[Any]:
    unit = dress.units.get(signal, SIGNAL_UNITS[signal])
    if unit in NO_UNITS:
        if unit == "counter":
            return 5000 + (rows[signal] / 6000).groupby(rows["turbine_id"]).cumsum()
        return rows[signal] / RATED_KW * (100 if unit == "%" else 1)
    factor, offset = UNIT_CONVERSIONS[unit, SIGNAL_UNITS[signal]]
    return (rows[signal] - offset) / factor


def _decoy(kind: str, rows: pd.DataFrame, rng: np.random.Generator) -> pd.Series[Any]:
    """A column of another quantity, as much like a signal as in life."""
    power, wind, noise = rows["power_kw"], rows["wind_speed_ms"], rng.normal(0, 1, len(rows))
    made = {
        "reactive": 0.2 * power + 20 * noise,
        "angle": (rows["wind_direction_deg"] + 5 * noise) % 360,
        "hot": 45 + 12 * power / RATED_KW + noise,
        "potential": 1.03 * power + 5,
        "rpm": 900 + 800 * power / RATED_KW + noise,
        "gust": 1.2 * wind + 0.3 * np.abs(noise),
        "low": power - 40 * np.abs(noise),
        "high": power + 40 * np.abs(noise),
        "noise": 30 * np.abs(noise),
        "setpoint": pd.Series(RATED_KW, index=rows.index),
        "relative": 8 * noise,
        "status": pd.Series(np.where(np.abs(noise) > 2, 2.0, 1.0), index=rows.index),
    }
    return made[kind]


def _table(out: pd.DataFrame, shown: list[str], dress: Dress, rng: np.random.Generator) -> pd.DataFrame:
    del rng
    keys = {dress.stamp: out["_stamp"]}
    if dress.time_of_day:
        split = out["_stamp"].str.split(" ", n=1)
        keys = {dress.stamp: split.str[0], dress.time_of_day: split.str[1]}
    if dress.stamp_format == "hour":
        keys["Hour"] = [f"{at:%H}" if at.hour else "24" for at in out["_at"]]
    if dress.turbine:
        keys[dress.turbine] = out["_turbine"]
    if dress.received:
        keys[dress.received] = [f"{at + pd.Timedelta(minutes=12):%Y-%m-%dT%H:%M:%SZ}" for at in out["_at"]]
    if dress.numbered:
        keys = {"": pd.Series(range(len(out)))} | keys
    return pd.concat([pd.DataFrame(keys), out[shown]], axis=1)


def _doubled(out: pd.DataFrame, shown: list[str], dress: Dress, rng: np.random.Generator) -> pd.DataFrame:
    """Wide, and the same names for each turbine."""
    wide = _wide(out, [f"{name} {{turbine}}" for name in shown], dress, rng)
    return wide.set_axis([name.rpartition(" ")[0] or name for name in wide.columns], axis=1)


def _wide(out: pd.DataFrame, shown: list[str], dress: Dress, rng: np.random.Generator) -> pd.DataFrame:
    del rng
    table = out.drop_duplicates("_stamp")[["_stamp"]].rename(columns={"_stamp": dress.stamp})
    for one in dress.ids:
        own = out[out["_turbine"] == one].drop_duplicates("_stamp").set_index("_stamp")
        for name in shown:
            source = name if name in own else name.removesuffix(" {turbine}")
            table[name.replace("{turbine}", one)] = own[source].reindex(table[dress.stamp]).to_numpy()
    return table


def _long(out: pd.DataFrame, shown: list[str], dress: Dress, rng: np.random.Generator) -> pd.DataFrame:
    pieces = [
        pd.DataFrame({dress.stamp: out["_stamp"], **({dress.turbine: out["_turbine"]} if dress.turbine else {}),
                      "Tag": [name.replace("{turbine}", one) for one in out["_turbine"]], "Value": out[name]})
        for name in shown
    ]  # fmt: skip
    table = pd.concat(pieces).sort_index(kind="stable")
    if dress.quality:
        table["Quality"] = np.where(rng.random(len(table)) < 0.01, "Bad", "Good")
    return table


LAYOUTS = {"table": _table, "wide": _wide, "long": _long, "doubled": _doubled}


def _write(table: pd.DataFrame, dress: Dress, path: Path) -> Path:
    if dress.format == "parquet":
        stamps = pd.to_datetime(table[dress.stamp], utc=True) if dress.stamp_format == "iso_z" else table[dress.stamp]
        table.assign(**{dress.stamp: stamps}).to_parquet(path, index=False)
        return path
    if dress.format == "excel":
        from openpyxl import Workbook

        book = Workbook(write_only=True)
        for name in dress.other_sheets:
            book.create_sheet(name).append(["Made by", "hand"])
        sheet = book.create_sheet("Data")
        for line in dress.title:
            sheet.append([line])
        sheet.append(list(table.columns))
        if dress.units_row:
            sheet.append(list(dress.units_row))
        for row in table.itertuples(index=False):
            sheet.append(list(row))
        book.save(path)
        return path

    def joined(cells: Iterable[Any]) -> str:
        return dress.separator.join(f'"{cell}"' if dress.quoted or dress.separator in str(cell) else str(cell) for cell in cells)

    lines = [*dress.title, joined(table.columns), *([joined(dress.units_row)] if dress.units_row else [])]
    lines += [joined(row) for row in table.itertuples(index=False)]
    content = "\r\n".join([*lines, *dress.footer, ""]).encode(dress.encoding)
    path.write_bytes(gzip.compress(content, mtime=0) if dress.packed else content)
    return path


# --- dresses drawn by chance ---------------------------------------------------------------------------------------------

_LANGUAGES = (
    ("Leistung", "Windgeschw.", "Windrichtung", "Umgebungstemperatur"), ("Puissance active", "Vitesse du vent", "Direction du vent", "Température extérieure"),
    ("Potencia", "Viento", "Dir. viento", "Temp. ambiente"), ("Effekt", "Vindhastighet", "Vindriktning", "Utetemperatur"), ("Moc", "Prędkość wiatru", "Kierunek wiatru", "Temperatura otoczenia"),
    ("ActPwr", "WindSpeed", "WindDir", "AmbTemp"), ("WTUR_W", "WNAC_WdSpd", "WNAC_WdDir", "WMET_EnvTmp"), ("Output", "Anemometer", "Wind Dir", "Air temp"), ("c1", "c2", "c3", "c4"),
    ("Potenza", "Vento", "Direzione vento", "Temp"), ("Teho", "Tuulen nopeus", "Suunta", "Lämpötila"), ("p", "ws", "wd", "temp"),
    ("功率", "风速", "风向", "温度"), ("有効電力", "風速", "風向", "外気温"), ("Мощность", "Скорость ветра", "Направление ветра", "Температура воздуха"), ("Aktif Güç", "Rüzgar Hızı", "Rüzgar Yönü", "Sıcaklık"),
    ("Činný výkon", "Rychlost větru", "Směr větru", "Venkovní teplota"), ("Nacelle Power Avg", "Nacelle Wind Speed Avg", "Nacelle Wind Direction Avg", "Nacelle Ambient Temperature Avg"),
)  # fmt: skip
_DECOYS = (
    {}, {}, {"Blindleistung [kvar]": "reactive", "Gondelposition": "angle"}, {"Reactive Power": "reactive", "Generator Speed (rpm)": "rpm", "Status": "status"},
    {"Gear Oil Temp": "hot", "Nacelle Position": "angle", "Theoretical Power": "potential"}, {"Power Limit": "setpoint", "Wind Speed Max": "gust", "Yaw error": "relative"},
)  # fmt: skip


def drawn(seed: int) -> Dress:
    """A dress by chance: each part is drawn apart from the others, as far as they can go together."""
    rng = np.random.default_rng([11, seed])

    def pick(*choices: Any) -> Any:
        return choices[int(rng.integers(len(choices)))]

    words = list(pick(*_LANGUAGES))
    units = {
        "power_kw": pick("kW", "MW", "W"),
        "wind_speed_ms": pick("m/s", "m/s", "km/h", "kn", "mph"),
        "wind_direction_deg": pick("deg", "deg", "rad"),
        "temperature_c": pick("degC", "degC", "K", "degF"),
    }
    style = pick("none", "[]", "()", "tail")
    written = {"degC": "°C", "degF": "°F", "deg": "°", "kn": "kn"}
    encoding = pick("utf-8", "utf-8", "utf-8-sig", "utf-16", "cp1252")
    names = []
    for word, unit in zip(words, units.values(), strict=True):
        shown = written.get(unit, unit)
        names.append({"none": word, "[]": f"{word} [{shown}]", "()": f"{word} ({shown})", "tail": f"{word} {shown}"}[style])
    if any(ord(character) > 0x24F for name in names for character in name) and encoding == "cp1252":
        encoding = "utf-8"
    if encoding == "cp1252":
        names = [name.encode("cp1252", errors="ignore").decode("cp1252") for name in names]
    layout = pick("table", "table", "wide", "long")
    separator, decimal, thousands = pick(
        (";", ",", None),
        (";", ",", "."),
        (",", ".", None),
        ("\t", ".", ","),
        ("|", ".", None),
        (",", ".", ","),
        ("\t", ",", " "),
    )
    ids = pick(("T01", "T02", "T03"), ("1", "2", "3"), ("WEA 7", "WEA 8", "WEA 9"), ("A-11", "A-12", "A-13"))
    if layout == "wide":
        names = [pick("{turbine} " + name, "{turbine} " + name) for name in names]
    stamp_format = pick(
        "%Y-%m-%d %H:%M:%S",
        "%d.%m.%Y %H:%M",
        "%m/%d/%Y %H:%M",
        "%d/%m/%y %H:%M",
        "%m/%d/%Y %I:%M %p",
        "%Y%m%d%H%M",
        "iso_z",
        "epoch_seconds",
        "epoch_milliseconds",
        "%d-%b-%Y %H:%M:%S",
    )
    clock = pick("utc", "local") if stamp_format.startswith("%") else "utc"
    if stamp_format == "%Y-%m-%d %H:%M:%S":
        clock = pick("utc", "local", "offset", "false_offset")
    cadence = pick(300, 600, 600, 900, 1800, 3600)
    sentinel = {
        signal: value for signal, value in zip(SIGNALS, (-999, 999.9, 9999, -273.15), strict=False) if rng.random() < 0.25
    }
    title = pick((), (), ("Report",), ("Report", "", "Made by hand"))
    return Dress(
        f"drawn_{seed:02d}", dict(zip(SIGNALS, names, strict=False)), units=units, stamp=pick("Time", "Timestamp", "Datum", "Zeit (UTC)" if clock == "utc" else "Zeit", "Date"),
        turbine=pick("Turbine", "WEA", "Device", "id") if layout != "wide" else None, stamp_format=stamp_format, clock=clock, ends=bool(rng.random() < 0.4), encoding=encoding,
        separator=separator, decimal=decimal, thousands=thousands, title=title, layout=layout, quality=layout == "long" and bool(rng.random() < 0.5), cadence=cadence,
        days=int(pick(3, 30, 60)), start=pick("2023-10-05", "2024-01-10", "2024-02-20"), sentinel=sentinel, ids=ids, shuffled=bool(rng.random() < 0.15) and layout == "table",
        decoys=pick(*_DECOYS) if layout == "table" else {}, quoted=bool(rng.random() < 0.15), packed=bool(rng.random() < 0.15), missing=pick("", "", "NaN", "null"), stacked=bool(rng.random() < 0.3) and layout == "table",
        numbered=bool(rng.random() < 0.15) and layout == "table", per_file=False,
    )  # fmt: skip
