"""Class ``cards``: YAML of farms, groups, products, markets and parameters that no program wrote, or one that means harm."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import yaml

from .cases import Case, Step, generator
from .oracle import Verdict, error_lines, worst
from .project import Ended, World, command, run, write_yaml

FILES = ("farms.yml", "products.yml", "markets.yml", "parameters_run.yml", "parameters_data_engineering.yml")


@dataclass
class Cards:
    """The files of an environment in the making, and what must become of them.

    Attributes:
        content: by file, what YAML would hold.
        texts: by file, the bytes where they are not the YAML of `content`.
        refuse: whether a command must refuse them; None: it may.
        names: words that the refusal must have: the file, and the key where there is one.
        runs: whether they are also run; only what may be accepted.
        spoilt: farms whose tables may then differ.
        secret: a text that no output may have.
    """

    content: dict[str, Any]
    rng: np.random.Generator
    texts: dict[str, bytes] = field(default_factory=dict)
    refuse: bool | None = True
    names: list[str] = field(default_factory=list)
    runs: bool = False
    spoilt: set[str] = field(default_factory=set)
    secret: str = ""
    elsewhere: list[str] = field(default_factory=list)
    by_a_run: bool = False

    def text(self, file: str) -> str:
        """A file as it would be written."""
        return yaml.safe_dump(self.content[file], sort_keys=False, allow_unicode=True)

    def farm(self) -> dict[str, Any]:
        """One of the farms."""
        farms = self.content["farms.yml"]["farms"]
        card: dict[str, Any] = farms[int(self.rng.integers(len(farms)))]
        return card

    def replace(self, file: str, text: str | bytes, *names: str) -> None:
        """Let a file have this text."""
        self.by_a_run = not file.startswith(("farms", "products", "markets"))
        self.texts[file] = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
        self.names = [*names] or [file.rsplit(".", 1)[0]]


Mutation = Callable[[Cards], None]
MUTATIONS: dict[str, Mutation] = {}


def mutation(change: Mutation) -> Mutation:
    """Registers a mutation under its function's name."""
    MUTATIONS[change.__name__] = change
    return change


def _set(name: str, field_path: str, *values: Any, file: str = "farms.yml", names: tuple[str, ...] = ()) -> None:
    """Registers a mutation that puts one of some values into a field of the first card of a file."""

    def change(cards: Cards) -> None:
        kind = file.removesuffix(".yml")
        entries = cards.content[file]
        card: Any = cards.farm() if kind == "farms" else entries[kind][0] if kind in entries else entries
        keys = field_path.split(".")
        for key in keys[:-1]:
            card = card[int(key)] if isinstance(card, list) else card[key]
        value = values[int(cards.rng.integers(len(values)))]
        if isinstance(card, list):
            card[int(keys[-1])] = value
        else:
            card[keys[-1]] = copy.deepcopy(value)
        cards.by_a_run = file.startswith("parameters")
        cards.names = list(names) or [
            file if kind in {"farms", "products", "markets"} else kind.split("_", 1)[1],
            keys[-1],
        ]

    MUTATIONS[name] = change


