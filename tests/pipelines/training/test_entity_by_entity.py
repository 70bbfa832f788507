"""Model input that is stored and read some farms at a time gives what it gives in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stored import store
from wind_kedro.cards import Fleet
from wind_kedro.datasets import derived
from wind_kedro.datasets.derived import Derived, part_of, portions, rows_of
from wind_kedro.datasets.training_kit import Kits
from wind_kedro.models.tables import feature_matrix
from wind_kedro.pipelines.training.fitting import fit_candidates
from wind_kedro.pipelines.training.nodes import entities_of, last_intervals

from .backtesting import backtest
from .test_training import BOTH, CLOCK, INLINE, OF_FLEET, TRAINING_TIME, WITH_FLEET, _fleet_admissions, make_model_input

pytestmark = [  # of Ibis
    pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The 'future.infer_string' option:DeprecationWarning"),
]

ENTRY = {
    "key": ["product_id", "entity_id"],
    "time": "issued_at",
    "order": ["product_id", "entity_id", "issued_at", "valid_at"],
    "statistics": "wind_kedro.pipelines.training.nodes.of_model_input",
    "parts": 8,
}


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return make_model_input((*BOTH, ("hours", "shore"))).sort_values(ENTRY["order"], ignore_index=True)


@pytest.fixture
def stored(tmp_path: Path, table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> Derived:
    """The table with as few rows in memory as possible: each farm alone."""
    monkeypatch.setattr(derived, "PORTION_ROWS", 1)
    return store(tmp_path / "model_input", ENTRY, table)


def test_each_farm_is_read_alone_and_whole(stored: Derived, table: pd.DataFrame) -> None:
    groups = portions(stored)
    assert sorted(groups) == [["both"], ["hill"], ["shore"]]
    found = pd.concat([rows_of(stored, group) for group in groups]).sort_values(ENTRY["order"], ignore_index=True)
    pd.testing.assert_frame_equal(found, table, check_exact=True)
    assert entities_of(stored) == entities_of(table)
    assert last_intervals(stored) == last_intervals(table)


def test_a_farms_rows_lie_in_its_folder_and_stay_there(tmp_path: Path, stored: Derived, table: pd.DataFrame) -> None:
    folders = {path.parent.name for path in (tmp_path / "model_input/rows").rglob("*.parquet")}
    assert folders == {f"part={part_of(entity_id, 8)}" for entity_id in table["entity_id"].unique()}
    changed = table.assign(power_share=table["power_share"].where(table["entity_id"] != "hill", 0.5))
    again = store(tmp_path / "model_input", ENTRY, changed)
    pd.testing.assert_frame_equal(again.frame(), changed, check_exact=True)
    gone = store(tmp_path / "model_input", ENTRY, table[table["entity_id"] != "hill"])
    pd.testing.assert_frame_equal(gone.frame(), table[table["entity_id"] != "hill"].reset_index(drop=True), check_exact=True)


def test_the_backtest_is_equal(stored: Derived, table: pd.DataFrame, fleet: Fleet) -> None:
    given = (_fleet_admissions(fleet), fleet, CLOCK, WITH_FLEET, INLINE)
    for found, expected in zip(backtest(stored, *given), backtest(table, *given), strict=True):
        pd.testing.assert_frame_equal(found, expected, check_exact=True)


def test_models_are_equal(stored: Derived, table: pd.DataFrame, fleet: Fleet) -> None:
    wanted = [(*key, name) for key in BOTH for name in OF_FLEET]
    found, expected = (
        fit_candidates(given, wanted, fleet, WITH_FLEET, INLINE, TRAINING_TIME).results for given in (stored, table)
    )
    assert list(found) == list(expected) == wanted
    for fit in wanted:
        rows = feature_matrix(table[table["entity_id"] == fit[1]])
        np.testing.assert_array_equal(found[fit].predict(rows), expected[fit].predict(rows))


def test_the_training_kit_is_equal(tmp_path: Path, stored: Derived, table: pd.DataFrame) -> None:
    kits = Kits(tmp_path / "kits")
    pd.testing.assert_frame_equal(kits.get_table(kits.put_portions(stored)), table, check_exact=True)
