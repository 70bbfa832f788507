"""What Kedro-Viz shows: layers, descriptions, figures. Built as `kedro viz build` does, opened in a browser."""

from __future__ import annotations

import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

LAYERS = ["raw", "intermediate", "primary", "feature", "model_input", "models", "model_output", "reporting"]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="module")
def site(test_env_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page that `kedro viz build` makes of a project that ran, previews included."""
    folder = tmp_path_factory.mktemp("viz")
    for path in test_env_project.iterdir():  # Kedro-Viz writes into the project: not into the one that all tests look at
        if path.name not in {".git", ".viz", "build"}:
            (shutil.copytree if path.is_dir() else shutil.copy)(path, folder / path.name)
    command = [sys.executable, "-m", "kedro", "viz", "build", "--include-hooks", "--include-previews"]
    environment = os.environ | {"KEDRO_ENV": "test"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "build"


@pytest.fixture(scope="module")
def graph(site: Path) -> Any:
    return json.loads((site / "api/main").read_text("utf-8"))


@pytest.fixture(scope="module")
def datasets(site: Path, graph: Any) -> dict[str, Any]:
    """What the panel of each dataset says, by name."""
    nodes = {node["name"]: node for node in graph["nodes"] if node["type"] == "data"}
    return {name: node | json.loads((site / "api/nodes" / node["id"]).read_text("utf-8")) for name, node in nodes.items()}


def test_every_pipeline_and_node_is_drawn(graph: Any) -> None:
    from wind_kedro.pipeline_registry import register_pipelines

    pipelines = register_pipelines()
    assert {one["id"] for one in graph["pipelines"]} == set(pipelines)
    drawn = {node["name"] for node in graph["nodes"] if node["type"] == "task"}
    assert len(drawn) == len(pipelines["__default__"].nodes)


def test_layers_are_in_order(graph: Any) -> None:
    """A dataset of a later layer that feeds one of an earlier makes a circle, and Kedro-Viz then draws no layers at all."""
    assert graph["layers"] == LAYERS


def test_every_dataset_has_a_layer(datasets: dict[str, Any]) -> None:
    assert len(datasets) > 30
    without = {name for name, one in datasets.items() if one.get("layer") not in LAYERS}
    # What earlier runs left feeds earlier layers than the one it is in.
    assert all(name == "checked_clock" or name.endswith("_before") for name in without)


def test_every_figure_is_shown(datasets: dict[str, Any]) -> None:
    figures = {name: one for name, one in datasets.items() if name.endswith("_figure")}
    assert len(figures) == 12
    for name, one in figures.items():
        assert one["preview_type"] == "PlotlyPreview", name
        title = one["preview"]["layout"]["title"]["text"]
        assert title, name
        # The test fleet was trained once: no champion was there to compare with.
        assert one["preview"]["data"] or title.startswith("Nothing was compared"), name


@pytest.mark.parametrize("name", ["observations", "data_quality", "features", "power_curve"])
def test_tables_are_previewed(datasets: dict[str, Any], name: str) -> None:
    assert datasets[name]["preview_type"] == "TablePreview"
    assert datasets[name]["preview"]["data"]


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_browser_draws_every_node_and_layer(address: str, graph: Any, tmp_path: Path) -> None:
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        pytest.skip("no Chromium or Chrome on this machine")
    quiet = ["--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update"]
    done = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", *quiet, "--disable-sync", f"--user-data-dir={tmp_path}",
         "--window-size=1600,1000", "--virtual-time-budget=20000", "--dump-dom", f"{address}/?expandAllPipelines=true"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    drawn = set(re.findall(r'class="pipeline-node__text"[^>]*>([^<]+)<', done.stdout))
    steps = {node["name"] for node in graph["nodes"] if node["type"] == "modularPipeline"}  # drawn as their nodes
    assert {node["name"] for node in graph["nodes"] if node["type"] != "parameters"} - steps == drawn - steps
    assert re.findall(r'class="pipeline-layer-name[^"]*"[^>]*>([^<]+)<', done.stdout) == LAYERS