_NAMES = [
    "",
    " ",
    "a b",
    "É",
    "../x",
    "a/b",
    "a" * 300,
    "'; DROP TABLE x; --",
    "a\nb",
    "\x00",
    "{turbine}",
    "-",
    "${globals:data}",
    "a\u202eb",
]
_set("ids_that_are_none", "id", *[n for n in _NAMES if "$" not in n], 7, None, [], {}, names=("farms.yml",))
_set(
    "time_zones",
    "time_zone",
    "Europe",
    "",
    "..",
    "/etc/localtime",
    "../../etc/passwd",
    "A" * 300,
    "Mars/Base",
    "UTC+25",
    5,
    None,
    "Europe/Paris\x00",
    "America",
    ".",
    "posixrules/x",
)
_set("latitudes", "latitude_deg", 91, -91, "north", float("nan"), float("inf"), 1e400, [55], True and "yes", "55,6")
_set("capacities", "capacity_kw", -1, 0, float("nan"), float("inf"), "many", 1e308, [], None, "6150 kW")
_set("turbines", "turbines", [], None, {}, "N1", [{}], [None], [[]], 5)
_set("hub_heights", "turbines.0.hub_height_m", -80, 0, float("inf"), "80 m", None, [])
_set("latencies", "latency_minutes", -1, 1.5, "soon", None, [], "10 min")
_set("cadences", "signals.cadence_seconds", 0, -300, 86401, 0.5, "5min", None, float("nan"), 10**30)
_set("separators", "signals.separator", "", ",,", 5, None, [], names=("farms.yml", "separator"))
_set("encodings", "signals.encoding", "utf-7", "rot13", "idna", "unicode_escape", "zip", "ascii\x00", None, 8)
_set("formats", "signals.format", "pickle", "sqlite", "", None, "PARQUET", ["csv"])
_set("stamps", "signals.stamps", "middle", None, 1, [])
_set("readings", "signals.clock", "wrong", None, 5)
_set(
    "columns",
    "signals.columns",
    {},
    None,
    [],
    {"power_kw": None},
    {"power_kw": {"name": "p"}},
    {"power_kw": {"name": "p", "unit": "hp"}},
    {"wind_speed_ms": {"name": "w", "unit": "m/s"}},
    {"x'; --": {"name": "p", "unit": "kW"}},
    "power",
)
_set(
    "sentinels",
    "signals.sentinels",
    {"power_kw": "none"},
    {"power_kw": [float("nan")]},
    {"energy": [1]},
    [1],
    {"power_kw": -999},
    "x",
)
_set("skip_rows", "signals.skip_rows", -1, 1.5, "two", None, names=("farms.yml", "skip_rows"))
_set("weather_none", "weather", None, {}, "alpha", [None], [{}], [[]])
_set("weather_delays", "weather.0.delay_minutes", -1, "late", None, 1.5)
_set("weather_lengths", "weather.0.length_hours", 0, -1, None, "48 h", 0.5)
_set("weather_kinds", "weather.0.kind", "guess", None, 1)
_set("unknown_keys_of_a_farm", "pasword", "hunter2-of-the-farm", names=("farms.yml", "pasword"))
_set("unknown_keys_of_signals", "signals.__class__", "x", {"y": 1}, names=("farms.yml", "__class__"))
_set(
    "product_members",
    "members",
    [],
    None,
    ["nobody"],
    ["north_ridge", "north_ridge"],
    "north_ridge",
    [None],
    [["coast"]],
    file="products.yml",
)
_set(
    "product_levels",
    "quantile_levels",
    [],
    [0.5, 0.1],
    [0, 0.5, 1],
    [0.5, float("nan")],
    ["half"],
    [0.1],
    None,
    [0.5] * 2,
    [0.12345, 0.5],
    file="products.yml",
)
_set(
    "product_issue_times",
    "issue_times",
    [],
    [64800],
    ["25:00"],
    ["18:00+01:00"],
    ["six"],
    None,
    ["06:00", "06:00"],
    file="products.yml",
)
_set("product_granularities", "granularity_minutes", 0, -60, 7, 1441, "hour", None, file="products.yml")
_set("product_horizons", "horizon_minutes", 0, -1, None, "day", float("inf"), file="products.yml")
_set("product_scores", "deciding_score", "luck", None, 1, file="products.yml")
_set(
    "product_goals",
    "goal",
    {},
    None,
    {"target": -1, "since": "2024-01-01"},
    {"target": 1, "since": "soon"},
    5,
    file="products.yml",
    names=("products.yml", "goal"),
)
_set("product_markets", "market", "bourse", None, "", "../x", file="products.yml")
_set("market_zones", "time_zone", "Europe", "Nowhere", None, "", file="markets.yml")
_set("market_settlements", "settlement_minutes", 0, -15, 1441, None, "quarter", file="markets.yml")
_set("market_currencies", "currency", "euro", "€", "", None, 5, "EURO", file="markets.yml")
_set(
    "market_penalties",
    "penalty",
    None,
    {},
    {"kind": "fine"},
    {"kind": "bands", "bands": []},
    {"kind": "imbalance", "short_per_mwh": float("nan")},
    {"kind": "bands", "bands": [{"up_to_share": 1, "rate_per_mwh": 1}, {"up_to_share": 0.5, "rate_per_mwh": 2}]},
    file="markets.yml",
)
_set(
    "clocks",
    "clock.as_of",
    "'",
    '"',
    "yesterday",
    "2024-02-30",
    "2024-01-28T25:00",
    None,
    [],
    {},
    "0000-01-01",
    "2024-01-28T00:00:00+99:00",
    "now'; --",
    file="parameters_run.yml",
    names=("as_of",),
)
_set(
    "unknown_parameters",
    "data_engineering.warning_shares",
    1,
    file="parameters_data_engineering.yml",
    names=("warning_shares",),
)
_set(
    "parameter_types",
    "data_engineering.warning_share",
    "often",
    [],
    -5,
    float("nan"),
    7,
    file="parameters_data_engineering.yml",
    names=("warning_share",),
)


