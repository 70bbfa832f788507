"""What the documents say is there: names stand in the glossary, links lead somewhere, commands can be typed."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pandera.pandas as pa
import pytest
import yaml
from kedro.config import OmegaConfigLoader

from wind_kedro import contracts
from wind_kedro.cards import Calendar, Market, Product, Steps
from wind_kedro.cards.dated import FAR_FUTURE, FAR_PAST
from wind_kedro.cli import wind
from wind_kedro.contracts.operation import FAILURE_CODES
from wind_kedro.evaluation.scores import METRICS
from wind_kedro.pipeline_registry import PARTS, register_pipelines
from wind_kedro.pipelines.data_engineering import validators as data_contracts
from wind_kedro.pipelines.data_engineering.assessment import counts, quality
from wind_kedro.pipelines.data_engineering.parse import signals as parsing
from wind_kedro.pipelines.data_engineering.parse import weather as weather_parsing
from wind_kedro.pipelines.data_engineering.timestamps import placement as timing
from wind_kedro.pipelines.data_engineering.weather import runs
from wind_kedro.pipelines.feature_engineering.inputs import Schedule
from wind_kedro.pipelines.feature_engineering.nodes import FeatureParameters, Known, Neighbours, features_of_entity
from wind_kedro.pipelines.feature_engineering.weather_runs import runs_of
from wind_kedro.pipelines.feature_engineering.winds import VALUES, wind_at_point
from wind_kedro.pipelines.monitoring import missing_data as silence
from wind_kedro.pipelines.monitoring import nodes as monitoring
from wind_kedro.settings import CONFIG_LOADER_ARGS

CONTRACTS = [importlib.import_module(f"wind_kedro.contracts.{room.name}") for room in pkgutil.iter_modules(contracts.__path__)]
PROJECT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    path for pattern in ("*.md", "docs/**/*.md", "conf/*.md", "benchmarks/*.md", "src/**/*.md") for path in PROJECT.glob(pattern)
)
GLOSSARY = (PROJECT / "docs" / "glossary.md").read_text(encoding="utf-8")


def named(text: str) -> set[str]:
    """Everything that a document sets in code type."""
    return set(re.findall(r"`([^`\n]+)`", text))


def section(text: str, heading: str) -> str:
    """A document from a heading to the next of its rank."""
    found = re.search(rf"^(#+) {re.escape(heading)}$(.*?)(?=^\1 |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, heading
    return found[2]


def first_cells(text: str) -> list[str]:
    """Names in the first column of a document's tables."""
    rows = re.findall(r"^\| ([^|]+) \|", text, re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row)]


# --- what the code calls things ---


def table_columns() -> Iterator[tuple[str, str]]:
    """Contract and column of every table; columns named by a pattern are left out."""
    for module in (*CONTRACTS, data_contracts):
        for name, contract in inspect.getmembers(module, inspect.isclass):
            if issubclass(contract, pa.DataFrameModel) and contract is not pa.DataFrameModel:
                for column, rules in contract.to_schema().columns.items():
                    if not rules.regex:
                        yield name, column
            elif isinstance(columns := getattr(contract, "columns", None), frozenset):
                for column in columns:
                    yield name, column


