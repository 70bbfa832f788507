"""What all tests share: a fleet small enough to reckon by hand, and tables about it that keep their contracts."""

from __future__ import annotations

import copy
import gc
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Before anything imports them: models load as in production, and no plugin sends usage statistics.
os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["DO_NOT_TRACK"] = "true"
# A store that nobody looks at: what a test forgets to name does not end up in the project's own.
os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{tempfile.gettempdir()}/wind-kedro-tests-{os.getpid()}.db"
# Keys of the tests' own, never this user's; workers of one run share them, as they share the test fleet's project.
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["WIND_KEDRO_KEYS"] = f"{tempfile.mkdtemp(prefix='wind-kedro-tests-')}/keys"
# A process of the tests keeps to one core: several of them, each with a thread a core for its sums, mostly wait for one another.
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
# Tests already occupy every core: a run of theirs that starts a process a core for its farms mostly pays for their imports.
# The run of the test fleet does (`_run_test_env`), and tests that ask for several processes have them.
os.environ["LOKY_MAX_CPU_COUNT"] = "1"

import numpy as np
import pandas as pd
import pytest
import yaml
from filelock import FileLock

from wind_kedro.cards import Fleet
from wind_kedro.cards.columns import FORECAST_WEATHER
from wind_kedro.contracts.features import Features
from wind_kedro.contracts.observations import Observations, Readiness, Weather, WeatherRuns

# The default goes through all objects of this process, millions, every few seconds: a sixth of the time of tests of tables.
gc.set_threshold(50_000, 20, 100)

#: On CI nothing may be left unseen.
STRICT = os.environ.get("WIND_KEDRO_STRICT") == "1"
PROJECT = Path(__file__).resolve().parents[1]

Rows = list[dict[str, Any]]
MakeTable = Callable[[Rows], pd.DataFrame]