@mutation
def a_card_in_another_case(cards: Cards) -> None:
    farm = cards.farm()
    farm["ID"] = farm.pop("id")
    cards.names = ["farms.yml"]


@mutation
def a_farm_twice(cards: Cards) -> None:
    farms = cards.content["farms.yml"]["farms"]
    farms.append(copy.deepcopy(farms[0]))
    cards.names = ["farms.yml", farms[0]["id"]]


@mutation
def a_turbine_twice(cards: Cards) -> None:
    farm = cards.farm()
    farm["turbines"].append(copy.deepcopy(farm["turbines"][0]))
    cards.names = ["farms.yml", farm["id"]]


@mutation
def a_group_of_nobody(cards: Cards) -> None:
    cards.content["farms.yml"]["groups"] = [
        [{"id": "coast", "name": "x", "farms": ["nobody"]}],
        [{"id": "coast", "name": "x", "farms": []}],
        "coast",
        [None],
        [{"id": "coast", "name": "x", "farms": ["coast"]}],
    ][int(cards.rng.integers(5))]
    cards.names = ["farms.yml"]


@mutation
def no_farms(cards: Cards) -> None:
    cards.content["farms.yml"]["farms"] = [[], None, {}, "all", 7][int(cards.rng.integers(5))]
    cards.names = ["farms"]


@mutation
def no_file_content(cards: Cards) -> None:
    cards.replace(
        "farms.yml",
        ["", "# nothing\n", "---\n", "null\n", "[]\n", "- farms\n", "farms\n", "5\n", "---\n---\n"][int(cards.rng.integers(9))],
        "farms",
    )


@mutation
def not_yaml(cards: Cards) -> None:
    file = FILES[int(cards.rng.integers(len(FILES)))]
    endings = [
        "\n  - x: [",
        "\n{",
        "\nkey: 'open",
        "\n\t- tab: 1\n",
        "\n&a *b\n",
        "\n%YAML 9\n",
        "\n? - :\n  - !",
        "\n@x\n",
        "\n`x`: 1\n",
        "\nkey: |-\nx",
        "\n<<: 1\n",
    ]
    cards.replace(file, cards.text(file) + endings[int(cards.rng.integers(len(endings)))], file)


@mutation
def other_encodings(cards: Cards) -> None:
    text = cards.text("farms.yml").replace("North Ridge", "Nördlich")
    codec = ["latin-1", "cp1252", "utf-16-le", "utf-32"][int(cards.rng.integers(4))]
    cards.replace("farms.yml", text.encode(codec), "farms.yml")
    cards.refuse = None


@mutation
def byte_order_marks(cards: Cards) -> None:
    text = cards.text("farms.yml")
    cards.replace(
        "farms.yml",
        [b"\xef\xbb\xbf" + text.encode(), text.encode("utf-16"), b"\xef\xbb\xbf\xef\xbb\xbf" + text.encode()][
            int(cards.rng.integers(3))
        ],
        "farms.yml",
    )
    cards.refuse = None


