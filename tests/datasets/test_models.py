"""The registry, for real: MLflow on SQLite in a folder of the test."""

import shutil
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from kedro.io import DatasetError

from wind_kedro.contracts.training import Promotions
from wind_kedro.datasets import Log, ModelAlias, ModelVersions
from wind_kedro.datasets.models import NoModelError, RefusedVersionError
from wind_kedro.errors import find_cause
from wind_kedro.governance.champions import newest_number
from wind_kedro.models import objects
from wind_kedro.models.ensembles.fleet_model import FleetModel, Member
from wind_kedro.models.objects import ChangedObjectError
from wind_kedro.models.registry import ModelConfig, build

NAME = "fleet"

# One database for the module, and with it one process.
pytestmark = pytest.mark.slow


def _features(rows: int = 60) -> pd.DataFrame:
    number = np.arange(rows)
    return pd.DataFrame(
        {
            "product_id": np.where(number % 2, "hours", "quarters"),
            "entity_id": np.where(number % 2, "hill", "shore"),
            "lead_minutes": (number % 4 * 60.0) + 60,
            "hour_of_day": number % 24.0,
            "wind_speed_100m_ms": number % 20 / 1.5,
            "wind_speed_density_ms": np.where(number % 7 == 0, np.nan, number % 20 / 1.5),
            "last_power_share": number % 10 / 10,
        }
    )


def _fleet_model(trained_through: str = "2024-03-01T05:00", scale: float = 1.0) -> FleetModel:
    features = _features()
    share = pd.Series((np.arange(len(features)) * 0.37) % 1 * scale)
    members = {}
    for product_id, entity_id, name, kind, levels, params in [
        ("hours", "hill", "my_trees", "catboost", [0.1, 0.5, 0.9], {"iterations": 3}),
        ("quarters", "shore", "my_curve", "power_curve", [0.25, 0.5, 0.75], {"min_rows": 5}),
    ]:
        own = features["entity_id"] == entity_id
        model = build(name, ModelConfig(type=kind, params=params), levels, seed=1).fit(features[own], share[own])
        members[product_id, entity_id] = Member(name, model)
    return FleetModel(pd.Timestamp(trained_through, tz="UTC"), members, features.iloc[:2])


@pytest.fixture(scope="module", autouse=True)
def store(tmp_path_factory: pytest.TempPathFactory, mlflow_database: Path, mlflow_apart: None) -> Path:
    folder = tmp_path_factory.mktemp("mlflow")
    shutil.copy(mlflow_database, folder)
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    mlflow.set_registry_uri(f"sqlite:///{folder}/mlflow.db")
    mlflow.set_experiment(experiment_id=mlflow.create_experiment("test", artifact_location=(folder / "artifacts").as_uri()))
    return folder


@pytest.fixture(scope="module")
def models() -> list[FleetModel]:
    """What is registered, in order: the versions 1 and 2."""
    return [_fleet_model(), _fleet_model("2024-03-08T05:00", scale=0.5)]


def _promote(dataset: ModelVersions, folder: Path) -> None:
    """Promote the version that a dataset just registered, in the signed log in ``folder``."""
    log = Log(filepath=str(folder), number="promotion", contract="wind_kedro.contracts.training.Promotions", signed=True)
    made = dataset.load().made().version
    log.save(entry(newest_number(log.load()) + 1, made, dataset.load().manifest_sha256(made)))


def entry(number: int, version: str, manifest_sha256: str) -> pd.DataFrame:
    time = pd.Timestamp("2024-03-08", tz="UTC")
    return Promotions.validate(
        pd.DataFrame({"product_id": ["hours", "quarters"], "entity_id": ["hill", "shore"]}).assign(
            promotion=number, parent=number - 1, action="train", author="", promoted_at=time, model="m", model_version=version,
            run_id="r", trained_through=time, available_at=time, deciding_score="nmae_share", score=0.1, champion_score=np.nan,
            reason="", recorded_at=time, manifest_sha256=manifest_sha256,
        )
    )  # fmt: skip


