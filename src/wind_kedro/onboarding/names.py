# ruff: noqa: E501, RUF001 - tables of terms are more readable as tables, in their own scripts
"""Derive signal, statistic and unit from names of columns and tags, in many languages and vendors' conventions."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_LETTERS = str.maketrans({"ß": "ss", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "æ": "ae", "Æ": "Ae", "ı": "i", "đ": "d", "œ": "oe"})  # fmt: skip
_BRACKETS = re.compile(r"[\[(<{（【]\s*([^\])>}）】]{0,24}?)\s*[\])>}）】]")
#: Code points from here on belong to scripts written without spaces.
_UNSPACED = "\u2e80"


def _plain(text: str) -> str:
    """Lower case without the accents of Latin, Greek and Cyrillic; in other scripts, marks distinguish letters."""
    apart = unicodedata.normalize("NFKD", text.translate(_LETTERS))
    return unicodedata.normalize("NFC", re.sub("[\u0300-\u036f]", "", apart)).lower()


def _table(terms: Mapping[str, tuple[str, ...]]) -> Mapping[str, tuple[str, ...]]:
    return {key: tuple(" ".join(re.findall(r"[^\W\d_]+|\d+", _plain(term))) for term in of) for key, of in terms.items()}


#: Terms by signal, in natural languages and as tags of IEC 61400-25 and of vendors. The longest match counts: 'wind direction'
#: before 'wind'.
SIGNAL_TERMS = _table({
    "power_kw": (
        "wtur w", "wturw", "grd prod pwr", "grid power", "act power", "active power", "activepower", "actpower", "act pwr", "actpwr", "power", "power output", "output power",
        "pwr", "leistung", "wirkleistung", "leistung netz", "puissance", "puissance active", "potencia", "potencia activa", "potencia ativa", "potenza", "potenza attiva",
        "vermogen", "actief vermogen", "effekt", "effekten", "aktiv effekt", "moc", "moc czynna", "výkon", "činný výkon", "teljesítmény", "teho", "pätöteho", "güç", "aktif güç",
        "putere", "putere activa", "snaga", "p", "p avg", "p mean", "p act", "kw", "mw", "produktion", "production", "producción", "produzione", "generation", "generación", "output",
        "активная мощность", "мощность", "активна потужність", "потужність", "ισχύς", "ενεργός ισχύς",
        "有功功率", "功率", "有効電力", "発電電力", "発電出力", "出力", "유효전력", "발전출력", "출력",
    ),
    "wind_speed_ms": (
        "wspd", "wdspd", "wnac wdspd", "wmet horwdspd", "horwdspd", "amb windspeed", "ac wind sp", "acwindsp", "wind speed", "windspeed", "wind spd", "windspd", "wind velocity", "windgeschw",
        "windgeschwindigkeit", "vitesse vent", "vitesse du vent", "vent vitesse", "velocidad viento", "velocidad del viento", "velocidad de viento", "viento", "velocità vento", "velocità del vento",
        "velocidade vento", "velocidade do vento", "windsnelheid", "vindhastighed", "vindhastighet", "prędkość wiatru", "rychlost větru", "szélsebesség", "tuulen nopeus", "tuulennopeus",
        "rüzgar hızı", "viteza vantului", "brzina vjetra", "ws", "ws avg", "v wind", "vwind", "wind", "vent", "vento", "vind", "anemometer", "v avg",
        "скорость ветра", "швидкість вітру", "ταχύτητα ανέμου", "风速", "風速", "풍속",
    ),
    "wind_direction_deg": (
        "wddir", "wnac wddir", "hordir", "horwddir", "amb winddir", "wind direction", "winddirection", "wind dir", "winddir", "windrichtung", "windr", "direction vent", "direction du vent",
        "dir vent", "direccion viento", "dirección del viento", "dir viento", "direzione vento", "direzione del vento", "direção vento", "direção do vento", "windrichting", "vindretning",
        "vindriktning", "kierunek wiatru", "směr větru", "szélirány", "tuulen suunta", "rüzgar yönü", "directia vantului", "smjer vjetra", "wd", "wa", "wa avg", "wdir",
        "направление ветра", "напрям вітру", "διεύθυνση ανέμου", "风向", "風向", "풍향",
    ),
    "temperature_c": (
        "extmp", "extl tmp", "wmet envtmp", "envtmp", "amb temp", "ambie tmp", "ambietmp", "ambient temp", "ambient temperature", "temp ambient", "temperature ambient", "ambient", "outdoor temp", "outside temp",
        "outdoor temperature", "outside temperature", "air temperature", "air temp", "temperature air", "außentemperatur", "außentemp", "umgebungstemperatur", "lufttemperatur", "température extérieure", "temp ext",
        "temperature ext", "température ambiante", "temperatura exterior", "temperatura ambiente", "temp ambiente", "temperatura esterna", "temperatura externa", "temperatura aria",
        "temperatura aire", "buitentemperatuur", "buitentemp", "omgevingstemperatuur", "udetemperatur", "udendørstemperatur", "utetemperatur", "utomhustemperatur", "temperatura zewnętrzna",
        "temperatura otoczenia", "venkovní teplota", "teplota okolí", "külső hőmérséklet", "ulkolämpötila", "dış sıcaklık", "ortam sıcaklığı", "ot", "ot avg",
        "temperature", "temperatur", "temperatura", "temperatuur", "température", "lämpötila", "teplota", "sıcaklık", "temp", "tmp",
        "температура наружного воздуха", "температура окружающей среды", "температура воздуха", "температура зовнішнього повітря", "температура", "θερμοκρασία περιβάλλοντος", "θερμοκρασία",
        "环境温度", "外部温度", "气温", "舱外温度", "温度", "外気温", "気温", "외기온도", "기온",
    ),
    "pitch_deg": (
        "blpthang", "wrot blpthangval", "pthang", "blds pitch angle", "blds pitchangle", "blade pitch", "pitch angle", "pitch a", "pitcha", "pitch", "blattwinkel", "pitchwinkel", "angle pale", "angle de pale",
        "angle pales", "ángulo pala", "ángulo de pala", "angolo pala", "bladhoek", "bladvinkel", "vingevinkel", "kąt łopat", "ba", "ba avg",
        "угол лопасти", "桨距角", "桨叶角度", "桨角", "ピッチ角", "피치각",
    ),
})  # fmt: skip
#: Terms that mark a quantity other than the signals, whatever else the name contains.
OTHER_QUANTITY = _table({"": (
    "reactive", "blind", "blindleistung", "reactiva", "reattiva", "reativa", "réactive", "réactif", "reaktiv", "reaktif", "bierna", "jalová", "blindvermogen", "реактивная", "无功", "無効", "무효",
    "apparent", "apparente", "aparente", "scheinleistung", "schein", "pozorna",
    "set point", "setpoint", "sollwert", "soll", "consigne", "consigna", "limit", "limite", "curtail", "curtailment", "available", "disponible", "disponibile", "verfügbar", "verfügbare", "possible", "theoretical",
    "theoretisch", "theoretische", "théorique", "teorica", "teórica", "potential", "potentiel", "expected", "factor", "理论", "可用", "限",
    "gear", "gearbox", "getriebe", "bearing", "lager", "oil", "öl", "nacelle temp", "nacelle temperature", "rotor", "hub temp", "hub temperature", "transformer", "trafo", "converter", "stator",
    "齿轮", "发电机", "轴承", "机舱温度", "机舱位置", "转速", "油温",
    "phase", "voltage", "spannung", "tension", "current", "strom", "frequency", "frequenz", "cos phi", "cosphi", "rpm", "drehzahl", "yaw", "misalignment", "rel", "relative", "偏航", "电压", "电流",
    "nacelle position", "nacelle direction", "nacelle pos", "nacelpos", "nacelle angle", "gondelposition", "gondelrichtung", "azimut", "count", "counter", "zähler", "cumul", "status", "state", "alarm",
    "quality", "hours", "stunden", "cabinet", "control", "hydraulic", "inside", "innen", "innentemperatur", "forecast", "prognose", "own consumption", "consumption", "eigenbedarf", "estimated", "rated", "nominal",
    "nenn", "nennleistung", "turbulence", "turbulenz", "gust", "böe", "bö", "rafale", "racha", "q",
)})[""]  # fmt: skip
STATISTICS = _table({
    "min": ("min", "minimum", "mini", "minimal", "mindest", "mnd", "minima", "minimo", "мин", "минимум", "最小"),
    "max": ("max", "maximum", "maxi", "maximal", "maxima", "maximo", "massimo", "mxd", "maks", "макс", "максимум", "最大"),
    "std": ("std", "stddev", "stdev", "sd", "sigma", "standardabweichung", "stdabw", "sdv", "écart", "desv", "dev", "deviation", "stdd", "标准差", "標準偏差"),
    "mean": ("avg", "mean", "average", "mittel", "mittelwert", "mw10", "moyenne", "moy", "media", "medio", "promedio", "gem", "gemiddeld", "gns", "middel", "średnia", "snitt", "ort", "средняя", "средн", "平均"),
})  # fmt: skip
_MINUTES = frozenset({"min", "mn", "minute", "minutes", "minuten", "minutos", "minuti", "m", "s", "sec", "h"})
ENERGY_TERMS = _table({"": ("energy", "energie", "energia", "energía", "énergie", "kwh", "mwh", "arbeit", "einspeisung", "energi", "yield", "ertrag", "发电量", "電力量", "энергия")})[""]  # fmt: skip
#: Terms used for power and for the energy of an interval: ambiguous without a unit.
YIELD_TERMS = _table(
    {"": ("production", "produktion", "producción", "produzione", "generation", "generación", "output", "出力", "출력")}
)[""]
TURBINE_TERMS = _table({"": (
    "turbine", "wtg", "wea", "anlage", "unit", "machine", "éolienne", "aerogenerador", "turbina", "aerogeneratore", "molen", "windmolen",
    "vindmølle", "mølle", "verk", "vindkraftverk", "elektrownia", "device", "asset", "wec", "park unit", "windkraftanlage", "turbin", "wt", "generator", "aero", "maschine", "turbineid", "türbin", "turbiini",
    "турбина", "вэу", "ветрогенератор", "风机", "机组", "风电机组", "風車", "号機", "풍력발전기",
)})[""]  # fmt: skip
#: Terms that do not change the meaning of a name.
_NEUTRAL = frozenset(_table({"": (
    "value", "val", "act", "actual", "activa", "active", "measured", "scada", "wtc", "wtur", "wnac", "wmet", "grd", "prod", "abs", "amb", "nacelle", "gondel", "gondola", "góndola", "nacela", "navicella", "mast",
    "park", "farm", "windpark", "wind", "net", "netto", "gross", "brutto", "total", "gesamt", "totale", "the", "of", "de", "del", "della", "du", "la", "le", "der", "die", "das", "des", "do", "da", "d", "in", "at", "en",
    "and", "signal", "ist", "istwert", "wert", "mesure", "medida", "mesurée", "wert", "hub", "height", "speed", "true", "abs", "instantaneous", "inst", "10m", "data", "id", "no", "nr",
)})[""])  # fmt: skip
RECEIVED_TERMS = _table({"": ("received", "receive", "arrived", "arrival", "empfangen", "recu", "recibido", "ricevuto", "ontvangen", "modtaget", "inserted", "ingested", "loaded", "landed", "created", "接收时间")})[""]  # fmt: skip
START_TERMS = _table({"": ("start", "begin", "beginn", "début", "inicio", "início", "inizio", "starttime", "anfang", "začátek", "początek", "开始", "開始", "начало", "beginning", "debut")})[""]  # fmt: skip
END_TERMS = _table({"": ("end", "ende", "fin", "fim", "fine", "slut", "slutt", "endtime", "ending", "einde", "koniec", "konec", "结束", "終了", "конец", "period end")})[""]  # fmt: skip
#: Prepositions: they distinguish start and end of two columns; in a single name they may be grammar.
FROM_TERMS = (*START_TERMS, *_table({"": ("from", "von", "desde", "van", "fra", "od", "da", "от", "с")})[""])
TO_TERMS = (*END_TERMS, *_table({"": ("to", "bis", "hasta", "tot", "til", "till", "do", "a", "до", "по")})[""])
QUALITY_TERMS = _table({"": ("quality", "qualität", "qualité", "calidad", "qualità", "kvalitet", "status", "state", "flag", "good", "q", "质量", "品質")})[""]  # fmt: skip
#: Terms of columns of codes, which never identify a turbine.
CODE_TERMS = (*QUALITY_TERMS, *_table({"": ("alarm", "code", "event", "error", "mode", "zustand", "störung", "fehler", "etat", "état", "estado", "stato", "状态", "month", "year", "day", "hour")})[""])  # fmt: skip
UTC_TERMS = ("utc", "gmt", "zulu")
LOCAL_TERMS = _table(
    {"": ("local", "lokal", "locale", "ortszeit", "lokaltid", "hora local", "lokalzeit", "本地时间", "місцевий")}
)[""]

#: Spellings of units → their names on cards.
UNITS: Mapping[str, str] = {
    "kw": "kW", "mw": "MW", "w": "W", "gw": "GW", "kilowatt": "kW", "megawatt": "MW", "watt": "W", "kwh": "kWh", "mwh": "MWh", "千瓦": "kW", "兆瓦": "MW", "квт": "kW", "мвт": "MW",
    "m/s": "m/s", "ms": "m/s", "mps": "m/s", "m.s-1": "m/s", "m s-1": "m/s", "ms-1": "m/s", "m/sec": "m/s", "m*s-1": "m/s", "m·s-1": "m/s", "m s⁻¹": "m/s", "м/с": "m/s", "米/秒": "m/s",
    "km/h": "km/h", "kmh": "km/h", "kph": "km/h", "km/t": "km/h", "kmt": "km/h", "km/u": "km/h", "kn": "kn", "kt": "kn", "kts": "kn", "knots": "kn", "knot": "kn", "mph": "mph",
    "deg": "deg", "°": "deg", "grad": "deg", "grader": "deg", "degree": "deg", "degrees": "deg", "grados": "deg", "gradi": "deg", "degrés": "deg", "graus": "deg", "度": "deg", "град": "deg", "rad": "rad", "radians": "rad",
    "°c": "degC", "c": "degC", "degc": "degC", "celsius": "degC", "ºc": "degC", "℃": "degC", "摄氏度": "degC", "k": "K", "kelvin": "K", "°f": "degF", "f": "degF", "degf": "degF", "℉": "degF",
    "fahrenheit": "degF", "º": "deg",
}  # fmt: skip
#: Units of quantities that are not signals.
FOREIGN_UNITS = frozenset({
    "var", "kvar", "mvar", "va", "kva", "mva", "v", "kv", "a", "ka", "hz", "rpm", "1/min", "u/min", "min-1", "bar", "mbar", "hpa", "pa", "kpa", "nm", "knm", "h", "hrs", "hours", "s", "°/s", "deg/s", "kg/m3",
    "kg/m³", "m", "mm", "ppm", "l", "g", "m/s2", "m/s²", "w/m2", "w/m²", "-", "квар", "千乏",
})  # fmt: skip
SHARE_UNITS = frozenset({"%", "pct", "percent", "prozent", "p.u.", "pu", "per unit", "share"})


@dataclass(frozen=True)
class NameMeaning:
    """The meaning of a column's or tag's name.

    Attributes:
        signal: name of the signal; none for another quantity or an unknown name.
        term: the term that was recognised, of the signal or of the other quantity.
        unexplained: remaining tokens, which may qualify the name.
    """

    signal: str | None
    term: str
    unexplained: tuple[str, ...] = ()


def tokens(name: str) -> list[str]:
    """Tokens of a name: lower case, without accents, camel case split, units in brackets removed."""

    def opened(match: re.Match[str]) -> str:
        inside = match.group(1).strip().lower()
        return " " if inside in UNITS or inside in FOREIGN_UNITS or inside in SHARE_UNITS or not inside else f" {match.group(1)} "

    apart = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", _BRACKETS.sub(opened, name))
    apart = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1 \2", apart)
    return re.findall(r"[^\W\d_]+|\d+", _plain(apart))


def _joined_tokens(name: str) -> str:
    """Tokens of a name without splitting camel case, which can split names such as 'ActPWR' wrongly."""
    return " ".join(
        re.findall(r"[^\W\d_]+|\d+", _plain(_BRACKETS.sub(lambda m: "" if m.group(1).lower() in UNITS else m.group(), name)))
    )


def _has(text: str, phrase: str) -> bool:
    if phrase and phrase[0] >= _UNSPACED:
        return phrase in text
    return re.search(rf"(?:^| ){re.escape(phrase)}(?: |$)", text) is not None


def _has_stem(text: str, phrase: str) -> bool:
    """Whether a long term is part of a compound, as in German."""
    return len(phrase) >= 6 and phrase.replace(" ", "") in text.replace(" ", "")  # noqa: PLR2004


def meaning_of(name: str) -> NameMeaning:
    """Find the signal and the term that a name contains."""
    split, joined = (re.sub(r"\bwind (?=turbine|farm|park)", "", one) for one in (" ".join(tokens(name)), _joined_tokens(name)))
    for other in OTHER_QUANTITY:
        if _has(split, other) or _has(joined, other):
            return NameMeaning(None, other)
    best: tuple[int, str, str] | None = None
    for signal, phrases in SIGNAL_TERMS.items():
        for phrase in phrases:
            if _has(split, phrase) or _has(joined, phrase) or _has_stem(split, phrase):
                # A character of a script without spaces carries more information.
                size = len(phrase) * (4 if phrase[0] >= _UNSPACED else 1)
                if best is None or size > best[0]:
                    best = (size, signal, phrase)
    if best is None:
        return NameMeaning(None, "")
    return NameMeaning(best[1], best[2], _rest(split, joined, best[2]))


def signal_of(name: str) -> tuple[str | None, str]:
    """Signal of a name and the recognised term; the signal is none for another quantity."""
    meaning = meaning_of(name)
    return meaning.signal, meaning.term


def _rest(split: str, joined: str, phrase: str) -> tuple[str, ...]:
    """Tokens of a name that are neither part of its recognised term nor neutral."""
    text = joined if _has(joined, phrase) and not _has(split, phrase) else split
    if not _has(text, phrase):  # the term is part of a compound
        text, phrase = text.replace(" ", "") if " " in phrase else text, phrase.replace(" ", "")
    left = text.replace(phrase, " ", 1).split()
    known = {term for of in STATISTICS.values() for term in of}
    return tuple(
        part for part in left
        if not part.isdigit() and part not in known and part not in _NEUTRAL and (part not in TURBINE_TERMS or part == "generator") and part not in UNITS
        and part not in _MINUTES and not any(one in part for one in known if one[0] >= _UNSPACED)
    )  # fmt: skip


def statistic_of(name: str) -> str | None:
    """Statistic in a name: ``mean``, ``min``, ``max`` or ``std``, if there is one."""
    found = tokens(name)
    # '10 min' is ten minutes.
    found = [token for place, token in enumerate(found) if not (token in _MINUTES and place and found[place - 1].isdigit())]
    if "ø" in name.lower() and not re.search(r"\wø|ø\w", name.lower()):
        return "mean"
    text = " ".join(found)
    return next((kind for kind, phrases in STATISTICS.items() if any(_has(text, phrase) for phrase in phrases)), None)


def _unit_texts(name: str, beside: str) -> list[str]:
    return [text.strip().lower() for text in [beside, *_BRACKETS.findall(beside), *reversed(_BRACKETS.findall(name))]]


def unit_of(name: str, beside: str = "") -> str | None:
    """Unit in a name or in the cell below it in the row of units, if there is one."""
    for text in _unit_texts(name, beside):
        if text in UNITS:
            return UNITS[text]
    tail = re.split(r"[\s_.,;:-]+", name.strip())
    if len(tail) > 1 and (last := tail[-1].lower()) in UNITS and last not in {"w", "c", "k", "f", "ms"}:
        return UNITS[last]
    if len(tail) > 1 and tail[-1].lower() in {"ms", "c"} and signal_of(name)[0] in {"wind_speed_ms", "temperature_c"}:
        return UNITS[tail[-1].lower()]
    if re.search(r"(?:^|[\s_])(km/h|m/s|°C|°F|°)\s*$", name):
        return UNITS[re.split(r"[\s_]+", name.strip())[-1].lower()]
    return None


def foreign_unit(name: str, beside: str = "") -> str | None:
    """Unit in a name that no signal has, such as kvar, rpm or ``%``, if there is one."""
    tail = re.split(r"[\s_]+", name.strip())[-1].lower()
    texts = [*_unit_texts(name, beside), *([tail] if tail in {"kvar", "kva", "rpm", "hz", "%", "pct", "percent"} else [])]
    return next((text for text in texts if text in FOREIGN_UNITS or text in SHARE_UNITS), None)


def has_term(name: str, of: Sequence[str]) -> bool:
    """Whether a name contains one of these terms."""
    split, joined = " ".join(tokens(name)), _joined_tokens(name)
    return any(_has(split, term) or _has(joined, term) for term in of)