@mutation
def broken_bytes(cards: Cards) -> None:
    file = FILES[int(cards.rng.integers(len(FILES)))]
    raw = cards.text(file).encode()
    place = int(cards.rng.integers(len(raw)))
    bad = [b"\xff", b"\x00", b"\x80", b"\xed\xa0\x80", b"\x1b", b"\x85\xff"][int(cards.rng.integers(6))]
    cards.replace(file, raw[:place] + bad + raw[place:], file)


@mutation
def control_characters(cards: Cards) -> None:
    cards.replace("farms.yml", cards.text("farms.yml").replace("North Ridge", '"North\\x1b[31m\\0Ridge\\u202e"'))
    cards.refuse = None


@mutation
def unpaired_surrogates(cards: Cards) -> None:
    cards.replace("farms.yml", cards.text("farms.yml").replace("North Ridge", '"North \\ud800 Ridge"'))
    cards.refuse = None
    cards.runs = True


@mutation
def a_bomb_of_aliases(cards: Cards) -> None:
    depth = int(cards.rng.choice([9, 30]))
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, depth)]
    file = ["farms.yml", "globals.yml", "parameters_run.yml"][int(cards.rng.integers(3))]
    base = cards.text(file) if file in cards.content else "data: data/test\n"
    cards.replace(file, base + "\n".join(lines) + "\n", file)


@mutation
def merge_keys(cards: Cards) -> None:
    cards.replace("farms.yml", "x: &x {a: 1}\ny: &y\n  <<: *x\n  <<: *x\n" + cards.text("farms.yml"))
    cards.refuse = None


@mutation
def recursion(cards: Cards) -> None:
    endings = ["loop: &loop [*loop]\n", "loop: &loop {again: *loop}\n", "a: &a\n  b: &b\n    c: *a\n"]
    cards.replace("farms.yml", cards.text("farms.yml") + endings[int(cards.rng.integers(3))], "farms.yml")


@mutation
def recursion_in_parameters(cards: Cards) -> None:
    file = "parameters_run.yml"
    cards.replace(file, cards.text(file) + "loop: &loop {again: *loop}\n", file)


@mutation
def depth(cards: Cards) -> None:
    levels = int(cards.rng.choice([200, 2_000, 100_000]))
    cards.replace("farms.yml", cards.text("farms.yml") + "deep: " + "[" * levels + "]" * levels + "\n", "farms.yml")
    cards.refuse = None if levels == 200 else True


@mutation
def depth_of_blocks(cards: Cards) -> None:
    levels = int(cards.rng.choice([400, 3_000]))
    text = "".join("  " * level + "k:\n" for level in range(levels))
    cards.replace("farms.yml", cards.text("farms.yml") + "deep:\n" + text, "farms.yml")
    cards.refuse = None if levels == 400 else True


@mutation
def keys_twice(cards: Cards) -> None:
    text = cards.text("farms.yml")
    key = ["  capacity_kw: 6150", "  latency_minutes: 5", "  time_zone: Europe/Copenhagen"][int(cards.rng.integers(3))]
    assert key in text  # noqa: S101 - the test fleet has it
    cards.replace("farms.yml", text.replace(key, f"{key}\n{key}1", 1), "farms.yml")


@mutation
def a_file_key_twice(cards: Cards) -> None:
    text = cards.text("farms.yml")
    cards.replace("farms.yml", text + text, "farms.yml")


@mutation
def a_key_in_two_files(cards: Cards) -> None:
    cards.texts["farms_more.yml"] = cards.text("farms.yml").encode()
    cards.names = ["farms"]


@mutation
def parameters_in_two_files(cards: Cards) -> None:
    cards.texts["parameters_more.yml"] = b"clock: {as_of: 2024-01-29T00:00:00Z}\n"
    cards.names, cards.by_a_run = ["parameters_more.yml"], True


