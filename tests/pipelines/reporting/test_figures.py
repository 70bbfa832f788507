import json

import ibis
import pandas as pd
import pytest
from plotly import graph_objects as go

from wind_kedro.cards.columns import PERFECT_WEATHER
from wind_kedro.pipelines.reporting import farm_figures, forecast_figures
from wind_kedro.pipelines.reporting.settings import Reporting

from .checks import readable

#: What is made from weather; the others show the farm and its data.
FROM_WEATHER = {
    "forecast_figure",
    "attributions_figure",
    "lead_time_figure",
    "accuracy_figure",
    "reliability_figure",
    "live_performance_figure",
}


def trace(figure, name, number=0):
    found = [trace for trace in figure.data if trace.name.startswith(name)]
    return found[number]


def subtitle(figure):
    return figure.layout.title.subtitle.text


def test_every_figure_is_readable_in_every_world(any_world, draw):
    drawn = draw(any_world)
    assert len(drawn) == 11
    for figure in drawn.values():
        readable(figure)


def test_what_is_made_from_perfect_weather_says_so(world, draw, bare_world):
    assert {name for name, figure in draw(world).items() if PERFECT_WEATHER in subtitle(figure)} == FROM_WEATHER
    assert PERFECT_WEATHER in subtitle(draw(bare_world)["forecast_figure"])


def test_a_figure_without_data_says_which_pipeline_to_run(bare_world, draw):
    notes = {name: figure.layout.annotations for name, figure in draw(bare_world).items() if name != "farm_map_figure"}
    assert all("pipeline" in note[0].text for note in notes.values())


def test_figures_are_the_same_bytes_again_and_plain_json(world, draw):
    once, again = draw(world), draw(world)
    for name, figure in once.items():
        text = figure.to_json()
        assert text == again[name].to_json()
        # Typed arrays ('bdata') are newer than the Plotly in other viewers.
        assert "bdata" not in text
        assert len(text) < 400_000


@pytest.mark.parametrize("name", ["forecast_figure", "farm_map_figure", "power_curve_figure", "clock_figure"])
def test_the_menu_shows_one_view_at_a_time(fleet_world, draw, name):
    figure = draw(fleet_world)[name]
    [menu] = figure.layout.updatemenus
    shown = [button.args[0]["visible"] for button in menu.buttons]
    assert [sum(column) for column in zip(*shown, strict=True)] == [1] * len(figure.data)
    assert [trace.visible for trace in figure.data] == list(shown[0])
    assert menu.buttons[-1].name == ("next_day/both" if name == "forecast_figure" else "south")


def test_only_so_many_members_are_drawn(fleet_world, draw):
    few = fleet_world.but(reporting=Reporting(detailed_members=1))
    assert not draw(few)["forecast_figure"].layout.updatemenus
    assert "North & Sons".replace("&", "&amp;") in subtitle(draw(few)["forecast_figure"])


def test_the_fan_shows_what_came_and_nothing_later(world, draw):
    figure = draw(world)["forecast_figure"]
    median, measured = trace(figure, "forecast (median)"), trace(figure, "measured")
    assert (median.x[0], len(median.x)) == ("2015-12-31T06:00", 49)
    # From a day before the issue to the last interval that could be read at midnight, 70 minutes after its start.
    assert (measured.x[0], measured.x[-1]) == ("2015-12-30T06:00", "2015-12-31T22:00")
    newest = world.forecasts[world.forecasts["issued_at"] == world.forecasts["issued_at"].max()]
    assert list(median.y) == pytest.approx(newest["q500_kw"] / 1000, abs=0.001)
    upper = trace(figure, "80 % range", 1)
    assert list(upper.y) == pytest.approx(newest["q900_kw"] / 1000, abs=0.001)


def test_a_gap_in_the_truth_is_not_bridged(world):
    seen = world.observations[world.observations["valid_at"] != pd.Timestamp("2015-12-31T10:00Z")]
    figure = forecast_figures.draw_forecast(world.forecasts, seen, world.fleet, world.clock, world.reporting)
    measured = trace(figure, "measured")
    assert measured.y[measured.x.index("2015-12-31T10:00")] is None
    assert measured.connectgaps is False


def test_every_labelled_point_is_marked_and_the_others_are_a_sample(world):
    table = world.signals.to_pyarrow().to_pandas()
    few = Reporting(power_curve_points=100)
    figure = farm_figures.draw_power_curve(world.signals, world.power_curve, world.fleet, world.clock, few)
    stopped = trace(figure, "stopped")
    cells = table[table["operating_state"] == "stopped"].assign(
        x=lambda rows: (rows["wind_speed_ms"] / 0.05).round(), y=lambda rows: (rows["power_kw"] / 2000 / 0.005).round()
    )
    assert len(stopped.x) == len(cells[["x", "y"]].drop_duplicates())
    assert stopped.name == f"stopped: {len(cells):,} of {len(table):,} readings"
    assert not [one.name for one in figure.data if str(one.name).startswith("iced")]  # what did not happen has no entry
    assert 50 <= len(trace(figure, "agrees").x) <= 100


