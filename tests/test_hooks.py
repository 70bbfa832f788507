"""The two hooks: cards first, one time for the whole run, missing inputs by name; tags of the MLflow run."""

from __future__ import annotations

import datetime as dt
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from kedro.framework.session import KedroSession
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline

from wind_kedro import hooks
from wind_kedro.governance.provenance import Provenance, git_commit, lock
from wind_kedro.hooks import MissingInputError, MlflowTags, RunStart
from wind_kedro.storage.fingerprints import Recipe

pytestmark = pytest.mark.slow


@pytest.fixture
def project(make_project: Callable[[], Path], inside: Callable[[Path], Path]) -> Path:
    return inside(make_project())


@pytest.fixture
def open_context(project: Path) -> Iterator[Callable[..., Any]]:
    sessions = []

    def open_it(**runtime_params: Any) -> Any:
        session = KedroSession.create(project_path=project, runtime_params=runtime_params, save_on_close=False)
        sessions.append(session)
        return session.load_context()

    yield open_it
    for session in sessions:
        session.close()


@pytest.mark.parametrize(
    ("typed", "configured"),
    [
        pytest.param({"as_of": "now"}, "2024-03-31", id="typed"),
        pytest.param({"as_of": "now", "other": 1}, "2024-03-31", id="typed with others"),
        pytest.param({}, "now", id="configured"),
        pytest.param({"other": 1}, "now", id="configured, and others typed"),
    ],
)
def test_now_is_one_moment_for_the_whole_run(
    project: Path,
    open_context: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    typed: dict[str, Any],
    configured: str,
) -> None:
    (project / "conf/local/parameters_run.yml").write_text(f"clock: {{as_of: '${{runtime_params:as_of,{configured}}}'}}")
    moments = iter(dt.datetime(2024, 3, 5, hour, tzinfo=dt.UTC) for hour in range(24))  # an hour passes at every look
    monkeypatch.setattr(hooks, "dt", SimpleNamespace(UTC=dt.UTC, datetime=SimpleNamespace(now=lambda zone: next(moments))))
    context = open_context(**typed)
    seen = {context.params["clock"].as_of, context.catalog.load("params:clock").as_of, context.params["clock"].as_of}
    assert seen == {dt.datetime(2024, 3, 5, 0, tzinfo=dt.UTC)}
    assert context.config_loader["parameters"]["clock"]["as_of"] == "2024-03-05T00:00:00+00:00"


@pytest.mark.parametrize(
    ("typed", "expected"), [({}, "2024-03-31T12:00:00Z"), ({"as_of": "2024-03-05T00:00"}, "2024-03-05T00:00")]
)
def test_what_is_typed_wins_over_what_is_configured(
    open_context: Callable[..., Any], typed: dict[str, str], expected: str
) -> None:
    assert open_context(**typed).params["clock"].as_of == dt.datetime.fromisoformat(expected).replace(tzinfo=dt.UTC)


# --- inputs ----------------------------------------------------------------------------------------------------------


def _pass_on(*data: Any) -> Any:
    return data


def _before_run(pipeline: Pipeline, **datasets: Any) -> None:
    hook = RunStart()
    hook._parameters, hook._data = {}, Path.cwd() / "data"
    list(hook.before_pipeline_run(pipeline=pipeline, catalog=DataCatalog(datasets)))


def test_secrets_of_this_machine_hold_in_every_environment_and_nothing_else_of_it(project: Path) -> None:
    (project / "conf/local/credentials.yml").write_text("lake: {key: local}\nplant: {password: local}")
    (project / "conf/local/globals.yml").write_text("data: elsewhere")
    (project / "conf/prod").mkdir()
    (project / "conf/prod/credentials.yml").write_text("plant: {password: of the environment}")
    (project / "conf/prod/globals.yml").write_text("data: data/prod")
    with KedroSession.create(project_path=project, env="prod", save_on_close=False) as session:
        loader = session.load_context().config_loader
        assert loader["credentials"] == {"lake": {"key": "local"}, "plant": {"password": "of the environment"}}
        assert loader["catalog"]["features"]["filepath"].startswith("data/prod/")


