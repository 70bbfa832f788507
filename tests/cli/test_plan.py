"""A plan counts the shards of a table behind a node whose output is not stored."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline

from wind_kedro.cli.plan import steps
from wind_kedro.datasets import DerivedTable
from wind_kedro.storage.fingerprints import Recipe


def _wanted(checked: list[str]) -> Recipe:
    wanted = pd.DataFrame({"farm_id": checked, "day": pd.Timestamp(2024, 3, 1), "fingerprint": 1})
    return Recipe(wanted, lambda part: part[["farm_id"]].assign(valid_at=part["day"]))


def test_what_is_not_stored_is_made_for_the_plan(tmp_path: Path) -> None:
    table = DerivedTable(filepath=str(tmp_path / "table"), key=["farm_id"], time="valid_at")
    catalog = DataCatalog({"farms": MemoryDataset(["hill", "shore"]), "checked": MemoryDataset(), "table": table})
    pipeline = Pipeline([Node(sorted, "farms", "checked", name="check"), Node(_wanted, "checked", "table", name="make")])
    (found,) = steps(pipeline, catalog)
    assert (found["table"], found["wanted"], found["missing"], found["waits_for"]) == ("table", 2, 2, [])
    assert not table.exists()
    table.save(_wanted(["hill"]))
    (found,) = steps(pipeline, catalog)
    assert (found["wanted"], found["missing"]) == (2, 1)
