"""The fleet's model as MLflow serves it: from this code and native artefacts, nothing pickled.

MLflow runs this file when it loads a version ("models from code"), and hands it the folder that `FleetModel.save` wrote.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

from wind_kedro.models.allowed import allow_classes, classes_of
from wind_kedro.models.ensembles.fleet_model import FleetModel, read_manifest


class FleetPyfunc(PythonModel):
    """Features of any product and entity in, quantiles as shares of capacity out."""

    fleet_model: FleetModel

    def load_context(self, context: Any) -> None:
        """Read the fleet's model from its artefact.

        MLflow ran this file from the registry to get here, so those who serve a version trust its registry: unlike in the
        pipelines, the classes that the manifest names are allowed.
        """
        folder = Path(context.artifacts["fleet_model"])
        allow_classes(classes_of(read_manifest(folder)))
        self.fleet_model = FleetModel.load(folder)

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """One row per row of features, a column a quantile level (missing where the product has it not)."""
        return self.fleet_model.predict(model_input)


set_model(FleetPyfunc())