def _registry(store: Path, name: str = NAME, **options: Any) -> ModelVersions:
    return ModelVersions(
        registered_model_name=name,
        objects=str(store / "objects"),
        promotions=str(store / name / "promotions"),
        **options,
    )


@pytest.fixture(scope="module")
def versions(models: list[FleetModel], store: Path) -> ModelVersions:
    dataset = _registry(store)
    assert not dataset.exists()
    with mlflow.start_run(run_name="a training that is tracked"):
        dataset.save(models[0])
    _promote(dataset, store / NAME / "promotions")
    dataset.save(models[1])  # in an environment that tracks nothing, it makes a run of its own
    assert mlflow.active_run() is None
    _promote(dataset, store / NAME / "promotions")
    return _registry(store)


def test_each_save_registers_the_next_version(versions: ModelVersions) -> None:
    assert versions.exists()
    registered = mlflow.MlflowClient().search_model_versions(f"name = '{NAME}'")
    assert sorted((version.version, version.tags["trained_through"]) for version in registered) == [
        (1, "2024-03-01T05:00:00+00:00"),
        (2, "2024-03-08T05:00:00+00:00"),
    ]
    newest = versions.load().newest()
    assert newest.version == "2"
    assert newest.trained_through == pd.Timestamp("2024-03-08T05:00", tz="UTC")
    assert mlflow.get_run(newest.run_id).info.run_name == "training"


@pytest.mark.parametrize("version", [1, 2])
def test_a_version_is_the_model_that_was_saved(versions: ModelVersions, models: list[FleetModel], version: int) -> None:
    saved, loaded = models[version - 1], versions.load().version(str(version))
    pd.testing.assert_frame_equal(loaded.predict(_features()), saved.predict(_features()))
    assert loaded.trained_through == saved.trained_through
    assert {key: member.model for key, member in loaded.members.items()} == {
        ("hours", "hill"): "my_trees",
        ("quarters", "shore"): "my_curve",
    }


def test_a_version_is_read_once_in_a_run(versions: ModelVersions) -> None:
    registered = versions.load()
    assert registered.version("1") is registered.version("1")


def test_what_a_server_loads_predicts_the_same(versions: ModelVersions, models: list[FleetModel]) -> None:
    served = mlflow.pyfunc.load_model(f"models:/{NAME}/1")
    pd.testing.assert_frame_equal(served.predict(_features()), models[0].predict(_features()))


def test_a_server_refuses_features_of_another_make(versions: ModelVersions) -> None:
    served = mlflow.pyfunc.load_model(f"models:/{NAME}/1")
    with pytest.raises(mlflow.MlflowException, match="hour_of_day"):
        served.predict(_features().drop(columns="hour_of_day"))


@pytest.fixture(scope="module")
def artefacts(versions: ModelVersions) -> Path:
    return Path(mlflow.artifacts.download_artifacts(f"models:/{NAME}/1"))


def test_what_is_logged_is_the_manifest_and_no_model(artefacts: Path, versions: ModelVersions) -> None:
    assert [path.name for path in (artefacts / "artifacts").rglob("*") if path.is_file()] == ["manifest.json"]
    manifest = versions.load().manifest("1")
    assert [(entry["entity_id"], entry["model"]) for entry in manifest["members"]] == [
        ("hill", "my_trees"),
        ("shore", "my_curve"),
    ]
    assert {entry["run_id"] for entry in manifest["members"]} == {versions.load().registered("1").run_id}


def test_a_run_promotes_the_version_it_made(models: list[FleetModel], store: Path) -> None:
    ours, theirs = (_registry(store, "race") for _ in range(2))
    ours.save(models[0])
    theirs.save(models[1])
    assert (ours.load().made().version, theirs.load().made().version, ours.load().newest().version) == ("1", "2", "2")
    seen = _registry(store, "race", read_only=True)
    assert seen.exists()
    assert seen.load().made().version == "2"
    with pytest.raises(DatasetError, match="is read here, not written"):
        seen.save(models[0])


