"""What passes between this room's nodes that is no table."""

from __future__ import annotations

from typing import Any

from wind_kedro.feeds import Feed, LandedFeeds


class FeedsById:
    """Feeds under their own ids."""

    def validate(self, data: Any) -> Any:
        """Return ``data`` if it is that; raise `TypeError` otherwise."""
        if not (
            isinstance(data, dict) and all(isinstance(feed, Feed) and feed.id == key for key, feed in data.items())
        ):
            raise TypeError(f"feeds by their ids, not {type(data).__name__}")
        return data


class FeedsOrLanded:
    """Feeds on their way to be landed, or what landed."""

    def validate(self, data: Any) -> Any:
        """Return ``data`` if it is one of them; raise `TypeError` otherwise."""
        return data if isinstance(data, LandedFeeds) else FeedsById().validate(data)
