"""The search for settings: on the past before what is judged, written down trial by trial."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from wind_kedro.cards import Fleet
from wind_kedro.clock import Clock
from wind_kedro.compute import Workers
from wind_kedro.contracts.training import Trials
from wind_kedro.datasets import TrialStore
from wind_kedro.pipelines.tuning import nodes
from wind_kedro.pipelines.tuning.nodes import NothingToTuneError, name_best, search_settings
from wind_kedro.pipelines.tuning.settings import Range, Trained, Tuning

INLINE = Workers(backend="threading", jobs=1)
CLOCK = Clock.model_validate({"as_of": "2024-03-31T18:00"})
JUDGED_FROM = pd.Timestamp("2024-03-21 06:10", tz="UTC")  # ten days before the training time
TRAINED = Trained.model_validate(
    {
        "seed": 7,
        "backtest": {"days": 10, "refit_every_days": 5, "min_train_days": 5},
        "candidates": {
            "curve": {"type": "power_curve", "params": {"min_rows": 3}},
            "all": {"type": "climatology", "scope": "fleet"},
        },
    }
)


def tuning(trials: int = 2, **changes: Any) -> Tuning:
    given = {
        "trials": trials,
        "folds": 2,
        "fold_days": 4,
        "min_train_days": 5,
        "space": {"curve": {"bin_width_ms": {"low": 0.3, "high": 3.0, "log": True}, "min_rows": {"low": 2, "high": 9}}},
    }
    return Tuning.model_validate(given | changes)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    valid_at = pd.date_range("2024-03-01", "2024-03-31", freq="3h", tz="UTC", unit="us", inclusive="left")
    wind = 8 + 3 * np.random.default_rng(1).normal(size=len(valid_at))
    return pd.DataFrame(
        {
            "product_id": "hours",
            "entity_id": "hill",
            "issued_at": valid_at.floor("D"),
            "valid_at": valid_at,
            "target_available_at": valid_at + pd.Timedelta(hours=2),
            "wind_speed_100m_ms": wind,
            "wind_speed_density_ms": wind,
            "hour_of_day": valid_at.hour.astype(float),
            "power_share": np.clip(wind / 16, 0, 1),
        }
    )


def search(table: pd.DataFrame, fleet: Fleet, folder: Path, settings: Tuning) -> pd.DataFrame:
    store = TrialStore(filepath=str(folder / "trials.log")).load()
    found = search_settings(table, store, settings, TRAINED, fleet, CLOCK, INLINE)
    return Trials.validate(found)


def test_a_search_goes_on_where_it_stopped(table: pd.DataFrame, fleet: Fleet, tmp_path: Path) -> None:
    first = search(table, fleet, tmp_path, tuning(2))
    assert first["trial"].tolist() == [0, 1]
    # The settings as they are come first.
    assert json.loads(first["settings"][0]) == {"bin_width_ms": 0.5, "min_rows": 3}
    more = search(table, fleet, tmp_path, tuning(3))
    pd.testing.assert_frame_equal(more.iloc[:2], first)
    assert len(more) == 3
    assert more["settings"].is_unique
    assert len(search(table, fleet, tmp_path, tuning(3))) == 3
    # Other folds are another search.
    assert len(search(table, fleet, tmp_path, tuning(1, fold_days=3))) == 1


def test_a_killed_trial_is_tried_again(
    table: pd.DataFrame, fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def killed(*given: Any, **named: Any) -> Any:
        calls.append(named["label"])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return nodes_map(*given, **named)

    nodes_map = nodes.map_farms
    monkeypatch.setattr(nodes, "map_farms", killed)
    with pytest.raises(KeyboardInterrupt):
        search(table, fleet, tmp_path, tuning(2))
    monkeypatch.undo()
    trials = search(table, fleet, tmp_path, tuning(2))
    assert trials["loss_share"].notna().tolist() == [True, False, True]
    assert json.loads(trials["settings"][2]) == json.loads(trials["settings"][1])
    assert "killed" in trials["fault"][1]


def test_what_is_judged_is_not_touched(table: pd.DataFrame, fleet: Fleet, tmp_path: Path) -> None:
    later = table["target_available_at"] > JUDGED_FROM
    garbled = table.assign(power_share=table["power_share"].mask(later, 1 - table["power_share"]))
    one, two = (search(data, fleet, tmp_path / name, tuning(2)) for name, data in {"a": table, "b": garbled}.items())
    columns = ["trial", "settings", "loss_share"]
    pd.testing.assert_frame_equal(one[columns], two[columns])
    # It can fail: what came before is what settings are chosen by.
    earlier = table.assign(power_share=table["power_share"].mask(~later, 1 - table["power_share"] ** 2))
    assert not search(earlier, fleet, tmp_path / "c", tuning(2))["loss_share"].equals(one["loss_share"])


def test_months_that_are_judged_are_refused(table: pd.DataFrame, fleet: Fleet, tmp_path: Path) -> None:
    with pytest.raises(NothingToTuneError, match=r"2024-03 overlap training.backtest, which starts on 2024-03-21"):
        search(table, fleet, tmp_path, tuning(months=["2024-02", "2024-03"]))
    by_months = Trained.model_validate(TRAINED.model_dump() | {"backtest": {"days": 10, "months": "2013-02 2013-01"}})
    assert by_months.judged_from(JUDGED_FROM) == pd.Timestamp("2013-01-01", tz="UTC")
    assert tuning(months=["2012-12"]).stretches(pd.Timestamp("2013-01-01", tz="UTC"))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"space": {"trees": {}}}, "no candidate 'trees'; known are curve, all"),
        ({"space": {"all": {"min_rows": {"low": 1, "high": 2}}}}, "'all' is fitted to the whole fleet"),
        ({"space": {"curve": {"depth": {"low": 1, "high": 2}}}}, "depth: Extra inputs"),
        ({"min_train_days": 40}, "no farm has 40 days of history"),
    ],
)
def test_a_search_that_cannot_be_made_says_why(
    table: pd.DataFrame, fleet: Fleet, tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(NothingToTuneError, match=says):
        search(table, fleet, tmp_path, tuning(**changes))


def test_the_best_is_a_block_to_paste(table: pd.DataFrame, fleet: Fleet, tmp_path: Path) -> None:
    trials = search(table, fleet, tmp_path, tuning(3))
    block, metrics = name_best(trials, TRAINED)
    assert all(math.isfinite(point["value"]) for point in metrics.values())
    best = trials.loc[trials["loss_share"].idxmin()]
    assert yaml.safe_load(yaml.safe_dump(block)) == {
        "training": {"candidates": {"curve": {"type": "power_curve", "params": json.loads(best["settings"])}}}
    }
    assert metrics["curve.loss_share"] == {"value": best["loss_share"], "step": best["trial"]}
    with pytest.raises(NothingToTuneError, match="no trial succeeded: it cannot"):
        name_best(trials.assign(loss_share=np.nan, fault="it cannot"), TRAINED)


@pytest.mark.parametrize("wrong", [{"low": 1}, {"low": 2, "high": 1}, {"low": 0, "high": 1, "log": True}, {}])
def test_a_range_that_is_none_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"low|choices"):
        Range.model_validate(wrong)
