"""Who issues a forecast, and what is said where nobody can. Hill's product is issued at 06:00 and 18:00, shore's at 06:10."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pytest

from wind_kedro import contracts
from wind_kedro.cards import Fleet
from wind_kedro.clock import Clock
from wind_kedro.models.fleet_model import FleetModel, Member
from wind_kedro.pipelines.forecasting.nodes import NoForecastError, issue_forecasts

MakeTable = Callable[[list[dict[str, Any]]], pd.DataFrame]
MEMBERS = {"hill": "hours", "both": "hours", "shore": "quarters"}
LEVELS = {"hours": [0.1, 0.5, 0.9], "quarters": [0.25, 0.5, 0.75]}


@dataclass
class Constant:
    """A model whose every quantile is its version, in hundredths of capacity."""

    levels: list[float]
    share: float

    def predict(self, features: pd.DataFrame) -> np.ndarray[Any, Any]:
        assert not set(features.columns) & {"issued_at", "valid_at", "power_share"}
        return np.full((len(features), len(self.levels)), self.share)


@dataclass
class Versions:
    """A registry that makes the version that is asked for, and remembers which were."""

    asked: list[str] = field(default_factory=list)

    def version(self, version: str) -> FleetModel:
        self.asked.append(version)
        members = {
            (product_id, entity_id): Member(f"model_{version}", Constant(LEVELS[product_id], int(version) / 100))  # type: ignore[arg-type]
            for entity_id, product_id in MEMBERS.items()
        }
        return FleetModel(pd.Timestamp("2024-02-01", tz="UTC"), members)


def _promotions(*rows: tuple[str, str, str]) -> pd.DataFrame:
    """Rows of entity, version and time; with a fourth, when the version could first be used."""
    table = pd.DataFrame(
        [(*row, row[2])[:4] for row in rows], columns=["entity_id", "model_version", "promoted_at", "available_at"]
    )
    for name in ("promoted_at", "available_at"):
        table[name] = pd.to_datetime(table[name], utc=True, format="ISO8601")
    table["product_id"] = table["entity_id"].map(MEMBERS).astype(str)
    time = pd.Timestamp("2024-02-01", tz="UTC")
    return contracts.Promotions.validate(
        table.assign(
            promotion=range(1, len(table) + 1),
            parent=range(len(table)),
            action="train",
            author="",
            model="m",
            run_id="r",
            trained_through=time,
            deciding_score="nmae_share",
            score=0.1,
            champion_score=np.nan,
            reason="",
            recorded_at=time,
        )
    )


FOREVER = [("hill", "1", "2024-01-01"), ("both", "1", "2024-01-01"), ("shore", "1", "2024-01-01")]
ISSUES = {
    "hours": ["2024-03-01 06:00", "2024-03-01 18:00", "2024-03-02 06:00"],
    "quarters": ["2024-03-01 06:10", "2024-03-02 06:10"],
}


@pytest.fixture
def features(make_features: MakeTable) -> pd.DataFrame:
    rows = []
    for entity_id, product_id in MEMBERS.items():
        for issued in ISSUES[product_id]:
            issued_at = pd.Timestamp(issued, tz="UTC")
            for lead in (60, 75):
                rows.append(
                    {
                        "product_id": product_id,
                        "entity_id": entity_id,
                        "issued_at": issued_at,
                        "valid_at": issued_at + pd.Timedelta(minutes=lead),
                    }
                )
    return make_features(rows)


ALL = Clock.model_validate({"as_of": "2024-03-02T12:00", "issue_from": "2024-03-01"})


def _issue(
    features: pd.DataFrame, promotions: pd.DataFrame, fleet: Fleet, clock: Clock = ALL, versions: Versions | None = None
) -> pd.DataFrame:
    return contracts.Forecasts.validate(issue_forecasts(features, versions or Versions(), promotions, fleet, clock))  # type: ignore[arg-type]


def _by(table: pd.DataFrame, entity_id: str) -> dict[str, str]:
    rows = table[table["entity_id"] == entity_id].drop_duplicates("issued_at")
    return {f"{row.issued_at:%d %H}": row.model_version for row in rows.itertuples()}


def test_every_issue_asked_for_is_issued(fleet: Fleet, features: pd.DataFrame) -> None:
    table = _issue(features, _promotions(*FOREVER), fleet)
    assert {entity_id: list(_by(table, entity_id)) for entity_id in MEMBERS} == {
        "hill": ["01 06", "01 18", "02 06"],
        "both": ["01 06", "01 18", "02 06"],
        "shore": ["01 06", "02 06"],
    }
    assert len(table) == len(features)
    # 1 hundredth of each capacity.
    assert dict(table.groupby("entity_id")["q500_kw"].first()) == {"hill": 30, "both": 40, "shore": 10}
    assert set(table["model"]) == {"model_1"}
    assert set(table["fallback"]) == {""}


def test_without_a_start_only_the_newest_is_issued(fleet: Fleet, features: pd.DataFrame) -> None:
    table = _issue(features, _promotions(*FOREVER), fleet, Clock.model_validate({"as_of": "2024-03-01T18:30"}))
    assert {entity_id: list(_by(table, entity_id)) for entity_id in MEMBERS} == {
        "hill": ["01 18"],
        "both": ["01 18"],
        "shore": ["01 06"],
    }


@pytest.mark.parametrize(
    ("promotions", "versions"),
    [
        pytest.param([("hill", "1", "2024-02-01")], ["1", "1", "1"], id="one"),
        pytest.param(
            [("hill", "1", "2024-02-01"), ("hill", "2", "2024-03-01T18:00")],
            ["1", "2", "2"],
            id="a promotion at an issue counts for it",
        ),
        pytest.param(
            [("hill", "1", "2024-02-01"), ("hill", "2", "2024-03-01T18:01")],
            ["1", "1", "2"],
            id="a minute later it does not",
        ),
        pytest.param(
            [("hill", "2", "2024-03-01T12:00"), ("hill", "1", "2024-02-01"), ("hill", "3", "2024-03-02T06:00")],
            ["1", "2", "3"],
            id="three, in any order",
        ),
        pytest.param(
            [("hill", "9", "2024-02-01"), ("hill", "2", "2024-03-01T12:00")],
            ["9", "2", "2"],
            id="the newest promotion, not the highest version",
        ),
        pytest.param(
            [("hill", "1", "2024-02-01"), ("hill", "2", "2024-02-02", "2024-03-02T00:00")],
            ["1", "1", "2"],
            id="not before it could be used",
        ),
        pytest.param(
            [("hill", "1", "2024-02-01"), ("hill", "2", "2024-04-01")], ["1", "1", "1"], id="none from the future"
        ),
        pytest.param([("hill", "1", "2024-02-01"), ("both", "5", "2024-02-02")], ["1", "1", "1"], id="not another's"),
    ],
)
def test_the_champion_of_the_issue_time_issues(
    fleet: Fleet, features: pd.DataFrame, promotions: list[Any], versions: list[str]
) -> None:
    table = _issue(features, _promotions(*promotions), fleet)
    assert list(_by(table, "hill").values()) == versions
    hill = table[table["entity_id"] == "hill"]
    assert (hill["q500_kw"] == hill["model_version"].astype(int) * 30).all()
    assert (hill["model"] == "model_" + hill["model_version"]).all()


def test_before_the_first_promotion_nobody_speaks_and_the_log_says_so(
    fleet: Fleet, features: pd.DataFrame, caplog: pytest.LogCaptureFixture
) -> None:
    promotions = _promotions(("hill", "1", "2024-03-01T12:00"), ("both", "1", "2024-01-01"))
    table = _issue(features, promotions, fleet)
    assert list(_by(table, "hill")) == ["01 18", "02 06"]
    assert list(_by(table, "both")) == ["01 06", "01 18", "02 06"]
    assert _by(table, "shore") == {}
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "not issued: hours/hill: no champion at 2024-03-01T06:00 (the first was promoted at 2024-03-01T12:00): "
        "run training as of an earlier time",
        "not issued: quarters/shore: no champion at 2 issues from 2024-03-01T06:10 to 2024-03-02T06:10 "
        "(none was ever promoted): run training as of an earlier time",
    ]


def test_without_any_champion_one_line_names_what_to_run(fleet: Fleet, features: pd.DataFrame) -> None:
    with pytest.raises(NoForecastError) as caught:
        _issue(features, _promotions(), fleet)
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith("nothing could be issued: hours/hill: no champion at ")
    assert line.count("none was ever promoted") == 3
    assert "run training" in line


@pytest.mark.parametrize(
    ("spoil", "issued", "says"),
    [
        pytest.param(
            lambda table: table[table["entity_id"] != "hill"],
            [],
            "hours/hill: no features for 3 issues from 2024-03-01T06:00 to 2024-03-02T06:00: "
            "run feature_engineering as of 2024-03-02T12:00",
            id="no features at all",
        ),
        pytest.param(
            lambda table: table[
                (table["entity_id"] != "hill") | (table["issued_at"] != pd.Timestamp("2024-03-01 18:00", tz="UTC"))
            ],
            ["01 06", "02 06"],
            "hours/hill: no features for 2024-03-01T18:00: run feature_engineering",
            id="no features of one issue",
        ),
        pytest.param(
            lambda table: table.assign(
                wind_speed_100m_ms=table["wind_speed_100m_ms"].mask(table["entity_id"] == "hill")
            ),
            [],
            "hours/hill: no weather reaches 3 issues",
            id="no weather at all",
        ),
        pytest.param(
            lambda table: table.assign(
                wind_speed_100m_ms=table["wind_speed_100m_ms"].mask(
                    (table["entity_id"] == "hill") & (table["issued_at"] == pd.Timestamp("2024-03-01 18:00", tz="UTC"))
                )
            ),
            ["01 06", "02 06"],
            "hours/hill: no weather reaches 2024-03-01T18:00; choose an as_of inside the data",
            id="no weather for one issue",
        ),
    ],
)
def test_what_is_missing_for_one_is_said_and_stops_no_other(
    fleet: Fleet,
    features: pd.DataFrame,
    caplog: pytest.LogCaptureFixture,
    spoil: Callable[[pd.DataFrame], pd.DataFrame],
    issued: list[str],
    says: str,
) -> None:
    table = _issue(spoil(features), _promotions(*FOREVER), fleet)
    assert list(_by(table, "hill")) == issued
    assert list(_by(table, "both")) == ["01 06", "01 18", "02 06"]
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1
    assert warnings[0].startswith(f"not issued: {says}")


def test_an_issue_whose_weather_ends_early_is_issued_to_its_end(
    fleet: Fleet, features: pd.DataFrame, caplog: pytest.LogCaptureFixture
) -> None:
    features.loc[features["lead_minutes"] == 75, "wind_speed_100m_ms"] = np.nan
    assert len(_issue(features, _promotions(*FOREVER), fleet)) == len(features)
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_without_any_features_one_line_names_what_to_run(fleet: Fleet, features: pd.DataFrame) -> None:
    with pytest.raises(
        NoForecastError,
        match=r"^nothing could be issued: hours/hill: no features for .* run feature_engineering as of 2024-03-02T12:00;",
    ):
        _issue(features.iloc[:0], _promotions(*FOREVER), fleet)


def test_a_group_is_forecast_as_one(fleet: Fleet, features: pd.DataFrame) -> None:
    both = _issue(features, _promotions(("both", "3", "2024-01-01")), fleet)
    assert set(both["entity_id"]) == {"both"}
    assert set(both["capacity_kw"]) == {4000.0}
    assert set(both["q900_kw"]) == {120.0}
    assert set(both["weather"]) == {contracts.PERFECT_WEATHER}  # shore's weather is an analysis


def test_levels_that_no_version_was_trained_for_are_said(
    cards: dict[str, Any], features: pd.DataFrame, caplog: pytest.LogCaptureFixture
) -> None:
    cards["products"][0]["quantile_levels"] = [0.1, 0.5, 0.9, 0.95]
    table = _issue(features, _promotions(*FOREVER), Fleet.from_config(**cards))
    assert set(table["entity_id"]) == {"shore"}
    assert (
        "hours/hill: version 1 was trained without quantile levels [0.95] of the product's card: run training"
        in caplog.text
    )


def test_only_the_versions_that_speak_are_loaded(fleet: Fleet, features: pd.DataFrame) -> None:
    versions = Versions()
    _issue(
        features,
        _promotions(("hill", "1", "2024-01-01"), ("hill", "2", "2024-01-02"), ("hill", "3", "2024-05-01")),
        fleet,
        versions=versions,
    )
    assert versions.asked == ["2"]


# --- fallbacks ---------------------------------------------------------------------------------------------------------


class WithFallbacks(Versions):
    """Versions that have two fallbacks for the hill; the first knows nothing where production is unknown."""

    def version(self, version: str) -> FleetModel:
        class Blind(Constant):
            def predict(self, features: pd.DataFrame) -> Any:
                return np.where(features[["last_power_share"]].isna(), np.nan, super().predict(features))

        fallbacks = {
            ("hours", "hill", "blind"): Member("blind", Blind(LEVELS["hours"], 0.7)),  # type: ignore[arg-type]
            ("hours", "hill", "last"): Member("last", Constant(LEVELS["hours"], 0.9)),  # type: ignore[arg-type]
        }
        return dataclasses.replace(super().version(version), fallbacks=fallbacks)


def _windless(features: pd.DataFrame, rows: Any) -> pd.DataFrame:
    return features.assign(wind_speed_100m_ms=features["wind_speed_100m_ms"].mask(rows))


def test_where_no_weather_reaches_an_interval_a_fallback_stands_in(
    fleet: Fleet, features: pd.DataFrame, caplog: pytest.LogCaptureFixture
) -> None:
    issue = (features["entity_id"] == "hill") & (features["issued_at"] == pd.Timestamp("2024-03-01 18:00", tz="UTC"))
    first = issue & ~features.loc[issue, "issued_at"].reindex(features.index).duplicated()
    spoilt = _windless(features.assign(last_power_share=np.where(first, 0.4, np.nan)), issue)
    table = _issue(spoilt, _promotions(*FOREVER), fleet, versions=WithFallbacks())
    stood_in = table[table["fallback"] != ""]
    assert set(stood_in["entity_id"]) == {"hill"}
    assert set(stood_in["issued_at"]) == {pd.Timestamp("2024-03-01 18:00", tz="UTC")}
    assert stood_in.sort_values("valid_at")["fallback"].tolist()[:2] == ["blind", "last"]
    assert set(stood_in["model"]) == set(table.loc[(table["entity_id"] == "hill") & (table["fallback"] == ""), "model"])
    assert len(table) == len(_issue(features, _promotions(*FOREVER), fleet))
    assert "hours/hill: 'blind' stands in at 2024-03-01T18:00, 1 intervals" in caplog.text


def test_where_the_champion_fails_a_fallback_stands_in_and_without_one_the_others_go_on(
    fleet: Fleet, features: pd.DataFrame, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = FleetModel.predict

    def fails(self: FleetModel, rows: pd.DataFrame) -> pd.DataFrame:
        if (rows["entity_id"] == "hill").any():
            raise ValueError("spoilt")
        return whole(self, rows)

    monkeypatch.setattr(FleetModel, "predict", fails)
    features = features.assign(last_power_share=np.nan)
    table = _issue(features, _promotions(*FOREVER), fleet, versions=WithFallbacks())
    assert set(table.loc[table["entity_id"] == "hill", "fallback"]) == {"last"}
    assert set(table.loc[table["entity_id"] != "hill", "fallback"]) == {""}
    assert "hours/hill: the champion failed: ValueError: spoilt" in caplog.text
    without = _issue(features, _promotions(*FOREVER), fleet)
    assert set(without["entity_id"]) == {"both", "shore"}
    assert "hours/hill: the champion failed at 3 issues from" in caplog.text