def _fail_if_skipped(report: Any) -> None:
    # A test that is expected to fail is also reported as skipped; it ran.
    if STRICT and report.outcome == "skipped" and not hasattr(report, "wasxfail"):
        reason = report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"WIND_KEDRO_STRICT=1 allows no skip: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    _fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    report = yield
    _fail_if_skipped(report)
    return report


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take minutes go first, so that no worker is left alone with one at the end.

    One of them makes the project of the test fleet; others that need it come later, so that no worker waits for it.
    """
    weight = {"test_end_to_end.py": 0, "test_killed.py": 1}
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    waits = {item.path for item in items if "test_env_project" in getattr(item, "fixturenames", ())}
    items.sort(key=lambda item: (weight.get(item.path.name, len(weight)), item.path not in slow, item.path in waits))


@pytest.fixture(scope="session")
def project_path() -> Path:
    """The folder with pyproject.toml and conf."""
    return PROJECT


# --- cards -----------------------------------------------------------------------------------------------------------


def _farm(farm_id: str, turbines: int, weather_kind: str = "forecast", models: tuple[str, ...] = ("alpha",)) -> dict[str, Any]:
    return {
        "id": farm_id,
        "name": farm_id.title(),
        "latitude_deg": 50.0,
        "longitude_deg": 5.0,
        "time_zone": "Europe/Paris",
        "capacity_kw": 1000 * turbines,
        "turbines": [{"id": f"T{number}", "rated_power_kw": 1000, "hub_height_m": 80} for number in range(turbines)],
        "latency_minutes": 10,
        "signals": {
            "path": f"{farm_id}.csv",
            "timestamp": "time",
            "turbine": "turbine",
            "cadence_seconds": 600,
            "columns": {"power_kw": {"name": "power", "unit": "kW"}},
            "sentinels": {"power_kw": [-999]},
        },
        "weather": [
            {
                "model": model,
                "kind": weather_kind,
                "path": f"{model}.csv",
                "valid_at": "time",
                "run_at": "run",
                "delay_minutes": 120,
                "run_every_minutes": 360,
                "length_hours": 12,
                "columns": {"wind_speed_100m_ms": {"name": "wind", "unit": "m/s"}},
            }
            for model in models
        ],
    }


_CARDS: dict[str, list[dict[str, Any]]] = {
    "farms": [_farm("hill", 3), _farm("shore", 1, weather_kind="analysis")],
    "groups": [{"id": "both", "name": "Hill and shore", "farms": ["hill", "shore"]}],
    "markets": [
        {
            "id": "hourly",
            "name": "Hourly market",
            "time_zone": "Europe/London",
            "settlement_minutes": 60,
            "gate_closure_minutes": 60,
            "currency": "GBP",
            "penalty": {"kind": "imbalance", "short_per_mwh": 10, "long_per_mwh": 5},
        },
        {
            "id": "quarterly",
            "name": "Quarter-hourly market",
            "time_zone": "Asia/Kolkata",
            "settlement_minutes": 15,
            "gate_closure_minutes": 20,
            "currency": "INR",
            "penalty": {
                "kind": "bands",
                "bands": [{"up_to_share": 0.1, "rate_per_mwh": 0}, {"up_to_share": 0.5, "rate_per_mwh": 9}],
            },
        },
    ],
    "products": [
        {
            "id": "hours",
            "name": "Hours",
            "market": "hourly",
            "granularity_minutes": 60,
            "horizon_minutes": 240,
            "issue_times": ["06:00", "18:00"],
            "quantile_levels": [0.1, 0.5, 0.9],
            "deciding_score": "pinball_share",
            "goal": {"target": 0.05, "since": "2024-01-01"},
            "members": ["hill", "both"],
        },
        {
            "id": "quarters",
            "name": "Quarters",
            "market": "quarterly",
            "granularity_minutes": 15,
            "horizon_minutes": 90,
            "issue_times": ["06:10"],
            "quantile_levels": [0.25, 0.5, 0.75],
            "deciding_score": "nmae_share",
            "goal": {"target": 0.05, "since": "2024-01-01"},
            "members": ["shore"],
        },
    ],
}


@pytest.fixture
def cards() -> dict[str, Any]:
    """The cards as configuration holds them; a copy, free to be spoilt."""
    return copy.deepcopy(_CARDS)


@pytest.fixture(scope="session")
def fleet() -> Fleet:
    """Two farms (hill: 3 MW; shore: 1 MW, its weather an analysis), their group `both`; an hourly and a 15-minute product."""
    return Fleet.from_config(**copy.deepcopy(_CARDS))


# --- tables ----------------------------------------------------------------------------------------------------------


def _times(rows: Rows, columns: list[str]) -> Rows:
    return [
        {
            name: pd.Timestamp(value, tz="UTC") if name in columns and isinstance(value, str) else value
            for name, value in row.items()
        }
        for row in rows
    ]


def make_observations(rows: Rows) -> pd.DataFrame:
    """Observations from rows that say what matters; `share` gives power in shares of the hill's 3,000 kW."""
    table = []
    for row in _times(rows, ["valid_at", "available_at"]):
        full = {
            "entity_id": "hill",
            "granularity_minutes": 60,
            "available_capacity_kw": 3000.0,
            "wind_speed_ms": 8.0,
            "coverage_share": 1.0,
            "turbines": 3,
            "stopped_share": 0.0,
            "curtailed_share": 0.0,
            "imputed_share": 0.0,
            "method": "mean",
        } | row
        full["power_kw"] = full.pop("share", 0.0) * full["available_capacity_kw"] if "power_kw" not in full else full["power_kw"]
        full.setdefault("metered_power_kw", full["power_kw"])
        # As latency has it: an interval can be read ten minutes after its end.
        full.setdefault("available_at", full["valid_at"] + pd.Timedelta(minutes=full["granularity_minutes"] + 10))
        table.append(full)
    return Observations.validate(pd.DataFrame(table, columns=list(Observations.to_schema().columns)))


def make_weather(rows: Rows) -> pd.DataFrame:
    """Weather from rows that say what matters; available two hours after the run unless they say otherwise."""
    table = []
    for row in _times(rows, ["run_at", "available_at", "valid_at"]):
        full = {"farm_id": "hill", "weather_model": "alpha", "weather_point": "site", "is_analysis": False} | row
        full.setdefault("wind_speed_hub_ms", full["wind_speed_100m_ms"])
        full.setdefault("available_at", full["run_at"] + pd.Timedelta(hours=2))
        table.append(full)
    columns = Weather.to_schema().columns
    frame = pd.DataFrame(table, columns=list(columns))
    return Weather.validate(frame.astype({name: float for name in columns if name.startswith(("wind", "temp", "press", "air"))}))


