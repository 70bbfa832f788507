"""The environment of GEFCom2012, run on files of the shape of the competition's own, which are not ours to ship."""

from __future__ import annotations

import shutil
import sys

import numpy as np
import pandas as pd
import pytest
from kedro.framework.project import configure_project
from kedro.framework.session import KedroSession

from wind_kedro.datasets import tables_in

from .conftest import PROJECT, mlflow_kept

pytestmark = [
    pytest.mark.slow,
    # Ibis 12 about how it calls DuckDB 2 and pandas 3 itself.
    pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The 'future.infer_string' option:DeprecationWarning"),
]

FARMS = range(1, 8)
BEGIN, BLANK = pd.Timestamp("2010-12-24", tz="UTC"), pd.Timestamp("2011-01-01", tz="UTC")
#: Hour-ending stamps up to the end of the first blank.
STAMPS = pd.date_range(BEGIN + pd.Timedelta(hours=1), BLANK + pd.Timedelta(hours=48), freq="h")


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Features of the environment, from the files as the benchmark brings them in."""
    folder = tmp_path_factory.mktemp("gefcom2012")
    rng = np.random.default_rng(5)
    power = pd.DataFrame({"time": STAMPS} | {f"wp{farm}": rng.uniform(0, 1, len(STAMPS)).round(3) for farm in FARMS})
    power["usage"] = np.where(STAMPS > BLANK, "blank", "known")
    runs = pd.DataFrame({"run_at": pd.date_range(BEGIN, BLANK, freq="12h")}).merge(
        pd.DataFrame({"lead_hours": np.arange(1, 49, dtype=np.int16)}), how="cross"
    )
    # A farm's u is the hour of the valid time since the beginning, its v the number of the farm.
    hour = (runs["run_at"] - BEGIN) / pd.Timedelta(hours=1) + runs["lead_hours"]
    weather = pd.concat([runs.assign(farm=np.int16(farm), u=hour.to_numpy("float32") / 10, v=np.float32(farm)) for farm in FARMS])
    (folder / "given").mkdir()
    power.to_parquet(folder / "given" / "power_to_2011.parquet", index=False)
    weather.to_parquet(folder / "given" / "weather_runs_to_2011.parquet", index=False)
    for name in ("base", "gefcom2012"):
        shutil.copytree(PROJECT / "conf" / name, folder / "conf" / name)
    shutil.copy(PROJECT / "conf" / "logging.yml", folder / "conf")
    shutil.copy(PROJECT / "pyproject.toml", folder)
    for name in ("src", "conf/local"):
        (folder / name).mkdir(parents=True)
    mlflow = folder / "conf" / "gefcom2012" / "mlflow.yml"
    mlflow.write_text(mlflow.read_text("utf-8").replace("sqlite:///data", f"sqlite:///{folder}/data"))
    configure_project("wind_kedro")
    with mlflow_kept(), pytest.MonkeyPatch.context() as patch:
        from kedro_mlflow.framework.hooks.mlflow_hook import mlflow_hook

        patch.chdir(folder)
        patch.setattr(sys, "path", [str(PROJECT / "benchmarks"), *sys.path])
        import gefcom2012  # type: ignore[import-not-found] # a script

        patch.setattr(gefcom2012, "RAW", folder / "data" / "01_raw" / "gefcom2012")
        _, as_of = gefcom2012.bring_in(folder / "given")
        when = dict.fromkeys(("as_of", "train_as_of"), f"{as_of:%Y-%m-%dT%H:%M}")
        with KedroSession.create(folder, env="gefcom2012", runtime_params=when, save_on_close=False) as session:
            session.run(pipeline_names=["cleaning", "feature_engineering"])
        mlflow_hook.run_id = None
    tables = tables_in(folder / "data" / "gefcom2012")
    observed = next(table for path, table in tables.items() if path.endswith("/observations"))
    assert len(observed) == len(STAMPS) * len(FARMS)
    return next(table for path, table in tables.items() if path.endswith("/features"))


def test_every_run_is_an_issue_of_two_days(features: pd.DataFrame) -> None:
    own = features[(features["entity_id"] == "farm_3") & (features["issued_at"] == BLANK)].sort_values("valid_at")
    assert own["valid_at"].tolist() == list(STAMPS[-48:] - pd.Timedelta(hours=1))
    assert set(own["weather_run_at"]) == {BLANK}


def test_valid_times_follow_from_lead_times(features: pd.DataFrame) -> None:
    own = features[features["entity_id"] == "farm_3"]
    # Wind of the hour's end; at 10 m, brought to 100 m by the same factor in u and v.
    hour = (own["valid_at"] - BEGIN) / pd.Timedelta(hours=1) + 1
    ratio = own["wind_u_100m_ms_plus_30min"] / own["wind_v_100m_ms_plus_30min"]
    assert (ratio - hour / 10 / 3).abs().max() < 1e-4


def test_runs_that_overlap_say_the_same_here(features: pd.DataFrame) -> None:
    change = features.loc[features["issued_at"] >= BEGIN + pd.Timedelta(hours=36), "wind_speed_100m_ms_runs_change"].abs()
    assert change.notna().mean() > 0.5
    assert change.quantile(0.8) < 1e-4
    # Half an hour before its first and after its last time a run has the value of that.
    assert change.max() == pytest.approx(0.05 * (100 / 10) ** 0.143, rel=0.01)


def test_nothing_from_inside_a_blank_is_known(features: pd.DataFrame) -> None:
    issued = features[features["issued_at"].between(BLANK, STAMPS[-1])].dropna(subset="last_power_age_minutes")
    since = (issued["issued_at"] - BLANK) / pd.Timedelta(minutes=1)
    assert set(since) >= {0, 720, 1440}
    # The last hour before the blank began an hour before it.
    assert (issued["last_power_age_minutes"] == 60 + since).all()
