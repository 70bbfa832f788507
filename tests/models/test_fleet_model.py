import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from wind_kedro.models.base import Forecaster
from wind_kedro.models.ensembles.fleet_model import FleetModel, Member
from wind_kedro.models.objects import ChangedObjectError, digest
from wind_kedro.models.registry import ModelConfig, build

TRAINED_THROUGH = pd.Timestamp("2024-03-01T00:00:00Z")


def usual_power(share: float, levels: list[float]) -> Forecaster:
    """A model whose every quantile is ``share``, and a tenth more at seven."""
    model = build("usual", ModelConfig(type="climatology", params={"min_rows": 1}), levels, seed=0)
    return model.fit(pd.DataFrame({"hour_of_day": [6.0, 7.0]}), pd.Series([share, share + 0.1]))


@pytest.fixture
def fleet_model() -> FleetModel:
    return FleetModel(
        TRAINED_THROUGH,
        {
            ("hourly", "hill"): Member("usual", usual_power(0.2, [0.1, 0.5, 0.9])),
            ("hourly", "coast"): Member("calm", usual_power(0.6, [0.1, 0.5, 0.9])),
            ("quarterly", "hill"): Member("usual", usual_power(0.3, [0.25, 0.5])),
        },
    )


@pytest.fixture
def features() -> pd.DataFrame:
    issued_at = pd.Timestamp("2024-03-02T06:00:00Z")
    return pd.DataFrame(
        {
            "product_id": ["hourly", "quarterly", "hourly", "hourly"],
            "entity_id": ["coast", "hill", "hill", "coast"],
            "issued_at": issued_at,
            "valid_at": issued_at + pd.to_timedelta([0, 0, 0, 60], unit="min"),
            "lead_minutes": [0, 0, 0, 60],
            "hour_of_day": [6.0, 6.0, 6.0, 7.0],
        },
        index=[10, 20, 30, 40],
    )


def test_each_row_is_answered_by_its_own_model_in_its_place(fleet_model: FleetModel, features: pd.DataFrame) -> None:
    answer = fleet_model.predict(features)
    assert answer.index.equals(features.index)
    np.testing.assert_allclose(answer["q500_share"], [0.6, 0.3, 0.2, 0.7])


def test_levels_are_those_of_all_and_missing_where_a_product_lacks_one(fleet_model: FleetModel, features: pd.DataFrame) -> None:
    answer = fleet_model.predict(features)
    assert fleet_model.levels == [0.1, 0.25, 0.5, 0.9]
    assert answer.columns.to_list() == ["q100_share", "q250_share", "q500_share", "q900_share"]
    assert answer.loc[20].isna().to_list() == [True, False, False, True]
    assert answer.loc[10].isna().to_list() == [False, True, False, False]


def test_an_entity_that_it_does_not_know_is_named(fleet_model: FleetModel, features: pd.DataFrame) -> None:
    with pytest.raises(KeyError, match=r"no model of hourly of moor; there are .*hourly of coast"):
        fleet_model.predict(features.assign(entity_id=["coast", "hill", "moor", "coast"]))


def test_no_rows(fleet_model: FleetModel, features: pd.DataFrame) -> None:
    answer = fleet_model.predict(features.iloc[:0])
    assert len(answer) == 0
    assert answer.columns.to_list() == ["q100_share", "q250_share", "q500_share", "q900_share"]


def test_saved_and_loaded_says_the_same(fleet_model: FleetModel, features: pd.DataFrame, tmp_path: Path) -> None:
    fleet_model.save(tmp_path / "fleet", tmp_path / "objects", "a_run")
    loaded = FleetModel.load(tmp_path / "fleet")
    assert loaded.trained_through == TRAINED_THROUGH
    assert {key: (member.model, member.run_id) for key, member in loaded.members.items()} == {
        key: (member.model, "a_run") for key, member in fleet_model.members.items()
    }
    assert loaded.levels == fleet_model.levels
    pd.testing.assert_frame_equal(loaded.predict(features), fleet_model.predict(features))


