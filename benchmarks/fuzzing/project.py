"""A small fleet in a project of its own, and commands run in it: each in a forked process with limits of time and memory.

The parent imports the libraries once and opens nothing; a child that it forks starts in milliseconds and ends like a real
command, with an exit code, its output and its error stream in files.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from wind_kedro.datasets import read_table

PROJECT = Path(__file__).resolve().parents[2]
ENVIRONMENT = "test"
#: The raw files of the test fleet are cut to these days.
START, END = pd.Timestamp("2024-01-20", tz="UTC"), pd.Timestamp("2024-01-28", tz="UTC")
#: One day after the last row: every row has arrived.
AS_OF = "2024-01-29T00:00:00Z"
FARMS = ("north_ridge", "east_plain", "south_bay")
#: Resident memory of a command, bytes: what a whole run may take (benchmarks/README.md).
MEMORY_BYTES = 3 << 30
#: Processor time that a command may take, seconds; an ordinary run takes 6.
LIMIT_SECONDS = 60.0
#: A command that waits for something is ended after this many times its limit: the machine may be busy with other work.
_PATIENCE = 3


@dataclass
class Ended:
    """How a command ended.

    Attributes:
        code: exit code; None if it was killed for its time or memory.
        stdout: what it printed.
        stderr: its error stream.
        seconds: how long it took.
        killed: "time" or "memory"; empty if it ended by itself.
    """

    code: int | None
    stdout: str
    stderr: str
    seconds: float
    killed: str = ""


@dataclass
class Job:
    """A forked process that runs a function inside a project."""

    pid: int
    folder: Path
    begun: float
    limit: float
    ended: Ended | None = None
    killed: str = ""

    def poll(self) -> Ended | None:
        """How it ended, or None while it is at work; kills it when it exceeds a limit."""
        if self.ended is not None:
            return self.ended
        found, status = os.waitpid(self.pid, os.WNOHANG)
        seconds = time.monotonic() - self.begun
        if found == 0:
            if not self.killed and (seconds > _PATIENCE * self.limit or _cpu_seconds(self.pid) > self.limit):
                self.killed = "time"
            elif not self.killed and _resident_bytes(self.pid) > MEMORY_BYTES:
                self.killed = "memory"
            else:
                return None
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            status = 0
        with contextlib.suppress(ProcessLookupError, PermissionError):  # what it started and left
            os.killpg(self.pid, signal.SIGKILL)
        code = None if self.killed else os.waitstatus_to_exitcode(status)
        out, err = ((self.folder / f".{name}").read_bytes().decode("utf-8", "backslashreplace") for name in ("stdout", "stderr"))
        self.ended = Ended(code, out, err, seconds, self.killed)
        return self.ended

    def wait(self) -> Ended:
        """Wait until it has ended."""
        while (ended := self.poll()) is None:
            time.sleep(0.02)
        return ended


def _resident_bytes(pid: int) -> int:
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    except (OSError, IndexError):
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _cpu_seconds(pid: int) -> float:
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, IndexError):
        return 0.0
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def start(folder: Path, work: Callable[[], int | None], limit: float = LIMIT_SECONDS) -> Job:
    """Fork a process that goes into a project and runs a function there, output and errors in files."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return Job(pid, folder, time.monotonic(), limit)
    code = 70
    try:
        os.setsid()
        _die_with_the_parent()
        os.chdir(folder)
        for number, name in ((1, ".stdout"), (2, ".stderr")):
            file = os.open(folder / name, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
            os.dup2(file, number)
        sys.stdout = io.TextIOWrapper(os.fdopen(1, "wb", 0), "utf-8", "backslashreplace", write_through=True)
        sys.stderr = io.TextIOWrapper(os.fdopen(2, "wb", 0), "utf-8", "backslashreplace", write_through=True)
        code = work() or 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _die_with_the_parent() -> None:
    """Linux: a suite that is killed leaves no server and no run behind."""
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def command(*words: str) -> Callable[[], int | None]:
    """``kedro …`` with these words, as the console runs it."""

    def work() -> int | None:
        from wind_kedro.cli import cli

        cli.main(args=list(words), prog_name="kedro")
        return 0

    return work


def run(*pipelines: str, **params: str) -> Callable[[], int | None]:
    """``kedro run`` of pipelines in the project's environment."""
    words = ["run", "--env", ENVIRONMENT, "--pipelines", ",".join(pipelines)]
    if params:
        words += ["--params", ",".join(f"{name}={value}" for name, value in params.items())]
    return command(*words)


def warm_up() -> None:
    """Import what commands import, so that forked processes have it."""
    os.environ.update(
        MLFLOW_ALLOW_PICKLE_DESERIALIZATION="false",
        MLFLOW_DISABLE_TELEMETRY="true",
        DO_NOT_TRACK="true",
        OMP_NUM_THREADS="1",
        OPENBLAS_NUM_THREADS="1",
        NO_PROXY="127.0.0.1",
        COLUMNS="100000",
    )
    import duckdb  # noqa: F401
    import ibis  # noqa: F401
    import kedro_mlflow.framework.hooks.mlflow_hook  # noqa: F401
    import mlflow  # noqa: F401
    import pandera.ibis  # noqa: F401
    import pyarrow.parquet  # noqa: F401
    from kedro.framework.project import configure_project, pipelines

    configure_project("wind_kedro")
    for name in ("data_engineering", "ingestion"):
        pipelines.set_requested([name])
        pipelines.get(name)
    pipelines.set_requested(None)
    import wind_kedro.cli
    import wind_kedro.readers.source_table  # noqa: F401


# --- the fleet -------------------------------------------------------------------------------------------------------


@dataclass
class World:
    """A project without results, the cards and text rows of its farms, and what an undisturbed run leaves.

    Attributes:
        folder: the project, to be copied.
        cards: content of farms.yml.
        rows: per farm, rows of signals as text by the names of the source's columns, in the order of the file.
        tables: what the undisturbed run left, by layer and name.
        trained: a copy of the project in which models were trained and forecasts issued; only where asked for.
    """

    folder: Path
    cards: dict[str, Any]
    rows: dict[str, pd.DataFrame]
    weather: dict[str, pd.DataFrame] = field(default_factory=dict)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    trained: Path | None = None
    trained_tables: dict[str, pd.DataFrame] = field(default_factory=dict)

    def copy(self, folder: Path, *, trained: bool = False) -> Path:
        """A fresh copy of the project, or of the one in which models were trained."""
        if not trained:
            shutil.copytree(self.folder, folder, symlinks=True)
            return folder
        if self.trained is None:
            self._train(folder.parent / "train")
        assert self.trained is not None  # noqa: S101 - it was made
        shutil.copytree(self.trained, folder, symlinks=True)
        # MLflow keeps absolute paths; names of the same length can be replaced in place.
        database = folder / "data" / ENVIRONMENT / "mlflow.db"
        database.write_bytes(database.read_bytes().replace(os.fsencode(self.trained), os.fsencode(folder)))
        return folder

    def _train(self, folder: Path) -> None:
        """Make the project in which models were trained; the name of its folder is as long as those of the copies."""
        shutil.copytree(self.folder, folder, symlinks=True)
        pipelines = ("data_engineering", "feature_engineering", "training", "forecasting")
        ended = start(folder, _noting_modules(run(*pipelines)), 300).wait()
        if ended.code != 0:
            raise RuntimeError(f"training failed:\n{ended.stdout}\n{ended.stderr}")
        self.trained = folder
        import_like(folder)
        self.trained_tables["forecasts"] = newest_forecasts(folder)

    def farm(self, farm_id: str) -> dict[str, Any]:
        """The card of a farm."""
        return next(card for card in self.cards["farms"] if card["id"] == farm_id)


#: The newest issue of the project.
ISSUE = pd.Timestamp("2024-01-29", tz="UTC")


def newest_forecasts(folder: Path) -> pd.DataFrame:
    """The forecasts of the newest issue, none if there are none."""
    found = _stored(folder / f"data/{ENVIRONMENT}/07_model_output/forecasts")
    if found is None:
        return pd.DataFrame({"issued_at": []})
    return found[found["issued_at"] == ISSUE].reset_index(drop=True)


def in_child(work: Callable[[], object]) -> bool:
    """Do something in a forked process, and return whether it did not raise.

    What reads and writes Delta starts threads, which a process that forks must not have.
    """
    pid = os.fork()
    if pid == 0:
        code = 1
        with contextlib.suppress(BaseException):
            work()
            code = 0
        os._exit(code)
    return os.waitpid(pid, 0)[1] == 0


def _stored(path: Path) -> pd.DataFrame | None:
    """A table that a run left; None if there is none that can be read."""
    import pyarrow.parquet as pq

    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "table.parquet"
        if not in_child(lambda: read_table(path).to_parquet(copy, index=False)):
            return None
        table = pq.read_table(copy, use_threads=False, pre_buffer=False).to_pandas(use_threads=False)
        # Tables that grow have no order of their own.
        return table.iloc[table.astype("str").sort_values(list(table.columns)).index].reset_index(drop=True)


#: Tables that a run of data_engineering leaves and that are compared.
TABLES = ("signals", "quarantine", "observations", "weather", "data_quality", "readiness")
_LAYER = {"observations": "03_primary", "data_quality": "03_primary", "readiness": "03_primary"}


def table(folder: Path, name: str) -> pd.DataFrame | None:
    """A table that a run left in a project; None if there is none that can be read."""
    path = folder / "data" / ENVIRONMENT / _LAYER.get(name, "02_intermediate") / name
    if not path.exists():
        path = path.with_suffix(".parquet")
    return _stored(path)


def tables(folder: Path) -> dict[str, pd.DataFrame]:
    """The tables of `TABLES` that there are."""
    return {name: found for name in TABLES if (found := table(folder, name)) is not None}


def write_yaml(path: Path, content: Any) -> None:
    """Write a file of configuration."""
    path.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")


def edit_yaml(path: Path, change: Callable[[Any], Any]) -> None:
    """Change a file of configuration in place."""
    content = yaml.safe_load(path.read_text("utf-8"))
    change(content)
    write_yaml(path, content)


def make_world(folder: Path) -> World:
    """Make the project of the small fleet, run it once undisturbed, and keep what that left."""
    # What is signed here is signed by a key of this run, and the machine's own is left alone.
    os.environ["WIND_KEDRO_KEYS"] = str(folder / "keys")
    project = folder / "world"
    for name in ("conf/base", "conf/test"):
        shutil.copytree(PROJECT / name, project / name, ignore=shutil.ignore_patterns(".*"))
    for name in ("conf/logging.yml", "pyproject.toml", "requirements.lock"):
        shutil.copy(PROJECT / name, project / name)
    for name in ("conf/local", "src"):
        (project / name).mkdir()
    conf = project / "conf" / ENVIRONMENT
    cards = yaml.safe_load((conf / "farms.yml").read_text("utf-8"))
    raw = project / "data" / ENVIRONMENT / "01_raw"
    rows = {}
    for card in cards["farms"]:
        (raw / card["id"]).mkdir(parents=True)
        rows[card["id"]] = _cut_signals(card, raw)
        _cut_weather(card, raw)
    cards["farms"][0]["signals"]["clock"] = "wall_clock_is_utc"
    write_yaml(conf / "farms.yml", cards)
    # The stamps are right by the cards, and two weeks are too short to judge them by the weather.
    edit_yaml(
        conf / "parameters_data_engineering.yml",
        lambda content: content["data_engineering"].update(clock_search={"min_history_days": 2, "min_correlation": 0.99}),
    )
    edit_yaml(
        conf / "parameters_run.yml",
        lambda content: content.update(
            clock={
                "as_of": f'${{runtime_params:as_of,"{AS_OF}"}}',
                "train_as_of": TRAIN_AS_OF,
                "issue_from": TRAIN_AS_OF,
            },
            workers={"backend": "threading", "jobs": 1},
        ),
    )
    _small_training(conf)
    world = World(project, cards, rows)
    start(project, _make_database).wait()
    undisturbed = world.copy(folder / "undisturbed")
    ended = start(undisturbed, _noting_modules(run("data_engineering"))).wait()
    if ended.code != 0:
        raise RuntimeError(f"the undisturbed run failed:\n{ended.stdout}\n{ended.stderr}")
    world.tables = tables(undisturbed)
    import_like(undisturbed)
    return world


def _noting_modules(work: Callable[[], int | None]) -> Callable[[], int | None]:
    """The same work; writes down which modules it imported."""

    def noting() -> int | None:
        try:
            return work()
        finally:
            Path(".modules").write_text("\n".join(sys.modules))

    return noting


def import_like(folder: Path) -> None:
    """Import the modules that a command in a project imported, so that processes forked from now on have them."""
    import gc
    import importlib

    for name in (folder / ".modules").read_text().split("\n"):
        if name not in sys.modules and not name.startswith(("__", "_distutils")):
            with contextlib.suppress(Exception):
                importlib.import_module(name)
    gc.collect()
    gc.freeze()


TRAIN_AS_OF = "2024-01-28T00:00:00Z"


def _small_training(conf: Path) -> None:
    candidates = {
        "climatology": {"type": "climatology", "params": {"min_rows": 5}},
        "power_curve": {"type": "power_curve", "params": {"min_rows": 5}},
    }
    training = {
        "seed": 7,
        "backtest": {"days": 4, "refit_every_days": 2, "min_train_days": 2, "cross_validation_blocks": 2},
        "gate": {"min_issues": 10},
        "candidates": candidates,
    }
    # In base, as overlays add to its candidates.
    write_yaml(conf.parent / "base" / "parameters_training.yml", {"training": training})
    (conf / "parameters_training.yml").unlink()
    edit_yaml(
        conf / "parameters_readiness.yml",
        lambda content: content["readiness"].update(tier_days={"physical": 1, "global": 2, "blended": 2, "local": 3}),
    )


def _make_database() -> None:
    import mlflow

    path = Path.cwd() / "data" / ENVIRONMENT / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{path}", f"sqlite:///{path}").search_experiments()


def _cut_signals(card: dict[str, Any], raw: Path) -> pd.DataFrame:
    signals = card["signals"]
    source = PROJECT / "data" / ENVIRONMENT / "01_raw"
    last = f"{END:%Y-%m-%d}"
    if signals.get("format") == "parquet":
        frame = pd.read_parquet(source / signals["path"])
        frame = frame[frame[signals["timestamp"]] < END.tz_localize(None)].reset_index(drop=True)
        frame.to_parquet(raw / signals["path"], index=False)
        return frame
    pieces = []
    for path in sorted(source.glob(signals["path"])):
        with gzip.open(path, "rt", encoding=signals.get("encoding", "utf-8"), newline="") as file:
            lines = file.read().split("\n")
        kept = [lines[0], *(line for line in lines[1:] if line and line[:10] < last)]
        if len(kept) == 1:
            continue
        content = ("\n".join(kept) + "\n").encode(signals.get("encoding", "utf-8"))
        (raw / path.relative_to(source)).write_bytes(gzip.compress(content, 1, mtime=0))
        cells = [line.split(signals.get("separator", ",")) for line in kept[1:]]
        pieces.append(pd.DataFrame(cells, columns=kept[0].split(signals.get("separator", ","))))
    return pd.concat(pieces, ignore_index=True)


def _cut_weather(card: dict[str, Any], raw: Path) -> None:
    source = PROJECT / "data" / ENVIRONMENT / "01_raw"
    for weather in card["weather"]:
        if weather.get("format") == "parquet":
            frame = pd.read_parquet(source / weather["path"])
            run_at = pd.to_datetime(frame[weather["run_at"]], utc=True)
            frame[run_at < END].reset_index(drop=True).to_parquet(raw / weather["path"], index=False)
            continue
        with gzip.open(source / weather["path"], "rt") as file:
            lines = file.read().split("\n")
        place = lines[0].split(",").index(weather["run_at"])
        kept = [lines[0], *(line for line in lines[1:] if line and line.split(",")[place][:10] < f"{END:%Y-%m-%d}")]
        (raw / weather["path"]).write_bytes(gzip.compress(("\n".join(kept) + "\n").encode(), 1, mtime=0))