def reasons_in(module: ModuleType) -> set[str]:
    """Reasons for quarantine that a module gives: in its lists of faults, and where it sets `reason`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "first_fault":
            found |= {
                part.elts[1].value
                for part in ast.walk(node.args[0])
                if isinstance(part, ast.Tuple) and len(part.elts) == 3 and isinstance(part.elts[1], ast.Constant)
            }
        if isinstance(node, ast.keyword) and node.arg == "reason":
            found |= {
                part.value for part in ast.walk(node.value) if isinstance(part, ast.Constant) and isinstance(part.value, str)
            }
    return found


def checks_in(module: ModuleType) -> set[str]:
    """Checks that a module notes by name, those that it accounts rows under, and faults of values."""
    found: set[object] = set()
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add" and isinstance(node.args[0], ast.Constant):
            found.add(node.args[0].value)
        if isinstance(node, ast.AnnAssign | ast.Assign):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(node.value, ast.Dict) and getattr(target, "id", "") in {
                "parts",
                "FAULTS",
                "_OPERATING_STATES",
                "REASONS",
            }:
                found |= {key.value for key in node.value.keys if isinstance(key, ast.Constant)}
            if isinstance(target, ast.Subscript) and getattr(target.value, "id", "") == "parts":
                found |= {target.slice.value} if isinstance(target.slice, ast.Constant) else set()
    return {str(name) for name in found}


def kinds_in(module: ModuleType) -> set[str]:
    """Kinds of incidents that a module raises by name."""
    return {
        value.value
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.Dict)
        for key, value in zip(node.keys, node.values, strict=True)
        if isinstance(key, ast.Constant) and key.value == "kind" and isinstance(value, ast.Constant)
    }


# --- the glossary ---


@pytest.mark.parametrize(("contract", "column"), sorted(set(table_columns())), ids=lambda name: name)
def test_every_column_is_in_the_glossary(contract: str, column: str) -> None:
    if column.endswith(("_fault", "_outside")) or column in parsing.READINGS:
        assert column.removesuffix("_fault").removesuffix("_outside") in named(GLOSSARY)
        return
    assert column in named(GLOSSARY), f"{contract}.{column}"


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_is_in_the_glossary(metric: str) -> None:
    assert metric in first_cells(section(GLOSSARY, "Scores"))


def test_every_feature_is_in_the_glossary() -> None:
    parameters = FeatureParameters(
        neighbour_minutes=[-60, 60],
        window_minutes=[300],
        extremes_minutes=[240],
        other_farm_minutes=[-60, 60],
        production_memory_hours=48,
    )
    midnight = pd.Timestamp("2024-01-01T00:00:00Z")
    hours = pd.date_range(midnight, periods=13, freq="h")
    weather = pd.DataFrame({"run_at": midnight, "available_at": midnight, "valid_at": hours, "weather_model": "one"})
    for column in VALUES:
        weather[column] = np.ones(13)
    weather = runs_of(weather.assign(farm_id="farm"), VALUES)
    observations = pd.DataFrame(
        {
            "valid_at": hours[:0],
            "available_at": hours[:0],
            "power_kw": [],
            "available_capacity_kw": [],
            "imputed_share": [],
        }
    )
    product = Product.model_validate(
        {
            "id": "p",
            "name": "p",
            "market": "m",
            "granularity_minutes": 60,
            "horizon_minutes": 180,
            "issue_times": ["06:00"],
            "quantile_levels": [0.5],
            "deciding_score": "nmae_share",
            "goal": {"target": 0.1, "since": "2024-01-01"},
            "members": ["farm"],
        }
    )
    market = Market.model_validate(
        {"id": "m", "name": "m", "time_zone": "UTC", "settlement_minutes": 60, "gate_closure_minutes": 0, "currency": "EUR"}
        | {"penalty": {"kind": "imbalance"}}
    )
    calendar, issued_at = Calendar(product, market), np.array(["2024-01-01T00:00"], dtype="datetime64[us]")
    grid, shown = Schedule(calendar, parameters.families_of("p"), [], issued_at).grid(issued_at)
    others = {"other": wind_at_point(weather["farm"], grid, parameters)}
    neighbours = [Neighbours(FAR_PAST, FAR_FUTURE, ["other"], {})]
    capacity = {"farm": Steps(np.array([FAR_PAST]), np.array([1.0]))}
    around = Known(capacity, weather, neighbours, others, observations, grid, shown, {})
    columns = features_of_entity(calendar, "farm", around, grid, shown, parameters)
    assert {len(values) for values in columns.values()} == {3}
    known = named(GLOSSARY)
    # The glossary writes n for the minutes of a column that has them in its name.
    generic = {re.sub(r"_\d+(min|h)$", r"_<n>\1", column) for column in columns}
    generic = {re.sub(r"^other_\d+_", "other_<n>_", column) for column in generic}
    short = {re.sub(r"^(other_<n>_)?wind_\w+_ms_(plus|std|max)_", r"…_\2_", column) for column in generic}
    assert sorted(name for name in short if name not in known) == []


@pytest.mark.parametrize(
    "module", [parsing, weather_parsing, timing, runs], ids=lambda module: module.__name__.rpartition(".")[2]
)
def test_every_reason_is_in_the_glossary_and_has_words(module: ModuleType) -> None:
    reasons = reasons_in(module) - {"source_unreadable"}  # stands for a whole file: a check, never a row of quarantine
    assert reasons, "the search finds no reason in the module any more"
    assert sorted(reasons - set(first_cells(section(GLOSSARY, "Rows set aside: reasons for quarantine")))) == []
    assert sorted(reasons - set(quality.REASONS)) == []


def test_every_check_is_in_the_glossary() -> None:
    checks = checks_in(quality) | checks_in(counts) | set(quality.REASONS)
    assert {"rows_in", "superseded", "stuck", "clock_agrees", "missing_run"} <= checks, "the search misses some"
    known = first_cells(section(GLOSSARY, "Rows set aside: reasons for quarantine"))
    known += first_cells(section(GLOSSARY, "Checks of data quality"))
    assert sorted(checks - set(known)) == []
    assert sorted(set(known) - checks) == [], "the glossary knows checks that the code does not"


def test_every_kind_of_incident_is_in_the_glossary() -> None:
    kinds = kinds_in(monitoring) | kinds_in(silence) | {f"weather_{state}" for state in silence._STATES} | set(FAILURE_CODES)
    assert kinds
    assert sorted(kinds - set(first_cells(section(GLOSSARY, "Kinds of incidents")))) == []


def test_the_glossary_explains_a_column_once() -> None:
    names = first_cells(section(GLOSSARY, "Columns")) + first_cells(section(GLOSSARY, "Times"))
    assert sorted({name for name in names if names.count(name) > 1}) == []


def test_the_searches_can_fail() -> None:
    module = ModuleType("wrong")
    source = textwrap.dedent("""
        first_fault([(a, "made_up", b)])
        row.mutate(reason=ifelse(x, "other", y))
        notes.add("third", r)
        parts["fifth"] = 1
        x = {"kind": "fourth"}
    """)

    def read(_: object) -> str:
        return source

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inspect, "getsource", read)
        assert reasons_in(module) == {"made_up", "other"}
        assert checks_in(module) == {"third", "fifth"}
        assert kinds_in(module) == {"fourth"}


# --- links, paths and commands ---


def anchors(path: Path) -> set[str]:
    """The anchors that a document's headings make, as GitHub does."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(document: Path, text: str) -> list[str]:
    """Links of a document that lead nowhere in the project."""
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("https://", "http://", "mailto:")):
            continue
        file, _, anchor = target.partition("#")
        path = (document.parent / file).resolve() if file else document
        if not path.exists() or (anchor and anchor not in anchors(path)):
            broken.append(target)
    return broken


