"""Feeds that fetch signals and weather from external sources: one module per kind, with a common interface.

A new kind is a file with a `Feed` and a line in `FEEDS`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from wind_kedro.cards import CardError
from wind_kedro.errors import format_validation_fault

from .cards import FeedCards, RemoteCards
from .landing import Landed, Landing, find_landed
from .protocol import Batch, Checkpoint, Feed, FeedError, names_a_secret

__all__ = [
    "FEEDS",
    "Batch",
    "Checkpoint",
    "Feed",
    "FeedCards",
    "FeedError",
    "Landed",
    "Landing",
    "RemoteCards",
    "build_feed",
    "build_feeds",
    "find_landed",
]

#: Module and class of each kind by its name in the configuration; imported on first use.
FEEDS: Mapping[str, tuple[str, str]] = {
    "drop_folder": ("drop_folder", "DropFolder"),
    "http_api": ("http_api", "HttpApi"),
    "sql_historian": ("sql_historian", "SqlHistorian"),
    "delta_table": ("delta_table", "DeltaTable"),
    "mqtt": ("mqtt", "Mqtt"),
}


def build_feed(feed_id: str, config: Mapping[str, Any]) -> Feed:
    """Build the feed of a card, with resolved ``credentials``.

    A fault raises `CardError` with a line of feed and field, without the value, which may be a secret.
    """
    kind = str(config.get("kind", ""))
    if kind not in FEEDS:
        raise CardError(f"feed '{feed_id}': kind: '{kind}' is not known; known are {', '.join(FEEDS)}")
    module, name = FEEDS[kind]
    family: type[Feed] = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    try:
        return family.model_validate({**config, "id": feed_id})
    except ValidationError as error:
        lines = []
        for fault in error.errors():
            about = {**fault}
            if fault["loc"][:1] == ("credentials",) and fault["type"] == "string_type":
                about["msg"] = "is not text: put quotes around it"
            if fault["type"] == "extra_forbidden" and names_a_secret(str(fault["loc"][-1])):
                about["msg"] = "a secret does not belong on a card; give it under `credentials`"
            lines.append(f"feed '{feed_id}': {format_validation_fault(about)}")
        raise CardError("\n".join(lines)) from None


def build_feeds(configs: Mapping[str, Mapping[str, Any]]) -> dict[str, Feed]:
    """Build the feeds of an environment, by id; `CardError` has a line per fault of any card, and of folders that overlap."""
    feeds: dict[str, Feed] = {}
    faults: list[str] = []
    for feed_id, config in configs.items():
        try:
            feed = build_feed(feed_id, config)
        except CardError as error:
            faults.append(str(error))
            continue
        faults += [
            f"feed '{feed_id}': into: '{feed.into}' is in the way of feed '{other.id}', which lands in '{other.into}'"
            for other in feeds.values()
            if f"{feed.into}/".startswith(f"{other.into}/") or f"{other.into}/".startswith(f"{feed.into}/")
        ]
        feeds[feed_id] = feed
    if faults:
        raise CardError("\n".join(faults))
    return feeds