@mutation
def python_tags(cards: Cards) -> None:
    tags = [
        "!!python/object/apply:os.system ['touch broken_in']",
        "!!python/name:os.system ''",
        "!!binary '//'",
        "!!set {a}",
        "!include /etc/passwd",
        "!!python/object/new:os.system ['touch broken_in']",
    ]
    cards.replace("farms.yml", cards.text("farms.yml") + f"evil: {tags[int(cards.rng.integers(len(tags)))]}\n", "farms")
    cards.refuse = None


@mutation
def resolvers(cards: Cards) -> None:
    words = [
        "${oc.env:HOME}",
        "${globals:nothing}",
        "${runtime_params:x}",
        "${oc.decode:x}",
        "${oc.create:${x}}",
        "${",
        "${a.b.c}",
        "${oc.env:PATH,x}",
        "${oc.env:FUZZ_SECRET}",
    ]
    cards.farm()["name"] = words[int(cards.rng.integers(len(words)))]
    cards.names = ["farms"]
    cards.secret = "s3cr3t-of-the-environment"  # noqa: S105 - opens nothing
    cards.refuse = None


@mutation
def yaml_that_means_something_else(cards: Cards) -> None:
    text = cards.text("farms.yml")
    changes = [
        ("id: north_ridge", "id: no"),
        ("id: north_ridge", "id: 2024-01-01"),
        ("id: N1", "id: 1e5"),
        ("id: N1", "id: 010"),
        ("capacity_kw: 6150", "capacity_kw: 6_150x"),
        ("latitude_deg: 55.6", "latitude_deg: 55:36"),
    ]
    old, new = changes[int(cards.rng.integers(len(changes)))]
    cards.replace("farms.yml", text.replace(old, new, 1), "farms")
    cards.refuse = None


@mutation
def secrets_on_a_card(cards: Cards) -> None:
    cards.secret = "hunter2+of/the=farm"  # noqa: S105 - opens nothing
    key = ["password", "token", "credentials", "api_key", "secret"][int(cards.rng.integers(5))]
    cards.farm()["signals"][key] = cards.secret
    cards.names = ["farms.yml", key]


@mutation
def huge_lists(cards: Cards) -> None:
    farm = cards.farm()
    turbine = farm["turbines"][0]
    farm["turbines"] = [turbine | {"id": f"T{n}"} for n in range(int(cards.rng.choice([1_000, 3_000])))]
    cards.names = ["farms.yml", "capacity_kw"]


@mutation
def huge_texts(cards: Cards) -> None:
    cards.farm()[str(cards.rng.choice(["id", "time_zone"]))] = "x" * int(cards.rng.choice([10_000, 1_000_000]))
    cards.names = ["farms.yml"]


@mutation
def a_number_without_end(cards: Cards) -> None:
    text = cards.text("farms.yml").replace(
        "capacity_kw: 6150", "capacity_kw: " + "9" * int(cards.rng.choice([400, 5_000, 200_000]))
    )
    cards.replace("farms.yml", text, "farms")


@mutation
def a_path_that_leaves(cards: Cards) -> None:
    farm = cards.farm()
    paths = [
        "n" * 300 + ".csv",
        "n" * 5_000 + ".csv",
        "/etc/passwd",
        "../../../../../../etc/passwd",
        "~/x.csv",
        "file:///etc/passwd",
        "s3://bucket/x.csv",
        "http://127.0.0.1:9/x",
        "C:\\x.csv",
        "/dev/zero",
        "/proc/self/environ",
        "//host/share/x.csv",
        "",
        ".",
        "/",
        "\x00",
        "a\x00b",
    ]
    farm["signals"]["path"] = paths[int(cards.rng.integers(len(paths)))]
    cards.names = [farm["id"]]
    cards.refuse, cards.runs, cards.spoilt = None, True, {farm["id"]}


@mutation
def a_path_that_is_a_pattern(cards: Cards) -> None:
    farm = cards.farm()
    paths = ["**", "*", "[", "[a", "{a,b}", "**/**/**/**", "?" * 50, "*" * 2000, "north_ridge/[!a]*/**", "/**"]
    farm["signals"]["path"] = paths[int(cards.rng.integers(len(paths)))]
    cards.names = [farm["id"]]
    cards.refuse, cards.runs, cards.spoilt = None, True, {farm["id"]}


