"""Class ``cli``: what people type, by mistake or to see what happens."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pandas as pd

from .cases import Case, Step, generator
from .oracle import Verdict, error_lines, worst
from .project import Ended, World, command

ENV = ("--env", "test")
_TIMES = [
    "'",
    '"',
    "",
    " ",
    "yesterday",
    "2024-02-30",
    "2024-01-28T25:00",
    "0000-00-00",
    "-1",
    "9" * 40,
    "2024-01-28T00:00:00+99:00",
    "٢٠٢٤-٠١-٢٨",
    "now; rm -rf x",
    "${x}",
    "\x1b[31m",
    "NaT",
    "nan",
    "1e400",
    "99999-01-01",
    "2262-04-12",
    "[]",
    "{a",
    "2024-01-28=2",
    "\ud800",
]
_NAMES = [
    "nope",
    "",
    " ",
    "'",
    "../x",
    "a" * 300,
    "*",
    "north_ridge'; --",
    "\x1b[31m",
    "NORTH_RIDGE",
    "größe",
    "--",
    "%s",
    "${globals:data}",
    "\udcff",
]

#: Commands with a place for a hostile value, and the values; a word that the refusal must have.
COMMANDS: dict[str, tuple[tuple[str, ...], list[str], str]] = {
    "as_of": (("run", *ENV, "--pipelines", "data_engineering", "--params", "as_of={}"), _TIMES, ""),
    "parameters": (
        ("run", *ENV, "--pipelines", "data_engineering", "--params", "{}"),
        [
            "x",
            "=",
            "=1",
            "a.b.c=",
            "clock=5",
            "clock.as_of",
            "training={}",
            "a=1,a=2",
            "fleet.farms=none",
            "workers.jobs=many",
            "x=${oc.env:HOME}",
            ":",
            "data_engineering.warning_share=often",
        ],
        "",
    ),
    "pipelines": (("run", *ENV, "--pipelines", "{}"), _NAMES, ""),
    "pipeline": (("run", *ENV, "--pipeline", "{}"), _NAMES, ""),
    "tags": (("run", *ENV, "--pipelines", "data_engineering", "--tags", "{}"), _NAMES[:8], ""),
    "nodes": (("run", *ENV, "--pipelines", "data_engineering", "--nodes", "{}"), _NAMES, ""),
    "from_nodes": (("run", *ENV, "--pipelines", "data_engineering", "--from-nodes", "{}"), _NAMES, ""),
    "to_outputs": (("run", *ENV, "--pipelines", "data_engineering", "--to-outputs", "{}"), _NAMES, ""),
    "from_inputs": (("run", *ENV, "--pipelines", "data_engineering", "--from-inputs", "{}"), _NAMES, ""),
    "load_versions": (
        ("run", *ENV, "--pipelines", "data_engineering", "--load-versions", "{}"),
        ["x", "x:", ":", "signals:2020", "a:b:c", "'"],
        "",
    ),
    "runner": (
        ("run", *ENV, "--pipelines", "data_engineering", "--runner", "{}"),
        ["Nope", "os.system", "a.b.c", "", "ParallelRunner2"],
        "",
    ),
    "environment": (
        ("wind", "--env", "{}", "farms"),
        ["nope", "../test", "test/", "", "/etc", "a" * 300, "test\n", ".", ".."],
        "",
    ),
    "environment_of_a_run": (
        ("run", "--env", "{}", "--pipelines", "data_engineering"),
        ["nope", "../test", "/etc", "a" * 300, "..", "x y"],
        "",
    ),
    "conf_source": (
        ("wind", "--conf-source", "{}", "farms"),
        ["nope", "/etc/passwd", "pyproject.toml", "", "a" * 300, "conf/test", "/dev/null"],
        "",
    ),
    "forecast_entity": (("wind", *ENV, "forecast", "--entity", "{}"), _NAMES, ""),
    "forecast_product": (("wind", *ENV, "forecast", "--product", "{}"), _NAMES, ""),
    "drivers_issue": (("wind", *ENV, "drivers", "--entity", "coast", "--issued-at", "{}"), _TIMES, ""),
    "readiness_tier": (("wind", *ENV, "readiness", "--tier", "{}"), _NAMES, ""),
    "rollback": (
        ("wind", *ENV, "rollback", "--reason", "x", "--to", "{}"),
        ["1", "-1", "0", "latest", "", "'", "9" * 50, "1; --", "../1"],
        "",
    ),
    "hold": (("wind", *ENV, "hold", "--reason", "x", "--farm", "{}"), _NAMES, ""),
    "override_model": (("wind", *ENV, "override", "--farm", "coast", "--reason", "x", "--model", "{}"), _NAMES, ""),
    "learn_from": (("wind", *ENV, "learn-from", "--farm", "coast", "--reason", "x", "--begin", "{}"), _TIMES, ""),
    "leave_out": (
        ("wind", *ENV, "leave-out", "--farm", "coast", "--reason", "x", "--begin", "2024-01-28", "--end", "{}"),
        [*_TIMES, "2024-01-01", "2024-01-28"],
        "",
    ),
    "decisions": (("wind", *ENV, "decisions", "--farm", "{}"), _NAMES, ""),
    "listen": (("wind", *ENV, "listen", "--feed", "{}"), _NAMES, ""),
    "add_farm_file": (
        ("wind", *ENV, "add-farm", "--dry-run", "{}"),
        [
            "nope.csv",
            "/dev/null",
            "conf",
            ".",
            "/etc/passwd",
            "*",
            "",
            "a" * 300,
            "data/test/01_raw",
            "pyproject.toml",
            "data/test/mlflow.db",
        ],
        "",
    ),
    "add_farm_setting": (
        ("wind", *ENV, "add-farm", "--dry-run", "data/test/01_raw/south_bay/signals_2024-01.csv.gz", "--set", "{}"),
        [
            "x",
            "=",
            "nothing=1",
            "signals=1",
            "signals.columns.power_kw.unit=hp",
            "signals.cadence_seconds=-5",
            "turbines=[",
            "capacity_kw=many",
            "a.b.c.d=1",
            "signals.stamp_format=%Q",
            "__class__=x",
            "id=../x",
        ],
        "",
    ),
    "add_farm_id": (
        ("wind", *ENV, "add-farm", "--yes", "data/test/01_raw/south_bay/signals_2024-01.csv.gz", "--id", "{}"),
        ["north_ridge", *_NAMES],
        "",
    ),
    "explain": (
        ("wind", *ENV, "explain", "--farm", "coast", "--product", "hourly_36h", "--issued-at", "{}"),
        _TIMES,
        "",
    ),
    "explain_farm": (("wind", *ENV, "explain", "--issued-at", "2024-01-28T06:00", "--farm", "{}"), _NAMES, ""),
    "reproduce": (("wind", *ENV, "reproduce", "--version", "{}"), _NAMES, ""),
    "unknown_command": (("wind", *ENV, "{}"), ["nope", "", "farms2", "--", "__init__"], ""),
}
#: What may be taken: a value of it that is sound, or that means nothing else than none.
_SOUND = {"test/", "clock.as_of", "conf/test"}


@dataclass
class OptionsCase(Case):
    """A command with a hostile value."""

    words: list[str] = field(kw_only=True)
    value: str = field(kw_only=True)

    limit_seconds = 30.0
    compared: ClassVar[tuple[str, ...]] = ()

    def prepare(self, project: Path) -> None:
        """Nothing: the project is sound."""

    def steps(self) -> list[Step]:
        """The command."""
        return [command(*self.words)]

    def judge(self, project: Path, ended: list[Ended], found: dict[str, pd.DataFrame], *, alone: bool) -> Verdict:
        """Whether it was refused in a line that helps, or did what it says."""
        del found, alone
        end = ended[0]
        faults = []
        strangers = {path.name for path in project.iterdir()} - _USUAL
        if strangers:
            faults.append(Verdict("wrong", f"it left {', '.join(sorted(strangers))[:200]} in the project"))
        usage = end.code == 2 and "Error: " in end.stderr
        if end.code and not usage and len(error_lines(end)) > 12:
            faults.append(Verdict("traceback", f"{len(error_lines(end))} lines of errors"))
        line = (error_lines(end) or [""])[0]
        if not end.code and self._must_be_refused:
            faults.append(Verdict("wrong", f"accepted: {end.stdout.strip()[-200:]}"))
        return worst(faults or [Verdict("clear_error" if end.code else "right", line[:300])])

    @property
    def _must_be_refused(self) -> bool:
        return self.value.strip() in {
            "nope",
            "yesterday",
            "2024-02-30",
            "Nope",
            "north_ridge'; --",
            "-1",
            "../x",
        }


_USUAL = {
    "conf",
    "data",
    "src",
    "pyproject.toml",
    "requirements.lock",
    ".stdout",
    ".stderr",
    ".modules",
    ".telemetry",
    ".viz",
    "mlruns",
    "logs",
    "info.log",
}


def make(world: World, seed: int, number: int) -> OptionsCase:
    """A case of this class: each command in turn, with a value of its own."""
    del world
    names = list(COMMANDS)
    name = names[number % len(names)]
    words, values, _ = COMMANDS[name]
    value = str(values[int(generator("cli", number, seed).integers(len(values)))])
    typed = [word.format(value) if "{}" in word else word for word in words]
    return OptionsCase("cli", number, seed, [name, f"{value!r:.60}"], words=typed, value=value)


#: How many cases a full run has.
COUNT = 2 * len(COMMANDS)
