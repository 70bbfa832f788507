"""What passes between this room's nodes that is no table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import ibis.expr.types as ir

    Table: TypeAlias = ir.Table
else:
    # Kedro resolves the hints of a node when a run starts, so the name must exist; importing Ibis would cost every command.
    Table = Any
