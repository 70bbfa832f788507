"""The rules of the house that no library checks. Each rule is a function from what there is to what is wrong with it, and
each is also fed a wrong example: a rule that cannot fail says nothing.
"""

from __future__ import annotations

import ast
import inspect
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from kedro.config import OmegaConfigLoader
from kedro.framework.project import configure_project, pipelines
from kedro.pipeline import Node, Pipeline

from wind_kedro.pipeline_registry import PARTS

ROOMS = Path("src/wind_kedro/pipelines")
#: The layers of Kedro that the catalog speaks of.
LAYERS = {"raw", "intermediate", "primary", "feature", "model_input", "models", "model_output", "reporting"}

Faults = list[str]


@pytest.fixture(scope="module")
def registered() -> dict[str, Pipeline]:
    configure_project("wind_kedro")
    return dict(pipelines.items())


@pytest.fixture(scope="module")
def everything(registered: dict[str, Pipeline]) -> Pipeline:
    """All rooms, also those that are not part of the default run."""
    return sum(registered.values(), Pipeline([]))


def _environments(project_path: Path) -> list[str]:
    return sorted(folder.name for folder in (project_path / "conf").iterdir() if folder.is_dir() and folder.name != "local")


def _configuration(project_path: Path, environment: str) -> OmegaConfigLoader:
    from wind_kedro import settings

    return OmegaConfigLoader(str(project_path / "conf"), env=environment, **settings.CONFIG_LOADER_ARGS)


@pytest.fixture(scope="module")
def catalog(project_path: Path) -> dict[str, Any]:
    return dict(_configuration(project_path, "base")["catalog"])


def _datasets(pipeline: Pipeline) -> set[str]:
    return {name for name in pipeline.datasets() if not name.startswith("params:") and name != "parameters"}


# --- the catalog -----------------------------------------------------------------------------------------------------


def entry_of(catalog: Mapping[str, Any], name: str) -> str | None:
    """The entry that a dataset is made from: its own, or the factory that its name fits."""
    from kedro.io import CatalogConfigResolver

    return name if name in catalog else CatalogConfigResolver(dict(catalog)).match_dataset_pattern(name)


def undeclared(catalog: Mapping[str, Any], used: Iterable[str]) -> Faults:
    return [f"{name}: no entry in the catalog" for name in sorted(used) if entry_of(catalog, name) is None]


#: Datasets that need no contract: they hold no table, or one between two nodes that is too large to read twice.
NOT_TABLES = {
    "kedro.io.MemoryDataset",
    "wind_kedro.datasets.YamlDocument",
    "kedro_mlflow.io.metrics.MlflowMetricsHistoryDataset",
    "wind_kedro.datasets.ModelAlias",
    "wind_kedro.datasets.ModelVersions",
    "wind_kedro.datasets.TrainingKits",
    "wind_kedro.datasets.TrialStore",
    "wind_kedro.datasets.Document",
    "wind_kedro.datasets.Figure",
    "wind_kedro.datasets.DerivedTable",  # its contract is optional
}


def badly_declared(catalog: Mapping[str, Any]) -> Faults:
    """Every table has an importable contract; every entry the layer of its folder, and a description of one line.

    The output of earlier runs of the same pipeline (``…_before``) has no layer: with one, the layers would form a cycle.
    """
    from kedro.utils import load_obj

    faults = []
    for name, entry in catalog.items():
        kind = entry.get("dataset", entry).get("type")
        try:
            # Of what is read in parts, the contract is that of each part.
            in_parts = kind == "wind_kedro.datasets.DerivedTable" or entry.get("sliced")
            path = entry.get("contract") if in_parts else entry.get("validator")
            if path or kind not in NOT_TABLES:
                contract = load_obj(path or entry["validator"])
                if not callable(getattr(contract, "validate", None)):
                    faults.append(f"{name}: validator {path} has no validate")
        except (KeyError, AttributeError, ImportError, ValueError) as error:
            faults.append(f"{name}: validator: {error!r}")
        metadata = entry.get("metadata", {})
        layer = metadata.get("kedro-viz", {}).get("layer")
        if layer not in LAYERS and not (layer is None and name.endswith("_before")):
            faults.append(f"{name}: layer: {metadata.get('kedro-viz')}")
        description = str(metadata.get("description", ""))
        if not len(description) >= 10 or "\n" in description.strip():
            faults.append(f"{name}: description: {description!r}")
        path = str(entry.get("filepath") or entry.get("dataset", {}).get("filepath") or "")
        folder = re.search(r"/0[1-8]_([a-z_]+)/", path)
        if path and folder is None:
            faults.append(f"{name}: its path names no layer: {path}")
        elif folder is not None and layer in LAYERS and folder[1] != layer:
            faults.append(f"{name}: layer {layer} in folder {folder[1]}")
    return faults