def _manifest(folder: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return manifest


def test_a_model_is_stored_once_under_the_digest_of_its_files(fleet_model: FleetModel, tmp_path: Path) -> None:
    shared = usual_power(0.2, [0.1, 0.5, 0.9])  # another instance, but the same model as the hill's
    members = dict(fleet_model.members) | {("hourly", "moor"): Member("usual", shared)}
    FleetModel(TRAINED_THROUGH, members).save(tmp_path, tmp_path / "objects")
    named = {(entry["product_id"], entry["entity_id"]): entry["object"] for entry in _manifest(tmp_path)["members"]}
    assert named["hourly", "moor"] == named["hourly", "hill"]
    assert sorted(path.name for path in (tmp_path / "objects").iterdir()) == sorted(set(named.values()))
    assert all(digest(tmp_path / "objects" / name) == name for name in named.values())


def test_a_later_version_refers_to_what_is_stored_and_copies_nothing(fleet_model: FleetModel, tmp_path: Path) -> None:
    objects = tmp_path / "objects"
    fleet_model.save(tmp_path / "1", objects, "first")
    before = {path: path.stat().st_mtime_ns for path in objects.rglob("*")}
    first = FleetModel.load(tmp_path / "1")
    new = Member("calm", usual_power(0.7, [0.1, 0.5, 0.9]))
    later = FleetModel(TRAINED_THROUGH, dict(first.members) | {("hourly", "coast"): new}, parent="1")
    later.save(tmp_path / "2", objects, "second")
    ours, theirs = _manifest(tmp_path / "2"), _manifest(tmp_path / "1")
    assert [entry["run_id"] for entry in ours["members"]] == ["second", "first", "first"]
    assert ours["members"][1:] == theirs["members"][1:]
    assert ours["parent"] == "1"
    assert {path for path in objects.rglob("*") if path in before} == set(before)
    assert len(list(objects.iterdir())) == 4


def test_no_model_is_read_before_it_is_asked_for(fleet_model: FleetModel, tmp_path: Path) -> None:
    fleet_model.save(tmp_path, tmp_path / "objects")
    (tmp_path / "objects").rename(tmp_path / "away")
    loaded = FleetModel.load(tmp_path)
    assert loaded.levels == [0.1, 0.25, 0.5, 0.9]
    with pytest.raises(FileNotFoundError, match="no such model in the store"):
        _ = loaded.members["hourly", "hill"].forecaster
    moved = FleetModel.load(tmp_path, tmp_path / "away")
    assert moved.members["hourly", "hill"].forecaster.levels == [0.1, 0.5, 0.9]


def test_a_changed_model_is_refused(fleet_model: FleetModel, tmp_path: Path) -> None:
    fleet_model.save(tmp_path, tmp_path / "objects")
    member = FleetModel.load(tmp_path).members["hourly", "hill"]
    file = tmp_path / "objects" / str(member.object) / "model.json"
    file.write_text(file.read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(ChangedObjectError, match="was changed after it was stored"):
        _ = member.forecaster


def test_shadows_and_fallbacks_are_kept_in_their_order(fleet_model: FleetModel, tmp_path: Path) -> None:
    model = usual_power(0.4, [0.1, 0.5, 0.9])
    keys = [("hourly", "hill", "second"), ("hourly", "hill", "first")]
    FleetModel(
        TRAINED_THROUGH,
        fleet_model.members,
        shadows={("hourly", "hill", "shade"): Member("shade", model)},
        fallbacks={key: Member(key[2], model) for key in keys},
    ).save(tmp_path, tmp_path / "objects")
    loaded = FleetModel.load(tmp_path)
    assert list(loaded.fallbacks) == keys
    assert list(loaded.shadows) == [("hourly", "hill", "shade")]


@pytest.mark.parametrize(
    ("manifest", "error", "says"),
    [
        pytest.param(None, FileNotFoundError, "no models of a fleet", id="nothing there"),
        pytest.param({"format": 99}, ValueError, "layout 99", id="later layout"),
        pytest.param({"format": 1, "members": []}, ValueError, "layout 1", id="earlier layout"),
    ],
)
def test_a_folder_that_cannot_be_read(
    tmp_path: Path, manifest: dict[str, object] | None, error: type[Exception], says: str
) -> None:
    if manifest:
        (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(error, match=says):
        FleetModel.load(tmp_path)
