"""What is wrong with a call of the service is one line, before it does anything."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from wind_kedro.cli import cli


@pytest.fixture
def project(make_project: Callable[[], Path], inside: Callable[[Path], Path]) -> Path:
    return inside(make_project())


def refused(*words: str) -> str:
    result = CliRunner().invoke(cli, ["wind", "operate", *words])
    assert result.exit_code != 0
    (line,) = result.stderr.splitlines()
    return line


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"cycles": {}}, "parameters_operation.yml: operation.cycles: "),
        ({"port": 9808.5}, "operation.port: "),
        ({"cycles": {"forecast": {"pipelines": ["forecasting"]}}}, "operation.cycles.forecast: at_issues, at, every_minutes"),
        (
            {"cycles": {"forecast": {"pipelines": ["forcasting"], "at_issues": True}}},
            "operation.cycles.forecast.pipelines: no pipeline is called forcasting; there are",
        ),
    ],
)
def test_wrong_settings(project: Path, given: dict[str, object], fault: str) -> None:
    path = project / "conf/base/parameters_operation.yml"
    settings = yaml.safe_load(path.read_text("utf-8"))["operation"]
    path.write_text(yaml.safe_dump({"operation": settings | given}), encoding="utf-8")
    assert fault in refused("--once").replace("operation: ", "operation.")


def test_a_port_that_is_in_use_and_a_time_that_is_none(project: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        assert "operation.port" in refused("--port", str(other.getsockname()[1]))
    assert "--until later: is not a time" in refused("--until", "later")