def runs_of(weather: pd.DataFrame) -> pd.DataFrame:
    """Contract `WeatherRuns` of rows of weather."""
    arrivals = weather.groupby(["farm_id", "weather_model", "weather_point", "run_at", "available_at"], as_index=False)
    times = {"rows": "size", "first_valid_at": "min", "last_valid_at": "max"}
    columns: dict[str, Any] = {name: ("valid_at", how) for name, how in times.items()}
    return WeatherRuns.validate(arrivals.agg(is_analysis=("is_analysis", "any"), **columns))


def make_readiness(rows: Rows) -> pd.DataFrame:
    """Readiness from rows that say what matters; all else is a sound farm's with two years of data."""
    sound = {
        "farm_id": "hill", "tier": "local", "reason": "700.0 days with power and weather", "history_days": 730.0,
        "learnable_days": 700.0, "coverage_share": 0.97, "gaps": 2, "longest_gap_hours": 30.0, "silent_hours": 1.0,
        "latency_median_minutes": 12.0, "latency_95_minutes": 45.0, "reading": "as_stamped", "offset_minutes": 4.0,
        "agrees": True, "stopped_rows_share": 0.01, "curtailed_rows_share": 0.02, "iced_rows_share": 0.0,
        "quarantined_rows_share": 0.001, "unreadable_sources": 0, "weather": FORECAST_WEATHER,
        "weather_days": 735.0, "missing_runs": 1, "best_point": "alpha/site", "best_correlation": 0.83,
        "other_farm": "shore", "other_correlation": 0.61, "wrong_point": False,
    }  # fmt: skip
    table = [{"assessed_at": pd.Timestamp("2024-03-01", tz="UTC")} | sound | row for row in _times(rows, ["assessed_at"])]
    return Readiness.validate(pd.DataFrame(table, columns=list(Readiness.to_schema().columns)).astype({"agrees": "boolean"}))


@pytest.fixture(scope="session", name="assess")
def assess_fixture() -> MakeTable:
    """Makes readiness from short rows."""
    return make_readiness


@pytest.fixture(scope="session", name="observe")
def observe_fixture() -> MakeTable:
    """Makes observations from short rows."""
    return make_observations


@pytest.fixture(scope="session", name="blow")
def blow_fixture() -> MakeTable:
    """Makes weather from short rows."""
    return make_weather


@pytest.fixture(scope="session", name="runs_of")
def runs_of_fixture() -> Callable[[pd.DataFrame], pd.DataFrame]:
    """Lists the runs of weather."""
    return runs_of


@pytest.fixture(scope="session")
def run_of() -> Callable[..., Rows]:
    """One weather run as rows: hourly speeds from its start on."""

    def rows(run_at: str, speeds: list[float], **columns: Any) -> Rows:
        start = pd.Timestamp(run_at, tz="UTC")
        return [
            {"run_at": start, "valid_at": start + pd.Timedelta(hours=hour), "wind_speed_100m_ms": float(speed)} | columns
            for hour, speed in enumerate(speeds)
        ]

    return rows


