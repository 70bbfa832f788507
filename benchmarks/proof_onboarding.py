# ruff: noqa: E501 - tables of words and of dresses read as tables
"""Whether `wind-kedro add-farm` reads exports in any dress: every field right or asked, none silently wrong.

One made farm, whose truth is known, is exported in many dresses: those that people wrote down, and dresses drawn by chance from
all that dresses differ in, so that generality is tested on exports that nobody looked at. Each field of the proposed card
is compared with the truth.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from record import PROJECT, record
from wind_kedro.cards import SIGNAL_UNITS, UNIT_CONVERSIONS
from wind_kedro.onboarding import propose
from wind_kedro.onboarding.findings import Findings, OnboardingError
from wind_kedro.synthetic import Recipe, made_up_farms, turbines, weather

ZONE = "Europe/Berlin"
SIGNALS = tuple(SIGNAL_UNITS)
DRAWN = 30


@dataclass(frozen=True)
class Dress:
    """How one export is dressed. Names are those of its columns, with {turbine} in a wide one."""

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
            "turbines": [
                t.model_copy(update={"id": str(i), "rated_power_kw": 2050.0}) for i, t in enumerate(card.turbines[:3])
            ]
        }
    )
    field_ = weather.wind_field([few], recipe)
    hours, season = weather.solar_hour(field_.times, [few]), weather.season_of(field_.times)
    rows = turbines.turbine_signals(few, 0, field_, recipe, hours[:, [0]], season)
    return rows if cadence >= 60 else _per_second(rows)


def _recipe(seed: int, start: str, days: int, step: int) -> Recipe:
    made = yaml.safe_load((PROJECT / "conf" / "test" / "synthetic.yml").read_text(encoding="utf-8"))
    end = str(pd.Timestamp(start) + pd.Timedelta(days=days))
    # Windy enough that full load is reached in a month.
    climates = {
        "farm_0001": {"mean_speed_ms": 9.0, "weibull_shape": 2.1, "prevailing_from_deg": 250, "prevalence": 0.5}
    }
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


def _per_second(rows: pd.DataFrame) -> pd.DataFrame:
    """Three hours, second by second, between the minutes."""
    rng = np.random.default_rng(5)
    pieces = []
    for one, own in rows.groupby("turbine_id"):
        table = own.set_index("valid_at")[list(SIGNALS)].iloc[:181].resample("1s").interpolate().iloc[:10_800]
        table["power_kw"] += rng.normal(0, 3, len(table))
        pieces.append(table.reset_index().assign(turbine_id=one))
    return pd.concat(pieces).sort_values(["valid_at", "turbine_id"], ignore_index=True)


def _formatted(values: pd.Series[Any], dress: Dress, digits: int = 3) -> list[str]:
    out = []
    for value in values:
        if pd.isna(value):
            out.append("")
            continue
        text = f"{value:,.{digits}f}" if dress.thousands else f"{value:.{digits}f}"
        text = text.replace(",", "\0").replace(".", dress.decimal).replace("\0", dress.thousands or "")
        out.append(text)
    return out


def _stamps(times: pd.Series[Any], dress: Dress) -> list[Any]:
    if dress.ends:
        times = times + pd.Timedelta(seconds=dress.cadence)
    match dress.stamp_format:
        case "epoch_seconds" | "epoch_milliseconds":
            scale = 1 if dress.stamp_format == "epoch_seconds" else 1000
            return [f"{int(at.timestamp() * scale)}" for at in times]
        case "iso_z":
            return [at.strftime("%Y-%m-%dT%H:%M:%SZ") for at in times]
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
    return list(times.dt.strftime(dress.stamp_format))


def export(dress: Dress, folder: Path, seed: int = 7) -> list[Path]:
    """Write the farm's export in a dress."""
    rows = truth(dress.cadence, dress.days, dress.start, seed).copy()
    rows["turbine_id"] = [dress.ids[int(one)] for one in rows["turbine_id"]]
    rng = np.random.default_rng(3)
    if dress.meter:
        rows = (
            rows.groupby("valid_at", as_index=False)
            .agg({"power_kw": "sum", **dict.fromkeys(SIGNALS[1:], "first")})
            .assign(turbine_id="")
        )
    if dress.shuffled:
        rows = rows.iloc[rng.permutation(len(rows))].reset_index(drop=True)
    out, shown = _columns(rows, dress, rng)
    table = LAYOUTS[dress.layout](out, shown, dress, rng)
    folder.mkdir(parents=True, exist_ok=True)
    if dress.per_file:
        return [
            _write(table[(out["_turbine"] == name).to_numpy()], dress, folder / f"SCADA_WTG{name}_2024.csv")
            for name in dress.ids
        ]
    suffix = {"csv": "csv", "excel": "xlsx", "parquet": "parquet"}[dress.format]
    return [_write(table, dress, folder / f"export.{suffix}")]


