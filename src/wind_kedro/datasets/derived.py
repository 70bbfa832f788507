"""Derived tables: functions of other tables, of which only shards are computed whose inputs changed."""

from __future__ import annotations

import logging
import time
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd
from kedro.io.core import AbstractDataset, DatasetError
from kedro.utils import load_obj
from kedro_datasets._typing import TablePreview
from kedro_datasets._utils import ConnectionMixin

from wind_kedro.datasets.connections import connect, literals
from wind_kedro.datasets.parts import as_preview, empty_table, why_unreadable
from wind_kedro.errors import WindKedroError
from wind_kedro.storage.delta import Delta, all_hold, are_among, has_one_of, is_one_of, to_arrow, to_pandas, within
from wind_kedro.storage.fingerprints import NO_DAY, Recipe, around, chunks, surrounding
from wind_kedro.storage.paths import data_path

if TYPE_CHECKING:
    import duckdb
    import ibis.expr.types as ir
    import pyarrow as pa

logger = logging.getLogger(__name__)

#: Columns that the store adds to the rows: the day of the shard, its month, and the part of its entity, which name folders.
_ADDED = ("day", "month", "part")
#: About how many rows `portions` gives at once: of the widest tables half a gigabyte.
PORTION_ROWS = 500_000
_DAY_US = 86_400_000_000
#: Rows are put in order of days by slices if those are about so long.
_SLICE_ROWS = 256
#: Unsigned numbers, which Delta has not: they are stored as signed ones of the same bits.
_NUMBERS = ("fingerprint", "step", "digest")


class ForeignRowsError(WindKedroError, DatasetError):
    """A step computed rows of shards that it was not asked for: a bug of wind-kedro, not a fault of the data."""


class DamagedTableError(WindKedroError, DatasetError):
    """A file of a stored table cannot be read."""