@mutation
def names_of_columns_that_are_sql(cards: Cards) -> None:
    farm = cards.content["farms.yml"]["farms"][0]
    names = [
        '"; DROP TABLE signals; --',
        "'; SELECT 1; --",
        "power) FROM x",
        "a" * 10_000,
        "\x00",
        "\\",
        "%s",
        "power\u0000",
        "\n",
    ]
    farm["signals"]["columns"]["power_kw"]["name"] = names[int(cards.rng.integers(len(names)))]
    cards.names = [farm["id"]]
    cards.refuse, cards.runs, cards.spoilt = None, True, {farm["id"]}


@mutation
def formats_of_stamps(cards: Cards) -> None:
    farm = cards.content["farms.yml"]["farms"][0]
    forms = ["%", "%Q", "%Y" * 50, "'", "%d.%m.%Y' || (SELECT 1)", "", "%n%t", "%Y-%m-%dT%H:%M:%S%z" * 3, "\x00"]
    farm["signals"]["stamp_format"] = forms[int(cards.rng.integers(len(forms)))]
    cards.names = [farm["id"]]
    cards.refuse, cards.runs, cards.spoilt = None, True, {farm["id"]}


@mutation
def where_that_is_sql(cards: Cards) -> None:
    farm = cards.content["farms.yml"]["farms"][0]
    farm["signals"]["where"] = [
        {"turbine": "N1' OR '1'='1"},
        {"x": "1"},
        {'turbine" OR 1=1 --': "N1"},
        {"turbine": "\x00"},
    ][int(cards.rng.integers(4))]
    cards.names = [farm["id"]]
    cards.refuse, cards.runs, cards.spoilt = None, True, {farm["id"]}


@mutation
def names_for_people(cards: Cards) -> None:
    names = ["<script>alert(1)</script>", "x" * 100_000, "\u202eegdiR", "😀" * 50, "a\nb", "%s{0}${x", "\x07", " "]
    cards.farm()["name"] = names[int(cards.rng.integers(len(names)))].replace("${", "$")
    cards.names = ["farms.yml"]
    cards.refuse = None


@mutation
def a_farms_file_that_is_none(cards: Cards) -> None:
    cards.elsewhere = [["folder", "link", "pipe", "unreadable"][int(cards.rng.integers(4))]]
    cards.names = ["farms"]
    cards.refuse = True


@mutation
def strangers_beside_the_cards(cards: Cards) -> None:
    cards.texts |= {
        ".farms.yml.swp": b"\x00\x01",
        "farms.yml~": b"x: [",
        "._farms.yml": b"\x00\x05\x16\x07",
        "farms.yml.orig": b"{",
        "notes.txt": b"hi",
    }
    cards.refuse = None


#: What is no day.
_DAYS = (
    20270101,
    "soon",
    "2027-02-30",
    "2027-01-01T12:00:00+99:00",
    "0001-01-01",
    "9999-12-31",
    1e400,
    float("nan"),
    True,
    [],
    {},
    "",
    "'; --",
)
_set("turbine_days", "turbines.0.valid_from", *_DAYS)
_set("weather_days", "weather.0.valid_until", *_DAYS)
_set("farm_days", "valid_from", *_DAYS)
_set("names_of_turbines", "turbines.1.named", 5, [], {}, "\x00", "a" * 10_000, ["N1"])
_set(
    "market_holidays",
    "holidays",
    "Christmas",
    {},
    5,
    None,
    *([day] for day in _DAYS),
    [["2027-01-01"]],
    [None],
    file="markets.yml",
)
_CHANGE = {"valid_from": "2024-02-01"}
_set(
    "market_changes",
    "changes",
    "soon",
    {},
    5,
    None,
    [None],
    [{}],
    *([{"valid_from": day}] for day in _DAYS),
    [_CHANGE, _CHANGE],
    [_CHANGE, {"valid_from": "2024-01-31"}],
    [_CHANGE | {"settlement_minutes": None}],
    [_CHANGE | {"settlement_minutes": 0}],
    [_CHANGE | {"gate_closure_minutes": -1}],
    [_CHANGE | {"penalty": {"kind": "fine"}}],
    [_CHANGE | {"gate_closure_day": {"time": 1080}}],
    [_CHANGE | {"gate_closure_day": {"time": "12:00+01:00"}}],
    [_CHANGE | {"gate_closure_day": {"time": "12:00", "days_before": 10**9}}],
    [_CHANGE | {"currency": "EUR"}],
    file="markets.yml",
)