def _columns(rows: pd.DataFrame, dress: Dress, rng: np.random.Generator) -> tuple[pd.DataFrame, list[str]]:
    """The signals in the dress's units and writing, beside ``_turbine`` and ``_stamp``; and the names of their columns."""
    out = pd.DataFrame({"_turbine": rows["turbine_id"], "_stamp": _stamps(rows["valid_at"], dress)})
    shown: list[str] = []
    for signal, name in dress.names.items():
        unit = dress.units.get(signal, SIGNAL_UNITS[signal])
        factor, offset = UNIT_CONVERSIONS[unit, SIGNAL_UNITS[signal]]
        values = (rows[signal] - offset) / factor
        spread = np.abs(rng.normal(0, 0.05, len(rows))) * (np.abs(values) + 0.1)
        if signal in dress.sentinel:
            values = values.mask(rng.random(len(rows)) < 0.004, dress.sentinel[signal])
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


def _table(out: pd.DataFrame, shown: list[str], dress: Dress, rng: np.random.Generator) -> pd.DataFrame:
    del rng
    keys = {dress.stamp: out["_stamp"]}
    if dress.time_of_day:
        split = out["_stamp"].str.split(" ", n=1)
        keys = {dress.stamp: split.str[0], dress.time_of_day: split.str[1]}
    if dress.turbine:
        keys[dress.turbine] = out["_turbine"]
    return pd.concat([pd.DataFrame(keys), out[shown]], axis=1)


def _wide(out: pd.DataFrame, shown: list[str], dress: Dress, rng: np.random.Generator) -> pd.DataFrame:
    del rng
    table = out.drop_duplicates("_stamp")[["_stamp"]].rename(columns={"_stamp": dress.stamp})
    for one in dress.ids:
        own = out[out["_turbine"] == one].drop_duplicates("_stamp").set_index("_stamp")
        for name in shown:
            table[name.replace("{turbine}", one)] = own[name].reindex(table[dress.stamp]).to_numpy()
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


LAYOUTS = {"table": _table, "wide": _wide, "long": _long}


def _write(table: pd.DataFrame, dress: Dress, path: Path) -> Path:
    if dress.format == "parquet":
        stamps = pd.to_datetime(table[dress.stamp], utc=True) if dress.stamp_format == "iso_z" else table[dress.stamp]
        table.assign(**{dress.stamp: stamps}).to_parquet(path, index=False)
        return path
    if dress.format == "excel":
        from openpyxl import Workbook

        book = Workbook(write_only=True)
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
    lines = [*dress.title, dress.separator.join(table.columns)]
    if dress.units_row:
        lines.append(dress.separator.join(dress.units_row))
    quote = dress.separator in {dress.decimal, dress.thousands}
    for row in table.itertuples(index=False):
        cells = [f'"{cell}"' if quote and dress.separator in str(cell) else str(cell) for cell in row]
        lines.append(dress.separator.join(cells))
    path.write_bytes("\r\n".join([*lines, *dress.footer, ""]).encode(dress.encoding))
    return path


# --- dresses drawn by chance ---------------------------------------------------------------------------------------------

