import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from wind_kedro.models import Forecaster, ModelConfig, build
from wind_kedro.models.fleet_model import FleetModel, Member

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


def test_levels_are_those_of_all_and_missing_where_a_product_lacks_one(
    fleet_model: FleetModel, features: pd.DataFrame
) -> None:
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
    fleet_model.save(tmp_path / "fleet")
    loaded = FleetModel.load(tmp_path / "fleet")
    assert loaded.trained_through == TRAINED_THROUGH
    assert {key: member.model for key, member in loaded.members.items()} == {
        key: member.model for key, member in fleet_model.members.items()
    }
    pd.testing.assert_frame_equal(loaded.predict(features), fleet_model.predict(features))


def test_the_manifest_says_what_is_in_it(fleet_model: FleetModel, tmp_path: Path) -> None:
    fleet_model.save(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["levels"] == [0.1, 0.25, 0.5, 0.9]
    assert [member["folder"] for member in manifest["members"]] == ["hourly/coast", "hourly/hill", "quarterly/hill"]
    assert (tmp_path / "hourly" / "coast" / "model.json").is_file()


@pytest.mark.parametrize(
    ("manifest", "error", "says"),
    [
        pytest.param(None, FileNotFoundError, "no models of a fleet", id="nothing there"),
        pytest.param({"format": 99}, ValueError, "layout 99", id="later layout"),
        pytest.param(
            {"format": 1, "trained_through": "2024-01-01T00:00:00Z", "members": [
                {"product_id": "hourly", "entity_id": "hill", "model": "x", "folder": "hourly/hill"}]},
            FileNotFoundError, "no model in this folder", id="a model is gone",
        ),
    ],
)  # fmt: skip
def test_a_folder_that_cannot_be_read(
    tmp_path: Path, manifest: dict[str, object] | None, error: type[Exception], says: str
) -> None:
    if manifest:
        (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(error, match=says):
        FleetModel.load(tmp_path)
