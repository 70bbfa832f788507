"""The fleet: all cards together, checked against one another."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Self, TypeVar
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError, model_validator

from wind_kedro.cards.base import Card, CardError, refuse
from wind_kedro.cards.calendar import Calendar
from wind_kedro.cards.dated import FAR_FUTURE, FAR_PAST, Steps, Times, spans, total, utc
from wind_kedro.cards.farms import Farm, Group, GroupFarm
from wind_kedro.cards.markets import Market
from wind_kedro.cards.products import Product
from wind_kedro.errors import shown


class Fleet(Card):
    """All cards of an environment, checked against each other."""

    farms: list[Farm] = Field(min_length=1)
    groups: list[Group] = Field(default_factory=list)
    markets: list[Market] = Field(min_length=1)
    products: list[Product] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        kinds = {kind: [card.id for card in getattr(self, kind)] for kind in ("farms", "markets", "products")}
        for kind, ids in (kinds | {"farms and groups": self._entity_ids}).items():
            twice = [card_id for card_id in ids if ids.count(card_id) > 1] if len(set(ids)) < len(ids) else []
            refuse((twice, f"{kind}: id '{''.join(twice[:1])}' appears twice"))
        farm_ids = {farm.id for farm in self.farms}
        for group in self.groups:
            _known(f"groups.{group.id}.farms", group.farm_ids, farm_ids, "farm")
        markets = {market.id: market for market in self.markets}
        for product in self.products:
            _known(f"products.{product.id}.market", [product.market], set(markets), "market")
            _known(f"products.{product.id}.members", product.members, set(self._entity_ids), "farm or group")
            if product.weather_models is not None:
                models = {source.model for farm in self.farms for source in farm.weather}
                _known(f"products.{product.id}.weather_models", product.weather_models, models, "weather model")
            _settled_no_finer(product, markets[product.market])
            _reaches_beyond_the_gate(Calendar(product, markets[product.market]))
        return self

    @classmethod
    def from_config(
        cls, farms: Any, markets: Any, products: Any, groups: Any = None, *, files: Mapping[str, str] | None = None
    ) -> Fleet:
        """Read the lists of cards as they stand in configuration; ``files`` to name in messages are by kind of card.

        Raises:
            CardError: naming file, card and field of each fault.
        """
        raw = {"farms": farms, "groups": groups or [], "markets": markets, "products": products}
        try:
            return cls.model_validate(raw)
        except ValidationError as error:
            raise CardError("\n".join(_message(fault, raw, files or CARD_FILES) for fault in error.errors())) from None

    @property
    def _entity_ids(self) -> list[str]:
        return [farm.id for farm in self.farms] + [group.id for group in self.groups]

    @cached_property
    def _by_id(self) -> dict[str, Farm | Group]:
        cards: list[Farm | Group] = [*self.farms, *self.groups]
        return {card.id: card for card in cards}

    @cached_property
    def places(self) -> npt.NDArray[np.float64]:
        """Latitude and longitude of each farm, degrees, shape (farms, 2); NaN: not published."""
        return np.array([farm.place or (np.nan, np.nan) for farm in self.farms])

    def farm(self, farm_id: str) -> Farm:
        """The farm of that id; `CardError` if there is none."""
        card = self._by_id.get(farm_id)
        if not isinstance(card, Farm):
            raise CardError(f"no farm '{farm_id}'; there are {', '.join(farm.id for farm in self.farms)}")
        return card

    def market(self, market_id: str) -> Market:
        """The market of that id; `CardError` if there is none."""
        return _pick(self.markets, market_id, "market")

    def product(self, product_id: str) -> Product:
        """The product of that id; `CardError` if there is none."""
        return _pick(self.products, product_id, "product")

    def calendar(self, product_id: str) -> Calendar:
        """When the product of that id is issued, and which intervals an issue covers; `CardError` if there is none."""
        product = self.product(product_id)
        return Calendar(product, self.market(product.market))

    def farms_of(self, entity_id: str) -> list[Farm]:
        """The farms behind an entity at any time: a farm itself, or all that ever belong to a group."""
        card = self._by_id.get(entity_id)
        if card is None:
            raise CardError(f"no farm or group '{shown(entity_id)}'; there are {', '.join(self._by_id)}")
        return [card] if isinstance(card, Farm) else [self.farm(farm_id) for farm_id in card.farm_ids]

    def at(self, time: dt.datetime) -> Fleet:
        """The cards as they are at a time: farms with the turbines that stand then (`Farm.at`), groups with their farms of then.

        A farm may have no turbines then, a group no farms; both have a capacity of 0 kW.
        """
        moment = utc(time)
        members = {
            group.id: [GroupFarm(farm=farm.id) for farm, joins, leaves in self._memberships(group.id) if joins <= moment < leaves]
            for group in self.groups
        }
        groups = [group.model_copy(update={"farms": members[group.id]}) for group in self.groups]
        farms = [farm.at(time) for farm in self.farms]
        # Not a copy, which would keep what is cached.
        return Fleet.model_construct(farms=farms, groups=groups, markets=self.markets, products=self.products)

    def versions_of(self, entity_id: str) -> list[tuple[np.datetime64, list[Farm]]]:
        """The farms behind an entity by time: from when on, UTC without zone, and the farms as they are then, without dates.

        The first applies from the beginning of time.

        Raises:
            CardError: if there is no such farm or group.
        """
        stays = [
            (max(since, joins), min(until, leaves), version)
            for farm, joins, leaves in self._memberships(entity_id)
            for since, until, version in spans(farm.versions)
        ]
        times = {time for since, until, _ in stays for time in (since, until)}
        return [
            (time, [version for since, until, version in stays if since <= time < until])
            for time in sorted((times | {FAR_PAST}) - {FAR_FUTURE})
        ]

    def _memberships(self, entity_id: str) -> list[tuple[Farm, np.datetime64, np.datetime64]]:
        """The farms behind an entity, and from when until when each belongs to it."""
        card = self._by_id[entity_id] if self.farms_of(entity_id) else None
        if not isinstance(card, Group):
            return [(farm, FAR_PAST, FAR_FUTURE) for farm in self.farms_of(entity_id)]
        farms = ((self.farm(member.farm), member) for member in card.farms)
        return [(farm, *member.period(farm.time_zone)) for farm, member in farms]

    def farms_at(self, entity_id: str, time: dt.datetime) -> list[Farm]:
        """The farms behind an entity at a time, as they are then; see `versions_of`."""
        moment = utc(time)
        return next(farms for since, until, farms in spans(self.versions_of(entity_id)) if since <= moment < until)

    def capacities(self, entity_id: str) -> dict[str, Steps]:
        """Capacity of each farm of an entity by time, kW: 0 while it has no turbines or does not belong to the group."""
        versions = self.versions_of(entity_id)
        since = np.array([time for time, _ in versions])
        return {
            farm.id: Steps(since, np.array([_capacity_kw(farm.id, farms) for _, farms in versions]))
            for farm in self.farms_of(entity_id)
        }

    def portfolios_of(self, product: Product) -> list[Group]:
        """The groups among a product's members whose farms are members too: their forecast is made of their farms'."""
        return [group for group in self.groups if group.id in product.members and set(group.farm_ids) <= set(product.members)]

    def modelled(self, product: Product) -> list[str]:
        """The members of a product that models are fitted for: all but its portfolios."""
        portfolios = {group.id for group in self.portfolios_of(product)}
        return [entity_id for entity_id in product.members if entity_id not in portfolios]

    def name_of(self, entity_id: str) -> str:
        """The name people know an entity by."""
        self.farms_of(entity_id)
        return self._by_id[entity_id].name

    def capacity_kw(self, entity_id: str, times: Times) -> npt.NDArray[np.float64]:
        """Installed capacity of an entity at each time (UTC without zone), kW, in an array of the shape of ``times``."""
        return total(self.capacities(entity_id).values(), times)

    def issues_for(self, entity_id: str, product: Product, issues: Sequence[dt.datetime]) -> list[dt.datetime]:
        """Those issues of a product that cover an interval in which the entity has any capacity."""
        capacities = self.capacities(entity_id).values()
        if not issues or all((capacity.values > 0).all() for capacity in capacities):
            return list(issues)
        issued_at = np.array([utc(issue) for issue in issues])
        leads, covered = self.calendar(product.id).intervals(issued_at)
        there = total(capacities, issued_at[:, None] + leads.astype("timedelta64[m]")) > 0
        return [issue for issue, covers in zip(issues, there & covered, strict=True) if covers.any()]

    def perfect_weather(self, entity_id: str, valid_at: Times) -> npt.NDArray[np.bool_]:
        """Whether the weather of an interval (its start, UTC without zone) may be an analysis, for any farm of the entity."""
        found, valid_at = np.zeros(valid_at.shape, dtype=bool), valid_at.astype("datetime64[us]")
        for farm, joins, leaves in self._memberships(entity_id):
            for source in farm.weather:
                since, until = source.period(farm.time_zone)
                if source.kind == "analysis":
                    last = min(leaves, until + np.timedelta64(source.length_hours, "h"))
                    found |= (valid_at >= max(joins, since)) & (valid_at < last)
        return found

    @property
    def granularities_minutes(self) -> list[int]:
        """The granularities that any product needs, rising."""
        return sorted({product.granularity_minutes for product in self.products})


def _settled_no_finer(product: Product, market: Market) -> None:
    for since, rules in market.versions:
        if product.granularity_minutes > rules.settlement_minutes:
            when = (
                "" if rules.settlement_minutes == market.settlement_minutes else f" from {since.astype('datetime64[m]')} UTC on"
            )
            raise ValueError(
                f"products.{product.id}.granularity_minutes: {product.granularity_minutes} is coarser than the "
                f"{rules.settlement_minutes} minutes that market '{market.id}' settles{when}"
            )


def _reaches_beyond_the_gate(calendar: Calendar) -> None:
    product, market = calendar.product, calendar.market
    if product.delivery_days is None and product.horizon_minutes <= market.gate_closure_minutes:
        raise ValueError(
            f"products.{product.id}.horizon_minutes: {product.horizon_minutes} is not beyond the gate of market "
            f"'{market.id}', which closes {market.gate_closure_minutes} minutes ahead"
        )
    zone = ZoneInfo(market.time_zone)
    offsets = [dt.datetime(2024, month, 1, tzinfo=zone).utcoffset() or dt.timedelta() for month in (1, 7)]
    common = math.gcd(1440, *(int(offset / dt.timedelta(minutes=1)) for offset in offsets))
    if product.delivery_days and common % product.granularity_minutes:
        raise ValueError(
            f"products.{product.id}.granularity_minutes: days of {market.time_zone} do not begin on intervals of "
            f"{product.granularity_minutes} minutes UTC; give minutes that divide {common}"
        )
    # Any month has every weekday, and an issue that is in time for a day of delivery. Under earlier rules it may have had none.
    rules = market.versions[-1][1]
    open_ = Calendar(product, rules.model_copy(update={"holidays": []}))
    for month in (1, 7):
        if open_.issues_between(*(dt.datetime(2024, each, 1, tzinfo=dt.UTC) for each in (month, month + 1))):
            continue
        gate = rules.gate_closure_day
        closes = [f"{rules.gate_closure_minutes} minutes ahead"] if rules.gate_closure_minutes or gate is None else []
        closes += [f"at {gate.time:%H:%M} local time"] if gate else []
        when = f" by the rules from {market.changes[-1].valid_from} on" if market.changes else ""
        raise ValueError(
            f"products.{product.id}.issue_times: at none of them is, in {'January' if month == 1 else 'July'}, a gate of market "
            f"'{market.id}' still open that closes {' and '.join(closes)}{when}; issue earlier or cover later intervals"
        )


def _capacity_kw(farm_id: str, farms: Iterable[Farm]) -> float:
    return next((farm.capacity_kw for farm in farms if farm.id == farm_id), 0.0)


CardT = TypeVar("CardT", Market, Product)


def _pick(cards: Iterable[CardT], card_id: str, kind: str) -> CardT:
    by_id = {card.id: card for card in cards}
    if card_id not in by_id:
        raise CardError(f"no {kind} '{shown(card_id)}'; there are {', '.join(by_id)}")
    return by_id[card_id]


def _known(field: str, wanted: Iterable[str], known: set[str], kind: str) -> None:
    for card_id in wanted:
        if card_id not in known:
            raise ValueError(f"{field}: unknown {kind} '{card_id}'; known are {', '.join(sorted(known))}")


#: The file of each kind of card.
CARD_FILES = {"farms": "farms.yml", "groups": "farms.yml", "markets": "markets.yml", "products": "products.yml"}


def _message(fault: Any, raw: Mapping[str, Any], files: Mapping[str, str]) -> str:
    """One line for one fault: file, card, field, what is wrong, what stands there."""
    problem = " ".join(fault["msg"].removeprefix("Value error, ").split())
    if not fault["loc"]:  # a fault between cards names its own place: 'products.<id>.<field>: …'
        kind = re.match(r"\w+", problem)
        return f"{files.get(kind.group() if kind else '', files['farms'])}: {problem}"
    kind, *path = fault["loc"]
    card = ""
    if path and isinstance(path[0], int):
        entry = raw[kind][path[0]]
        card = entry.get("id", f"number {path[0] + 1}") if isinstance(entry, Mapping) else f"number {path[0] + 1}"
        card = f" {str(kind).removesuffix('s')} '{shown(card)}':"
        path = path[1:]
    # A fault of the list as a whole is named by its kind.
    field = ".".join(shown(part) for part in path) or ("" if card else str(kind))
    field += ": " if field else ""
    given = fault.get("input")
    # An unknown key may be a password, typed where it does not belong.
    quotable = path and fault["type"] != "extra_forbidden" and isinstance(given, str | int | float | bool)
    given = f" (given: {shown(repr(given))})" if quotable else ""
    return " ".join(f"{files[str(kind)]}:{card} {field}{problem}{given}".split())