_LANGUAGES = (
    ("Leistung", "Windgeschw.", "Windrichtung", "Umgebungstemperatur"), ("Puissance active", "Vitesse du vent", "Direction du vent", "Température extérieure"),
    ("Potencia", "Viento", "Dir. viento", "Temp. ambiente"), ("Effekt", "Vindhastighet", "Vindriktning", "Utetemperatur"), ("Moc", "Prędkość wiatru", "Kierunek wiatru", "Temperatura otoczenia"),
    ("ActPwr", "WindSpeed", "WindDir", "AmbTemp"), ("WTUR_W", "WNAC_WdSpd", "WNAC_WdDir", "WMET_EnvTmp"), ("Output", "Anemometer", "Wind Dir", "Air temp"), ("c1", "c2", "c3", "c4"),
    ("Potenza", "Vento", "Direzione vento", "Temp"), ("Teho", "Tuulen nopeus", "Suunta", "Lämpötila"), ("p", "ws", "wd", "temp"),
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
        names.append(
            {"none": word, "[]": f"{word} [{shown}]", "()": f"{word} ({shown})", "tail": f"{word} {shown}"}[style]
        )
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
        signal: value
        for signal, value in zip(SIGNALS, (-999, 999.9, 9999, -273.15), strict=False)
        if rng.random() < 0.25
    }
    title = pick((), (), ("Report",), ("Report", "", "Made by hand"))
    return Dress(
        f"drawn_{seed:02d}", dict(zip(SIGNALS, names, strict=False)), units=units, stamp=pick("Time", "Timestamp", "Datum", "Zeit (UTC)" if clock == "utc" else "Zeit", "Date"),
        turbine=pick("Turbine", "WEA", "Device", "id") if layout != "wide" else None, stamp_format=stamp_format, clock=clock, ends=bool(rng.random() < 0.4), encoding=encoding,
        separator=separator, decimal=decimal, thousands=thousands, title=title, layout=layout, quality=layout == "long" and bool(rng.random() < 0.5), cadence=cadence,
        days=int(pick(3, 30, 60)), start=pick("2023-10-05", "2024-01-10", "2024-02-20"), sentinel=sentinel, ids=ids, shuffled=bool(rng.random() < 0.15) and layout == "table",
    )  # fmt: skip


# --- the truth of a card, and how a proposal compares --------------------------------------------------------------------


def _truths(dress: Dress) -> Iterator[tuple[str, Any]]:
    yield "signals.format", dress.format
    if dress.format == "csv":
        yield "signals.encoding", dress.encoding
        yield "signals.separator", dress.separator
        yield "signals.decimal", dress.decimal
        yield "signals.thousands", dress.thousands
    if dress.format != "parquet":
        yield "signals.skip_rows", len(dress.title)
        yield "signals.units_rows", int(dress.units_row is not None)
        yield "signals.footer_rows", len(dress.footer)
    yield "signals.layout", dress.layout
    yield "signals.timestamp", dress.stamp
    yield "signals.time_of_day", dress.time_of_day
    yield "signals.stamp_format", dress.stamp_format
    yield "signals.turbine", None if dress.layout == "wide" else dress.turbine
    yield "signals.cadence_seconds", dress.cadence
    yield "signals.stamps", "interval_end" if dress.ends else "interval_start"
    yield "signals.clock", {"utc": "as_stamped", "local": "wall_clock_is_local", "offset": "as_stamped", "false_offset": "wall_clock_is_utc"}[dress.clock]  # fmt: skip
    if dress.layout == "long":
        yield "signals.signal", "Tag"
        yield "signals.value", "Value"
        yield "signals.quality", "Quality" if dress.quality else None
    if dress.per_file:
        yield "signals.turbine_in_file", None
    for signal, name in dress.names.items():
        yield f"signals.columns.{signal}.name", name
        yield f"signals.columns.{signal}.unit", dress.units.get(signal, SIGNAL_UNITS[signal])
        yield f"signals.sentinels.{signal}", [dress.sentinel[signal]] if signal in dress.sentinel else None
    yield "turbines", None if dress.meter else sorted(dress.ids)
    yield "capacity_kw", 6150.0


def _agrees(name: str, value: Any, true: Any, dress: Dress) -> bool:
    """Whether a proven field is the truth, or says the same in other words."""
    compare = _SAME.get("signals.sentinels" if name.startswith("signals.sentinels.") else name)
    return bool(value == true if compare is None else compare(value, true, dress))


def _same_encoding(value: Any, true: Any, dress: Dress) -> bool:
    # Code pages that read this file alike are the same answer.
    plain = "".join([*dress.names.values(), *dress.title]).isascii()
    return {"utf-8-sig": "utf-8"}.get(true, true) == value or (plain and {true, value} <= {"utf-8", "cp1252"})


def _same_stamp_format(value: Any, true: Any, dress: Dress) -> bool:
    same = {"iso_z": None, "%Y-%m-%d %H:%M:%S": None}
    return same.get(true, true) == same.get(value, value) or (dress.format == "excel" and value is None)


def _same_capacity(value: Any, true: Any, dress: Dress) -> bool:
    del dress
    return value is not None and abs(float(value) - float(true)) <= 0.01 * float(true)


