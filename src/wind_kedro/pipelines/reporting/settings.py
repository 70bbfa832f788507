"""The parameters of reporting (`parameters_reporting.yml`)."""

from pydantic import Field

from wind_kedro.strict import Strict


class Reporting(Strict):
    """How much the page shows. Fields as in ``parameters_reporting.yml``."""

    detailed_members: int = Field(
        12, gt=0, description="products × farms or groups shown in figures; all are in the table"
    )
    band_share: float = Field(
        0.8, gt=0, lt=1, description="nominal coverage of the band that words and tables speak of"
    )
    power_curve_points: int = Field(
        5000, gt=0, description="most points that agree with the curve to draw, all farms together"
    )
    fan_history_hours: int = Field(24, ge=0, description="what was measured before the issue, drawn before the fan")
    energy_range_issues: int = Field(
        20, gt=0, description="past issues needed before a day's range is corrected by experience"
    )
    monitoring_hours: float = Field(26, gt=0, description="that monitoring ran longer ago is a warning itself")
    outliers: int = Field(
        10, ge=0, description="the worst hours that are told with their weather, all members together"
    )
    failures: int = Field(
        30, gt=0, description="failures in the table of the page, errors first; all are in the summary"
    )
    live_average_days: int = Field(7, gt=0, description="days in the running mean of live performance")
    readiness_farms: int = Field(
        40, gt=0, description="farms in the figure of the readiness page, those most in doubt; all are in its table"
    )
