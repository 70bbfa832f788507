"""The readiness page: what it tells of each farm, and that a browser sorts and filters it without a network."""

import os
import re
import shutil
import subprocess

import pandas as pd
import pytest

from wind_kedro.clock import Clock
from wind_kedro.pipelines.reporting.readiness import (
    build_readiness_page,
    draw_weather_fit,
    readiness_facts,
    weekly_coverage,
)

from .checks import readable, self_contained
from .conftest import make_readiness, make_weather_fit


def page_of(world):
    return build_readiness_page(world.readiness, world.observations, figure_of(world), world.fleet, world.clock)


def figure_of(world):
    return draw_weather_fit(world.weather_fit, world.readiness, world.fleet, world.clock, world.reporting)


def rows_of(page):
    return re.findall(r"<tr data-tier.*?</tr>", page, re.DOTALL)


def test_the_page_is_self_contained_in_every_world(any_world):
    self_contained(page_of(any_world))


def test_the_same_tables_give_the_same_bytes(world):
    assert page_of(world) == page_of(world)


def test_every_farm_has_a_row_and_those_in_trouble_come_first(fleet_world):
    page = page_of(fleet_world)
    rows = rows_of(page)
    assert len(rows) == len(fleet_world.fleet.farms) == 2
    assert ['data-tier="none"' in row for row in rows] == [True, False]
    assert "699.0 days with power &amp; weather" in rows[0]
    assert "of another time" not in page  # assessed after as_of


def test_before_any_assessment_the_page_says_so(bare_world):
    page = page_of(bare_world)
    assert rows_of(page) == []
    assert f"Not assessed yet: {bare_world.fleet.farms[0].name}".replace("&", "&amp;") in page
    assert readiness_facts(bare_world.readiness, bare_world.fleet.farms[0].id, bare_world.clock) is None


def test_the_summary_and_the_report_tell_the_tier(world, write):
    facts, page = write(world)
    told = facts["farms"][0]["readiness"]
    assert (told["tier"], told["learnable_days"], told["wrong_point"]) == ("local", 700.0, False)
    assert told["reason"] == "700.0 days with power & weather"
    assert '<a href="readiness.html">local</a>' in page


def test_the_figure_shows_own_and_other_points_and_those_in_doubt(fleet_world):
    figure = readable(figure_of(fleet_world))
    drawn = {trace.name: len(trace.x) for trace in figure.data}
    assert drawn == {"points of other farms": 2, "its own points": 1, "its own, and suspected to be wrong": 1}
    # The farm most in doubt is on top.
    assert figure.layout.yaxis.categoryarray[-1] == fleet_world.fleet.farms[1].name


def test_of_many_farms_the_figure_shows_those_most_in_doubt(fleet_world):
    reporting = fleet_world.reporting.model_copy(update={"readiness_farms": 1})
    figure = figure_of(fleet_world.but(reporting=reporting))
    assert set(figure.data[0].y) == {fleet_world.fleet.farms[1].name}
    assert figure.layout.title.subtitle.text == "the 1 of 2 farms most in doubt"


def test_coverage_is_by_week_and_as_of(world):
    farm_id = world.fleet.farms[0].id
    weeks = weekly_coverage(world.observations, world.fleet, world.clock)[farm_id]
    assert len(weeks) == 26
    assert weeks[0][1] == 0.0
    assert 0 < weeks[-1][1] <= 1.0
    past = Clock(as_of=world.clock.as_of - pd.Timedelta(weeks=1))
    then = dict(weekly_coverage(world.observations, world.fleet, past)[farm_id])
    assert then[weeks[-2][0]] == pytest.approx(weeks[-2][1], abs=0.02)


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

#: What a reader does: sorts by tier twice, asks for the weather in doubt, then looks for a word that no farm has.
_READER = """
<script>
window.addEventListener("load", function () {
  function shown() {
    var rows = Array.prototype.slice.call(document.querySelectorAll("#table tbody tr"));
    return rows.filter(function (row) { return !row.hidden; });
  }
  function note(name) { told.push(name + "=" + shown().map(function (row) { return row.dataset.tier; }).join("/")); }
  var told = [], tier = document.querySelectorAll("#table thead th")[1];
  var doubt = document.getElementById("doubt"), find = document.getElementById("find");
  tier.click(); note("rising"); tier.click(); note("falling");
  doubt.checked = true; doubt.dispatchEvent(new Event("input")); note("doubt");
  find.value = "no such farm"; find.dispatchEvent(new Event("input")); note("found");
  var count = document.getElementById("shown").textContent;
  document.body.setAttribute("data-told", told.join(" ") + " " + count);
});
</script>"""


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_a_browser_sorts_filters_and_draws_without_a_network(fleet_world, tmp_path):
    page = page_of(fleet_world).replace("</body>", _READER + "</body>")
    (tmp_path / "readiness.html").write_text(page, "utf-8")
    command = [
        BROWSER, "--headless", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync",
        "--disable-component-update", "--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND",
        "--virtual-time-budget=8000",
        f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--dump-dom",
        (tmp_path / "readiness.html").as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, env=os.environ | {"LANG": "C"})
    told = re.search(r'data-told="([^"]*)"', done.stdout)
    assert told is not None
    assert told[1] == "rising=none/local falling=local/none doubt=none found= 0 of 2 farms"
    assert 'class="point' in done.stdout
    assert "CONSOLE" not in done.stderr, done.stderr


@pytest.mark.slow
def test_a_page_of_a_thousand_farms_can_still_be_sent(fleet_world):
    cards = fleet_world.fleet.model_dump(mode="json")
    first = cards["farms"][0]
    cards["farms"] += [first | {"id": f"farm_{number}", "name": f"Farm {number}"} for number in range(998)]
    fleet = type(fleet_world.fleet).model_validate(cards)
    many = fleet_world.but(fleet=fleet, readiness=make_readiness(fleet), weather_fit=make_weather_fit(fleet))
    page = page_of(many)
    self_contained(page)
    assert len(rows_of(page)) == 1000
