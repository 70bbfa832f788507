"""Parameters of the pipeline reporting (`parameters_reporting.yml`)."""

from pydantic import Field

from wind_kedro.strict import Strict


class Reporting(Strict):
    """How much the page shows."""

    detailed_members: int = Field(
        12, gt=0, description="number of members (products × farms or groups) in figures; the table has all"
    )
    band_share: float = Field(0.8, gt=0, lt=1, description="nominal coverage of the band in texts and tables")
    power_curve_points: int = Field(
        5000, gt=0, description="maximum number of points on the curve that are drawn, over all farms"
    )
    fan_history_hours: int = Field(24, ge=0, description="hours of measured power before the issue that are drawn")
    energy_range_issues: int = Field(20, gt=0, description="minimum number of past issues to calibrate the energy range of a day")
    monitoring_hours: float = Field(26, gt=0, description="the page warns if monitoring ran more than this many hours ago")
    outliers: int = Field(10, ge=0, description="number of worst hours that are shown with their weather, over all members")
    failures: int = Field(30, gt=0, description="number of failures in the table of the page, errors first; the summary has all")
    live_average_days: int = Field(7, gt=0, description="days in the running mean of live performance")
    readiness_farms: int = Field(40, gt=0, description="number of farms in the figure of the readiness page; the table has all")