def test_nothing_is_pickled(artefacts: Path, store: Path) -> None:
    stored = [path for folder in (artefacts, store / "objects") for path in folder.rglob("*") if path.is_file()]
    suffixes = {path.suffix for path in stored}
    assert {".cbm", ".npz", ".json"} <= suffixes
    assert not suffixes & {".pkl", ".pickle", ".joblib", ".cloudpickle", ".skops"}
    # A pickle of protocol 2 and above begins with its opcode, whatever its name.
    starts = {str(path): path.read_bytes()[:2] for path in stored}
    assert not [
        name for name, start in starts.items() if start[:1] == b"\x80" and start[1:] in {b"\x02", b"\x03", b"\x04", b"\x05"}
    ]


def test_signature_example_and_requirements_are_there(artefacts: Path) -> None:
    info = mlflow.models.get_model_info(f"models:/{NAME}/1")
    assert info.signature.inputs.input_names() == list(_features())
    assert info.signature.outputs.input_names() == [
        "q100_share",
        "q250_share",
        "q500_share",
        "q750_share",
        "q900_share",
    ]
    assert info.saved_input_example_info is not None
    requirements = (artefacts / "requirements.txt").read_text()
    assert "wind-kedro==" in requirements
    assert "catboost==" in requirements


def test_the_alias_names_the_version_it_is_given(versions: ModelVersions) -> None:
    champion = ModelAlias(registered_model_name=NAME, alias="champion")
    assert not champion.exists()
    for version in ("2", "1"):
        champion.save(version)
        assert champion.load() == version
    assert champion.exists()
    assert not ModelAlias(registered_model_name=NAME, alias="challenger").exists()


def test_a_version_that_an_interrupted_run_left_is_not_the_newest(versions: ModelVersions) -> None:
    client = mlflow.MlflowClient()
    source = client.get_model_version(NAME, "1").source
    left = client.create_model_version(NAME, source)
    try:
        assert versions.load().newest().version == "2"
    finally:
        client.delete_model_version(NAME, left.version)


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        pytest.param(
            lambda store: _registry(store, "nobody").load().newest(),
            "no version of model 'nobody' is registered: kedro run --pipeline training",
            id="nothing registered",
        ),
        pytest.param(
            lambda store: _registry(store, "nobody").load().version("1"),
            "version 1 of model 'nobody' is refused: no signed promotion names it",
            id="no such model",
        ),
        pytest.param(
            lambda store: _registry(store).load().version("99"),
            "version 99 of model 'fleet' is refused: no signed promotion names it",
            id="no such version",
        ),
    ],
)
def test_what_is_not_registered_is_one_line(versions: ModelVersions, store: Path, ask: Any, says: str) -> None:
    with pytest.raises(NoModelError) as caught:
        ask(store)
    assert str(caught.value).startswith(says)
    assert "\n" not in str(caught.value)