_set(
    "product_points",
    "point",
    "mode",
    0.123,
    -0.5,
    float("nan"),
    float("inf"),
    None,
    [],
    {},
    True,
    "",
    file="products.yml",
)
_set(
    "product_revisions",
    "revisions",
    5,
    "hourly",
    [],
    {},
    {"every_minutes": 0},
    {"every_minutes": 10**30},
    {"every_minutes": "often"},
    {"every_minutes": 60, "times": ["07:00"]},
    {"times": []},
    {"times": [420]},
    {"times": ["07:00", "07:00"]},
    {"times": ["07:00+01:00"]},
    {"times": ["07:00:30"]},
    {"times": ["06:00"]},
    {"every_minutes": 60, "min_change_share": 2},
    {"every_minutes": 60, "min_change_share": float("nan")},
    {"every_minutes": 60, "last_minutes": -1},
    {"every_minutes": 60, "pasword": "x"},
    file="products.yml",
)


@mutation
def product_delivery_days(cards: Cards) -> None:
    product = cards.content["products.yml"]["products"][0]
    if cards.rng.random() < 0.8:
        del product["horizon_minutes"]
    wrong = [[], [-1], [0, 2], [2, 1], [1, 1], [32], [0.5], ["tomorrow"], [None], "tomorrow", {}, 1, list(range(40)), [10**30]]
    product["delivery_days"] = wrong[int(cards.rng.integers(len(wrong)))]
    cards.names = ["products.yml", "delivery_days"]


@mutation
def group_days(cards: Cards) -> None:
    member = {"farm": "south_bay"}
    wrong = [
        *([member | {"valid_from": day}] for day in _DAYS),
        [member | {"valid_from": "2024-02-01", "valid_until": "2024-02-01"}],
        [{"farm": "nobody", "valid_from": "2024-02-01"}],
        [{"farm": "coast", "valid_from": "2024-02-01"}],
        [member, "south_bay"],
        [member | {"since": "2024-02-01"}],
        [{"valid_from": "2024-02-01"}],
        [{}],
        [None],
        [[]],
        [5],
        member,
        "south_bay",
    ]
    cards.content["farms.yml"]["groups"][0]["farms"] = wrong[int(cards.rng.integers(len(wrong)))]
    cards.names = ["farms.yml"]


@mutation
def days_of_no_sense(cards: Cards) -> None:
    farm = cards.farm()
    first, *_, last = farm["turbines"]
    day, later = "2024-02-01", "2024-03-01"
    name = ["valid_from", "valid_until", "named"][int(cards.rng.integers(3))]
    if name == "valid_until":
        last |= {"valid_from": later, "valid_until": day}
    elif name == "valid_from":  # the capacity on the card is of all turbines
        last["valid_from"] = day
        name = "capacity_kw"
    else:
        last["named"] = first["id"]
        name = "turbines"
    cards.names = ["farms.yml", farm["id"], name]


@mutation
def days_that_hold(cards: Cards) -> None:
    """Turbines, weather and groups that come and go while there are data, or before and after all of them."""
    farm = cards.farm()
    days = ["1970-01-01", "2024-01-20", "2024-02-10", "2024-02-11", "2024-04-09", "2200-12-31"]
    first, second = sorted(cards.rng.choice(len(days), 2, replace=False))
    period = [
        {"valid_until": days[second]},
        {"valid_from": days[first]},
        {"valid_from": days[first], "valid_until": days[second]},
    ]
    *_, last = farm["turbines"]
    last |= {"valid_until": days[second]}
    farm["turbines"].append(last | {"id": "new", "named": last["id"], "valid_from": days[second]})
    del farm["turbines"][-1]["valid_until"]
    farm["weather"][0] |= period[int(cards.rng.integers(3))]
    member = {"farm": "south_bay"} | period[int(cards.rng.integers(3))]
    cards.content["farms.yml"]["groups"][0]["farms"] = ["north_ridge", member]
    cards.names = [farm["id"]]
    cards.refuse, cards.runs, cards.spoilt = None, True, {farm["id"]}