@dataclass(frozen=True)
class Derived:
    """A derived table as stored.

    Attributes:
        days: one row per shard: key columns, ``day`` (naive; `NO_DAY`: rows without a time), ``fingerprint``, ``digest``,
            ``rows``, ``fault`` (why it could not be computed, else empty), and the table's statistics.
    """

    days: pd.DataFrame
    _rows: Delta
    _backend: Any
    _contract: str | None
    _order: Sequence[str]
    _parts: int = 0

    def table(self, first: pd.Timestamp | None = None, last: pd.Timestamp | None = None) -> ir.Table:
        """Rows whose day is in [first, last], lazy; without bounds all rows. Rows without a time only without bounds."""
        return _without_day(self._between(first, last))

    def shards(self, part: pd.DataFrame, *, before: int = 0, after: int = 0) -> ir.Table:
        """Rows of some shards, and of the days before and after these, lazy.

        Args:
            part: ``day``, and those key columns that are to be equal.
            before: days. `NO_DAY` has no neighbours.
            after: days.
        """
        import ibis

        wanted = surrounding(part, before, after)
        if wanted.empty:  # the first write of a table that has no shard yet
            return _without_day(ibis.memtable(self._rows.nothing()))
        rows = self._between(wanted["day"].min(), wanted["day"].max())
        return _without_day(rows.semi_join(ibis.memtable(wanted), list(wanted)))

    def frame(
        self,
        columns: Sequence[str] | None = None,
        *,
        first: pd.Timestamp | None = None,
        last: pd.Timestamp | None = None,
        entities: Collection[str] | None = None,
        among: tuple[str, Sequence[pd.Timestamp]] | None = None,
        ordered: bool = True,
    ) -> pd.DataFrame:
        """Rows whose day is in [first, last]; an empty table before the first write.

        Args:
            columns: names; none: all.
            first: first day, UTC without zone.
            last: last day.
            entities: whose rows are wanted; none: of all.
            among: a column of times, and those of the rows that are wanted.
            ordered: as the catalog names it; else in any order.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        wanted = [within("day", first, last)]
        if among is not None:
            wanted.append(has_one_of(*among))
        if entities is not None:
            wanted.append(has_one_of("entity_id", entities))
            if self._parts:
                wanted.append(has_one_of("part", {part_of(entity_id, self._parts) for entity_id in entities}))
        try:
            found = self._rows.read(columns, all_hold(wanted))
        except (OSError, pa.ArrowException) as error:
            raise DamagedTableError(
                f"{self._rows.location}: a file of the table {why_unreadable(error)}: restore it from a backup, or remove "
                f"{self._rows.location.rpartition('/')[0]} and run again: it is computed anew"
            ) from None
        if found is None:
            return empty_table(self._contract) if self._contract else pd.DataFrame(columns=list(columns or []))
        order = [(name, "ascending") for name in self._order if ordered and name in found.column_names]
        # By Arrow, which is stable too, and compares texts several times as fast as pandas.
        return to_pandas(found.take(pc.sort_indices(found, order)) if order else found, without=_ADDED)

    def portions(self, entities: Collection[str], max_rows: int) -> list[list[str]]:
        """Those of the entities that have rows, in groups of about ``max_rows`` rows that are near each other in the store."""
        days = self.days[self.days["entity_id"].isin(list(entities)) & (self.days["rows"] > 0)]
        rows = days.groupby("entity_id").agg({"rows": "sum"}).reset_index()
        rows["part"] = [part_of(entity_id, self._parts) if self._parts else 0 for entity_id in rows["entity_id"]]
        rows = rows.sort_values(["part", "entity_id"])
        number = (rows["rows"].cumsum() - rows["rows"]) // max_rows
        return [list(own) for _, own in rows.groupby(number)["entity_id"]]

    def _between(self, first: pd.Timestamp | None, last: pd.Timestamp | None) -> ir.Table:
        import ibis

        files = self._files(first, last)
        if not files:
            return ibis.memtable(self._rows.nothing())
        table = self._backend.read_parquet(literals(self._backend.con, [data_path(file, "file") for file in files]))
        if first is not None:
            table = table.filter(table["day"] >= first)
        if last is not None:
            table = table.filter(table["day"] <= last)
        return table

    def _files(self, first: pd.Timestamp | None, last: pd.Timestamp | None) -> list[str]:
        if first is None or last is None:
            return self._rows.files()
        months = pd.period_range(first.to_period("M"), last.to_period("M")).strftime("%Y-%m")
        return self._rows.files(f"{is_one_of('month', months)} AND day >= '{first}' AND day <= '{last}'")


def _without_day(table: ir.Table) -> ir.Table:
    return table.drop(*(name for name in _ADDED if name in table.columns))


class Sliced(Protocol):
    """A stored table, of which a node reads what it needs: `Derived`, or `wind_kedro.datasets.history.Records`."""

    def frame(
        self, columns: Sequence[str] | None = None, *, first: pd.Timestamp | None = None, last: pd.Timestamp | None = None
    ) -> pd.DataFrame:
        """Rows of these columns and times."""


def frame_of(
    table: Sliced | pd.DataFrame,
    columns: Sequence[str] | None = None,
    *,
    first: pd.Timestamp | None = None,
    last: pd.Timestamp | None = None,
) -> pd.DataFrame:
    """Rows of a stored table, or a table in memory as it is: it may hold more than was asked for."""
    return table if isinstance(table, pd.DataFrame) else table.frame(columns, first=first, last=last)


def rows_of(
    table: Derived | pd.DataFrame,
    entities: Collection[str],
    columns: Sequence[str] | None = None,
    *,
    first: pd.Timestamp | None = None,
    last: pd.Timestamp | None = None,
) -> pd.DataFrame:
    """Rows of some entities; of a table in memory all their rows and columns."""
    if isinstance(table, Derived):
        return table.frame(columns, first=first, last=last, entities=entities)
    return table[table["entity_id"].isin(list(entities))]


def portions(table: Derived | pd.DataFrame, entities: Collection[str] | None = None) -> list[list[str]]:
    """Entities (none: all) that have rows, in groups of which the rows can be in memory at once; of a table in memory in one."""
    there = set(entity_ids(table)) if entities is None else set(entity_ids(table)) & set(entities)
    if isinstance(table, Derived):
        return table.portions(there, PORTION_ROWS)
    return [sorted(there)] if there else []


def entity_ids(table: Derived | pd.DataFrame) -> list[str]:
    """The entities that have rows."""
    table = table.days[table.days["rows"] > 0] if isinstance(table, Derived) else table
    return sorted(map(str, table["entity_id"].unique()))


def shards_of(table: Derived | ir.Table, part: pd.DataFrame, *, before: int = 0, after: int = 0) -> ir.Table:
    """`Derived.shards`, or a table of an engine as it is: it may hold more than was asked for."""
    return table.shards(part, before=before, after=after) if isinstance(table, Derived) else table


def table_of(table: Derived | ir.Table) -> ir.Table:
    """`Derived.table`, or a table of an engine as it is."""
    return table.table() if isinstance(table, Derived) else table


def days_of(table: Derived | ir.Table | pd.DataFrame, key: Sequence[str], time: str) -> pd.DataFrame:
    """The shards of a derived table, or those that a table in memory would have: ``key``, ``day``, ``digest``, ``rows``.

    Args:
        table: the table.
        key: columns of a shard beside its day.
        time: column whose day is that of a row.
    """
    if isinstance(table, Derived):
        return table.days
    table = table if isinstance(table, pd.DataFrame) else table.to_pandas()
    times = table[time] if table[time].dt.tz is None else table[time].dt.tz_convert("UTC").dt.tz_localize(None)
    digest = pd.util.hash_pandas_object(table, index=False).to_numpy(dtype=np.uint64)
    rows = table[list(key)].assign(day=times.dt.floor("D").fillna(NO_DAY).astype("datetime64[us]"), digest=digest, rows=1)
    return around(rows, key)


class DerivedTable(ConnectionMixin, AbstractDataset[Recipe, Derived]):
    """A Delta table of rows, with a second one of its shards and their fingerprints.

    Saving a `Recipe` computes the shards whose fingerprint is new or changed, chunk by chunk, and removes those that are not
    wanted any more. A chunk's rows are replaced in one commit; then its fingerprints are added, with the number of that commit.
    The table is read as of the newest commit so recorded, and what a killed run committed after it is undone by the next one:
    a kill leaves complete chunks, and rerunning goes on from there.

    Args:
        filepath: folder of the two tables, ``rows`` and ``days``.
        key: columns of a shard beside its day.
        time: column whose day is that of a row (UTC).
        whole_key: whether a key is replaced with all its days, as a file of any days is.
        connection: the Ibis backend, as for ``kedro_datasets.ibis``.
        contract: import path of what validates the rows of a chunk (``validate``), a Pandera model or like one.
        statistics: import path of a function of the rows (Ibis) that gives aggregates by name, which are kept for each shard.
        order: columns by which `Derived.frame` sorts.
        max_rows: about how many rows are computed at once.
        parts: into how many folders the entities (``entity_id``) are spread, so that some can be read without the others; 0:
            folders are months. It cannot be changed once the table is written.
        read_only: whether saving is refused.
        metadata: for plugins.
    """

    _CONNECTION_GROUP = "ibis"

    def __init__(
        self,
        *,
        filepath: str,
        key: Sequence[str],
        time: str,
        whole_key: bool = False,
        connection: Mapping[str, Any] | None = None,
        contract: str | None = None,
        statistics: str | None = None,
        order: Sequence[str] = (),
        max_rows: int = 2_000_000,
        parts: int = 0,
        read_only: bool = False,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._filepath = data_path(filepath, "filepath")
        self._key, self._time, self._whole_key = list(key), time, whole_key
        self._shard = self._key if whole_key else [*self._key, "day"]
        self._parts = parts
        self._rows = Delta(self._filepath / "rows", ["part"] if parts else ["month"])
        self._days = Delta(self._filepath / "days")
        self._connection_config = dict(connection or {"backend": "duckdb", "database": ":memory:"})
        self._contract, self._statistics, self._order = contract, statistics, list(order)
        self._max_rows, self._read_only = max_rows, read_only
        #: What `_shards` found, and the commit as of which.
        self._ledger: tuple[int, pd.DataFrame, int] | None = None
        self.metadata = metadata

    def _connect(self) -> Any:
        return connect(self._connection_config)

    @property
    def location(self) -> Path:
        """The folder of the two tables."""
        return self._filepath

    def load(self) -> Derived:
        """The table; nothing but its shards is read yet."""
        model = self._contract if self._contract and hasattr(load_obj(self._contract), "to_schema") else None
        shards, recorded = self._shards()
        return Derived(shards, self._rows.as_of(recorded), self._connection, model, self._order, self._parts)

    def save(self, data: Recipe) -> None:
        """Compute what is missing or changed, and remove what is not wanted any more."""
        if self._read_only:
            raise DatasetError(f"{self._filepath} is read here, not written")
        wanted = data.wanted.assign(**{name: data.wanted[name].to_numpy(dtype=np.uint64) for name in _given(data.wanted)})
        if "day" in wanted:
            wanted["day"] = wanted["day"].astype("datetime64[us]")
        stored, recorded = self._shards()
        self._rows.roll_back(recorded)
        todo, gone = self._changes(wanted, stored)
        self._remove(gone)
        if recorded < 0 and todo.empty:
            self._replace(wanted.iloc[:0], data, stored)
        for part in chunks(todo, self._key, self._max_rows):
            self._replace(part, data, stored)
        if len(todo) or len(gone):
            logger.info("%s: %d of %d shards computed, %d removed", self._filepath.name, len(todo), len(wanted), len(gone))

    def work(self, recipe: Recipe) -> pd.DataFrame:
        """The shards that saving a recipe would compute or remove, and ``why``: ``missing`` (or could not be computed),
        ``input_changed``, ``step_changed`` (its cards, settings or version), ``removed``.
        """
        stored, _ = self._shards()
        todo, gone = self._changes(recipe.wanted, stored)
        known = stored.loc[stored["fault"] == "", [*self._shard, "step"]].drop_duplicates(self._shard)
        before = todo.merge(known, on=self._shard, how="left", suffixes=("", "_before"), indicator="found")
        changed = before["step"] != before["step_before"] if "step" in todo else np.zeros(len(todo), dtype=bool)
        why = np.where(before["found"] == "left_only", "missing", np.where(changed, "step_changed", "input_changed"))
        return pd.concat([todo.assign(why=why), gone.assign(why="removed")], ignore_index=True)

    def preview(self, nrows: int = 5) -> TablePreview:
        """Some rows as plain values, which JSON knows: a time that is missing is none."""
        _, recorded = self._shards()
        found = self._rows.as_of(recorded).head(nrows)
        if found is None:
            return TablePreview({"index": [], "columns": [], "data": []})
        return as_preview(to_pandas(found, without=_ADDED))

    def maintain(self, before_month: str, keep_hours: int) -> int:
        """Write months before ``before_month`` into few files, keep only the newest entry of each shard, and remove files that no
        reader of the last hours can need; the number of files removed.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        _, recorded = self._shards()
        if recorded < 0:
            return 0
        self._rows.roll_back(recorded)
        self._rows.compact([] if self._parts else [("month", "<", before_month)])
        entries = self._days.read()
        assert entries is not None  # noqa: S101 - a commit is recorded
        newest = entries.group_by(self._shard).aggregate([("written", "max")])
        kept = entries.join(newest, keys=self._shard, join_type="inner")
        kept = kept.filter(pc.and_(pc.equal(kept["written"], kept["written_max"]), pc.invert(kept["gone"])))
        if kept.num_rows:
            # The entries carry the commit as of which the rows are read.
            version = pa.array([self._rows.version()] * kept.num_rows, pa.int64())
            kept = kept.drop_columns(["written_max"]).set_column(kept.column_names.index("rows_version"), "rows_version", version)
            self._days.overwrite(kept.select(entries.column_names))
        return self._rows.vacuum(keep_hours) + self._days.vacuum(keep_hours)

    def seconds_per_shard(self) -> float:
        """Mean time that computing a shard took; 0 if nothing was computed yet."""
        found = self._days.read(["seconds"])
        return 0.0 if found is None or not found.num_rows else float(np.nanmean(found["seconds"].to_numpy()))

    def _changes(self, wanted: pd.DataFrame, stored: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        if stored.empty:
            return wanted, stored
        known = stored.loc[stored["fault"] == "", [*self._shard, "fingerprint"]].drop_duplicates()
        same = wanted.merge(known, on=[*self._shard, "fingerprint"], how="left", indicator="found")["found"] == "both"
        asked = wanted[self._shard].drop_duplicates()
        left = stored[self._shard].merge(asked, on=self._shard, how="left", indicator="found")["found"] == "left_only"
        return wanted[~same.to_numpy()], stored[left.to_numpy()]

    def _shards(self) -> tuple[pd.DataFrame, int]:
        """The newest entry of each shard, and the newest commit of rows that is recorded; -1: none.

        The entries are read once per commit.
        """
        version = self._days.version()
        if self._ledger is None or self._ledger[0] != version:
            self._ledger = (version, *self._read_shards())
        _, shards, recorded = self._ledger
        return shards.copy(deep=False), recorded

    def _read_shards(self) -> tuple[pd.DataFrame, int]:
        first = [*self._key, "day", *_NUMBERS, "rows", "fault"]
        found = self._days.read()
        if found is None:
            types = {"day": "datetime64[us]", "rows": "int64"} | dict.fromkeys(_NUMBERS, "uint64")
            return pd.DataFrame({name: pd.Series(dtype=types.get(name, "str")) for name in first}), -1
        days = to_pandas(found)
        newest = days.groupby(self._shard, observed=True)["written"].transform("max")
        recorded = int(days["rows_version"].max())
        days = days[(days["written"] == newest) & ~days["gone"]]
        unsigned: dict[str, Any] = {name: days[name].to_numpy(dtype="int64").view(np.uint64) for name in _NUMBERS}
        ordered = days.assign(**unsigned).sort_values([*self._key, "day"], ignore_index=True)
        more = ordered.columns.difference([*first, "gone", "written", "rows_version", "seconds"], sort=False)
        return ordered[[*first, *more]], recorded

    def _remove(self, gone: pd.DataFrame) -> None:
        if gone.empty:
            return
        for part in chunks(gone, self._key, self._max_rows):
            self._rows.delete(self._predicate(part, part["day"]))
        signed: dict[str, Any] = {name: gone[name].to_numpy(dtype=np.uint64).view("int64") for name in _NUMBERS}
        self._note(gone.assign(**signed, seconds=np.nan), gone=True)

    def _replace(self, part: pd.DataFrame, recipe: Recipe, stored: pd.DataFrame) -> None:
        """Compute shards; their rows are committed first, then their fingerprints."""
        import duckdb
        import pyarrow as pa

        began = time.perf_counter()
        engine = duckdb.connect()
        engine.execute("SET TimeZone = 'UTC'")
        rows = _by_day(self._validated(recipe.work(part), engine), self._time)
        if self._parts:
            names = rows.column("entity_id").combine_chunks().dictionary_encode()
            numbers = pa.array([part_of(name, self._parts) for name in names.dictionary.to_pylist()], pa.int32())
            rows = rows.append_column("part", numbers.take(names.indices))
        engine.register("rows", rows)
        found = self._summary(engine, rows)
        shards = part[[*self._shard, *_given(part)]]
        entries = shards.merge(found, on=self._shard, how="outer", indicator="found")
        if (entries["found"] == "right_only").any():
            foreign = entries.loc[entries["found"] == "right_only", self._shard].head(3).to_dict("records")
            raise ForeignRowsError(f"{self._filepath.name}: rows of shards that were not asked for: {foreign}")
        before = stored.merge(part[self._shard].drop_duplicates(), on=self._shard)
        if before.empty:
            self._rows.append(rows)
        else:
            # The days of a whole key may be others than before; only their files are looked at.
            now = rows.column("day").unique().to_pandas()
            days = pd.concat([before["day"], now]) if self._whole_key else part["day"]
            self._rows.replace(rows, self._predicate(part, days))
        keys = list(zip(*(entries[name] for name in self._shard), strict=True))
        names = [tuple(map(str, key)) for key in keys]
        faults = [recipe.faults.get(name[: len(self._key)]) or recipe.faults.get(name, "") for name in names]
        given: dict[str, Any] = {name: entries[name].to_numpy(dtype=np.uint64).view("int64") for name in _given(entries)}
        entries = entries.assign(
            fault=pd.Series(faults, index=entries.index, dtype="str"),
            rows=entries["rows"].fillna(0).astype("int64"),
            digest=entries["digest"].fillna(0).astype("int64"),
            step=0,
            seconds=(time.perf_counter() - began) / max(len(part), 1),
            day=entries["day"].fillna(NO_DAY).astype("datetime64[us]"),
        )
        self._note(entries.assign(**given).drop(columns="found"), gone=False)
        recipe.faults.clear()  # the next chunk has its own

    def _validated(self, computed: Any, engine: duckdb.DuckDBPyConnection) -> pa.Table:
        """What a recipe computed, in memory; a lazy table is computed once, before it is validated."""
        import ibis
        import pyarrow as pa

        validate = load_obj(self._contract).validate if self._contract else lambda rows: rows
        if isinstance(computed, pd.DataFrame):
            return to_arrow(validate(computed))
        if isinstance(computed, pa.Table):
            checked: pa.Table = validate(computed)
            return checked
        rows = _in_memory(computed)
        if self._contract:
            engine.register("computed", rows)
            validate(ibis.duckdb.from_connection(engine).table("computed"))
            engine.unregister("computed")
        return rows

    def _summary(self, engine: duckdb.DuckDBPyConnection, rows: pa.Table) -> pd.DataFrame:
        """Number of rows, digest and statistics by shard and day."""
        import ibis

        key = ", ".join(f'"{name}"' for name in [*self._key, "day"])
        values = ", ".join(f'"{name}"' for name in rows.column_names if name not in _ADDED)
        # A sum does not depend on the order of rows, and counts equal ones.
        digest = f"CAST(sum(CAST(hash({values}) AS HUGEINT)) % 18446744073709551616 AS UBIGINT)"
        query = f"SELECT {key}, count(*) AS rows, {digest} AS digest FROM rows GROUP BY {key}"  # noqa: S608 - names of columns
        found: pd.DataFrame = engine.sql(query).df()
        found["digest"] = found["digest"].to_numpy(dtype=np.uint64).view("int64")
        if self._statistics:
            table = ibis.duckdb.from_connection(engine).table("rows")
            aggregates = load_obj(self._statistics)(table)
            more = table.group_by([*self._key, "day"]).agg(**aggregates).to_pandas()
            found = found.merge(more, on=[*self._key, "day"])
        # Of a shard without rows they are missing, which integers of NumPy cannot be.
        whole = {str(name): "Int64" for name in found if pd.api.types.is_integer_dtype(found[name])}
        return found.astype({"day": "datetime64[us]"} | dict.fromkeys(self._key, "str") | whole)

    def _note(self, entries: pd.DataFrame, *, gone: bool) -> None:
        import pyarrow as pa

        entries = entries.assign(gone=gone, written=self._days.version() + 1, rows_version=self._rows.version())
        table = to_arrow(entries)
        if entries.empty:  # the first commit of a table without shards
            nothing = {
                "fingerprint": 0,
                "digest": 0,
                "step": 0,
                "rows": 0,
                "gone": True,
                "written": 0,
                "rows_version": self._rows.version(),
            }
            row = dict.fromkeys([*self._key, "fault"], "") | {"day": NO_DAY} | nothing
            table = pa.Table.from_pylist([row], schema=table.schema)
        self._days.append(table)

    def _predicate(self, part: pd.DataFrame, days: pd.Series) -> str:
        """Rows of these keys on these days."""
        days = days.drop_duplicates()
        months = is_one_of("month", days.dt.strftime("%Y-%m").unique())
        if self._parts:
            numbers = sorted({part_of(entity_id, self._parts) for entity_id in part["entity_id"].unique()})
            months = f"part IN ({', '.join(map(str, numbers))}) AND {months}"
        return f"{months} AND {is_one_of('day', days)} AND {are_among(part[self._key])}"

    def _exists(self) -> bool:
        # A view of what earlier runs left is there even when they left nothing.
        return self._read_only or self._days.exists()

    def _release(self) -> None:
        self._ledger = None

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath), "key": self._key}