def test_lost_artefacts_are_one_line_that_says_what_to_do(versions: ModelVersions, store: Path) -> None:
    lost = _registry(store, "lost")
    lost.save(_fleet_model())
    place = mlflow.artifacts.download_artifacts("models:/lost/1")
    for path in sorted(Path(place).rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    with pytest.raises(NoModelError, match=r"^version 1 of model 'lost' cannot be loaded: .*train again") as caught:
        lost.load().version("1")
    assert "\n" not in str(caught.value)


# --- versions that are not what was promoted -----------------------------------------------------------------------------


def _manifest(name: str, version: str = "1") -> Path:
    return Path(mlflow.artifacts.download_artifacts(f"models:/{name}/{version}")) / "artifacts/fleet_model/manifest.json"


@pytest.fixture
def promoted(store: Path, request: pytest.FixtureRequest) -> str:
    """The name of a registered model of its own, with one promoted version."""
    name = f"own_{abs(hash(request.node.name))}"
    dataset = _registry(store, name)
    dataset.save(_fleet_model())
    _promote(dataset, store / name / "promotions")
    return name


def test_another_manifest_is_refused_before_it_is_parsed(promoted: str, store: Path) -> None:
    _manifest(promoted).write_text('{"format": ' + "[" * 100_000)
    with pytest.raises(RefusedVersionError, match=r"version 1 of model .* is refused: .* is not the manifest that was promoted"):
        _registry(store, promoted).load().version("1")
    with pytest.raises(RefusedVersionError, match="is not the manifest"):
        _registry(store, promoted).load().manifest("1")


def test_a_swapped_manifest_is_refused(promoted: str, versions: ModelVersions, store: Path) -> None:
    _manifest(promoted).write_bytes(_manifest(NAME, "2").read_bytes())
    with pytest.raises(RefusedVersionError, match="is not the manifest that was promoted"):
        _registry(store, promoted).load().version("1")


def test_a_version_that_nobody_promoted_is_refused_and_cannot_be_promoted(promoted: str, store: Path) -> None:
    _registry(store, promoted).save(_fleet_model(scale=0.1))
    later = _registry(store, promoted).load()
    assert later.made().version == "2"
    with pytest.raises(RefusedVersionError, match=r"version 2 of model .* is refused: no signed promotion names it"):
        later.version("2")
    with pytest.raises(RefusedVersionError, match="no signed promotion names it"):
        later.manifest_sha256("2")


def test_where_the_log_was_cut_off_no_version_is_read(promoted: str, store: Path) -> None:
    folder = store / promoted / "promotions"
    log = Log(filepath=str(folder), number="promotion", contract="wind_kedro.contracts.training.Promotions", signed=True)
    log.save(entry(2, "1", _registry(store, promoted).load().manifest_sha256("1")))
    (folder / "000002.parquet").unlink()
    cut = _registry(store, promoted).load()
    assert "promotion 2 removed" in cut.refusal
    with pytest.raises(RefusedVersionError, match="promotion 2 removed: this machine has seen promotion 2"):
        cut.version("1")


def test_a_damaged_model_is_refused_alone_and_fitting_it_again_mends_it(promoted: str, store: Path) -> None:
    registered = _registry(store, promoted).load().version("1")
    member = registered.members["quarters", "shore"]
    place = store / "objects" / str(member.object)
    shutil.copytree(place, store / "kept")
    (place / "learnt.npz").write_bytes(b"garbage")
    with pytest.raises(ChangedObjectError, match="was changed after it was stored"):
        _ = member.forecaster
    assert registered.members["hours", "hill"].forecaster.levels == [0.1, 0.5, 0.9]
    objects.store(objects.load_model(store / "kept"), store / "objects")
    assert objects.is_whole(str(member.object), store / "objects")


def test_what_is_parsed_is_what_was_verified(promoted: str, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody swaps the file after its digest was taken."""
    member = _registry(store, promoted).load().version("1").members["quarters", "shore"]
    place = store / "objects" / str(member.object)
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    digest = objects._digest

    def then_swapped(contents: dict[str, bytes]) -> str:
        found = digest(contents)
        for path in before:
            path.write_bytes(b"garbage")
        return found

    monkeypatch.setattr(objects, "_digest", then_swapped)
    try:
        assert member.forecaster.levels == [0.25, 0.5, 0.75]
    finally:
        for path, content in before.items():
            path.write_bytes(content)


def test_through_the_catalog_the_cause_is_still_found(versions: ModelVersions, store: Path) -> None:
    try:
        _registry(store, "nobody").load().newest()
    except NoModelError as error:
        wrapped = RuntimeError("a node failed")
        wrapped.__cause__ = error
    assert find_cause(wrapped) is wrapped.__cause__
    assert find_cause(RuntimeError("a bug")) is None


def test_what_the_datasets_say_of_themselves(versions: ModelVersions) -> None:
    assert NAME in str(versions)
    assert "champion" in str(ModelAlias(registered_model_name=NAME, alias="champion"))
