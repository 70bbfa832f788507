import datetime as dt

import numpy as np
import pandas as pd
import pytest

from wind_kedro.cards.columns import quantile_column
from wind_kedro.clock import Clock
from wind_kedro.pipelines.reporting import views

AS_OF = Clock(as_of=dt.datetime(2016, 1, 1, tzinfo=dt.UTC))


def utc(text):
    return pd.Timestamp(text, tz="UTC")


@pytest.mark.parametrize(
    ("levels", "share", "expected"),
    [
        pytest.param([0.1, 0.5, 0.9], 0.8, (0.1, 0.9), id="the band asked for"),
        pytest.param([0.05, 0.25, 0.5, 0.75, 0.95], 0.8, (0.05, 0.95), id="the closest there is"),
        pytest.param([0.1, 0.5, 0.95], 0.8, (0.5, 0.5), id="no symmetric pair: the median"),
    ],
)
def test_band(levels, share, expected):
    assert views.band_levels(levels, share) == expected


def test_measured_takes_the_newest_version_known_and_shares_of_what_was_available():
    versions = pd.DataFrame(
        {
            "entity_id": "a",
            "granularity_minutes": 60,
            "valid_at": utc("2015-12-31T20:00"),
            "available_at": [utc("2016-01-02"), utc("2015-12-31T22:00"), utc("2015-12-31T21:00")],
            "power_kw": [900.0, 500.0, 100.0],
            "available_capacity_kw": [1000.0, 1000.0, 1000.0],
        }
    )
    assert views.measured(versions, "a", 60, AS_OF)["power_share"].to_list() == [0.5]
    assert views.measured(versions, "a", 30, AS_OF).empty


@pytest.mark.parametrize(
    ("issued_at", "hours", "as_of", "expected"),
    [
        pytest.param("2015-12-31T06:00", 49, "2015-12-31T07:00", ("day", "2015-12-31T23:00", "2016-01-01T23:00"), id="tomorrow"),
        pytest.param("2015-12-31T06:00", 49, "2016-01-01T08:00", ("day", "2015-12-31T23:00", "2016-01-01T23:00"), id="under way"),
        pytest.param("2015-12-30T06:00", 72, "2015-12-31T08:00", ("day", "2015-12-31T23:00", "2016-01-01T23:00"), id="the next"),
        pytest.param("2015-12-31T06:00", 49, "2016-01-09T00:00", ("day", "2015-12-31T23:00", "2016-01-01T23:00"), id="long over"),
        pytest.param("2015-12-31T06:00", 6, "2015-12-31T07:00", ("horizon", "2015-12-31T06:00", "2015-12-31T12:00"), id="short"),
        pytest.param("2015-03-28T06:00", 49, "2015-03-28T07:00", ("day", "2015-03-28T23:00", "2015-03-29T22:00"), id="23 hours"),
    ],
)
def test_headline_speaks_of_a_whole_day_of_the_market(world, issued_at, hours, as_of, expected):
    forecast = pd.DataFrame({"valid_at": pd.date_range(utc(issued_at), periods=hours, freq="h")})
    [member] = views.members(world.fleet, world.clock)
    window = views.headline_window(forecast, member, "Europe/Paris", Clock(as_of=utc(as_of).to_pydatetime()))
    assert (window.kind, window.start, window.end) == (expected[0], utc(expected[1]), utc(expected[2]))


@pytest.mark.parametrize(
    ("as_of", "expected"),
    [
        ("2015-12-31T07:00", "Tomorrow, Friday 1 January 2016"),
        ("2016-01-01T00:00", "Today, Friday 1 January 2016"),
        ("2016-01-02T00:00", "Yesterday, Friday 1 January 2016"),
        ("2016-01-09T00:00", "Friday 1 January 2016"),
    ],
)
def test_days_in_words(as_of, expected):
    window = views.Window("day", utc("2015-12-31T23:00"), utc("2016-01-01T23:00"))
    assert window.describe(utc(as_of).to_pydatetime(), "Europe/Paris") == expected