def test_superseded_and_later_readings_are_not_on_the_curve(world):
    late = world.signals.mutate(available_at=world.signals["available_at"] + ibis.interval(years=1))
    figure = farm_figures.draw_power_curve(late, world.power_curve, world.fleet, world.clock, world.reporting)
    assert len(trace(figure, "agrees").x) == 0
    superseded = world.signals.mutate(status=ibis.literal("superseded"))
    figure = farm_figures.draw_power_curve(superseded, world.power_curve, world.fleet, world.clock, world.reporting)
    assert len(trace(figure, "agrees").x) == 0


def test_errors_by_lead_are_the_scores_in_per_cent_with_the_champion_marked(world, draw):
    figure = draw(world)["lead_time_figure"]
    champion = trace(figure, "catboost (the champion)")
    scores = world.backtest_scores
    expected = scores[(scores["model"] == "catboost") & (scores["metric"] == "nmae_share") & (scores["lead_to_minutes"] == 60)]
    assert champion.y[0] == pytest.approx(expected["value"].item() * 100, abs=0.001)
    # The whole horizon is no lead time: seven buckets, not eight.
    assert len(champion.x) == 7
    assert {one.name for one in figure.data} == {"catboost (the champion)", "climatology", "persistence", "power curve"}


def test_reliability_compares_promise_and_truth_for_backtest_and_operation(world, draw):
    figure = draw(world)["reliability_figure"]
    for name, scores in (("in the backtest", world.backtest_scores), ("in operation", world.live_scores)):
        rows = scores[(scores["metric"] == "observed_frequency") & (scores["model"] == "catboost")]
        rows = rows[(rows["lead_to_minutes"] == 2940) & (rows["lead_from_minutes"] == 0) & (rows["level"] == 0.9)]
        shown = trace(figure, name)
        assert shown.x[-1] == 90
        assert shown.y[-1] == pytest.approx((rows["value"] * rows["n"]).sum() / rows["n"].sum() * 100, abs=0.01)


def test_live_days_stand_against_promise_and_goal(world, draw):
    figure = draw(world)["live_performance_figure"]
    backtest = world.backtest_scores
    promise = backtest[
        (backtest["model"] == "catboost")
        & (backtest["metric"] == "pinball_share")
        & backtest["level"].isna()
        & (backtest["lead_from_minutes"] == 0)
        & (backtest["lead_to_minutes"] == 2940)
    ]["value"].item()
    assert trace(figure, "expected").y == pytest.approx([promise * 100] * 2, abs=0.001)
    assert trace(figure, "goal").y == (3.0, 3.0)
    assert "pinball" in subtitle(figure)
    assert trace(figure, "each day").x[0] == "2015-11-22"


def test_readings_of_the_clock_with_the_one_used(world, draw):
    figure = draw(world)["clock_figure"]
    used = trace(figure, "used")
    assert (used.y, used.x) == (("offset stripped, read as UTC",), (10.0,))
    assert len(trace(figure, "other readings").x) == 2


def test_faults_are_bars_and_what_is_sound_is_not(world, draw):
    figure = draw(world)["data_quality_figure"]
    bars = {name: share for one in figure.data if one.type == "bar" for name, share in zip(one.y, one.x, strict=True)}
    assert bars == {
        "missing · power kw (signals)": 1.0,
        "sentinel · temperature c (signals)": 0.25,
        "stuck · wind speed ms (signals)": pytest.approx(100 / 30, abs=1e-4),
    }


def test_a_gap_shows_in_the_weeks(world, draw):
    weeks = trace(draw(world)["data_quality_figure"], "readings")
    share = dict(zip(weeks.x, weeks.y, strict=True))
    # 36 of the 168 hours from Monday 30 November are missing.
    assert share["2015-11-30T00:00"] == pytest.approx((168 - 36) / 168 * 100, abs=0.1)
    assert share["2015-11-23T00:00"] == 100


def test_names_are_never_html(world):
    bad = world.fleet.model_dump(mode="json")
    bad["farms"][0]["name"] = "<b onclick=x>"
    figure = farm_figures.draw_farm_map(type(world.fleet).model_validate(bad), world.clock, world.reporting)
    assert "<b" not in json.dumps(figure.to_dict()["layout"]["title"])


@pytest.mark.parametrize(
    ("figure", "message"),
    [
        pytest.param(go.Figure(), "no title", id="no title at all"),
        pytest.param(go.Figure(go.Scatter(), {"title": {"text": "t"}}), "no title on xaxis, yaxis", id="mute axes"),
        pytest.param(
            go.Figure(
                go.Bar(), {"title": {"text": "t"}, "xaxis": {"title": {"text": "time"}}}
            ),
            "no title on yaxis",
            id="one mute axis",
        ),
        pytest.param(
            go.Figure(
                go.Scatter(xaxis="x2", yaxis="y2"),
                {"title": {"text": "t"}, "xaxis2": {"title": {"text": "time"}}},
            ),
            "no title on yaxis2",
            id="an axis that only a trace names",
        ),
    ],
)  # fmt: skip
def test_an_unreadable_figure_is_refused(figure, message):
    with pytest.raises(ValueError, match=message):
        readable(figure)


def test_the_gap_between_promise_and_operation_is_named(world, draw):
    figure = draw(world)["accuracy_figure"]
    assert [bar.name for bar in figure.data] == ["cross-validated", "backtested, as known then", "as operated"]
    assert [bar.y[0] for bar in figure.data] == [0.03, 0.032, 0.033]
    assert "gap +10.0 %" in subtitle(figure)
    assert "fallbacks in 1.2 % of the intervals" in subtitle(figure)