@pytest.fixture(scope="session")
def make_features() -> MakeTable:
    """Features from short rows: keys, and wind speed as the one feature that always counts."""

    def features(rows: Rows) -> pd.DataFrame:
        table = []
        for row in _times(rows, ["issued_at", "valid_at", "weather_run_at"]):
            full = {
                "product_id": "hours",
                "entity_id": "hill",
                "weather_run_at": row["issued_at"],
                "wind_speed_100m_ms": 8.0,
            } | row
            full.setdefault("lead_minutes", int((full["valid_at"] - full["issued_at"]).total_seconds() // 60))
            full.setdefault("hour_of_day", float(full["valid_at"].hour))
            table.append(full)
        return Features.validate(pd.DataFrame(table))

    return features


# --- a project -------------------------------------------------------------------------------------------------------


def _write(path: Path, content: Any) -> None:
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


@pytest.fixture(scope="session")
def mlflow_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of MLflow without anything in it: making one takes seconds, copying it none."""
    import mlflow

    path = tmp_path_factory.mktemp("database") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{path}", f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(scope="session")
def make_project(tmp_path_factory: pytest.TempPathFactory, mlflow_database: Path) -> Callable[..., Path]:
    """Makes a project of the small fleet: the configuration of this one, with quick candidates, and no data yet.

    Times: trained as of 21 March 2024, forecasts issued from then on, now is noon of the 31st.
    """

    def make() -> Path:
        folder = tmp_path_factory.mktemp("project")
        shutil.copytree(PROJECT / "conf" / "base", folder / "conf" / "base")
        shutil.copy(PROJECT / "conf" / "logging.yml", folder / "conf")
        shutil.copy(PROJECT / "pyproject.toml", folder)
        for name in ("src", "conf/local"):
            (folder / name).mkdir()
        shutil.copy(mlflow_database, folder)
        cards = copy.deepcopy(_CARDS)
        base = folder / "conf" / "base"
        _write(base / "farms.yml", {"farms": cards["farms"], "groups": cards["groups"]})
        _write(base / "markets.yml", {"markets": cards["markets"]})
        _write(base / "products.yml", {"products": cards["products"]})
        run = yaml.safe_load((base / "parameters_run.yml").read_text("utf-8"))
        time = "2024-03-21T06:10:00Z"
        run["clock"] = {
            "as_of": '${runtime_params:as_of,"2024-03-31T12:00:00Z"}',
            "train_as_of": time,
            "issue_from": time,
        }
        run["workers"] = {"backend": "threading", "jobs": 1}
        _write(base / "parameters_run.yml", run)
        mlflow = yaml.safe_load((base / "mlflow.yml").read_text("utf-8"))
        # Absolute: MLflow keeps the stores it opened by name, and one process enters several projects here.
        mlflow["server"]["mlflow_tracking_uri"] = f"sqlite:///{folder}/mlflow.db"
        _write(base / "mlflow.yml", mlflow)
        _write(base / "parameters_scoring.yml", {"scoring": {"lead_edges_minutes": [0, 120, 240]}})
        _write(base / "parameters_monitoring.yml", {"monitoring": {"tolerance_share": 0.25, "min_intervals": 10}})
        backtest = {"days": 10, "refit_every_days": 5, "min_train_days": 5}
        candidates = {
            "climatology": {"type": "climatology", "params": {"min_rows": 5}},
            "power_curve": {"type": "power_curve", "params": {"min_rows": 5}},
        }
        _write(base / "parameters_training.yml", {"training": {"seed": 7, "backtest": backtest, "candidates": candidates}})
        return folder

    return make


@pytest.fixture(scope="session")
def make_small_fleet(make_project: Callable[..., Path]) -> Callable[[], Path]:
    """Makes a project in which a run of everything takes seconds: the farm hill alone, one product, sixty days of data."""

    def make() -> Path:
        folder = make_project()
        base = folder / "conf" / "base"
        farms, products = (yaml.safe_load((base / name).read_text("utf-8")) for name in ("farms.yml", "products.yml"))
        _write(base / "farms.yml", {"farms": farms["farms"][:1], "groups": []})
        hours = products["products"][0] | {"members": ["hill"], "issue_times": ["06:00"]}
        _write(base / "products.yml", {"products": [hours]})
        _write_signals_and_weather(folder / "data/01_raw", turbines=3)
        return folder

    return make


def _write_signals_and_weather(raw: Path, turbines: int) -> None:
    start, end = pd.Timestamp("2024-01-31", tz="UTC"), pd.Timestamp("2024-03-31T12:00", tz="UTC")
    numbers = np.random.default_rng(7)
    hours = pd.date_range(start, end + pd.Timedelta(days=1), freq="h")
    gusts = np.convolve(numbers.normal(0, 1, len(hours) + 5), np.ones(6) / 3, "valid")
    wind = pd.Series((8 + 3 * np.sin(np.arange(len(hours)) / 17) + gusts).clip(0), hours)
    times = pd.date_range(start, end, freq="10min")
    speed = wind.reindex(times.union(hours)).interpolate().reindex(times).to_numpy()
    signals = pd.concat(
        pd.DataFrame(
            {
                "time": times.strftime("%Y-%m-%dT%H:%MZ"),
                "turbine": f"T{turbine}",
                "power": (1000 * ((speed + numbers.normal(0, 0.3, len(times))) / 12).clip(0, 1) ** 3).round(1),
            }
        )
        for turbine in range(turbines)
    )
    weather = pd.DataFrame(
        [
            (run.isoformat(), at.isoformat(), round(float(wind.get(at, 8.0)) + numbers.normal(0, 0.5), 2))
            for run in pd.date_range(start, end, freq="6h")
            for at in pd.date_range(run, periods=13, freq="h")
        ],
        columns=["run", "time", "wind"],
    )
    raw.mkdir(parents=True)
    signals.sort_values(["time", "turbine"]).to_csv(raw / "hill.csv", index=False)
    weather.to_csv(raw / "alpha.csv", index=False)


@contextmanager
def mlflow_kept() -> Iterator[None]:
    """Whatever MLFlow is told inside is forgotten: stores, experiment, runs, and the environment that processes inherit."""
    import mlflow
    from mlflow.tracking import fluent

    before = {name: value for name, value in os.environ.items() if name.startswith("MLFLOW_")}
    try:
        yield
    finally:
        while mlflow.active_run():
            mlflow.end_run()
        mlflow.set_tracking_uri(None)  # type: ignore[arg-type]  # as at the start: from the environment
        mlflow.set_registry_uri(None)  # type: ignore[arg-type]
        fluent._active_experiment_id = None
        for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
            del os.environ[name]
        os.environ.update(before)


@pytest.fixture(scope="module")
def mlflow_apart() -> Iterator[None]:
    """For a module that has a store of its own."""
    with mlflow_kept():
        yield


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], Path]]:
    """Goes into a project as if started there, and leaves no trace of it in MLflow."""
    from kedro.framework.project import configure_project
    from kedro_mlflow.framework.hooks.mlflow_hook import mlflow_hook

    configure_project("wind_kedro")

    def enter(folder: Path) -> Path:
        monkeypatch.chdir(folder)
        return folder

    with mlflow_kept():
        yield enter
        # kedro-mlflow keeps the run of the last tracked pipeline, and would open it again in the next project.
        mlflow_hook.run_id = None


# --- the test fleet, run as people run it ----------------------------------------------------------------------------


def _checkout(folder: Path) -> Path:
    """A copy of the project as a fresh clone has it: configuration, notebooks and raw data of the test fleet, no results."""
    for name in ("conf/base", "conf/test", "notebooks", "data/test/01_raw"):
        shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns(".*"))
    for name in ("conf/logging.yml", "pyproject.toml", "requirements.lock", ".telemetry"):
        shutil.copy(PROJECT / name, folder / name)
    for name in ("conf/local", "src"):  # the code is the installed one; Kedro wants the folder
        (folder / name).mkdir()
    return folder


@pytest.fixture(scope="session")
def make_checkout(tmp_path_factory: pytest.TempPathFactory, mlflow_database: Path) -> Callable[[], Path]:
    """Makes copies of the project as a fresh clone has it, with the raw data of the test fleet and an empty store of MLflow."""

    def make() -> Path:
        folder = _checkout(tmp_path_factory.mktemp("checkout"))
        shutil.copy(mlflow_database, folder / "data/test")
        return folder

    return make


@pytest.fixture(scope="session")
def test_env_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project in which `kedro run --env test` ran: look, and leave it as it is.

    However many processes run the tests, the first that wants it makes it and the others wait.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, made = shared / "test_env", shared / "test_env.made"
    with FileLock(shared / "test_env.lock"):
        if not made.exists():
            folder.mkdir()
            _run_test_env(_checkout(folder))
            made.touch()
    return folder


def _run_test_env(folder: Path) -> None:
    git = ["git", "-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "init.defaultBranch=main"]
    for words in (["init"], ["add", "conf", "pyproject.toml"], ["commit", "--message", "As it is"]):
        subprocess.run([*git, *words], cwd=folder, check=True, capture_output=True)
    command = [sys.executable, "-m", "kedro", "run", "--env", "test"]
    # As in production, by a process a core, although other runs of the tests keep to one.
    variables = {name: value for name, value in os.environ.items() if name != "LOKY_MAX_CPU_COUNT"}
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def s3_server() -> Iterator[dict[str, str]]:
    """An S3-compatible server on loopback; the variables of the environment that name it."""
    import s3_server

    with s3_server.served() as variables:
        yield variables


@pytest.fixture
def s3(s3_server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Address of an empty place on the server, which this process and those that it starts can reach."""
    for name, value in s3_server.items():
        monkeypatch.setenv(name, value)
    return f"s3://bucket/{uuid.uuid4().hex}"


@pytest.fixture(params=["disk", "store"])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Address of an empty place: a folder, and then one of an object store."""
    return str(tmp_path / "place") if request.param == "disk" else str(request.getfixturevalue("s3"))


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate for localhost, signed by itself."""
    import datetime as dt
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    now = dt.datetime.now(dt.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(secret + signed.public_bytes(serialization.Encoding.PEM))
    return path