class TestEnergyRange:
    """Two hours a day, median 1000 kW, from 500 to 2000 in each: 2 MWh, the summed band from 1 to 4."""

    @pytest.fixture
    def member(self, world):
        return views.members(world.fleet, world.clock)[0]

    def tables(self, member, outcomes_kw):
        days = pd.date_range(utc("2015-12-01T06:00"), periods=len(outcomes_kw) + 1, freq="D")
        issued = pd.DataFrame(
            [
                {
                    "product_id": member.product.id,
                    "entity_id": member.entity_id,
                    "issued_at": day,
                    "valid_at": day + pd.Timedelta(hours=hour),
                    "lead_minutes": hour * 60,
                    "capacity_kw": 4000.0,
                    quantile_column(0.1): 500.0,
                    quantile_column(0.5): 1000.0,
                    quantile_column(0.9): 2000.0,
                }
                for day in days
                for hour in (0, 1)
            ]
        )
        past = issued[issued["issued_at"] < days[-1]]
        actual = pd.DataFrame({"power_share": np.repeat(outcomes_kw, 2) / 4000.0}, index=past["valid_at"])
        newest = issued[issued["issued_at"] == days[-1]]
        return issued, newest, actual, views.Window("horizon", days[-1], days[-1] + pd.Timedelta(hours=2))

    def energy(self, member, outcomes_kw, min_issues=9):
        found = views.energy_range(*self.tables(member, outcomes_kw), member, AS_OF, band_share=0.8, min_issues=min_issues)
        return found.expected_mwh, found.low_mwh, found.high_mwh, found.past_issues

    def test_without_experience_the_summed_band_stands(self, member):
        assert self.energy(member, [1000.0] * 8) == (2.0, 1.0, 4.0, 0)

    def test_experience_scales_both_halves(self, member):
        # Nine issues missed upwards by 10, 20 … 90 % of the upper half (1000 kW): rank ⌈10 · 0.8⌉ = 8, so 80 %.
        outcomes = [1000.0 + 100 * tenth for tenth in range(1, 10)]
        assert self.energy(member, outcomes) == pytest.approx((2.0, 2 - 0.8, 2 + 0.8 * 2, 9))

    def test_misses_below_count_by_the_lower_half(self, member):
        # 400 kW below the median is 80 % of the lower half of 500 kW.
        assert self.energy(member, [600.0] * 9) == pytest.approx((2.0, 2 - 0.8, 2 + 0.8 * 2, 9))

    def test_energy_stays_between_nothing_and_full_power(self, member):
        # Missed by thrice the upper half: 2 − 3 and 2 + 6 MWh are cut to 0 and 4 MW · 2 h.
        assert self.energy(member, [4000.0] * 9) == pytest.approx((2.0, 0.0, 8.0, 9))

    def test_an_issue_with_a_gap_in_its_truth_does_not_count(self, member):
        issued, newest, actual, window = self.tables(member, [4000.0] + [1000.0] * 9)
        found = views.energy_range(issued, newest, actual.iloc[1:], window, member, AS_OF, band_share=0.8, min_issues=9)
        assert (found.low_mwh, found.high_mwh, found.past_issues) == (2.0, 2.0, 9)


def test_scores_of_days_are_averaged_by_their_intervals_where_there_is_no_whole():
    scores = pd.DataFrame({"period": ["2015-11", "2015-11-01", "2015-11-02"], "value": [9.0, 1.0, 4.0], "n": [3, 2, 1]})
    assert views.weighted_mean(views.in_all(scores)) == pytest.approx(2.0)
    assert views.weighted_mean(scores.iloc[:0]) is None


def test_periods_after_as_of_are_not_seen():
    scores = pd.DataFrame({"period": ["all", "2016-01", "2016-02", "2016-01-01", "2016-01-02"]})
    assert views.known_periods(scores, AS_OF)["period"].to_list() == ["all", "2016-01", "2016-01-01"]
