"""Wind power forecasting for one farm or a thousand, as Kedro pipelines.

Raw turbine signals and weather go in; scored, tracked and reported power forecasts come out.
"""

import os

__version__ = "0.1.0"

# The usage statistics of Kedro and MLflow stay off unless somebody turns them on: a farm's computers often have no way out.
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