def test_every_missing_input_is_named(project: Path) -> None:
    names = ["features", "params:clock", "parameters", "promotions", "memory", "orphan"]
    pipeline = Pipeline([Node(_pass_on, inputs=names, outputs="out", name="pass_on")])
    with pytest.raises(MissingInputError) as caught:
        _before_run(pipeline, memory=MemoryDataset(1), **{"params:clock": MemoryDataset({})})
    assert str(caught.value).split("; ") == [
        "'features' is missing: pipeline 'feature_engineering' makes it (kedro run --pipeline feature_engineering)",
        "'orphan' is missing, and no pipeline makes it: look at its entry in the catalog",
        "'promotions' is missing: pipeline 'training' makes it (kedro run --pipeline training)",
    ]


def test_with_its_inputs_a_run_may_start_even_where_nothing_is_tracked(project: Path) -> None:
    _before_run(Pipeline([Node(_pass_on, inputs="memory", outputs="out", name="pass_on")]), memory=MemoryDataset(1))


# --- tags ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def tags(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What a run is tagged with, as if MLflow were watching."""
    import mlflow

    seen: dict[str, str] = {}
    monkeypatch.setattr(mlflow, "active_run", lambda: SimpleNamespace(info=None))
    monkeypatch.setattr(mlflow, "set_tags", seen.update)
    return seen


def test_the_fingerprint_is_that_of_the_table_that_models_learn_from(tags: dict[str, str]) -> None:
    hook = MlflowTags()
    days = pd.DataFrame({"product_id": "hours", "entity_id": ["hill", "shore"], "day": pd.Timestamp("2024-03-01")})
    prints = []
    for numbers in ([1, 2], [1, 2], [1, 3]):
        wanted = days.assign(fingerprint=np.array(numbers, dtype=np.uint64))
        hook.after_dataset_saved("model_input", Recipe(wanted, lambda part: part))
        hook.after_dataset_saved("model_input", Recipe(wanted.iloc[::-1], lambda part: part))
        prints.append(tags.pop("data_sha256"))
    assert prints[0] == prints[1] != prints[2]
    hook.after_dataset_saved("features", days)
    assert tags == {}


def test_the_configuration_has_its_fingerprint(tags: dict[str, str], tmp_path: Path) -> None:
    prints = []
    for seed in (1, 1, 2):  # when it ran is no part of it
        hook = MlflowTags()
        hook._parameters = {"training": {"seed": seed}, "clock": {"as_of": dt.date(2024, 3, seed)}}
        hook._parameters["provenance"] = Provenance.collect(tmp_path, hook._parameters).model_dump()
        list(hook.before_pipeline_run())
        prints.append(tags["configuration_sha256"])
        assert (tags["seed"], tags["as_of"]) == (str(seed), f"2024-03-0{seed}")
    assert prints[0] == prints[1] != prints[2]


def _git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", *identity, *words], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


def test_the_commit_says_whether_something_was_changed_since(tmp_path: Path) -> None:
    assert git_commit(tmp_path).startswith("not a checkout (wind-kedro ")
    _git(tmp_path, "init")
    assert git_commit(tmp_path).startswith("not a checkout (wind-kedro ")  # nothing committed yet
    (tmp_path / "a.txt").write_text("1")
    _git(tmp_path, "add", "a.txt")
    _git(tmp_path, "commit", "-m", "first")
    commit = _git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "data.csv").write_text("what a run leaves is no change of the code")
    assert git_commit(tmp_path) == commit
    (tmp_path / "a.txt").write_text("2")
    assert git_commit(tmp_path) == f"{commit} (changed since)"


def test_the_lock_has_its_fingerprint(tmp_path: Path) -> None:
    assert lock(tmp_path) == "no requirements.lock here"
    (tmp_path / "requirements.lock").write_text("a==1")
    assert lock(tmp_path) == "4259374dfcb3b2343b8d9e498219f4bdecbef4d9aadb0023ff6f05b119e8fb3c"