def dead(catalog: Mapping[str, Any], used: Iterable[str]) -> Faults:
    entries = {entry_of(catalog, name) for name in used}
    return [f"{name}: no pipeline reads or writes it" for name in sorted(set(catalog) - entries)]


def test_every_dataset_is_declared(catalog: dict[str, Any], everything: Pipeline) -> None:
    assert undeclared(catalog, _datasets(everything)) == []
    assert undeclared({"a": {}}, ["a", "b"]) == ["b: no entry in the catalog"]


def test_every_entry_has_contract_layer_and_description(catalog: dict[str, Any]) -> None:
    assert badly_declared(catalog) == []


RIGHT_ENTRY = {
    "type": "wind_kedro.datasets.ParquetTable",
    "filepath": "data/04_feature/a.parquet",
    "validator": "wind_kedro.contracts.features.Features",
    "metadata": {"kedro-viz": {"layer": "feature"}, "description": "One row per thing that is known."},
}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        pytest.param({}, None, id="right"),
        pytest.param({"validator": ...}, "a: validator: KeyError", id="no contract"),
        pytest.param({"validator": ..., "type": "wind_kedro.datasets.ModelAlias"}, None, id="no table"),
        pytest.param(
            {"validator": "wind_kedro.contracts.forecasts.Nothing"},
            "a: validator: AttributeError",
            id="a contract that is not there",
        ),
        pytest.param(
            {"validator": "wind_kedro.cards.columns.PERFECT_WEATHER"},
            "a: validator wind_kedro.cards.columns.PERFECT_WEATHER has no validate",
            id="no contract at all",
        ),
        pytest.param({"metadata": {"description": "One row per thing that is known."}}, "a: layer: None", id="no layer"),
        pytest.param(
            {"metadata": {"kedro-viz": {"layer": "attic"}, "description": "One row per thing."}},
            "a: layer: {'layer': 'attic'}",
            id="unknown layer",
        ),
        pytest.param({"metadata": {"kedro-viz": {"layer": "feature"}}}, "a: description: ''", id="no description"),
        pytest.param(
            {"metadata": {"kedro-viz": {"layer": "feature"}, "description": "One row\nper thing"}},
            "a: description: ",
            id="two lines",
        ),
        pytest.param({"filepath": "data/06_models/a.parquet"}, "a: layer feature in folder models", id="another layer"),
        pytest.param({"filepath": "data/somewhere/a.parquet"}, "a: its path names no layer", id="path without layer"),
    ],
)
def test_the_rule_of_entries_can_fail(change: dict[str, Any], fault: str | None) -> None:
    entry = {name: value for name, value in (RIGHT_ENTRY | change).items() if value is not ...}
    faults = badly_declared({"a": entry})
    assert len(faults) == (0 if fault is None else 1)
    assert fault is None or faults[0].startswith(fault)


#: Tables that the service keeps.
OF_THE_SERVICE = {"cycles"}


def test_no_entry_is_dead(catalog: dict[str, Any], everything: Pipeline) -> None:
    assert dead(catalog, {*_datasets(everything), *OF_THE_SERVICE}) == []
    assert dead({"a": {}, "b": {}}, ["a"]) == ["b: no pipeline reads or writes it"]


# --- nodes -----------------------------------------------------------------------------------------------------------


def badly_typed(nodes: Iterable[Node]) -> Faults:
    """Every node has a name that is a verb's, and a function with a docstring and a type for each argument and the result."""
    faults = []
    for node in nodes:
        if not node._name:
            faults.append(f"{node.func.__name__}: the node has no name")
        if not inspect.getdoc(node.func):
            faults.append(f"{node.name}: no docstring")
        signature = inspect.signature(node.func)
        types = {name: parameter.annotation for name, parameter in signature.parameters.items()}
        types["return"] = signature.return_annotation
        faults += [f"{node.name}: {name} has no type" for name, kind in types.items() if kind is inspect.Signature.empty]
    return faults


def test_every_node_is_named_typed_and_described(everything: Pipeline) -> None:
    assert badly_typed(everything.nodes) == []


