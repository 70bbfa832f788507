import datetime as dt
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from wind_kedro.cards import UNIT_CONVERSIONS, CardError, Farm, Fleet

UTC = dt.UTC
_TIMES = np.array(["2000-01-01", "2100-01-01"], dtype="datetime64[us]")


def _at(*path: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    """A spoiler: puts a value where the path leads; `...` takes the field away."""

    def spoil(cards: dict[str, Any]) -> None:
        *way, last = path
        place: Any = cards
        for step in way:
            place = place[step]
        if value is ...:
            del place[last]
        else:
            place[last] = value

    return spoil


HILL, SIGNALS, WEATHER = ("farms", 0), ("farms", 0, "signals"), ("farms", 0, "weather", 0)
MARKET, PRODUCT = ("markets", 0), ("products", 0)

#: What is wrong, and the one line that says so: all of its parts must stand in it, in this order.
WRONG_CARDS = {
    "negative capacity": (
        _at(*HILL, "capacity_kw", value=-3000),
        ["farms.yml: farm 'hill': capacity_kw: ", "greater than 0", "(given: -3000)"],
    ),
    "capacity is a word": (
        _at(*HILL, "capacity_kw", value="much"),
        ["farms.yml: farm 'hill': capacity_kw: ", "valid number", "'much'"],
    ),
    "capacity in megawatts": (
        _at(*HILL, "capacity_kw", value=3),
        ["farms.yml: farm 'hill': capacity_kw: 3 kW", "turbines add up to 3000 kW"],
    ),
    "capacity without end": (
        _at(*HILL, "capacity_kw", value=float("inf")),
        ["farms.yml: farm 'hill': capacity_kw: ", "finite"],
    ),
    "clock ahead by half an interval": (
        _at(*SIGNALS, "clock_ahead_minutes", value=7),
        ["farms.yml: farm 'hill': signals: clock_ahead_minutes: not a multiple of the 600 seconds between rows"],
    ),
    "turbine without power": (
        _at(*HILL, "turbines", 1, "rated_power_kw", value=0),
        ["farms.yml: farm 'hill': turbines.1.rated_power_kw: ", "greater than 0"],
    ),
    "no turbines": (_at(*HILL, "turbines", value=[]), ["farms.yml: farm 'hill': turbines: ", "at least 1"]),
    "turbine twice": (
        _at(*HILL, "turbines", 1, "id", value="T0"),
        ["farms.yml: farm 'hill': turbines: an id appears twice"],
    ),
    "missing field": (
        _at(*HILL, "latency_minutes", value=...),
        ["farms.yml: farm 'hill': latency_minutes: ", "required"],
    ),
    "unknown field": (
        _at(*HILL, "colour", value="red"),
        ["farms.yml: farm 'hill': colour: ", "not permitted"],  # its value may be a secret, and is not quoted
    ),
    "missing id": (_at(*HILL, "id", value=...), ["farms.yml: farm 'number 1': id: ", "required"]),
    "id with capitals": (
        _at(*HILL, "id", value="Hill One"),
        ["farms.yml: farm 'Hill One': id: 'Hill One' is not an identifier"],
    ),
    "card is a word": (_at("farms", 0, value="hill"), ["farms.yml: farm 'number 1': ", "dictionary"]),
    "not a list": (_at("farms", value={"hill": {}}), ["farms.yml: ", "valid list"]),
    "nothing there": (_at("products", value=None), ["products.yml: ", "valid list"]),
    "no products": (_at("products", value=[]), ["products.yml: ", "at least 1"]),
    "bad time zone": (
        _at(*HILL, "time_zone", value="Europe/Atlantis"),
        ["farms.yml: farm 'hill': time_zone: 'Europe/Atlantis' is not an IANA time zone"],
    ),
    "time zone is a path": (
        _at(*MARKET, "time_zone", value="../../etc"),
        ["markets.yml: market 'hourly': time_zone: ", "not an IANA time zone"],
    ),
    "off the globe": (
        _at(*HILL, "latitude_deg", value=148),
        ["farms.yml: farm 'hill': latitude_deg: ", "less than or equal to 90"],
    ),
    "duplicate farm": (_at("farms", 1, "id", value="hill"), ["farms.yml: farms: id 'hill' appears twice"]),
    "group named as a farm": (
        _at("groups", 0, "id", value="hill"),
        ["farms.yml: farms and groups: id 'hill' appears twice"],
    ),
    "duplicate market": (_at("markets", 1, "id", value="hourly"), ["markets.yml: markets: id 'hourly' appears twice"]),
    "duplicate product": (
        _at("products", 1, "id", value="hours"),
        ["products.yml: products: id 'hours' appears twice"],
    ),
    "unknown unit": (
        _at(*SIGNALS, "columns", "power_kw", "unit", value="hp"),
        ["farms.yml: farm 'hill': signals: columns.power_kw.unit: 'hp' is not a unit of it", "kW, MW, W"],
    ),
    "unit of another signal": (
        _at(*WEATHER, "columns", "wind_speed_100m_ms", "unit", value="kW"),
        ["farms.yml: farm 'hill': weather.0: columns.wind_speed_100m_ms.unit: 'kW'"],
    ),
    "unknown column": (
        _at(*SIGNALS, "columns", "smell", value={"name": "s", "unit": "kW"}),
        ["farms.yml: farm 'hill': signals: columns.smell: unknown; known are power_kw"],
    ),
    "no power": (_at(*SIGNALS, "columns", value={}), ["farms.yml: farm 'hill': signals: columns: power_kw is needed"]),
    "sentinel of an unknown signal": (
        _at(*SIGNALS, "sentinels", value={"powr_kw": [-999]}),
        ["farms.yml: farm 'hill': signals: sentinels.powr_kw: ", "power_kw"],
    ),
    "unknown clock": (
        _at(*SIGNALS, "clock", value="sundial"),
        ["farms.yml: farm 'hill': signals.clock: ", "as_stamped", "'sundial'"],
    ),
    "weather model twice": (
        lambda cards: cards["farms"][0]["weather"].append(cards["farms"][0]["weather"][0]),
        ["farms.yml: farm 'hill': weather: a model appears twice"],
    ),
    "weather without wind": (
        _at(*WEATHER, "columns", value={"wind_u_100m_ms": {"name": "u", "unit": "m/s"}}),
        ["farms.yml: farm 'hill': weather.0: columns: give wind_speed_100m_ms, or both"],
    ),
    "stitched forecast with a run time": (
        _at(*WEATHER, "first_step_minutes", value=60),
        ["farms.yml: farm 'hill': weather.0: run_at: a forecast needs the column of its run times or, without one"],
    ),
    "stitched analysis": (
        _at("farms", 1, "weather", 0, "first_step_minutes", value=60),
        ["farms.yml: farm 'shore': weather.0: first_step_minutes: only of forecasts"],
    ),
    "lead times beside valid times": (
        _at(*WEATHER, "lead", value={"name": "hors", "unit": "h"}),
        ["farms.yml: farm 'hill': weather.0: lead: only of tables with run_at, in place of valid_at"],
    ),
    "lead times in days": (
        lambda cards: cards["farms"][0]["weather"][0].update(valid_at=None, lead={"name": "hors", "unit": "days"}),
        ["farms.yml: farm 'hill': weather.0: lead.unit: must be one of min, h, s"],
    ),
    "half a place": (
        _at(*HILL, "latitude_deg", value=None),
        ["farms.yml: farm 'hill': latitude_deg, longitude_deg: give both or none"],
    ),
    "wind as a share": (
        _at(*WEATHER, "columns", "wind_speed_100m_ms", "unit", value="share"),
        ["farms.yml: farm 'hill': weather.0: columns.wind_speed_100m_ms.unit: 'share' is not a unit of it"],
    ),
    "product of an unknown weather model": (
        _at("products", 0, "weather_models", value=["gamma"]),
        ["products.yml: products.hours.weather_models: unknown weather model 'gamma'; known are alpha"],
    ),
    "forecast without run": (
        _at(*WEATHER, "run_at", value=None),
        ["farms.yml: farm 'hill': weather.0: run_at: a forecast needs"],
    ),
    "group of an unknown farm": (
        _at("groups", 0, "farms", value=["hill", "dale"]),
        ["farms.yml: groups.both.farms: unknown farm 'dale'; known are hill, shore"],
    ),
    "group counts a farm twice": (
        _at("groups", 0, "farms", value=["hill", "hill"]),
        ["farms.yml: group 'both': farms: 'hill' appears twice"],
    ),
    "unknown market": (
        _at(*PRODUCT, "market", value="bazaar"),
        ["products.yml: products.hours.market: unknown market 'bazaar'; known are hourly, quarterly"],
    ),
    "unknown member": (
        _at(*PRODUCT, "members", value=["dale"]),
        ["products.yml: products.hours.members: unknown farm or group 'dale'; known are both, hill, shore"],
    ),
    "member twice": (
        _at(*PRODUCT, "members", value=["hill", "hill"]),
        ["products.yml: product 'hours': members: 'hill' appears twice"],
    ),
    "coarser than settlement": (
        _at("products", 1, "granularity_minutes", value=60),
        [
            "products.yml: products.quarters.granularity_minutes: ",
            "60 is coarser than the 15 minutes that market 'quarterly' settles",
        ],
    ),
    "granularity that drifts": (
        _at(*PRODUCT, "granularity_minutes", value=7),
        ["products.yml: product 'hours': granularity_minutes: 7 minutes do not divide a day"],
    ),
    "levels falling": (
        _at(*PRODUCT, "quantile_levels", value=[0.5, 0.1]),
        ["products.yml: product 'hours': quantile_levels: must rise strictly between 0 and 1"],
    ),
    "level twice": (
        _at(*PRODUCT, "quantile_levels", value=[0.5, 0.5]),
        ["products.yml: product 'hours': quantile_levels: must rise strictly"],
    ),
    "level in per cent": (
        _at(*PRODUCT, "quantile_levels", value=[0.5, 90]),
        ["products.yml: product 'hours': quantile_levels: must rise strictly between 0 and 1"],
    ),
    "level too fine to name": (
        _at(*PRODUCT, "quantile_levels", value=[0.5, 0.9995]),
        ["products.yml: product 'hours': quantile_levels: must be whole thousandths"],
    ),
    "no median": (
        _at(*PRODUCT, "quantile_levels", value=[0.1, 0.9]),
        ["products.yml: product 'hours': quantile_levels: 0.5 is needed"],
    ),
    "no such time": (
        _at(*PRODUCT, "issue_times", value=["25:00"]),
        ["products.yml: product 'hours': issue_times.0: ", "25:00"],
    ),
    "issue time in a zone": (
        _at(*PRODUCT, "issue_times", value=["06:00+02:00"]),
        ["products.yml: product 'hours': issue_times: ", "time_zone"],
    ),
    "issue time without quotes": (
        _at(*PRODUCT, "issue_times", value=[1080]),
        ["products.yml: product 'hours': issue_times: ", "quotes"],
    ),
    "issue time twice": (
        _at(*PRODUCT, "issue_times", value=["06:00", "06:00"]),
        ["products.yml: product 'hours': issue_times: ", "twice"],
    ),
    "never issued": (
        _at(*PRODUCT, "issue_times", value=[]),
        ["products.yml: product 'hours': issue_times: ", "at least 1"],
    ),
    "nothing left to sell": (
        _at(*PRODUCT, "horizon_minutes", value=60),
        ["products.yml: products.hours.horizon_minutes: ", "gate"],
    ),
    "margin in per cent": (
        _at(*PRODUCT, "promotion_margin_share", value=2),
        ["products.yml: product 'hours': promotion_margin_share: ", "less than or equal to 1"],
    ),
    "unknown score": (
        _at(*PRODUCT, "deciding_score", value="luck"),
        ["products.yml: product 'hours': deciding_score: ", "pinball_share", "'luck'"],
    ),
    "goal without date": (
        _at(*PRODUCT, "goal", "since", value=...),
        ["products.yml: product 'hours': goal.since: ", "required"],
    ),
    "bands falling": (
        _at(
            "markets",
            1,
            "penalty",
            "bands",
            value=[{"up_to_share": 0.5, "rate_per_mwh": 1}, {"up_to_share": 0.1, "rate_per_mwh": 0}],
        ),
        ["markets.yml: market 'quarterly': penalty: bands: give at least one, with up_to_share rising"],
    ),
    "bands forgotten": (
        _at("markets", 1, "penalty", "bands", value=...),
        ["markets.yml: market 'quarterly': penalty: bands: give at least one"],
    ),
    "bands of an imbalance": (
        _at("markets", 1, "penalty", "kind", value="imbalance"),
        ["markets.yml: market 'quarterly': penalty: bands: only for kind 'bands'"],
    ),
    "negative penalty": (
        _at(*MARKET, "penalty", "short_per_mwh", value=-1),
        ["markets.yml: market 'hourly': penalty.short_per_mwh: ", "greater than or equal to 0"],
    ),
    "currency by name": (
        _at(*MARKET, "currency", value="euro"),
        ["markets.yml: market 'hourly': currency: ", "'euro'"],
    ),
}


@pytest.mark.parametrize(("spoil", "parts"), WRONG_CARDS.values(), ids=WRONG_CARDS)
def test_a_wrong_card_is_one_line_that_names_file_card_and_field(
    cards: dict[str, Any], spoil: Callable[[dict[str, Any]], None], parts: list[str]
) -> None:
    spoil(cards)
    with pytest.raises(CardError) as caught:
        Fleet.from_config(**cards)
    line = str(caught.value)
    assert len(line.splitlines()) == 1, line
    assert line.startswith(parts[0]), line
    position = 0
    for part in parts:
        position = line.find(part, position)
        assert position >= 0, f"'{part}' is not (in its place) in: {line}"


def test_each_fault_has_its_own_line(cards: dict[str, Any]) -> None:
    cards["farms"][1]["capacity_kw"] = -1
    cards["markets"][0]["currency"] = "euro"
    cards["products"][1]["colour"] = "red"
    with pytest.raises(CardError) as caught:
        Fleet.from_config(**cards)
    assert [line.partition(":")[0] for line in str(caught.value).splitlines()] == [
        "farms.yml",
        "markets.yml",
        "products.yml",
    ]


def test_messages_name_the_files_they_are_told(cards: dict[str, Any]) -> None:
    cards["farms"][0]["capacity_kw"] = -1
    cards["groups"][0]["name"] = 1
    files = {"farms": "conf/test/farms.yml", "groups": "conf/base/farms.yml", "markets": "m", "products": "p"}
    with pytest.raises(CardError) as caught:
        Fleet.from_config(**cards, files=files)
    farms, groups = str(caught.value).splitlines()
    assert farms.startswith("conf/test/farms.yml: farm 'hill': capacity_kw: ")
    assert groups.startswith("conf/base/farms.yml: group 'both': name: ")
    cards = cards | {"farms": [cards["farms"][1]], "groups": []}
    cards["products"][0]["market"] = "bazaar"
    with pytest.raises(CardError, match=r"^p: products\.hours\.market: unknown market 'bazaar'"):
        Fleet.from_config(**cards, files=files)


def test_what_a_message_shows_of_a_value_stays_on_its_line(cards: dict[str, Any]) -> None:
    cards["farms"][0]["id"] = "two\nlines"
    with pytest.raises(CardError) as caught:
        Fleet.from_config(**cards)
    assert len(str(caught.value).splitlines()) == 1


def test_the_cards_of_the_fixture_are_right_and_groups_may_be_left_out(cards: dict[str, Any]) -> None:
    cards["products"][0]["members"] = ["hill"]
    assert Fleet.from_config(cards["farms"], cards["markets"], cards["products"]).groups == []


def test_a_card_never_changes(fleet: Fleet) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        fleet.farms[0].capacity_kw = 1.0


def test_capacity_may_be_rounded_by_one_per_cent_and_no_more(cards: dict[str, Any]) -> None:
    card = cards["farms"][0]
    assert Farm.model_validate(card | {"capacity_kw": 3030}).capacity_kw == 3030
    with pytest.raises(ValidationError, match="3031 kW, but its turbines add up to 3000 kW"):
        Farm.model_validate(card | {"capacity_kw": 3031})


def test_what_a_fleet_knows(fleet: Fleet) -> None:
    assert [farm.id for farm in fleet.farms_of("both")] == ["hill", "shore"]
    assert [farm.id for farm in fleet.farms_of("hill")] == ["hill"]
    assert [fleet.capacity_kw(entity, _TIMES).tolist() for entity in ("hill", "both")] == [[3000, 3000], [4000, 4000]]
    assert fleet.name_of("both") == "Hill and shore"
    assert fleet.granularities_minutes == [15, 60]
    assert fleet.farm("hill").hub_height_m == 80
    # One farm whose weather never was a forecast spoils the group's scores too.
    assert [fleet.perfect_weather(entity, _TIMES).all() for entity in ("hill", "shore", "both")] == [False, True, True]


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        pytest.param(lambda fleet: fleet.farm("dale"), "no farm 'dale'; there are hill, shore", id="farm"),
        pytest.param(lambda fleet: fleet.farm("both"), "no farm 'both'; there are hill, shore", id="a group is no farm"),
        pytest.param(
            lambda fleet: fleet.farms_of("dale"),
            "no farm or group 'dale'; there are hill, shore, both",
            id="entity",
        ),
        pytest.param(lambda fleet: fleet.name_of("dale"), "no farm or group 'dale'", id="name"),
        pytest.param(lambda fleet: fleet.market("bazaar"), "no market 'bazaar'; there are hourly, quarterly", id="market"),
        pytest.param(lambda fleet: fleet.product("luck"), "no product 'luck'; there are hours, quarters", id="product"),
    ],
)
def test_asking_for_what_is_not_there_says_what_is(fleet: Fleet, ask: Callable[[Fleet], Any], says: str) -> None:
    with pytest.raises(CardError, match=says):
        ask(fleet)


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        pytest.param("2024-03-01T06:00", "2024-03-01T06:00", [], id="nothing in no time"),
        pytest.param("2024-03-01T05:59", "2024-03-01T06:00", ["01T06"], id="the end belongs to it"),
        pytest.param("2024-03-01T06:00", "2024-03-01T18:00", ["01T18"], id="the start does not"),
        pytest.param("2024-03-01T18:00", "2024-03-02T05:59", [], id="a night without issue"),
        pytest.param(
            "2024-02-28T12:00", "2024-03-01T12:00", ["28T18", "29T06", "29T18", "01T06"], id="over a leap day, in order"
        ),
        pytest.param("2024-03-30T18:00", "2024-03-31T18:00", ["31T06", "31T18"], id="no clock change in UTC"),
        pytest.param("2024-03-02T00:00", "2024-03-01T00:00", [], id="backwards"),
    ],
)
def test_issues_between(fleet: Fleet, start: str, end: str, expected: list[str]) -> None:
    issues = fleet.calendar("hours").issues_between(
        *(dt.datetime.fromisoformat(text).replace(tzinfo=UTC) for text in (start, end))
    )
    assert [f"{issue:%dT%H}" for issue in issues] == expected
    assert all(issue.tzinfo is UTC for issue in issues)


