"""What moved a forecast: the attributions of an interval add up to the median that was issued."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from wind_kedro.cards import Fleet
from wind_kedro.clock import Clock
from wind_kedro.contracts.forecasts import Attributions
from wind_kedro.models.base import Contributions
from wind_kedro.models.ensembles.fleet_model import FleetModel, Member
from wind_kedro.pipelines.forecasting.attributions import explain_forecasts
from wind_kedro.pipelines.forecasting.settings import FeatureGroups

GROUPS = FeatureGroups(groups={"wind": ["wind_*"], "time": ["lead_minutes", "hour_*"]})
CLOCK = Clock.model_validate({"as_of": "2024-03-01T18:30", "issue_from": "2024-03-01"})
ISSUED = [pd.Timestamp("2024-03-01T06:00Z"), pd.Timestamp("2024-03-01T18:00Z")]


class Linear:
    """A model that can say: half a hundredth of capacity a m/s, a hundredth less an hour ahead."""

    def contributions(self, features: pd.DataFrame) -> Contributions:
        moved = {
            "wind_speed_100m_ms": features["wind_speed_100m_ms"] * 0.005,
            "wind_u_100m_ms": features["wind_speed_100m_ms"] * -0.001,
            "lead_minutes": features["lead_minutes"] / 60 * -0.01,
            "strange": np.zeros(len(features)),
        }
        return Contributions(np.full(len(features), 0.3), pd.DataFrame(moved))


class Mute:
    """A model that cannot say."""

    def contributions(self, features: pd.DataFrame) -> None:
        return None


class Versions:
    def version(self, version: str) -> FleetModel:
        models = {("hours", "hill"): Linear(), ("hours", "both"): Mute()}
        return FleetModel(ISSUED[0], {key: Member("m", model) for key, model in models.items()})  # type: ignore[arg-type]


@pytest.fixture
def features() -> pd.DataFrame:
    rows = [
        {
            "product_id": "hours", "entity_id": entity_id, "issued_at": issued_at,
            "valid_at": issued_at + pd.Timedelta(hours=lead), "lead_minutes": 60 * lead, "weather_run_at": issued_at,
            "wind_speed_100m_ms": 4.0 + lead, "wind_u_100m_ms": np.nan, "strange": 1.0,
        }
        for entity_id in ("hill", "both")
        for issued_at in ISSUED
        for lead in (1, 2)
    ]  # fmt: skip
    return pd.DataFrame(rows)


@pytest.fixture
def forecasts(features: pd.DataFrame) -> pd.DataFrame:
    keys = features[["product_id", "entity_id", "issued_at", "valid_at", "lead_minutes", "weather_run_at"]]
    earlier = keys.assign(issued_at=keys["issued_at"] - pd.Timedelta(days=9))
    table = pd.concat([earlier, keys], ignore_index=True)
    return table.assign(model="m", model_version="4", capacity_kw=3000.0, fallback="", q500_kw=1000.0)


def explain(forecasts: pd.DataFrame, features: pd.DataFrame, fleet: Fleet, clock: Clock = CLOCK) -> pd.DataFrame:
    versions: Any = Versions()
    return Attributions.validate(explain_forecasts(forecasts, features, versions, fleet, clock, GROUPS)[0])


def test_drivers_add_up_to_the_median_issued(forecasts: pd.DataFrame, features: pd.DataFrame, fleet: Fleet) -> None:
    table = explain(forecasts, features, fleet)
    first = table[table["valid_at"] == ISSUED[0] + pd.Timedelta(hours=1)].set_index("feature_group")["contribution_kw"]
    # 5 m/s, 1 hour ahead, 3,000 kW: 900 + 75 - 15 - 30, and what was done to come to 1,000.
    assert first.to_dict() == pytest.approx({"base": 900, "wind": 60, "time": -30, "other": 0, "corrections": 70})
    assert table.groupby(["issued_at", "valid_at"])["contribution_kw"].sum().to_numpy() == pytest.approx(1000.0)


def test_each_group_names_the_feature_that_moved_most(forecasts: pd.DataFrame, features: pd.DataFrame, fleet: Fleet) -> None:
    table = explain(forecasts, features, fleet)
    wind = table[table["feature_group"] == "wind"]
    assert set(wind["feature"]) == {"wind_speed_100m_ms"}
    assert wind["feature_value"].tolist() == [5.0, 6.0, 5.0, 6.0]
    assert set(table.loc[table["feature_group"] == "other", "feature"]) == {"strange"}


def test_a_model_that_cannot_say_has_no_rows(forecasts: pd.DataFrame, features: pd.DataFrame, fleet: Fleet) -> None:
    assert set(explain(forecasts, features, fleet)["entity_id"]) == {"hill"}
    mute = forecasts[forecasts["entity_id"] == "both"]
    nothing = explain(mute, features, fleet)
    assert nothing.empty


def test_only_the_issues_of_this_run(forecasts: pd.DataFrame, features: pd.DataFrame, fleet: Fleet) -> None:
    newest = explain(forecasts, features, fleet, Clock.model_validate({"as_of": "2024-03-01T18:30"}))
    assert set(newest["issued_at"]) == {ISSUED[1]}


def test_names_of_ours_are_no_groups() -> None:
    with pytest.raises(ValidationError, match="base: these names have a meaning of their own"):
        FeatureGroups(groups={"base": ["wind_*"]})


def test_where_a_fallback_stood_in_nothing_is_said_of_the_champion(
    forecasts: pd.DataFrame, features: pd.DataFrame, fleet: Fleet
) -> None:
    stood_in = forecasts.assign(fallback=np.where(forecasts["lead_minutes"] == 60, "last", ""))
    assert set(explain(stood_in, features, fleet)["valid_at"]) == set(features.loc[features["lead_minutes"] == 120, "valid_at"])
