"""``python -m wind_kedro.rebuild KITS RUN_ID ENTRIES OBJECTS``: refit a training and print the comparison as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from wind_kedro.datasets.training_kit import Kits
from wind_kedro.rebuild.refit import compare

kits, run_id, entries, objects = sys.argv[1:]
found = compare(Kits(Path(kits)), run_id, json.loads(Path(entries).read_text("utf-8")), Path(objects))
sys.stdout.write("\n" + json.dumps(found) + "\n")
