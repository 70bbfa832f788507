"""Layout of an environment's data: how its tables are stored, and the move from the layout before."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from wind_kedro.errors import WindKedroError
from wind_kedro.storage.paths import make_folder
from wind_kedro.storage.temporary import move, written_aside

#: Number of this layout. 1: a file per table and per partition of a history. 2: Delta tables.
LAYOUT = 2
_RECORD = "layout.json"
#: Where what `set_aside` moved is kept, below the data folder.
KEPT = "before_migration"
_FIRST_LAYER = "02_intermediate"


class LayoutError(WindKedroError):
    """The data of an environment is stored in another layout."""


def check_layout(data: Path) -> None:
    """Check that this version reads the data of an environment.

    Raises:
        LayoutError: if the data was written by a newer version, or by one before layout 2 and was not migrated.
    """
    found = layout_of(data)
    if found > LAYOUT:
        raise LayoutError(
            f"{data}: was written by a newer version of wind-kedro (layout {found}; this one reads {LAYOUT}): install that one"
        )
    if found < LAYOUT:
        raise LayoutError(f"{data}: is of an earlier version (layout {found}): kedro wind migrate; it can be undone")


def layout_of(data: Path) -> int:
    """The layout in which the data is stored; that of this version where nothing is stored yet."""
    record = data / _RECORD
    if not record.exists():
        return 1 if any((data / _FIRST_LAYER).glob("*.parquet")) else LAYOUT
    try:
        return int(json.loads(record.read_bytes())["layout"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise LayoutError(f'{record}: cannot be read ({error}): restore it, or write {{"layout": {LAYOUT}}}') from None


def record_layout(data: Path, layout: int = LAYOUT) -> None:
    """Record the layout of the data, if it is not recorded already."""
    if (data / _RECORD).exists() and layout_of(data) == layout:
        return
    with written_aside(data / _RECORD) as aside:
        aside.write_text(json.dumps({"layout": layout}) + "\n", encoding="utf-8")


def kept_at(data: Path, path: Path) -> Path:
    """Where `set_aside` keeps a file or folder of the data."""
    return data / KEPT / path.relative_to(data)


def set_aside(data: Path, paths: Iterable[Path]) -> dict[Path, Path]:
    """Move files and folders of the layout before out of the way; where each is now. What is not there is left out."""
    moved = {}
    for path in paths:
        if path.exists():
            kept = kept_at(data, path)
            make_folder(kept.parent)
            move(path, kept)
            moved[path] = kept
    return moved


def put_back(data: Path, paths: Iterable[Path]) -> list[Path]:
    """Undo `set_aside`: what took the place of a path is kept as ``<name>.after_migration``; the paths put back."""
    back = []
    for path in paths:
        kept = kept_at(data, path)
        if kept.exists():
            if path.exists():
                move(path, path.with_name(f"{path.name}.after_migration"))
            move(kept, path)
            back.append(path)
    return back
