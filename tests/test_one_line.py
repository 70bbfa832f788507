"""What people write wrongly, kind by kind, is one line: what, where, what to do; never a stack, and never a long wait."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from wind_kedro.cards import CardError, Fleet
from wind_kedro.cli import cli

pytestmark = [
    pytest.mark.filterwarnings("ignore:The 'future.infer_string' option:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Accessing the 'model_fields' attribute:DeprecationWarning"),
]

#: Nothing that is refused takes longer, seconds; on a busy machine.
PATIENCE = 60
#: The longest line that is shown.
LONGEST = 700


def type_in(*words: str) -> Result:
    return CliRunner().invoke(cli, list(words))


def one_line(result: Result, about: object) -> str:
    assert isinstance(result.exception, SystemExit), (about, result.exception)
    assert result.exit_code not in (0, None), about
    lines = [line for line in result.stderr.splitlines() if "Error: " in line]
    assert len(lines) == 1, (about, result.stderr)
    assert "Traceback" not in result.output, about
    assert len(lines[0]) < LONGEST, (about, lines[0])
    return lines[0]


@pytest.fixture
def project(make_project: Callable[[], Path], inside: Callable[[Path], Path]) -> Path:
    return inside(make_project())


# --- files of the configuration --------------------------------------------------------------------------------------

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(9)
)


def _farms(change: Callable[[str], str | bytes]) -> Callable[[str], bytes]:
    def content(farms: str) -> bytes:
        made = change(farms)
        return made if isinstance(made, bytes) else made.encode()

    return content


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "parts"),
    [
        pytest.param(
            lambda farms: farms.replace("Hill", "Hügel").encode("latin-1"),
            "is not UTF-8; save the file as UTF-8",
            id="latin-1",
        ),
        pytest.param(lambda farms: farms.encode("utf-16"), "is not UTF-8; save the file as UTF-8", id="utf-16"),
        pytest.param(lambda farms: b"\xff\x00" * 1000, "is not UTF-8", id="binary"),
        pytest.param(lambda farms: farms.replace("  ", "\t", 1), "tab", id="tab"),
        pytest.param(lambda farms: farms + "\x00", "control characters", id="NUL"),
        pytest.param(lambda farms: "farms: " + "[" * 3000 + "]" * 3000, "levels deep", id="too deep"),
        pytest.param(lambda farms: "farms: &a [*a]", "stands inside of itself", id="recursive list"),
        pytest.param(lambda farms: "farms: &a {b: *a}", "stands inside of itself", id="recursive mapping"),
        pytest.param(lambda farms: BOMB + farms, "aliases stand for more than", id="bomb"),
        pytest.param(lambda farms: farms + "\nfarms: []\n", "found duplicate key farms", id="a key twice"),
        pytest.param(lambda farms: farms + "\n---\n" + farms, "another document", id="two documents"),
        pytest.param(lambda farms: "- a\n- b\n", "is a list; write a mapping", id="a list"),
        pytest.param(lambda farms: "hello", "farms: Input should be a valid list", id="a word"),
        pytest.param(lambda farms: "", "farms: Input should be a valid list", id="empty"),
        pytest.param(lambda farms: "farms: {a: b}", "farms: Input should be a valid list", id="a mapping"),
        pytest.param(lambda farms: "farms: [null]", "farm 'number 1': Input should be", id="no card"),
        pytest.param(lambda farms: "1: 2\n" + farms, "1 is no name of a setting", id="a number for a name"),
        pytest.param(lambda farms: "farms: ${\n", "no viable alternative", id="half a reference"),
        pytest.param(lambda farms: "farms: ${foo:bar}\n", "Unsupported interpolation type foo", id="no such resolver"),
        pytest.param(lambda farms: "farms: ${nothing}\n", "'nothing' not found", id="no such key"),
        pytest.param(lambda farms: "farms: !!python/object:os.system {}\n", "could not determine a constructor", id="tag"),
        pytest.param(lambda farms: "farms: [{id: " + "9" * 5000 + "}]", "4300 digits", id="a huge number"),
        pytest.param(lambda farms: "farms: *nothing", "undefined alias", id="no such anchor"),
        pytest.param(
            lambda farms: farms.replace("Europe/Paris", "Europe", 1),
            "farm 'hill': time_zone: 'Europe' is not an IANA",
            id="a folder of zones",
        ),
        pytest.param(lambda farms: farms.replace("Europe/Paris", "x" * 100_000, 1), "is not an IANA time zone", id="a long zone"),
        pytest.param(lambda farms: farms.replace("id: hill", f"id: {'h' * 300}"), "is not an identifier", id="a long id"),
        pytest.param(lambda farms: farms.replace("name: Hill", f"name: {'h' * 5000}", 1), "name: 'hhh", id="a long name"),
        pytest.param(
            lambda farms: farms.replace("path: hill.csv", f"path: {'h' * 300}.csv"),
            "signals.path: 'hhh",
            id="a long path",
        ),
        pytest.param(
            lambda farms: farms.replace("path: hill.csv", "path: /srv/hill.csv"),
            "write it relative to the raw folder",
            id="absolute",
        ),
        pytest.param(
            lambda farms: farms.replace("path: hill.csv", "path: s3://bucket/hill.csv"),
            "is on another machine",
            id="a URL",
        ),
    ],
)
def test_a_file_of_cards(project: Path, change: Callable[[str], str | bytes], parts: str) -> None:
    file = project / "conf/base/farms.yml"
    file.write_bytes(_farms(change)(file.read_text("utf-8")))
    begun = time.monotonic()
    line = one_line(type_in("wind", "farms"), parts)
    assert time.monotonic() - begun < PATIENCE
    assert parts in line
    assert "farms" in line


@pytest.mark.parametrize(
    "put",
    [
        pytest.param(Path.mkdir, id="a folder"),
        pytest.param(lambda path: path.symlink_to("nowhere.yml"), id="a link to nowhere"),
        pytest.param(lambda path: path.symlink_to(path.name), id="a link to itself"),
        pytest.param(os.mkfifo, id="a pipe"),
    ],
)
def test_what_is_no_file_is_not_passed_over(project: Path, put: Callable[[Path], None]) -> None:
    (project / "conf/mine").mkdir()
    put(project / "conf/mine/farms.yml")
    assert "conf/mine/farms.yml: is no regular file" in one_line(type_in("wind", "--env", "mine", "farms"), put)


def test_what_stands_at_a_key_that_no_card_has_is_not_repeated(project: Path) -> None:
    path = project / "conf/base/farms.yml"
    path.write_text(path.read_text().replace("  name: Hill", "  name: Hill\n  password: hunter2", 1))
    line = one_line(type_in("wind", "farms"), "password")
    assert "password" in line
    assert "hunter2" not in line


@pytest.mark.parametrize("content", [b"no database" * 100, b"SQLite format 3\0" + bytes(4000)], ids=["text", "zeros"])
def test_a_broken_database_of_mlflow(project: Path, content: bytes) -> None:
    (project / "mlflow.db").write_bytes(content)
    assert "database of MLflow" in one_line(type_in("wind", "readiness"), content)


def test_a_byte_order_mark_is_read(project: Path) -> None:
    file = project / "conf/base/farms.yml"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert type_in("wind", "farms").exit_code == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("farms_more.yml", "farms: []", ["farms.yml", "farms_more.yml", "farms: keep it in one of them"]),
        ("parameters_more.yml", "clock: {as_of: now}", ["parameters_more.yml", "parameters_run.yml", "clock.as_of"]),
        ("parameters_run.yml", "- a", ["conf/base/parameters_run.yml: is a list"]),
        ("parameters_run.yml", "lease: {wait_seconds: soon}", ["parameters_run.yml: lease: wait_seconds:"]),
        ("parameters_run.yml", "clock:\nlease: {}", ["clock: is None"]),
        ("parameters_run.yml", "", ["'params:clock' is missing"]),
        ("parameters_monitoring.yml", "monitoring: 5", ["monitoring: is 5"]),
        (
            "globals.yml",
            "data: gs://bucket/data\ntables: {backend: duckdb}\nregistered_model: w",
            ["globals.yml: data", "gs://bucket/data"],
        ),
        (
            "globals.yml",
            "data: [1]\ntables: {backend: duckdb}\nregistered_model: w",
            ["globals.yml: data", "is no path"],
        ),
        ("mlflow.yml", "zzz: 1", ["mlflow.yml: zzz"]),
    ],
)
def test_another_file_of_the_configuration(project: Path, name: str, content: str, parts: list[str]) -> None:
    (project / "conf/base" / name).write_text(content)
    line = one_line(type_in("run", "--pipeline", "data_engineering"), (name, content))
    for part in parts:
        assert part in line


@pytest.mark.slow
@pytest.mark.parametrize(
    ("entry", "key"),
    [
        ("forecasts", "filepath"),
        ("audit", "filepath"),
        ("audit", "head"),
        ("promotions", "filepath"),
        ("signals_raw", "root"),
        ("weather_raw", "kept"),
        ("raw_files", "manifest"),
        ("model_versions", "objects"),
        ("trial_store", "filepath"),
    ],
)
def test_a_url_of_another_store_than_s3(project: Path, entry: str, key: str) -> None:
    for file in (project / "conf/base").glob("catalog_*.yml"):
        catalog = yaml.safe_load(file.read_text("utf-8"))
        if entry in catalog:
            catalog[entry][key] = "gs://bucket/place"
            file.write_text(yaml.safe_dump(catalog))
    pipeline = {"trial_store": "tuning"}.get(entry, "__default__")
    line = one_line(type_in("run", "--pipeline", pipeline), entry)
    assert f"{key}: gs://bucket/place is a URL" in line
    assert f"'{entry}'" in line
    assert not (project / "gs:").exists()


# --- fields of cards -------------------------------------------------------------------------------------------------

ODD = [
    None,
    "",
    "x" * 100_000,
    "a\nb",
    "\x00",
    "\ud800",
    -1,
    0,
    10**400,
    math.nan,
    math.inf,
    -math.inf,
    1e308,
    True,
    [],
    {},
    [None],
    {"a": []},
    "../../x",
    "s3://x/y",
    "/etc/passwd",
    "Europe",
    "${x}",
    "é" * 200,
    b"\xff",
]


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _places(inner, (*path, key))


def test_every_field_of_every_card_takes_an_odd_value_or_refuses_it_in_short_lines(cards: dict[str, Any]) -> None:
    import copy

    refused = 0
    for path in list(_places(cards)):
        for value in ODD:
            odd = copy.deepcopy(cards)
            place: Any = odd
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = value
            try:
                Fleet.from_config(**odd)
            except CardError as error:
                refused += 1
                lines = str(error).splitlines()
                assert lines
                assert all(0 < len(line) < LONGEST and line.isprintable() for line in lines), (path, value, lines)
    assert refused > 2000


# --- words of the command line ---------------------------------------------------------------------------------------

WHO = ["--author", "me", "--reason", "because"]
RUN = ["run", "--pipeline", "data_engineering"]
WORDS = [
    [*RUN, "--params", "as_of='2024"],
    [*RUN, "--params", 'as_of="2024'],
    [*RUN, "--params", "as_of=["],
    [*RUN, "--params", "as_of=${x}"],
    [*RUN, "--params", "as_of=2024-13-01"],
    [*RUN, "--params", "as_of=99999-01-01"],
    [*RUN, "--params", f"as_of={'9' * 5000}"],
    [*RUN, "--params", "as_of="],
    [*RUN, "--params", "as_of"],
    [*RUN, "--params", "clock=1"],
    [*RUN, "--params", "clock.nope=1"],
    [*RUN, "--params", "fleet=1"],
    [*RUN, "--params", "lease=1"],
    ["run", "--tags", "nope"],
    ["run", "--nodes", "nope"],
    ["run", "--from-nodes", "nope"],
    ["run", "--to-nodes", "nope"],
    ["run", "--from-inputs", "nope"],
    ["run", "--to-outputs", "nope"],
    ["run", "--namespaces", "nope"],
    ["run", "--runner", "Nope"],
    ["run", "--runner", "a.b.C"],
    ["run", "--load-versions", "x"],
    ["run", "--pipelines", "a,b"],
    ["run", "--env", "nope"],
    ["run", "--env", "../x"],
    ["run", "--env", "x" * 300],
    ["run", "--conf-source", "nope"],
    ["run", "--conf-source", "pyproject.toml"],
    ["run", "--config", "nope.yml"],
    ["run", "--config", "pyproject.toml"],
    ["wind", "--env", "nope", "farms"],
    ["wind", "--env", "x" * 300, "farms"],
    ["wind", "--conf-source", "nope", "farms"],
    ["wind", "--conf-source", "pyproject.toml", "farms"],
    ["wind", "forecast", "--product", "nope"],
    ["wind", "forecast", "--entity", "nope"],
    ["wind", "attributions", "--entity", "nope"],
    ["wind", "attributions", "--entity", "hill", "--issued-at", "x"],
    ["wind", "attributions", "--entity", "hill", "--issued-at", "NaT"],
    ["wind", "attributions", "--entity", "hill", "--issued-at", "9" * 400],
    ["wind", "readiness", "--tier", "nope"],
    ["wind", "readiness"],
    ["wind", "rollback", "--to", "nope", *WHO],
    ["wind", "hold", "--farm", "nope", *WHO],
    ["wind", "hold", "--farm", "hill", "--product", "nope", *WHO],
    ["wind", "approve", "--farm", "hill", "--model", "nope", *WHO],
    ["wind", "learn-from", "--farm", "hill", "--begin", "x", *WHO],
    ["wind", "learn-from", "--farm", "hill", "--begin", "NaT", *WHO],
    ["wind", "leave-out", "--farm", "hill", "--begin", "2024-02-01", "--end", "2024-01-01", *WHO],
    ["wind", "decisions", "--farm", "nope"],
    ["wind", "decisions"],
    ["wind", "listen", "--feed", "nope"],
    ["wind", "listen"],
    ["wind", "explain", "--entity", "nope", "--issued-at", "x"],
    ["wind", "explain", "--entity", "hill", "--issued-at", "x"],
    ["wind", "explain", "--entity", "hill", "--issued-at", "2024-03-25T06:00"],
    ["wind", "verify", "--head", "x"],
    ["wind", "verify", "--head", f"{'9' * 5000}:{'0' * 64}"],
    ["wind", "verify", "--head", f"²:{'0' * 64}"],
    ["wind", "reproduce", "--version", "nope"],
    ["wind", "reproduce", "--version", "1/../x"],
    ["wind", "add-farm", "nope.csv"],
    ["wind", "add-farm", "conf"],
    ["wind", "add-farm", "pyproject.toml"],
    ["wind", "add-farm", "x" * 5000],
]


@pytest.mark.slow
@pytest.mark.parametrize("words", WORDS, ids=lambda words: " ".join(word[:20] for word in words if word not in WHO))
def test_words_of_the_command_line(project: Path, words: list[str]) -> None:
    begun = time.monotonic()
    one_line(type_in(*words), words)
    assert time.monotonic() - begun < PATIENCE
    assert not [path for path in (project / "data").rglob("*.parquet") if path.is_file()]


@pytest.mark.slow
@pytest.mark.parametrize("environment", ["nope", "../..", "a b"])
def test_an_odd_environment_variable(project: Path, monkeypatch: pytest.MonkeyPatch, environment: str) -> None:
    monkeypatch.setenv("KEDRO_ENV", environment)
    one_line(type_in("wind", "farms"), environment)
