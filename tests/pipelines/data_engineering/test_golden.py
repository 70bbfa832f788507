"""A step whose output changes for the same input needs another VERSION, or shards that were computed before stay as they are.

After a wanted change, increase the VERSION of the step and write the new digests: ``GOLDEN=write pytest <this file>``.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from wind_kedro.cards import Fleet
from wind_kedro.datasets.derived import Derived
from wind_kedro.pipelines.data_engineering.assessment import quarantine
from wind_kedro.pipelines.data_engineering.signals import aggregation, operating_states, power_curves
from wind_kedro.pipelines.data_engineering.timestamps import placement

from .test_incremental import DAYS, START, any_rows, any_suspicions, compute, ordered

__all__ = ["compute"]

GOLDEN = Path(__file__).with_name("golden.json")
VERSIONS = {
    "timed_signals": placement.VERSION,
    "cell_counts": power_curves.VERSION,
    "power_curve": power_curves.VERSION,
    "signals": operating_states.VERSION,
    "observations": aggregation.VERSION,
    "quarantine": quarantine.VERSION,
}


def digest_of(frame: pd.DataFrame) -> str:
    """Of the values as text, numbers with nine digits."""
    text = frame.to_csv(index=False, float_format="%.9g", date_format="%Y-%m-%dT%H:%M:%S.%f")
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def test_outputs_change_only_with_their_versions(
    compute: Callable[..., dict[str, Derived]],
    windy: Callable[..., Fleet],
    tmp_path: Path,
) -> None:
    numbers = np.random.default_rng(20240329)
    rows, suspected = any_rows(numbers), any_suspicions(numbers)
    tables = compute(tmp_path, rows, windy(received_at="received"), START + pd.Timedelta(days=DAYS + 3), suspected)
    found = {name: [VERSIONS[name], digest_of(ordered(table.frame(), name))] for name, table in tables.items()}
    if os.environ.get("GOLDEN") == "write":
        GOLDEN.write_text(json.dumps(found, indent=2) + "\n")
    known = json.loads(GOLDEN.read_text())
    assert found.keys() == known.keys()
    for name, (version, digest) in found.items():
        changed = digest != known[name][1]
        assert not changed or version != known[name][0], f"{name} changed: increase the VERSION of its step"
    assert found == known, "write the digests of the new versions: see above"