@dataclass
class CardsCase(Case):
    """Cards that are hostile."""

    cards: Cards = field(kw_only=True)

    limit_seconds = 30.0
    #: Only what was run leaves tables, which are compared by `judge`.
    compared: ClassVar[tuple[str, ...]] = ()

    def prepare(self, project: Path) -> None:
        """Write the files."""
        conf = project / "conf/test"
        for file, content in self.cards.content.items():
            write_yaml(conf / file, content)
        for file, text in self.cards.texts.items():
            (conf / file).write_bytes(text)
        for kind in self.cards.elsewhere:
            _put_elsewhere(conf / "farms.yml", kind)

    def steps(self) -> list[Step]:
        """The cards are looked at; some are run."""
        if self.cards.by_a_run:
            return [_with_secret(run("data_engineering"))]
        look = _with_secret(command("wind", "--env", "test", "farms"))
        return [look, _with_secret(run("data_engineering"))] if self.cards.runs else [look]

    def judge(self, project: Path, ended: list[Ended], found: dict[str, pd.DataFrame], *, alone: bool) -> Verdict:
        """Whether they were refused in a line that helps, or taken."""
        cards = self.cards
        faults = []
        if (project / "broken_in").exists():
            faults.append(Verdict("wrong", "a tag was executed"))
        for end in ended:
            if cards.secret and cards.secret in end.stdout + end.stderr:
                faults.append(Verdict("wrong", "a secret stands in the output"))
        first = ended[0]
        lines = error_lines(ended[-1])
        if cards.refuse and first.code == 0:
            faults.append(Verdict("wrong", f"accepted: {first.stdout.strip().splitlines()[-1:]}"))
        if cards.runs and first.code == 0:
            if lines and not any(all(name in line for name in cards.names) for line in lines):
                faults.append(Verdict("traceback", f"names no {cards.names}: {lines[0][:300]}"))
            if not found:
                faults.append(Verdict("stops_others", f"no farm has tables: {lines[:1]}"))
            else:
                from .oracle import others_changed

                spoilt = cards.spoilt | {"coast"}
                faults += others_changed(self.world_tables, found, spoilt, ("observations", "weather"))
        elif first.code and not any(all(name in line for name in cards.names) for line in error_lines(first)):
            faults.append(Verdict("traceback", f"names not {cards.names}: {error_lines(first)[:2]}"))
        return worst(faults or [Verdict("clear_error" if lines or first.code else "right", lines[0][:300] if lines else "")])

    world_tables: dict[str, pd.DataFrame] = field(default_factory=dict, kw_only=True)


def _put_elsewhere(path: Path, kind: str) -> None:
    import os

    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to("nowhere")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(path.name)


def _with_secret(step: Step) -> Step:
    def work() -> int | None:
        import os

        os.environ["FUZZ_SECRET"] = "s3cr3t-of-the-environment"  # noqa: S105 - opens nothing
        return step()

    return work


def make(world: World, seed: int, number: int) -> CardsCase:
    """A case of this class: each mutation in turn, then again with other draws."""
    names = list(MUTATIONS)
    name = names[number % len(names)]
    rng = generator("cards", number, seed)
    conf = world.folder / "conf/test"
    content = {file: yaml.safe_load((conf / file).read_text("utf-8")) for file in FILES}
    cards = Cards(content, rng)
    MUTATIONS[name](cards)
    return CardsCase("cards", number, seed, [name], cards=cards, world_tables=world.tables)


#: How many cases a full run has.
COUNT = 2 * len(MUTATIONS)