def _typed(table: int) -> int:
    """One row per thing."""
    return table


def _untyped_argument(table) -> int:  # type: ignore[no-untyped-def]
    """One row per thing."""
    return int(table)


def _untyped_result(table: int):  # type: ignore[no-untyped-def]
    """One row per thing."""
    return table


def _undescribed(table: int) -> int:
    return table


@pytest.mark.parametrize(
    ("function", "name", "faults"),
    [
        (_typed, "do", []),
        (_typed, None, ["_typed: the node has no name"]),
        (_untyped_argument, "do", ["do: table has no type"]),
        (_untyped_result, "do", ["do: return has no type"]),
        (_undescribed, "do", ["do: no docstring"]),
    ],
)
def test_the_rule_of_nodes_can_fail(function: Callable[..., Any], name: str | None, faults: Faults) -> None:
    assert badly_typed([Node(function, inputs="a", outputs="b", name=name)]) == faults


# --- names -----------------------------------------------------------------------------------------------------------


def names_of_things(names: Iterable[str], ids: Iterable[str]) -> Faults:
    """A farm, market, product, model or quantile is a row, never a name of a dataset, node or pipeline."""
    faults = []
    for name in sorted(names):
        words = re.split(r"[^a-z0-9]+", name.lower())
        for thing in sorted(ids):
            parts = thing.lower().split("_")
            if any(words[start : start + len(parts)] == parts for start in range(len(words))):
                faults.append(f"{name}: bears the name of '{thing}'")
        if re.search(r"(^|_)(q\d+|p\d\d|fold_?\d+|shard_?\d+)(_|$)", name):
            faults.append(f"{name}: bears a number of one of many")
    return faults


def _ids(project_path: Path) -> set[str]:
    """What the cards and candidates of every environment are called."""
    from wind_kedro.models.registry import MODELS

    ids = set(MODELS) - {"power_curve"}  # the farms' power curve is a table too
    for environment in _environments(project_path):
        configuration = _configuration(project_path, environment)
        for kind in ("farms", "groups", "markets", "products"):
            ids |= {card["id"] for card in configuration["globals"].get(kind) or []}
        for farm in configuration["globals"]["farms"]:
            ids |= {turbine["id"] for turbine in farm["turbines"]} | {source["model"] for source in farm["weather"]}
        ids |= set(configuration["parameters"]["training"]["candidates"]) - {"power_curve"}
    return ids


def test_no_dataset_node_or_pipeline_bears_the_name_of_one_of_many(
    project_path: Path, catalog: dict[str, Any], registered: dict[str, Pipeline], everything: Pipeline
) -> None:
    ids = _ids(project_path)
    assert {"la_haute_borne", "R80711", "catboost", "era5", "north_ridge", "coast"} <= ids
    nodes = {node.name for node in everything.nodes}
    namespaces = {node.namespace for node in everything.nodes} - {None}
    assert names_of_things({*catalog, *nodes, *registered, *namespaces}, ids) == []
    # A namespace is a step of a pipeline, and named like the step's folder or its modules.
    assert namespaces >= {"parse", "timestamps", "signals", "weather", "assessment"}


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("forecasts", False),
        ("hillside_features", False),
        ("hill_features", True),
        ("features.hill", True),
        ("fit_catboost", True),
        ("north_ridge_forecasts", True),
        ("north_forecasts", False),
        ("q500_forecasts", True),
        ("model_fold_1", True),
    ],
)
def test_the_rule_of_names_can_fail(name: str, wrong: bool) -> None:
    assert bool(names_of_things([name], ["hill", "catboost", "north_ridge"])) == wrong


# --- parameters ------------------------------------------------------------------------------------------------------


#: Parameters that the hook or a command takes.
OF_THE_RUN = {"housekeeping", "lease", "operation"}


def unused(parameters: Iterable[str], pipeline: Pipeline) -> Faults:
    used = OF_THE_RUN | {
        name.removeprefix("params:").partition(".")[0] for name in pipeline.inputs() if name.startswith("params:")
    }
    return [f"{name}: no node takes it" for name in sorted(parameters) if name not in used]


def test_every_parameter_is_used_in_every_environment(project_path: Path, everything: Pipeline) -> None:
    environments = _environments(project_path)
    assert {"base", "test"} <= set(environments)
    for environment in environments:
        assert unused(_configuration(project_path, environment)["parameters"], everything) == []
    pipeline = Pipeline([Node(_typed, inputs="params:used.within", outputs="b", name="do")])
    assert unused(["used", "idle"], pipeline) == ["idle: no node takes it"]


