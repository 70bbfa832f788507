import datetime as dt
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from pydantic import ValidationError

from wind_kedro.cards.columns import PERFECT_WEATHER
from wind_kedro.clock import Clock
from wind_kedro.contracts.operation import FAILURE_CODES
from wind_kedro.pipelines.reporting import nodes
from wind_kedro.pipelines.reporting.documents import Summary, SummaryDocument, summary_schema

from .checks import self_contained

SCHEMA = Path(__file__).parents[3] / "docs" / "summary.schema.json"


def words(page):
    """What a reader sees: neither scripts, styles nor figures."""
    page = re.sub(r"<(script|style)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


# --- the summary


def test_the_document_obeys_its_schema_in_every_world(any_world, write):
    facts, _ = write(any_world)
    SummaryDocument().validate(json.loads(json.dumps(facts)))
    with pytest.raises(ValidationError, match="headline"):
        SummaryDocument().validate(facts | {"members": [{}]})


def test_the_committed_schema_is_in_step():
    assert SCHEMA.read_text("utf-8") == summary_schema(), "docs/summary.md says how to write it again"


def test_facts(world, write):
    facts, _ = write(world)
    [farm], [member] = facts["farms"], facts["members"]
    assert facts["as_of"] == "2016-01-01T00:00:00Z"
    assert facts["weather"] == PERFECT_WEATHER
    assert farm["set_aside_rows"] == {"conflicting_stamp": 3}
    # 36 hours of the 47 days less two hours (the last two cannot be read at midnight) are missing.
    assert farm["readings_share"] == pytest.approx(1 - 36 / (47 * 24 - 1), abs=1e-6)
    assert member["headline"].startswith("Today, Friday 1 January 2016: ")
    assert member["headline"].endswith(" in 8 of 10 cases.")
    assert member["model"]["run_id"] == "0123456789abcdef"
    assert [score["model"] for score in member["live"]] == ["catboost"]
    scores = world.backtest_scores
    best = scores[(scores["metric"] == "pinball_share") & scores["level"].isna() & (scores["lead_to_minutes"] == 2940)]
    best = best[best["lead_from_minutes"] == 0].sort_values("value")
    assert [score["model"] for score in member["backtest"]] == best["model"].to_list()
    assert member["backtest"][0]["pinball_share"] == pytest.approx(best["value"].iloc[0], abs=1e-6)


def test_a_past_moment_sees_nothing_later(world, write):
    past = world.but(clock=Clock(as_of=dt.datetime(2015, 12, 10, 7, tzinfo=dt.UTC)))
    later = pd.Timestamp("2015-12-10T07:00Z")
    cut = past.but(
        forecasts=world.forecasts[world.forecasts["issued_at"] <= later],
        observations=world.observations[world.observations["available_at"] <= later],
        promotions=world.promotions[world.promotions["promoted_at"] <= later],
        clock_calibration=world.clock_calibration.iloc[:0],
        incidents=world.incidents[world.incidents["raised_at"] <= later],
        open_failures=world.open_failures.iloc[:0],
        live_scores=world.live_scores[world.live_scores["period"] <= "2015-12-10"],
    )
    assert write(past) == write(cut)
    assert write(past)[0]["members"][0]["forecast"]["issued_at"] == "2015-12-10T06:00:00Z"


def test_recent_incidents_and_the_clock_are_warned_of_worst_first(world, write):
    facts, _ = write(world)
    assert [(one["severity"], one["kind"]) for one in facts["warnings"]] == [
        ("error", "error_spike"),
        ("warning", "clock_disagrees_with_card"),
    ]


def test_what_failed_is_listed_once_for_all_its_issues_with_what_to_do(world, write):
    facts, page = write(world)
    assert [(one["entity_id"], one["code"], one["issues"]) for one in facts["failures"]] == [
        ("north", "features_not_made", 0),
        ("north", "forecast_not_issued", 2),
    ]
    issue = facts["failures"][1]
    assert (issue["first_issue"], issue["last_issue"]) == ("2015-12-29T12:00:00Z", "2015-12-30T12:00:00Z")
    for one in facts["failures"]:
        assert one["raised_at"] == "2015-12-31T12:00:00Z"
    assert "north: no weather (and 1 consequence, not listed)" in words(page)
    assert "not issued" not in words(page)
    alone = world.open_failures[world.open_failures["code"] == "forecast_not_issued"]
    _, page = write(world.but(open_failures=alone))
    assert "2 from 29 December 2015, 12:00 UTC to 30 December 2015, 12:00 UTC" in words(page)
    assert "not issued: &lt;b&gt;no features&lt;/b&gt;" in page
    assert "run feature_engineering" in words(page)


def test_of_failures_with_one_cause_the_page_lists_the_first_of_each_entity(world, write):
    first = world.incidents.iloc[:1].assign(product_id="", severity="error", state="open")
    entities = {"north": ["forecast_not_issued", "features_not_made", "source_unreadable"], "south": ["forecast_not_issued"]}
    rows = [first.assign(kind=kind, entity_id=entity) for entity, kinds in entities.items() for kind in kinds]
    # Of another product than the one without features: no consequence.
    rows.append(first.assign(kind="features_not_made", entity_id="south", product_id="intraday"))
    facts, page = write(world.but(incidents=pd.concat(rows)))
    assert len([one for one in facts["warnings"] if one["kind"] in FAILURE_CODES]) == 5
    listed = nodes.first_causes(Summary.model_validate(facts).warnings, "kind")
    assert [(one.entity_id, one.kind, count) for one, count in listed if one.kind in FAILURE_CODES] == [
        ("north", "source_unreadable", 2),
        ("south", "features_not_made", 0),
        ("south", "forecast_not_issued", 0),
    ]
    assert "(and 2 consequences, not listed)" in words(page)


def test_without_failures_nothing_is_listed(world, write):
    facts, page = write(world.but(open_failures=world.open_failures.iloc[:0]))
    assert facts["failures"] == []
    assert "What failed in the newest run" not in words(page)


def test_only_what_is_open_is_warned_of_with_since_when(world, write):
    newest = world.incidents[world.incidents["kind"] == "error_spike"]
    since = pd.Timestamp("2015-12-29T12:00Z")
    both = pd.concat([newest.assign(opened_at=since), newest.assign(kind="feed_silent", state="resolved")])
    facts, page = write(world.but(incidents=both))
    assert [one["kind"] for one in facts["warnings"]] == ["error_spike", "clock_disagrees_with_card"]
    assert facts["warnings"][0]["opened_at"] == "2015-12-29T12:00:00Z"
    assert "open since 29 December 2015, 12:00 UTC" in words(page)


@pytest.mark.parametrize(
    ("hours", "stale"), [pytest.param(26, False, id="at the limit"), pytest.param(26.1, True, id="beyond it")]
)
def test_a_report_says_that_monitoring_did_not_run(world, write, hours, stale):
    raised = pd.Timestamp(world.clock.as_of) - pd.Timedelta(hours=hours)
    calm = world.incidents.iloc[:1].assign(raised_at=raised, kind="all_clear", severity="info")
    facts, page = write(world.but(incidents=calm))
    assert ("monitoring_stale" in [one["kind"] for one in facts["warnings"]]) == stale
    assert facts["monitored_at"] == f"{raised:%Y-%m-%dT%H:%M:%SZ}"
    assert facts["inputs"]["forecasts"] == facts["members"][0]["forecast"]["issued_at"]
    assert "Newest inputs: observations" in words(page)


def test_before_monitoring_ran_nothing_is_all_clear(bare_world, write):
    facts, page = write(bare_world)
    assert [one["kind"] for one in facts["warnings"]] == ["monitoring_stale"]
    assert "Monitoring has not run yet" in words(page)


def test_the_clock_is_not_told_twice(world, write):
    told = world.incidents.assign(product_id="", kind="clock_disagrees_with_card", severity="warning")
    facts, _ = write(world.but(incidents=told))
    assert [one["kind"] for one in facts["warnings"]] == ["clock_disagrees_with_card"]


def test_a_forecast_that_is_over_is_an_error(world, write):
    facts, page = write(world.but(clock=Clock(as_of=dt.datetime(2016, 1, 9, tzinfo=dt.UTC))))
    assert "forecast_is_over" in [one["kind"] for one in facts["warnings"]]
    assert "the newest forecast ended at 2 January 2016, 06:00 UTC" in words(page)


# --- the page


def test_the_page_is_self_contained_and_small_in_every_world(any_world, write):
    _, page = write(any_world)
    self_contained(page)


def test_the_same_tables_give_the_same_bytes(world, write):
    assert write(world) == write(world)


def test_the_page_says_what_the_summary_says(world, write):
    facts, page = write(world)
    text = words(page)
    assert facts["members"][0]["headline"] in text
    for expected in ("offset stripped, read as UTC", "0123456789abcdef", "3 rows in quarantine", "North &amp; Sons"):
        assert expected in text


def test_texts_are_escaped(world, write):
    _, page = write(world)
    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "open data &lt;licence&gt;" in page


@pytest.mark.parametrize(("name", "labelled"), [("world", True), ("forecast_world", False)])
def test_the_banner_stands_where_weather_is_perfect_and_only_there(request, write, name, labelled):
    _, page = write(request.getfixturevalue(name))
    assert ("An upper bound on skill" in words(page)) is labelled
    assert ('class="label"' in page) is labelled


def test_a_page_of_nothing_says_so(bare_world, write):
    _, page = write(bare_world)
    text = words(page)
    for expected in ("No forecast was issued yet", "No model was backtested yet", "No model is in operation yet"):
        assert expected in text


@pytest.mark.parametrize(
    ("fragment", "named"),
    [
        ('<script src="https://cdn.plot.ly/plotly.js"></script>', "script src"),
        ('<link rel="stylesheet" href="style.css">', "link href"),
        ('<img src="//example.org/a.png">', "img src"),
        ("<style>@import 'fonts.css';</style>", "style"),
        ("<style>p { background: url(https://example.org/a.png) }</style>", "style"),
        ('<p style="background: url(a.png)">', "style"),
    ],
)
def test_a_page_that_loads_something_is_refused(fragment, named):
    page = '<!DOCTYPE html><html lang="en"><title>t</title><main><a href="https://ok">ok</a>{}</main></html>'
    assert self_contained(page.format(""))
    with pytest.raises(ValueError, match=named):
        self_contained(page.format(fragment))


def test_a_page_too_large_to_send_is_refused():
    with pytest.raises(ValueError, match="6 MB"):
        self_contained("x" * 6_000_001)


# --- in a browser


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
@pytest.mark.parametrize(("name", "menu"), [("world", 0), ("fleet_world", 1)])
def test_a_browser_draws_every_figure_without_a_network(request, write, tmp_path, name, menu):
    _, page = write(request.getfixturevalue(name))
    (tmp_path / "report.html").write_text(page, "utf-8")
    # Every name resolves to nowhere: what the page would fetch, it does not get. Root needs --no-sandbox in containers.
    command = [
        BROWSER, "--headless", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync",
        "--disable-component-update", "--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND",
        "--virtual-time-budget=8000",
        f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--dump-dom",
        (tmp_path / "report.html").as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, env=os.environ | {"LANG": "C"})
    body = done.stdout.split("<noscript>")[0]
    figures = body.split('<div class="plot js-plotly-plot"')[1:]
    assert len(figures) == 10
    for figure in figures:
        assert 'class="main-svg"' in figure
        assert 'class="point' in figure or 'class="js-line"' in figure
    assert body.count('<select id="member"') == menu
    assert "CONSOLE" not in done.stderr, done.stderr


def test_the_worst_hours_are_told_with_their_weather_worst_first(world, bare_world, write):
    facts, page = write(world)
    assert [hour["valid_at"][:10] for hour in facts["outliers"]] == [f"2015-12-{day}" for day in range(25, 15, -1)]
    assert facts["outliers"][0]["verdict"] == "storm"
    assert "The worst hours, and why" in page
    assert "wind of 24.5 m/s: more than in 99.8% of &lt;the&gt; backtest" in page
    facts, page = write(bare_world)
    assert facts["outliers"] == []
    assert "The worst hours" not in page


def test_a_farm_is_shown_as_it_stands_at_the_time(world, write):
    cards = world.fleet.model_dump(mode="json")
    [farm] = cards["farms"]
    removed, *_ = farm["turbines"]
    removed["valid_until"] = "2015-12-31"
    facts, _ = write(world.but(fleet=type(world.fleet).model_validate(cards)))
    assert facts["farms"][0]["turbines"] == len(farm["turbines"]) - 1
    assert facts["farms"][0]["capacity_kw"] == farm["capacity_kw"] - removed["rated_power_kw"]
    assert facts["members"][0]["capacity_kw"] == facts["farms"][0]["capacity_kw"]


def test_a_farm_without_turbines_is_shown_without_a_hub_height(world, write):
    cards = world.fleet.model_dump(mode="json")
    for turbine in cards["farms"][0]["turbines"]:
        turbine["valid_until"] = "2015-12-31"
    facts, page = write(world.but(fleet=type(world.fleet).model_validate(cards)))
    assert (facts["farms"][0]["turbines"], facts["farms"][0]["hub_height_m"], facts["farms"][0]["capacity_kw"]) == (0, None, 0)
    assert "nan" not in page.lower().split("<body", 1)[-1].split("<script", 1)[0]


def test_a_revision_is_named_on_the_page(world, write):
    issued = world.forecasts["issued_at"].max()
    revised = world.forecasts.assign(
        revision=(world.forecasts["issued_at"] == issued).astype(int) * 3, revised_issue_at=issued - pd.Timedelta(hours=3)
    )
    facts, page = write(world.but(forecasts=revised))
    assert facts["members"][0]["forecast"]["revision"] == 3
    assert facts["members"][0]["forecast"]["rung"] == "champion"
    assert "as revision 3 of the issue of" in " ".join(page.split())
