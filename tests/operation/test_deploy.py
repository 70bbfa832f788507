"""What is copied to run the service from outside: units, cron lines and alert rules that name what there is."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from wind_kedro.cli import wind
from wind_kedro.operation import web

DEPLOY = Path(__file__).parents[2] / "deploy"
UNITS = sorted(path.name for path in DEPLOY.iterdir() if path.suffix in {".service", ".timer"})


def faults_of_command(line: str) -> list[str]:
    """Words of a command of the project that it does not have."""
    words = shlex.split(line)
    assert words[0].endswith(".venv/bin/kedro")
    assert words[1:4] == ["wind", "--env", "mine"]
    command = wind.commands.get(words[4])
    options = [] if command is None else [option for parameter in command.params for option in parameter.opts]
    return [word for word in words[5:] if word not in options] if command else [words[4]]


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_has_what_systemd_needs(name: str) -> None:
    unit = configparser.ConfigParser(strict=True, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string((DEPLOY / name).read_text("utf-8"))
    assert unit["Unit"]["Description"]
    if name.endswith(".timer"):
        assert unit["Timer"]["OnCalendar"]
        assert (DEPLOY / name.replace(".timer", ".service")).is_file()
    else:
        assert faults_of_command(unit["Service"]["ExecStart"]) == []


@pytest.mark.parametrize("name", UNITS)
def test_systemd_accepts_a_unit(name: str, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        return  # where there is no systemd, the test above is all that can be checked
    # The program and the user of a unit are those of another machine.
    for path in DEPLOY.iterdir():
        text = re.sub("^ExecStart=.*$", "ExecStart=/bin/true", path.read_text("utf-8"), flags=re.MULTILINE)
        (tmp_path / path.name).write_text(text.replace("User=wind-kedro\n", ""), encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", str(tmp_path / name)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_cron_lines_name_a_command_that_there_is() -> None:
    lines = [line for line in (DEPLOY / "wind-kedro.cron").read_text("utf-8").splitlines() if not line.startswith("#")]
    assert lines
    for line in lines:
        *times, user, command = line.split(maxsplit=6)
        assert (len(times), user) == (5, "wind-kedro")
        assert faults_of_command(command.partition("&& ")[2]) == []


def test_alert_rules_name_metrics_that_there_are() -> None:
    rules = [
        rule
        for group in yaml.safe_load((DEPLOY / "prometheus-alerts.yml").read_text("utf-8"))["groups"]
        for rule in group["rules"]
    ]
    source = Path(web.__file__).read_text("utf-8")
    named = {name for rule in rules for name in re.findall(r"wind_kedro_(\w+)", rule["expr"])}
    assert "newest_forecast_age_seconds" in named
    assert [name for name in named if f'{name.removesuffix("_total")}"' not in source] == []
    assert any("absent(" in rule["expr"] for rule in rules)
    assert all(rule["labels"]["severity"] and rule["annotations"]["summary"] for rule in rules)


def test_a_wrong_command_is_found() -> None:
    assert faults_of_command(".venv/bin/kedro wind --env mine oprate") == ["oprate"]
    assert faults_of_command(".venv/bin/kedro wind --env mine operate --twice") == ["--twice"]