def test_the_cards_of_every_environment_are_right(project_path: Path) -> None:
    from wind_kedro.cards import Fleet

    for environment in _environments(project_path):
        cards = _configuration(project_path, environment)["globals"]
        assert Fleet.from_config(cards["farms"], cards["markets"], cards["products"], cards.get("groups")).farms


# --- the outside -----------------------------------------------------------------------------------------------------

#: Libraries that connect to servers.
CLIENTS = {
    "aiohttp", "asyncssh", "boto3", "botocore", "deltalake", "fsspec", "ftplib", "http", "httpx", "imaplib", "paho", "paramiko",
    "poplib", "requests", "s3fs", "smtplib", "socket", "sqlalchemy", "ssl", "telnetlib", "urllib3", "websockets",
}  # fmt: skip
#: Where they may be imported: clients of feeds and of channels; the lease asks the machine for its own name; what reads and
#: writes tables of an environment, which may be in an object store; and the server of the service on the loopback interface.
MAY_CONNECT = (
    "feeds/", "notifications/", "operation/web.py", "storage/lease.py", "storage/delta.py", "storage/object_store.py",
    "storage/paths.py",
)  # fmt: skip
#: What reads secrets or connects, and the only modules outside of those folders that may use it: two nodes, and `wind listen`.
CONNECTING = {"read_secrets", "build_feed", "build_feeds", "build_channels", "Feed", "Landing", "Channel", "land_messages"}
NODES_THAT_CONNECT = (
    "pipelines/ingestion/nodes.py",
    "pipelines/notification/nodes.py",
    "cli/listen.py",
    "configuration.py",
)


def connecting(module: str, source: str) -> Faults:
    """No dataset, hook or node reaches the network or reads a secret, but the nodes that fetch and send."""
    faults = []
    for statement in ast.walk(ast.parse(source)):
        if isinstance(statement, ast.Import):
            imported = {(name.name, "") for name in statement.names}
        elif isinstance(statement, ast.ImportFrom) and not statement.level:
            imported = {(str(statement.module), name.name) for name in statement.names}
        else:
            continue
        for origin, name in sorted(imported):
            if origin.partition(".")[0] in CLIENTS or origin == "urllib.request":
                if not module.startswith(MAY_CONNECT):
                    faults.append(f"{module}: imports {origin}, which connects")
            elif (
                name in CONNECTING
                and origin.startswith(("wind_kedro.feeds", "wind_kedro.notifications", "wind_kedro.configuration"))
                and not module.startswith((*MAY_CONNECT, *NODES_THAT_CONNECT))
            ):
                faults.append(f"{module}: imports {name}, which connects or reads secrets")
    return faults


def test_only_the_nodes_that_fetch_and_send_reach_the_network(project_path: Path) -> None:
    package = project_path / "src/wind_kedro"
    sources = {path.relative_to(package).as_posix(): path.read_text("utf-8") for path in package.rglob("*.py")}
    assert {"datasets/history.py", "hooks.py", "pipelines/monitoring/nodes.py"} <= set(sources)
    assert [fault for module, source in sources.items() for fault in connecting(module, source)] == []


@pytest.mark.parametrize(
    ("module", "source", "faults"),
    [
        ("datasets/mail.py", "import smtplib", ["datasets/mail.py: imports smtplib, which connects"]),
        ("hooks.py", "def f():\n    from httpx import post", ["hooks.py: imports httpx, which connects"]),
        (
            "pipelines/monitoring/nodes.py",
            "from wind_kedro.notifications import build_channels",
            ["pipelines/monitoring/nodes.py: imports build_channels, which connects or reads secrets"],
        ),
        (
            "datasets/feeds.py",
            "from wind_kedro.configuration import read_secrets",
            ["datasets/feeds.py: imports read_secrets, which connects or reads secrets"],
        ),
        ("datasets/feeds.py", "import urllib.request", ["datasets/feeds.py: imports urllib.request, which connects"]),
        ("pipelines/monitoring/nodes.py", "from wind_kedro.feeds import FeedCards", []),
        ("pipelines/ingestion/nodes.py", "from wind_kedro.feeds import Landing, build_feeds", []),
        ("feeds/new.py", "import httpx", []),
    ],
)
def test_the_rule_of_the_network_can_fail(module: str, source: str, faults: Faults) -> None:
    assert connecting(module, source) == faults


