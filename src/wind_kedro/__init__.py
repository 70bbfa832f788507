"""Wind power forecasting for one farm or a thousand, as Kedro pipelines.

Raw turbine signals and weather go in; scored, tracked and reported power forecasts come out.
"""

__version__ = "0.1.0"
