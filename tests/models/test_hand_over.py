"""Hand-over: how much own history counts, and what is lent."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from wind_kedro.models.ensembles.hand_over import (
    FleetPart,
    HandOver,
    HandOverParameters,
    _learn_weights,
    _Rows,
    learn_from_fleet,
    weights_at,
)
from wind_kedro.models.objects import fetch, store
from wind_kedro.models.registry import ModelConfig, build, with_members

LEVELS = [0.1, 0.5, 0.9]
OWN: dict[str, Any] = {"type": "power_curve", "params": {"min_rows": 5}}
FLEET = OWN | {"scope": "fleet"}
PHYSICAL: dict[str, Any] = {"type": "physical"}
START = pd.Timestamp("2024-01-01", tz="UTC")


def farm_rows(entity_id: str, days: int, seed: int, half_power_ms: float = 8.0) -> pd.DataFrame:
    """Hourly rows of `contracts.ModelInput`: power by an S-shaped curve of the wind, and noise."""
    rng = np.random.default_rng(seed)
    valid_at = pd.date_range(START, periods=days * 24, freq="h", unit="us")
    wind = np.clip(8 + 3 * rng.normal(size=len(valid_at)), 0, None)
    power = 1 / (1 + np.exp(-0.9 * (wind - half_power_ms))) + 0.05 * rng.normal(size=len(valid_at))
    return pd.DataFrame(
        {
            "product_id": "hours",
            "entity_id": entity_id,
            "issued_at": valid_at.floor("D"),
            "valid_at": valid_at,
            "weather_run_at": valid_at.floor("D"),
            "target_available_at": valid_at + pd.Timedelta(hours=2),
            "wind_speed_100m_ms": wind,
            "wind_speed_density_ms": wind,
            "hour_of_day": valid_at.hour.astype(float),
            "power_share": np.clip(power, 0, 1),
            "available_capacity_kw": 1000.0,
        }
    )


def features_of(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[["valid_at", "wind_speed_100m_ms", "wind_speed_density_ms", "hour_of_day"]]


def part_of(farms: dict[str, pd.DataFrame], judged: list[str], **members: Any) -> FleetPart:
    members = members or {"own": OWN, "fleet": FLEET}
    parameters = HandOverParameters(members=members, judged_days=10, cuts=1, lengths_days=[3, 20])
    pool = pd.concat(farms.values())
    return learn_from_fleet(
        members, pool, {name: (farms[name], []) for name in judged}, LEVELS, 0, parameters, alone=len(farms) == 1
    )


def hand_over(part: FleetPart, rows: pd.DataFrame, members: dict[str, Any] | None = None) -> HandOver:
    config = ModelConfig(type="hand_over", params={"members": members or {"own": OWN, "fleet": FLEET}})
    model = build("it", config, LEVELS, 0)
    assert isinstance(model, HandOver)
    model.with_fleet(part).fit(features_of(rows), rows["power_share"])
    for name in model.needs_shared:
        model.attach_shared_model(name, part.models[name])
    return model


@pytest.fixture(scope="module")
def alike() -> dict[str, pd.DataFrame]:
    return {f"farm_{number}": farm_rows(f"farm_{number}", 90, number) for number in range(4)}


@pytest.fixture(scope="module")
def unlike() -> dict[str, pd.DataFrame]:
    return {f"farm_{number}": farm_rows(f"farm_{number}", 90, number, 6.0 + 2 * number) for number in range(4)}


def test_own_counts_nothing_at_first_and_never_less_for_more_history(unlike: dict[str, pd.DataFrame]) -> None:
    part = part_of(unlike, ["farm_0", "farm_3"])
    assert part.weights is not None
    own = part.weights[:, 0]
    assert part.days[0] == 0
    assert own[0] == 0
    assert (np.diff(own) >= 0).all()
    # Farms that differ learn most from themselves.
    assert own[-1] > 0.9
    np.testing.assert_allclose(part.weights.sum(axis=1), 1)


def test_farms_that_are_alike_go_on_learning_from_each_other(alike: dict[str, pd.DataFrame]) -> None:
    part = part_of(alike, ["farm_0"])
    assert part.weights is not None
    assert part.weights[1, 0] < 0.5  # three days of own history against three farms' eighty


@pytest.mark.parametrize(
    ("bias", "proven"),
    [
        pytest.param(0.0, False, id="no gain but by chance"),
        pytest.param(0.1, True, id="own is biased, the fleet is not"),
    ],
)
def test_at_full_history_others_count_only_if_they_are_proven_to_help(bias: float, proven: bool) -> None:
    random = np.random.default_rng(4)
    days = np.repeat(pd.date_range("2024-01-01", periods=60).to_numpy(), 24)
    came = random.uniform(0.2, 0.8, len(days))
    levels = [0.4, 0.5, 0.6]

    def forecast(error: float, noise: float) -> Any:
        median = came + error + np.repeat(random.normal(0, noise, 60), 24)
        return median[:, None] + np.array([-0.02, 0.0, 0.02])

    # The fleet's error is three times as large: what it adds to the mix is chance, unless own errs on one side.
    rows = _Rows(np.stack([forecast(bias, 0.05), forecast(0.0, 0.15)]), came, days)
    configs = {"own": ModelConfig(type="linear_quantile"), "fleet": ModelConfig(type="linear_quantile", scope="fleet")}
    found, weights = _learn_weights({60.0: [rows]}, configs, levels)
    assert found == [0.0, 60.0]
    assert weights[0].tolist() == [0.0, 1.0]
    assert (weights[1, 1] > 0) == proven


def test_of_two_own_the_one_that_needs_less_history_goes_before_the_other() -> None:
    random = np.random.default_rng(5)
    days = np.repeat(pd.date_range("2024-01-01", periods=60).to_numpy(), 24)
    came = random.uniform(0.2, 0.8, len(days))

    def forecast(noise: float) -> Any:
        median = came + random.normal(0, noise, len(came))
        return median[:, None] + np.array([-0.02, 0.0, 0.02])

    # After two weeks the patient one knows little, after a year most; the quick one is the same all along.
    young = _Rows(np.stack([forecast(0.3), forecast(0.06), forecast(0.1)]), came, days)
    old = _Rows(np.stack([forecast(0.02), forecast(0.06), forecast(0.1)]), came, days)
    own = ModelConfig(type="linear_quantile")
    configs = {"patient": own, "quick": own, "fleet": ModelConfig(type="linear_quantile", scope="fleet")}
    found, weights = _learn_weights({14.0: [young], 365.0: [old]}, configs, [0.4, 0.5, 0.6])
    assert found == [0.0, 14.0, 365.0]
    assert weights[0].tolist() == [0.0, 0.0, 1.0]
    assert weights[1, 1] > 0.5 > weights[1, 0]
    assert weights[2, 0] > 0.5 > weights[2, 1]
    assert weights[2, :2].sum() >= weights[1, :2].sum()


def test_weights_run_between_lengths_over_the_logarithm() -> None:
    weights = np.array([[0.0, 1.0], [0.4, 0.6], [0.8, 0.2]])
    assert weights_at(0, [0, 9, 99], weights).tolist() == [0.0, 1.0]
    middle = np.sqrt(10 * 100) - 1
    np.testing.assert_allclose(weights_at(middle, [0, 9, 99], weights), [0.6, 0.4])
    assert weights_at(1000, [0, 9, 99], weights).tolist() == [0.8, 0.2]


def test_a_farm_without_any_row_is_forecast_by_what_it_is_lent(alike: dict[str, pd.DataFrame]) -> None:
    part = part_of(alike, ["farm_0"])
    model = hand_over(part, alike["farm_1"].iloc[:0])
    assert model.weights == {"fleet": 1.0}
    asked = features_of(alike["farm_1"])
    np.testing.assert_allclose(model.predict(asked), part.models["fleet"].predict(asked))


def test_the_only_farm_goes_from_physical_to_its_own() -> None:
    rows = farm_rows("alone", 120, 1, half_power_ms=5.0)
    members = {"own": OWN, "fleet": FLEET, "physical": PHYSICAL}
    part = part_of({"alone": rows}, ["alone"], **members)
    assert not part.models
    weights = [hand_over(part, rows.iloc[:hours], members).weights.get("own", 0.0) for hours in (0, 48, 2880)]
    assert weights[0] == 0
    assert weights[0] < weights[1] <= weights[2]
    assert weights[2] > 0.9


def test_what_came_after_does_not_move_what_is_learnt(unlike: dict[str, pd.DataFrame]) -> None:
    """Judged are days that end with the newest row: rows whose outcome is not known at their beginning teach no member."""
    late = {name: rows.copy() for name, rows in unlike.items()}
    start = START + pd.Timedelta(days=80)
    for rows in late.values():
        # Not known before the judged days began, and not of those days: nobody may learn from them.
        before = (rows["issued_at"] < start) & (rows["issued_at"] >= start - pd.Timedelta(days=2))
        rows.loc[before, "target_available_at"] = start + pd.Timedelta(hours=1)
    garbled = {name: rows.copy() for name, rows in late.items()}
    for rows in garbled.values():
        unknown = (rows["issued_at"] < start) & (rows["target_available_at"] > start)
        rows.loc[unknown, "power_share"] = 1 - rows.loc[unknown, "power_share"]
    one, two = (part_of(farms, ["farm_0", "farm_3"]).weights for farms in (late, garbled))
    assert one is not None
    np.testing.assert_array_equal(one, two)


def test_what_is_lent_is_stored_once(alike: dict[str, pd.DataFrame], tmp_path: Path) -> None:
    part = part_of(alike, ["farm_0"])
    known: dict[int, str] = {}
    models = {name: hand_over(part, rows.iloc[:72]) for name, rows in alike.items()}
    digests = {name: store(model, tmp_path, known) for name, model in models.items()}
    assert len(list(tmp_path.iterdir())) == len(models) + 1
    read = {name: fetch(digest, tmp_path) for name, digest in digests.items()}
    assert len({id(model.shared_models["fleet"]) for model in read.values()}) == 1
    for name, model in models.items():
        asked = features_of(alike[name])
        np.testing.assert_array_equal(read[name].predict(asked), model.predict(asked))


def test_a_borrower_that_was_lent_nothing_says_so(alike: dict[str, pd.DataFrame]) -> None:
    part = part_of(alike, ["farm_0"])
    model = hand_over(part, alike["farm_1"].iloc[:72])
    model.shared_models.clear()
    with pytest.raises(RuntimeError, match="fleet is not attached"):
        model.predict(features_of(alike["farm_1"]))


def test_members_may_be_named_and_a_blend_has_none_of_the_fleet() -> None:
    named = {
        "curve": ModelConfig(type="power_curve"),
        "all": ModelConfig(type="power_curve", scope="fleet"),
        "it": ModelConfig(type="hand_over", params={"members": ["curve", "all"]}),
    }
    resolved = with_members(named)["it"]
    assert resolved.params["members"]["all"] == {"type": "power_curve", "scope": "fleet"}
    assert not resolved.needs_history
    with pytest.raises(ValueError, match="'all' of the fleet"):
        with_members(named | {"it": ModelConfig(type="blend", params={"members": ["curve", "all"]})})
