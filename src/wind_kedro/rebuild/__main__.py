"""``python -m wind_kedro.rebuild KITS RUN_ID ENTRIES OBJECTS``: refit a training and print the comparison as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from wind_kedro.datasets.training_kit import Kits
from wind_kedro.rebuild.refit import compare
from wind_kedro.storage.paths import data_path

kits, run_id, entries, objects = sys.argv[1:]
found = compare(
    Kits(data_path(kits, "kits")), run_id, json.loads(Path(entries).read_text("utf-8")), data_path(objects, "objects")
)
sys.stdout.write("\n" + json.dumps(found) + "\n")