def part_of(entity_id: str, parts: int) -> int:
    """The folder of an entity, from 0: the same in every process and release."""
    return zlib.crc32(entity_id.encode()) % parts


def _in_memory(lazy: ir.Table) -> pa.Table:
    """The rows of a lazy table, of which texts that DuckDB holds as ENUM stay dictionaries: `to_pyarrow` writes them out."""
    import ibis
    import pyarrow as pa

    backend: Any = lazy.get_backend()
    view = ibis.util.gen_name("view")
    backend.create_view(view, lazy)
    rows: pa.Table = backend.con.sql(f'FROM "{view}"').to_arrow_table()
    backend.raw_sql(f'DROP VIEW "{view}"')
    # Sums of integers are wider in DuckDB.
    types = [
        field.type if pa.types.is_dictionary(field.type) else kind.to_pyarrow()
        for field, kind in zip(rows.schema, lazy.schema().types, strict=True)
    ]
    return rows.cast(pa.schema(list(zip(rows.column_names, types, strict=True))))


def _by_day(computed: pa.Table, time: str) -> pa.Table:
    """Rows with the day of their time and its month, in order of days, so that reading some days reads few groups of rows."""
    import pyarrow as pa

    times = computed.column(time).cast(pa.timestamp("us"), safe=False)
    number = times.cast(pa.int64()).fill_null(0).to_numpy() // _DAY_US
    begins = np.flatnonzero(np.diff(number, prepend=number[:1] - 1))
    first = number[begins]
    days = first.astype("datetime64[D]")
    months = pa.array(np.datetime_as_string(days, unit="M").astype(object), pa.string())
    run = np.repeat(np.arange(len(begins), dtype="int32"), np.diff(begins, append=len(number)))
    rows = computed.append_column("day", pa.array(number.astype("datetime64[D]").astype("datetime64[us]")))
    rows = rows.append_column("month", months.take(pa.array(run)))
    if (first[1:] >= first[:-1]).all():
        return rows
    if len(number) < _SLICE_ROWS * len(begins):
        return rows.take(np.argsort(number, kind="stable"))
    ends = np.append(begins[1:], len(number))
    # Slices are no copies.
    return pa.concat_tables(
        [rows.slice(begins[place], ends[place] - begins[place]) for place in np.argsort(first, kind="stable")]
    )


def _given(wanted: pd.DataFrame) -> list[str]:
    """The numbers that a recipe gives of its shards."""
    return [name for name in ("fingerprint", "step") if name in wanted]