def _same_turbines(value: Any, true: Any, dress: Dress) -> bool:
    # A file's name has the turbine's in it: WTGT01 is as good a name of T01.
    del dress
    return len(value) == len(true) and all(one.endswith(own) for one, own in zip(sorted(value), true, strict=True))


def _same_sentinels(value: Any, true: Any, dress: Dress) -> bool:
    del dress
    return bool(
        value == true or (value and true and len(value) == len(true) and np.allclose(sorted(value), sorted(true)))
    )


_SAME: Mapping[str, Callable[[Any, Any, Dress], bool]] = {
    "signals.encoding": _same_encoding,
    "signals.stamp_format": _same_stamp_format,
    "capacity_kw": _same_capacity,
    "turbines": _same_turbines,
    "signals.sentinels": _same_sentinels,
}


def judge(dress: Dress, found: Findings | None) -> list[dict[str, str]]:
    """One row per field of the export: right, asked or wrong."""
    out = []
    for name, true in _truths(dress):
        finding = found.by_field.get(name) if found is not None else None
        if found is None:
            outcome = "asked"  # the export is refused as a whole, with the reason
        elif finding is None:
            outcome = "right" if not true or (name == "signals.sentinels" and not true) else "missing"
            if name.startswith("signals.columns."):
                outcome = "asked"  # a signal that was not found is asked for by its absence from the card
            elif (
                name.startswith("signals.sentinels.")
                and f"signals.columns.{name.rpartition('.')[2]}.name" not in found.by_field
            ):
                outcome = "asked"
            outcome = "wrong" if outcome == "missing" else outcome
        elif not finding.proven:
            outcome = "asked"
        elif name == "signals.turbine_in_file":
            outcome = "right" if "{turbine}" in str(finding.value) else "wrong"
        elif dress.layout == "wide" and found is not None and (name == "turbines" or name.endswith(".name")):
            outcome = "right" if _same_columns(name, found, dress) else "wrong"
        else:
            outcome = "right" if _agrees(name, finding.value, true, dress) else "wrong"
        if (
            name == "signals.thousands"
            and outcome == "wrong"
            and dress.thousands
            and finding is not None
            and finding.value is None
        ):
            outcome = "right" if not _grouped(dress) else "wrong"
        out.append({"export": dress.id, "field": name, "outcome": outcome})
    return out


def _same_columns(name: str, found: Findings, dress: Dress) -> bool:
    """Of a wide export: the same columns; 'Eolienne 1' is as good a name of a turbine as '1'."""
    signals = [name.split(".")[2]] if name.endswith(".name") else ["power_kw"]
    ids = found.value("turbines")
    return all(
        {str(found.value(f"signals.columns.{signal}.name")).replace("{turbine}", one) for one in ids}
        == {dress.names[signal].replace("{turbine}", one) for one in dress.ids}
        for signal in signals
    )


def _grouped(dress: Dress) -> bool:
    """Whether any number of an export is long enough to be grouped."""
    factor = UNIT_CONVERSIONS[dress.units.get("power_kw", "kW"), "kW"][0]
    return 2000 / factor >= 1000


def proof(dresses: tuple[Dress, ...], folder: Path, seed: int = 7) -> pd.DataFrame:
    """Export, propose, compare."""
    rows = []
    for dress in dresses:
        files = export(dress, folder / dress.id, seed)
        try:
            found: Findings | None = propose(files)
        except OnboardingError as error:
            print(f"{dress.id}: refused: {error}")
            found = None
        for row in judge(dress, found):
            if row["outcome"] == "wrong":
                finding = found.by_field.get(row["field"]) if found else None
                print(
                    f"{dress.id}: {row['field']}: {finding.value if finding else None!r} ({finding.evidence if finding else 'not found'})"
                )
            rows.append(row)
    return pd.DataFrame(rows)


def main() -> int:
    """Run the proof; 1 if any field is silently wrong."""
    with tempfile.TemporaryDirectory() as folder:
        table = proof((*DRESSES, *(drawn(seed) for seed in range(DRAWN))), Path(folder))
    counts = table.groupby([table["export"].str.startswith("drawn"), "outcome"]).size()
    record("proof-onboarding", table)
    print(counts.to_string())
    return int((table["outcome"] == "wrong").any())


if __name__ == "__main__":
    sys.exit(main())
