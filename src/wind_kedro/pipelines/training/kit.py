"""The training kit: everything that the fit is made from, so that its models can be made again."""

from __future__ import annotations

from typing import Any

import pandas as pd

from wind_kedro.datasets.derived import Derived
from wind_kedro.datasets.training_kit import TrainingKit
from wind_kedro.governance.provenance import Provenance

_TABLES = (pd.DataFrame, Derived)


def assemble_training_kit(raw_manifest: pd.DataFrame, provenance: Provenance, **inputs: Any) -> TrainingKit:
    """The inputs of the fit, as the node that fits gets them.

    Args:
        raw_manifest: the raw files that the tables were made from.
        provenance: where the training runs.
        inputs: of the node that fits: tables by dataset, parameters by name.
    """
    return TrainingKit(
        tables={name: value for name, value in inputs.items() if isinstance(value, _TABLES)},
        parameters={name: value.model_dump(mode="json") for name, value in inputs.items() if not isinstance(value, _TABLES)},
        raw_manifest=raw_manifest,
        provenance=provenance,
    )
