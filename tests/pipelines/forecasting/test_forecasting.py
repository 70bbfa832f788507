"""Who issues a forecast, and what is said where nobody can. Hill's product is issued at 06:00 and 18:00, shore's at 06:10."""

import dataclasses
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from wind_kedro.cards import Fleet
from wind_kedro.cards.columns import PERFECT_WEATHER
from wind_kedro.clock import Clock
from wind_kedro.contracts.forecasts import Forecasts
from wind_kedro.contracts.operation import Failures
from wind_kedro.contracts.training import Promotions
from wind_kedro.datasets.models import RefusedVersionError
from wind_kedro.models.climatology import Climatology, ClimatologyParameters
from wind_kedro.models.ensembles.fleet_model import FleetModel, Member
from wind_kedro.pipelines.forecasting import nodes
from wind_kedro.pipelines.forecasting.nodes import issue_forecasts
from wind_kedro.pipelines.forecasting.settings import Forecasting
from wind_kedro.pipelines.forecasting.shadows import issue_shadows

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
    refusal: str = ""
    fault: str = ""

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
    return Promotions.validate(
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
            manifest_sha256="d" * 64,
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
    return _issue_all(features, promotions, fleet, clock, versions)[0]


def _observed(*rows: tuple[str, str, float]) -> pd.DataFrame:
    """Observations of the hill, 3,000 kW: valid at, available at, share of capacity."""
    table = pd.DataFrame(rows, columns=["valid_at", "available_at", "share"])
    for name in ("valid_at", "available_at"):
        table[name] = pd.to_datetime(table[name], utc=True)
    return table.assign(
        entity_id="hill", granularity_minutes=60, available_capacity_kw=3000.0, imputed_share=0.0, method="mean",
        power_kw=3000.0 * table["share"].astype(float),
    )  # fmt: skip


#: Where nothing was observed yet.
NOTHING = _observed()


def _issue_all(
    features: pd.DataFrame,
    promotions: pd.DataFrame,
    fleet: Fleet,
    clock: Clock = ALL,
    versions: Versions | None = None,
    observations: pd.DataFrame = NOTHING,
    forecasting: Forecasting = Forecasting(),  # noqa: B008 - never changes
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Forecasts, and what failed."""
    made: Any = versions or Versions()
    forecasts, failures = issue_forecasts(features, observations, made, promotions, fleet, clock, forecasting)
    return Forecasts.validate(forecasts), Failures.validate(failures)


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
        pytest.param([("hill", "1", "2024-02-01"), ("hill", "2", "2024-04-01")], ["1", "1", "1"], id="none from the future"),
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
        "forecast_not_issued: hours/hill: not issued: no champion (the first was promoted at 2024-03-01T12:00) "
        "(issue of 2024-03-01T06:00)",
        "forecast_not_issued: quarters/shore: not issued: no champion (none was ever promoted) "
        "(2 issues from 2024-03-01T06:10 to 2024-03-02T06:10)",
    ]


def test_without_any_champion_nothing_is_issued_and_each_issue_has_its_reason(fleet: Fleet, features: pd.DataFrame) -> None:
    table, failures = _issue_all(features, _promotions(), fleet)
    assert table.empty
    assert failures.groupby("entity_id").size().to_dict() == {"both": 3, "hill": 3, "shore": 2}
    assert set(failures["code"]) == {"forecast_not_issued"}
    assert set(failures["severity"]) == {"error"}
    assert failures["message"].str.contains("none was ever promoted").all()
    assert failures["action"].str.startswith("run training").all()


@pytest.mark.parametrize(
    ("spoil", "issued", "says"),
    [
        pytest.param(
            lambda table: table[table["entity_id"] != "hill"],
            [],
            "no features (3 issues from 2024-03-01T06:00 to 2024-03-02T06:00)",
            id="no features at all",
        ),
        pytest.param(
            lambda table: table[
                (table["entity_id"] != "hill") | (table["issued_at"] != pd.Timestamp("2024-03-01 18:00", tz="UTC"))
            ],
            ["01 06", "02 06"],
            "no features (issue of 2024-03-01T18:00)",
            id="no features of one issue",
        ),
        pytest.param(
            lambda table: table.assign(wind_speed_100m_ms=table["wind_speed_100m_ms"].mask(table["entity_id"] == "hill")),
            [],
            "no weather reaches it (3 issues from 2024-03-01T06:00 to 2024-03-02T06:00)",
            id="no weather at all",
        ),
        pytest.param(
            lambda table: table.assign(
                wind_speed_100m_ms=table["wind_speed_100m_ms"].mask(
                    (table["entity_id"] == "hill") & (table["issued_at"] == pd.Timestamp("2024-03-01 18:00", tz="UTC"))
                )
            ),
            ["01 06", "02 06"],
            "no weather reaches it (issue of 2024-03-01T18:00)",
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
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert errors == [f"forecast_not_issued: hours/hill: not issued: {says}"]


def test_an_issue_whose_weather_ends_early_is_issued_to_its_end(
    fleet: Fleet, features: pd.DataFrame, caplog: pytest.LogCaptureFixture
) -> None:
    features.loc[features["lead_minutes"] == 75, "wind_speed_100m_ms"] = np.nan
    assert len(_issue(features, _promotions(*FOREVER), fleet)) == len(features)
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_without_any_features_nothing_is_issued_and_each_failure_names_what_to_run(fleet: Fleet, features: pd.DataFrame) -> None:
    table, failures = _issue_all(features.iloc[:0], _promotions(*FOREVER), fleet)
    assert table.empty
    assert len(failures) == 8
    assert set(failures["severity"]) == {"error"}
    assert failures["action"].str.startswith("run feature_engineering as of 2024-03-02T12:00").all()


def test_a_group_is_forecast_as_one(fleet: Fleet, features: pd.DataFrame) -> None:
    both = _issue(features, _promotions(("both", "3", "2024-01-01")), fleet)
    assert set(both["entity_id"]) == {"both"}
    assert set(both["capacity_kw"]) == {4000.0}
    assert set(both["q900_kw"]) == {120.0}
    assert set(both["weather"]) == {PERFECT_WEATHER}  # shore's weather is an analysis


def test_levels_that_no_version_was_trained_for_are_said(
    cards: dict[str, Any], features: pd.DataFrame, caplog: pytest.LogCaptureFixture
) -> None:
    cards["products"][0]["quantile_levels"] = [0.1, 0.5, 0.9, 0.95]
    table = _issue(features, _promotions(*FOREVER), Fleet.from_config(**cards))
    assert set(table["entity_id"]) == {"shore"}
    assert "hours/hill: not issued: version 1 was trained without quantile levels [0.95] of the product's card" in caplog.text


def test_only_the_versions_that_speak_are_loaded(fleet: Fleet, features: pd.DataFrame) -> None:
    versions = Versions()
    _issue(
        features,
        _promotions(("hill", "1", "2024-01-01"), ("hill", "2", "2024-01-02"), ("hill", "3", "2024-05-01")),
        fleet,
        versions=versions,
    )
    assert set(versions.asked) == {"2"}


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
    assert (
        "fallback_used: hours/hill: 'blind' is used instead of the champion: no weather run reaches some intervals "
        "(issue of 2024-03-01T18:00)"
    ) in caplog.text


def test_where_the_champion_fails_a_fallback_stands_in_and_without_one_the_others_go_on(
    fleet: Fleet, features: pd.DataFrame, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Member.shares

    def fails(self: Member, rows: pd.DataFrame, levels: list[float]) -> Any:
        if self.model == "model_1" and (rows["entity_id"] == "hill").any():
            raise ValueError("spoilt")
        return whole(self, rows, levels)

    monkeypatch.setattr(Member, "shares", fails)
    features = features.assign(last_power_share=np.nan)
    table = _issue(features, _promotions(*FOREVER), fleet, versions=WithFallbacks())
    assert set(table.loc[table["entity_id"] == "hill", "fallback"]) == {"last"}
    assert set(table.loc[table["entity_id"] != "hill", "fallback"]) == {""}
    assert "hours/hill: champion 'model_1' of version 1: ValueError: spoilt" in caplog.text
    without = _issue(features, _promotions(*FOREVER), fleet)
    assert set(without["entity_id"]) == {"both", "shore"}
    assert "hours/hill: not issued: the champion failed, and no fallback can be used (3 issues from" in caplog.text


class Failing(WithFallbacks):
    """Versions whose model of the hill raises, or gives no number at the first issue."""

    def __init__(self, raises: bool) -> None:
        super().__init__()
        self.raises = raises

    def version(self, version: str) -> FleetModel:
        made, raises = super().version(version), self.raises

        class Fails(Constant):
            def predict(self, features: pd.DataFrame) -> Any:
                if raises:
                    raise ZeroDivisionError("in the model")
                return np.where(features[["hour_of_day"]] < 18, np.nan, super().predict(features))

        fails: Any = Fails(LEVELS["hours"], 0.3)
        return dataclasses.replace(made, members={**made.members, ("hours", "hill"): Member("m", fails)})


@pytest.mark.parametrize("raises", [True, False])
def test_a_model_that_fails_for_one_farm_stops_no_other(fleet: Fleet, features: pd.DataFrame, raises: bool) -> None:
    features["last_power_share"] = 0.4
    sound, _ = _issue_all(features, _promotions(*FOREVER), fleet)
    table, failures = _issue_all(features, _promotions(*FOREVER), fleet, versions=Failing(raises))
    hill = table["entity_id"] == "hill"
    assert table[~hill].to_csv() == sound[sound["entity_id"] != "hill"].to_csv(), "the others, to the byte"
    assert table.loc[hill, "q500_kw"].notna().all()
    (failure,) = failures[failures["code"] == "model_unusable"].to_dict("records")
    assert failure["message"].startswith("hours/hill: champion 'm' of version 1: ")
    assert failure["message"].endswith("ZeroDivisionError: in the model" if raises else " intervals")
    used = table.loc[hill & (table["fallback"] != ""), "issued_at"].nunique()
    assert failures[failures["code"] == "fallback_used"]["issued_at"].nunique() == used > 0


def test_a_model_that_never_returns_costs_only_its_farm(fleet: Fleet, features: pd.DataFrame) -> None:
    class Hangs(WithFallbacks):
        def version(self, version: str) -> FleetModel:
            made = super().version(version)

            class Hanging(Constant):
                def predict(self, _: pd.DataFrame) -> Any:
                    while True:
                        time.sleep(0.01)

            hangs: Any = Hanging(LEVELS["hours"], 0.3)
            return dataclasses.replace(made, members={**made.members, ("hours", "hill"): Member("m", hangs)})

    features["last_power_share"] = 0.4
    sound, _ = _issue_all(features, _promotions(*FOREVER), fleet)
    limit = Forecasting(model_limit_seconds=0.3)
    table, failures = _issue_all(features, _promotions(*FOREVER), fleet, versions=Hangs(), forecasting=limit)
    hill = table["entity_id"] == "hill"
    assert table[~hill].to_csv() == sound[sound["entity_id"] != "hill"].to_csv(), "the others, to the byte"
    assert set(table.loc[hill, "rung"]) == {"fallback"}
    (failure,) = failures[failures["code"] == "model_unusable"].to_dict("records")
    assert failure["message"] == "hours/hill: champion 'm' of version 1: did not return within 0.3 s"


def test_whatever_raises_for_one_farm_is_its_failure(
    fleet: Fleet, features: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = nodes.champion_of

    def breaks(versions: Any, promotions: Any, product: Any, entity_id: str, *more: Any) -> Any:
        if entity_id == "hill":
            raise ZeroDivisionError("no such thing")
        return whole(versions, promotions, product, entity_id, *more)

    monkeypatch.setattr(nodes, "champion_of", breaks)
    table, failures = _issue_all(features, _promotions(*FOREVER), fleet, versions=WithFallbacks())
    assert set(table["entity_id"]) == {"both", "shore"}
    assert failures[["code", "entity_id", "message"]].drop_duplicates().to_numpy().tolist() == [
        ["forecast_not_issued", "hill", "hours/hill: not issued: ZeroDivisionError: no such thing"]
    ]


# --- stored models that cannot be used -----------------------------------------------------------------------------------

#: Before each issue of the hill another power was observed; the last of them only after the first issue.
OBSERVED = _observed(
    ("2024-02-28 07:00", "2024-02-28 08:00", 0.2),
    ("2024-02-29 07:00", "2024-02-29 08:00", 0.4),
    ("2024-03-01 07:00", "2024-03-01 12:00", 0.9),
)


class Stored(Versions):
    """Versions whose models are stored files, read when they are asked for."""

    def __init__(self, folder: Path, spoilt: Callable[[Path], None] | None = None, whose: str = "hill") -> None:
        super().__init__()
        self.folder = folder
        objects = folder / "objects"
        members, fallbacks = {}, {}
        for entity_id, product_id in MEMBERS.items():
            model, last = (
                Climatology(LEVELS[product_id], parameters=ClimatologyParameters(min_rows=1)).fit(
                    pd.DataFrame({"hour_of_day": [6.0, 7.0]}), pd.Series([share, share])
                )
                for share in (0.5 + list(MEMBERS).index(entity_id) / 100, 0.7)
            )
            members[product_id, entity_id] = Member("model_1", model)
            fallbacks[product_id, entity_id, "last"] = Member("last", last)
        FleetModel(pd.Timestamp("2024-02-01", tz="UTC"), members, fallbacks=fallbacks).save(folder, objects)
        if spoilt is not None:
            named = FleetModel.load(folder).members[MEMBERS[whose], whose].object
            spoilt(objects / str(named))

    def version(self, version: str) -> FleetModel:
        return FleetModel.load(self.folder)


DAMAGES = [
    pytest.param(lambda model: (model / "learnt.npz").write_bytes(b"garbage"), id="garbage"),
    pytest.param(lambda model: (model / "learnt.npz").unlink(), id="a file gone"),
    pytest.param(shutil.rmtree, id="the model gone"),
    pytest.param(lambda model: (model / "model.json").write_text("[" * 100_000), id="too deep"),
    pytest.param(lambda model: (model / "more.pkl").write_bytes(b"\x80\x04."), id="a file more"),
]


@pytest.mark.parametrize("spoilt", DAMAGES)
def test_a_damaged_model_stops_no_other_and_is_a_failure(
    fleet: Fleet, features: pd.DataFrame, tmp_path: Path, spoilt: Callable[[Path], None]
) -> None:
    sound, none = _issue_all(features, _promotions(*FOREVER), fleet, versions=Stored(tmp_path / "sound"))
    assert none.empty
    table, failures = _issue_all(features, _promotions(*FOREVER), fleet, versions=Stored(tmp_path / "it", spoilt))
    hill = table["entity_id"] == "hill"
    assert table[~hill].to_csv() == sound[sound["entity_id"] != "hill"].to_csv(), "the others, to the byte"
    assert set(table.loc[hill, "fallback"]) == {"last"}
    (failure,) = failures[failures["code"] == "model_unusable"].to_dict("records")
    assert {name: failure[name] for name in ("product_id", "entity_id", "severity")} == {
        "product_id": "hours", "entity_id": "hill", "severity": "error",
    }  # fmt: skip
    used = failures[failures["code"] == "fallback_used"]
    assert used["issued_at"].tolist() == sorted(table.loc[hill, "issued_at"].unique())
    assert set(used["message"]) == {"hours/hill: 'last' is used instead of the champion: the champion could not be used"}
    assert failure["message"].startswith("hours/hill: champion 'model_1' of version 1: ")
    assert "\n" not in failure["message"]
    assert set(failures["raised_at"]) == {ALL.as_of}


def test_where_champion_and_fallback_are_damaged_the_climatology_of_the_observations_stands_in(
    fleet: Fleet, features: pd.DataFrame, tmp_path: Path
) -> None:
    versions = Stored(tmp_path)
    stored = FleetModel.load(tmp_path)
    for member in (stored.members["hours", "hill"], stored.fallbacks["hours", "hill", "last"]):
        shutil.rmtree(tmp_path / "objects" / str(member.object))
    # The fallback is one and the same object for all: the others do not need it.
    table, failures = _issue_all(features, _promotions(*FOREVER), fleet, versions=versions, observations=OBSERVED)
    hill = table[table["entity_id"] == "hill"]
    assert set(hill["fallback"]) == {"observed_climatology"}
    assert set(table.loc[table["entity_id"] != "hill", "fallback"]) == {""}
    unusable = failures.loc[failures["code"] == "model_unusable", "message"]
    assert [message.split("'")[0] for message in unusable] == ["hours/hill: champion ", "hours/hill: fallback "]
    # At 06:00 of 1 March two powers were known, 20 and 40 % of 3,000 kW; from 18:00 on, 90 % too.
    medians = hill.groupby("issued_at")["q500_kw"].first()
    assert medians.tolist() == pytest.approx([900.0, 1200.0, 1200.0])


def test_where_nothing_was_observed_either_nothing_is_issued_and_the_others_are(
    fleet: Fleet, features: pd.DataFrame, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    versions = Stored(tmp_path)
    shutil.rmtree(tmp_path / "objects")
    table, failures = _issue_all(features, _promotions(*FOREVER), fleet, versions=versions)
    assert table.empty
    left = failures[(failures["code"] == "forecast_not_issued") & (failures["entity_id"] == "hill")]
    assert set(left["message"]) == {"hours/hill: not issued: the champion failed, and no fallback can be used"}
    assert failures["message"].str.contains("no such model in the store").sum() == 6
    table, failures = _issue_all(features, _promotions(*FOREVER), fleet, versions=versions, observations=OBSERVED)
    assert set(table["entity_id"]) == {"hill"}
    assert failures.groupby("code").size().to_dict() == {
        "fallback_used": 3, "forecast_not_issued": 5, "model_unusable": 6,
    }  # fmt: skip
    assert "quarters/shore: not issued: the champion failed, and no fallback can be used (2 issues" in caplog.text


class Refused(Versions):
    """A registry whose versions are not what was promoted."""

    def version(self, version: str) -> FleetModel:
        self.asked.append(version)
        raise RefusedVersionError(f"version {version} of model 'fleet' is refused: {self.refusal or 'another manifest'}")


def test_a_refused_version_is_named_and_the_climatology_of_the_observations_stands_in(
    fleet: Fleet, features: pd.DataFrame
) -> None:
    table, failures = _issue_all(features, _promotions(*FOREVER), fleet, versions=Refused(), observations=OBSERVED)
    assert set(table["fallback"]) == {"observed_climatology"}
    assert set(table["model_version"]) == {"1"}
    assert set(table["model"]) == {"m"}, "the candidate that was promoted"
    assert failures.loc[failures["entity_id"] == "hill", "message"].iloc[-1] == (
        "hours/hill: champion 'm' of version 1: version 1 of model 'fleet' is refused: another manifest"
    )


@pytest.mark.parametrize("rows", [FOREVER, []], ids=["entries are left", "none is left"])
def test_a_log_of_promotions_that_was_cut_off_is_no_reason_for_an_older_model(
    fleet: Fleet, features: pd.DataFrame, rows: list[tuple[str, str, str]]
) -> None:
    versions = Refused(refusal="promotion 2 removed")
    table, failures = _issue_all(features, _promotions(*rows), fleet, versions=versions, observations=OBSERVED)
    assert set(table["fallback"]) == {"observed_climatology"}
    assert set(failures["entity_id"]) == {"hill", "both", "shore"}
    unusable = failures[failures["code"] == "model_unusable"]
    assert set(unusable["entity_id"]) == {"hill", "both", "shore"}
    assert unusable["message"].str.contains("promotion 2 removed").all()


def test_an_entry_of_the_log_that_is_passed_over_is_a_failure(fleet: Fleet, features: pd.DataFrame) -> None:
    table, failures = _issue_all(features, _promotions(*FOREVER), fleet, versions=Versions(fault="promotion 2 is not signed"))
    assert set(table["fallback"]) == {""}
    assert failures[["code", "message"]].to_numpy().tolist() == [["model_unusable", "promotion 2 is not signed"]]


def test_a_damaged_shadow_harms_nobody(
    fleet: Fleet, features: pd.DataFrame, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    forecasts = _issue(features, _promotions(*FOREVER), fleet)
    for versions in (Refused(), Stored(tmp_path, shutil.rmtree)):
        made: Any = versions
        shadows, _ = issue_shadows(forecasts, features, made, _promotions(*FOREVER), fleet, ALL)
        assert shadows.empty