# --- rooms -----------------------------------------------------------------------------------------------------------


def incomplete_rooms(rooms: Path, names: Iterable[str]) -> Faults:
    """Every pipeline has a room of its own, every room a pipeline, nodes and a README that says what it is for."""
    faults = []
    folders = {folder.name for folder in rooms.iterdir() if folder.is_dir() and folder.name != "__pycache__"}
    for name in sorted(folders ^ set(names)):
        faults.append(f"{name}: a room without pipeline, or a pipeline without room")
    for name in sorted(folders):
        for file in ("__init__.py", "nodes.py", "pipeline.py", "README.md"):
            if not (rooms / name / file).is_file():
                faults.append(f"{name}: no {file}")
    return faults


def test_every_pipeline_has_a_room_and_every_room_is_complete(
    project_path: Path, registered: dict[str, Pipeline], tmp_path: Path
) -> None:
    assert incomplete_rooms(project_path / ROOMS, set(registered) - {"__default__", *PARTS}) == []
    shutil.copytree(project_path / ROOMS / "monitoring", tmp_path / "attic")
    (tmp_path / "attic" / "README.md").unlink()
    assert incomplete_rooms(tmp_path, ["cellar"]) == [
        "attic: a room without pipeline, or a pipeline without room",
        "cellar: a room without pipeline, or a pipeline without room",
        "attic: no README.md",
    ]


def test_the_default_run_is_all_rooms_but_those_that_ask_others_servers_or_search(
    registered: dict[str, Pipeline],
) -> None:
    apart = {"__default__", "ingestion", "tuning", *PARTS}
    rooms = {name: pipeline for name, pipeline in registered.items() if name not in apart}
    nodes = [node.name for pipeline in rooms.values() for node in pipeline.nodes]
    assert sorted(nodes) == sorted(node.name for node in registered["__default__"].nodes)
    assert len(nodes) == len(set(nodes))


def test_only_training_and_tuning_are_tracked_as_experiments(project_path: Path, registered: dict[str, Pipeline]) -> None:
    """A run in MLflow for each cycle would be found by nobody, and costs a cycle of a large fleet seconds."""
    settings = yaml.safe_load((project_path / "conf/base/mlflow.yml").read_text("utf-8"))
    tracked = set(registered) - set(settings["tracking"]["disable_tracking"]["pipelines"])
    assert tracked == {"__default__", "training", "tuning"}


# --- start-up --------------------------------------------------------------------------------------------------------

#: Each costs a second or more to import, which every command would pay.
HEAVY = ("catboost", "duckdb", "mlflow", "optuna", "plotly", "scipy.stats", "sklearn")


def imported(statement: str, names: Iterable[str]) -> set[str]:
    """Which of these packages a statement imports, in a fresh process."""
    code = f"{statement}\nimport sys\nprint(*[name for name in {tuple(names)!r} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


@pytest.mark.slow
def test_registering_the_pipelines_imports_nothing_heavy() -> None:
    assert imported("from wind_kedro.pipeline_registry import register_pipelines as p; p()", HEAVY) == set()
    assert imported("import json", ["json", "mlflow"]) == {"json"}


# --- the tests themselves --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_skip_is_a_failure_where_nothing_may_be_left_unseen(project_path: Path, tmp_path: Path) -> None:
    shutil.copy(project_path / "tests" / "conftest.py", tmp_path)
    (tmp_path / "test_skips.py").write_text("import pytest\ndef test_it():\n    pytest.skip('no network')\n")
    (tmp_path / "test_gone.py").write_text("import pytest\npytest.importorskip('a_module_that_is_not')\n")
    (tmp_path / "test_known.py").write_text("import pytest\n@pytest.mark.xfail\ndef test_it():\n    raise KeyError\n")
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "--continue-on-collection-errors",
            "-p",
            "no:cacheprovider",
            str(tmp_path),
        ],
        cwd=tmp_path,
        env=os.environ | {"WIND_KEDRO_STRICT": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1, run.stdout
    assert "WIND_KEDRO_STRICT=1 allows no skip: Skipped: no network" in run.stdout
    assert "a_module_that_is_not" in run.stdout
    assert "1 failed, 1 xfailed, 1 error" in run.stdout


def test_every_environment_reads_as_yaml(project_path: Path) -> None:
    for file in (project_path / "conf").rglob("*.yml"):
        assert yaml.safe_load(file.read_text("utf-8")) is not None, f"{file.name} says nothing"
