# ruff: noqa: E501 - tables of words and of dresses read as tables
"""What names of columns and tags say in many languages and of many vendors: signal, statistic, unit."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

#: Words of a signal, as stems without accents; the first signal whose words are found has it. Tags of IEC 61400-25 and of
#: vendors stand beside the words of languages.
SIGNAL_WORDS: Mapping[str, tuple[str, ...]] = {
    "power_kw": (
        "wtur w", "wturw", "grd prod pwr", "act power", "active power", "activepower", "actpower", "act pwr", "actpwr", "power",
        "pwr", "leistung", "wirkleistung", "puissance", "potencia", "potenza", "vermogen", "effekt", "effekten", "moc", "vykon",
        "teljesitmeny", "teho", "guc", "wirkl", "patot", "p avg", "p mean", "p kw", "p mw", "p", "kw", "mw", "produktion",
        "production", "generation", "output",
    ),
    "wind_speed_ms": (
        "wspd", "wdspd", "wnac wdspd", "wmet horwdspd", "horwdspd", "amb windspeed", "ac wind sp", "acwindsp", "wind speed", "windspeed", "windgeschw",
        "windgeschwindigkeit", "vitesse vent", "vitesse du vent", "vent vitesse", "velocidad viento", "velocidad del viento", "viento", "velocita vento", "velocita del vento",
        "velocidade vento", "velocidade do vento", "windsnelheid", "vindhastighed", "vindhastighet", "predkosc wiatru", "tuulen nopeus",
        "ws", "ws avg", "v wind", "vwind", "wind", "vent", "vento", "vind", "anemometer", "v avg",
    ),
    "wind_direction_deg": (
        "wddir", "wnac wddir", "hordir", "horwddir", "amb winddir", "wind direction", "winddirection", "wind dir", "winddir", "windrichtung", "windr", "direction vent", "direction du vent",
        "dir vent", "direccion viento", "direccion del viento", "direzione vento", "direzione del vento", "direcao vento", "direcao do vento", "windrichting", "vindretning",
        "vindriktning", "kierunek wiatru", "wd", "wa", "wa avg", "wdir",
    ),
    "temperature_c": (
        "extmp", "extl tmp", "wmet envtmp", "envtmp", "amb temp", "ambie tmp", "ambietmp", "ambient temp", "ambient temperature", "ambient", "outdoor temp", "outside temp", "outdoor temperature", "outside temperature",
        "air temperature", "air temp", "aussentemperatur", "aussentemp", "umgebungstemperatur", "temperature exterieure", "temp ext", "temperature ext",
        "temperatura exterior", "temperatura ambiente", "temp ambiente", "temperatura esterna", "temperatura externa",
        "buitentemperatuur", "omgevingstemperatuur", "udetemperatur", "udendorstemperatur", "utetemperatur", "utomhustemperatur", "temperatura zewnetrzna", "temperatura otoczenia",
        "ot", "ot avg", "temperature", "temperatur", "temperatura", "temperatuur", "temp", "tmp",
    ),
    "pitch_deg": (
        "blpthang", "wrot blpthangval", "pthang", "blds pitch angle", "blds pitchangle", "pitch a", "pitcha", "pitch", "blattwinkel", "angle pale", "angle de pale", "angulo pala", "angolo pala",
        "bladhoek", "bladvinkel", "vingevinkel", "kat lopat", "ba", "ba avg",
    ),
}  # fmt: skip  # noqa: RUF100
#: Words that make a column another quantity than its other words say.
OTHER_QUANTITY = (
    "reactive", "blind", "blindleistung", "reactiva", "reattiva", "reactif", "reactive", "apparent", "schein", "set point", "setpoint", "sollwert", "soll",
    "consigne", "consigna", "limit", "limite", "curtail", "available", "possible", "theoretical", "theoretisch", "theorique", "potential", "potentiel", "expected", "factor",
    "gear", "getriebe", "gen", "generator", "bearing", "lager", "oil", "ol", "nacelle temp", "gondel", "gondola", "rotor", "hub temp", "transformer", "trafo", "converter", "stator",
    "phase", "voltage", "spannung", "current", "strom", "frequency", "cos phi", "cosphi", "rpm", "drehzahl", "yaw", "misalignment", "rel", "relative",
    "nacelle", "nacelpos", "count", "counter", "total", "cumul", "status", "state", "alarm", "quality", "hours", "stunden", "cabinet", "control", "hydraulic", "inside", "innen", "forecast",
    "own consumption", "consumption", "eigenbedarf", "estimated", "rated", "nominal", "nenn", "nennleistung", "turbulence", "turbulenz", "gust", "boe", "bo", "rafale", "racha", "q",
)  # fmt: skip
STATISTICS: Mapping[str, tuple[str, ...]] = {
    "min": ("min", "minimum", "mini", "minimal", "mindest", "mnd", "minima", "minimo"),
    "max": ("max", "maximum", "maxi", "maximal", "maxima", "maximo", "massimo", "mxd"),
    "std": ("std", "stddev", "stdev", "sd", "sigma", "standardabweichung", "stdabw", "sdv", "ecart", "desv", "dev", "deviation", "stdd"),
    "mean": ("avg", "mean", "average", "mittel", "mittelwert", "mw10", "moyenne", "moy", "media", "medio", "promedio", "gem", "gemiddeld", "gns", "middel", "srednia", "snitt", "ø"),
}  # fmt: skip
ENERGY_WORDS = ("energy", "energie", "energia", "kwh", "mwh", "arbeit", "einspeisung", "energi", "yield", "ertrag")
TURBINE_WORDS = (
    "turbine", "wtg", "wea", "anlage", "unit", "machine", "eolienne", "aerogenerador", "turbina", "aerogeneratore", "molen", "windmolen",
    "vindmolle", "molle", "verk", "vindkraftverk", "elektrownia", "device", "asset", "wec", "park unit", "windkraftanlage", "turbin", "wt", "generator", "aero", "maschine", "turbineid",
)  # fmt: skip
RECEIVED_WORDS = ("received", "receive", "arrived", "arrival", "empfangen", "recu", "recibido", "ricevuto", "ontvangen", "modtaget", "inserted", "ingested", "loaded", "landed")  # fmt: skip
START_WORDS = (
    "from",
    "von",
    "start",
    "begin",
    "beginn",
    "debut",
    "desde",
    "inicio",
    "inizio",
    "van",
    "fra",
    "od",
    "starttime",
    "anfang",
)
END_WORDS = ("to", "bis", "end", "ende", "fin", "hasta", "fine", "tot", "til", "do", "endtime", "ending")
QUALITY_WORDS = (
    "quality",
    "qualitat",
    "qualite",
    "calidad",
    "qualita",
    "kvalitet",
    "status",
    "state",
    "flag",
    "good",
    "q",
)
UTC_WORDS = ("utc", "gmt", "zulu")
LOCAL_WORDS = ("local", "lokal", "locale", "ortszeit", "lokaltid", "hora local")

#: Spellings of units → the house's names of them.
UNITS: Mapping[str, str] = {
    "kw": "kW", "mw": "MW", "w": "W", "gw": "GW", "kilowatt": "kW", "megawatt": "MW", "watt": "W", "kwh": "kWh", "mwh": "MWh",
    "m/s": "m/s", "ms": "m/s", "mps": "m/s", "m.s-1": "m/s", "m s-1": "m/s", "ms-1": "m/s", "m/sec": "m/s", "m*s-1": "m/s",
    "km/h": "km/h", "kmh": "km/h", "kph": "km/h", "km/t": "km/h", "kmt": "km/h", "kn": "kn", "kt": "kn", "kts": "kn",
    "knots": "kn", "knot": "kn", "mph": "mph",
    "deg": "deg", "°": "deg", "grad": "deg", "degree": "deg", "degrees": "deg", "grados": "deg", "gradi": "deg", "rad": "rad", "radians": "rad",
    "°c": "degC", "c": "degC", "degc": "degC", "celsius": "degC", "ºc": "degC", "k": "K", "kelvin": "K", "°f": "degF", "f": "degF", "degf": "degF",
    "fahrenheit": "degF", "º": "deg",
}  # fmt: skip
_BRACKETS = re.compile(r"[\[(<{]\s*([^\])>}]{1,12}?)\s*[\])>}]")


def words(name: str) -> list[str]:
    """A name as plain words: without accents, camel case and units in brackets apart."""
    plain = _BRACKETS.sub(" ", name)
    plain = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", plain)
    plain = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1 \2", plain)
    plain = plain.replace("ß", "ss").replace("ø", "o").replace("Ø", "O").replace("ł", "l").replace("æ", "ae")
    plain = unicodedata.normalize("NFKD", plain).encode("ascii", "ignore").decode().lower()
    return re.findall(r"[a-z]+|\d+", plain)


def _has(said: str, phrase: str) -> bool:
    return re.search(rf"(?:^| ){re.escape(phrase)}(?: |$)", said) is not None


def _has_stem(said: str, phrase: str) -> bool:
    """A long word may be part of a longer one, as in German."""
    return len(phrase) >= 6 and phrase.replace(" ", "") in said.replace(" ", "")  # noqa: PLR2004


def signal_of(name: str) -> tuple[str | None, str]:
    """The signal that a name speaks of, and the words that say so; none if it is another quantity."""
    said = " ".join(words(name))
    joined = " ".join(
        re.findall(
            r"[a-z]+|\d+",
            unicodedata.normalize("NFKD", _BRACKETS.sub(" ", name)).encode("ascii", "ignore").decode().lower(),
        )
    )
    for other in OTHER_QUANTITY:
        if _has(said, other) or _has(joined, other):
            return None, other
    best: tuple[int, str, str] | None = None
    for signal, phrases in SIGNAL_WORDS.items():
        for phrase in phrases:
            if _has(said, phrase) or _has(joined, phrase) or _has_stem(said, phrase):
                # The longest phrase says most: 'wind direction' before 'wind'.
                size = len(phrase)
                if best is None or size > best[0]:
                    best = (size, signal, phrase)
    return (None, "") if best is None else (best[1], best[2])


def statistic_of(name: str) -> str | None:
    """``mean``, ``min``, ``max`` or ``std`` if a name says so."""
    said = set(words(name)) | ({"ø"} if "ø" in name.lower() and not re.search(r"\wø|ø\w", name.lower()) else set())
    return next((kind for kind, names in STATISTICS.items() if said & set(names)), None)


def unit_of(name: str, beside: str = "") -> str | None:
    """The unit that a name, or the cell of its row of units, says."""
    for text in [beside, *_BRACKETS.findall(beside), *reversed(_BRACKETS.findall(name))]:
        if text.strip().lower() in UNITS:
            return UNITS[text.strip().lower()]
    tail = re.split(r"[\s_.,;:-]+", name.strip())
    if len(tail) > 1 and (last := tail[-1].lower()) in UNITS and last not in {"w", "c", "k", "f", "ms"}:
        return UNITS[last]
    if len(tail) > 1 and tail[-1].lower() in {"ms", "c"} and signal_of(name)[0] in {"wind_speed_ms", "temperature_c"}:
        return UNITS[tail[-1].lower()]
    if re.search(r"(?:^|[\s_])(km/h|m/s|°C|°F|°)\s*$", name):
        return UNITS[re.split(r"[\s_]+", name.strip())[-1].lower()]
    return None


def says(name: str, of: tuple[str, ...]) -> bool:
    """Whether a name has one of these words."""
    said = " ".join(words(name))
    return any(_has(said, word) for word in of)