def test_issues_between_times_of_another_zone(fleet: Fleet) -> None:
    # 01:30 of 2 March in Kolkata is 20:00 of 1 March in UTC, 23:00 of it is 17:30 of 2 March.
    kolkata = dt.timezone(dt.timedelta(hours=5, minutes=30))
    start, end = dt.datetime(2024, 3, 1, 23, 0, tzinfo=kolkata), dt.datetime(2024, 3, 2, 1, 30, tzinfo=kolkata)
    assert fleet.calendar("hours").issues_between(start, end) == [dt.datetime(2024, 3, 1, 18, tzinfo=UTC)]


def test_issue_times_come_in_order_whatever_the_card_says(cards: dict[str, Any]) -> None:
    cards["products"][0]["issue_times"] = ["18:00", "06:00"]
    product = Fleet.from_config(**cards).calendar("hours")
    day = dt.datetime(2024, 3, 1, tzinfo=UTC)
    assert [issue.hour for issue in product.issues_between(day, day + dt.timedelta(days=1))] == [6, 18]


@pytest.mark.parametrize(
    ("unit", "house", "value", "expected"),
    [
        ("MW", "kW", 2.05, 2050),
        ("W", "kW", 500, 0.5),
        ("km/h", "m/s", 36, 10),
        ("rad", "deg", 3.141592653589793, 180),
        ("K", "degC", 273.15, 0),
        ("hPa", "Pa", 1013.25, 101325),
    ],
)
def test_conversions_of_units(unit: str, house: str, value: float, expected: float) -> None:
    factor, offset = UNIT_CONVERSIONS[unit, house]
    assert value * factor + offset == pytest.approx(expected)