def broken_paths(text: str) -> list[str]:
    """Paths of the project in code type that are not there; what runs make or a user brings, and mere examples, are left out."""
    made = re.compile(r"^data/0[2-8]|^data/01_raw/gefcom201[24]|^conf/local/|mine|[<*…$]|\.\.\.")
    paths = {name for name in named(text) if re.match(r"^(benchmarks|conf|data|docs|notebooks|src|tests)/\S*$", name)}
    return sorted(path for path in paths if not made.search(path) and not (PROJECT / path).exists())


def commands(text: str) -> list[str]:
    """Lines of shell blocks without their comments, and commands in code type."""
    blocks = "\n".join(re.findall(r"```bash\n(.*?)```", text, re.DOTALL))
    lines = [line.partition("  #")[0].partition(" #")[0].strip() for line in blocks.splitlines()]
    return [line for line in [*lines, *sorted(named(text))] if line]


def wrong_commands(text: str) -> list[str]:
    """Commands of a document that the project does not understand."""
    targets = set(re.findall(r"^([a-z0-9-]+):", (PROJECT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    rooms = set(register_pipelines())
    environments = {path.name for path in (PROJECT / "conf").iterdir() if path.is_dir()} | {"mine", "<environment>"}
    wrong = []
    for line in commands(text):
        words = line.split()
        if words[0] == "make" and len(words) > 1:
            fine = words[1].isupper() or "=" in words[1] or words[1] in targets
        elif words[:2] == ["kedro", "wind"] or words[0] == "wind-kedro":
            rest = [word for word in words[1:] if word != "wind"]
            subcommands = [
                word
                for before, word in zip([words[0], *rest], rest, strict=False)
                if not word.startswith("-") and before not in {"--env", "--conf-source"}
            ]
            fine = set(subcommands[:1]) <= {*wind.commands, "…"}
        else:
            fine = True
        asked = re.findall(r"--pipelines? (\S+)", line) if words[0] in {"kedro", "python"} else []
        fine = fine and all(name in rooms for names in asked for name in names.split(","))
        fine = fine and all(name in environments for name in re.findall(r"--env (\S+)", line))
        if not fine:
            wrong.append(line)
    return wrong


def _of(path: Path) -> str:
    return path.relative_to(PROJECT).as_posix()


@pytest.mark.parametrize("document", DOCUMENTS, ids=_of)
def test_links_paths_and_commands_of_a_document_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    assert broken_links(document, text) == []
    assert broken_paths(text) == []
    assert wrong_commands(text) == []


@pytest.mark.parametrize(
    ("text", "search"),
    [
        pytest.param("`make rum`", "commands", id="no such target"),
        pytest.param("```bash\nkedro run --pipeline traning   # train\n```", "commands", id="no such pipeline"),
        pytest.param("`kedro run --env tset`", "commands", id="no such environment"),
        pytest.param("`kedro wind parms`", "commands", id="no such command"),
        pytest.param("`wind-kedro --conf-source conf parms`", "commands", id="no such command of the wheel"),
        pytest.param("`src/wind_kedro/utils.py`", "paths", id="no such file"),
        pytest.param("[x](docs/nowhere.md)", "links", id="no such document"),
        pytest.param("[x](docs/glossary.md#nothing)", "links", id="no such heading"),
    ],
)
def test_a_mistake_in_a_document_is_found(text: str, search: str) -> None:
    found = {
        "commands": wrong_commands(text),
        "paths": broken_paths(text),
        "links": broken_links(PROJECT / "README.md", text),
    }
    assert [name for name, mistakes in found.items() if mistakes] == [search]


def test_the_readme_of_every_pipeline_is_there_and_linked() -> None:
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    for room in set(register_pipelines()) - {"__default__", *PARTS}:
        assert f"(src/wind_kedro/pipelines/{room}/README.md)" in readme


def test_every_file_of_the_base_configuration_answers_a_question() -> None:
    text = (PROJECT / "conf" / "README.md").read_text(encoding="utf-8")
    listed = set(first_cells(text)) | named(text)
    files = {path.name for path in (PROJECT / "conf" / "base").glob("*.yml")}
    assert sorted(name for name in files if name not in listed and not name.startswith("catalog_")) == []
    assert sorted(name for name in first_cells(text) if name.endswith(".yml") and name not in files) == []


def test_parameters_named_in_documents_exist() -> None:
    loader = OmegaConfigLoader(str(PROJECT / "conf"), **CONFIG_LOADER_ARGS)
    paths = set(_paths(loader["parameters"]))
    tops = {path.partition(".")[0] for path in paths}
    for document in DOCUMENTS:
        dotted = {name for name in named(document.read_text(encoding="utf-8")) if re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", name)}
        asked = {name for name in dotted if name.partition(".")[0] in tops and not name.endswith((".html", ".py", ".yml", ".md"))}
        assert sorted(asked - paths) == [], _of(document)


def _paths(values: dict[str, object], before: str = "") -> Iterable[str]:
    for key, value in values.items():
        yield before + key
        if isinstance(value, dict):
            yield from _paths(value, f"{before}{key}.")


def test_yaml_in_documents_can_be_read() -> None:
    for document in DOCUMENTS:
        # A block inside a list is indented with it.
        for block in re.findall(r"^ *```yaml\n(.*?)^ *```", document.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
            assert yaml.safe_load(textwrap.dedent(block)), _of(document)


# --- numbers ---


def quoted(text: str, heading: str) -> list[list[str]]:
    """The rows of the table under a heading, without the two of its head."""
    rows = [line.strip("| ").split(" | ") for line in section(text, heading).splitlines() if line.startswith("|")]
    return rows[2:]


def test_the_scores_that_the_readme_quotes_are_those_of_the_proof() -> None:
    proof = pd.read_csv(PROJECT / "benchmarks" / "results" / "proof-start.csv").set_index("lead_hours")
    rows = quoted((PROJECT / "README.md").read_text(encoding="utf-8"), "How good is it?")
    assert len(rows) == 5
    for lead, *shares in rows:
        scores = proof.loc[int(lead.removesuffix(" h")), ["climatology", "persistence", "power_curve", "catboost"]]
        assert shares == [f"{score:.1%}".replace("%", " %") for score in scores], lead


def test_the_measurements_that_the_documents_quote_are_those_measured() -> None:
    measured = pd.read_csv(PROJECT / "benchmarks" / "results" / "bench-start.csv").set_index("name")
    rows = quoted((PROJECT / "benchmarks" / "README.md").read_text(encoding="utf-8"), "What a first hour costs")
    assert [name for name, *_ in rows] == [f"`{name}`" for name in measured.index]
    for name, value, _ in rows:
        row = measured.loc[name.strip("`")]
        assert value == f"{row['value']:g} {row['unit']}", name
