"""What passes between this room's nodes that is no table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from wind_kedro.notifications import Channel

if TYPE_CHECKING:
    import ibis.expr.types as ir

    Table: TypeAlias = ir.Table
else:
    # Kedro resolves the hints of a node when a run starts, so the name must exist; importing Ibis would cost every command.
    Table = Any


class ChannelsById:
    """Channels of alarms under their own ids."""

    def validate(self, data: Any) -> Any:
        """Return ``data`` if it is that; raise `TypeError` otherwise."""
        if not (
            isinstance(data, dict) and all(isinstance(one, Channel) and one.id == key for key, one in data.items())
        ):
            raise TypeError(f"channels by their ids, not {type(data).__name__}")
        return data
