"""Which raw files the cards name, and their checksums: what a run reads, as a table."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import pandas as pd
from kedro.io import AbstractDataset, DatasetError

from wind_kedro.cards import Farm
from wind_kedro.datasets.files import read_whole
from wind_kedro.datasets.parts import why_unreadable
from wind_kedro.governance.provenance import file_sha256
from wind_kedro.readers.source_files import files_of
from wind_kedro.readers.source_rows import shown
from wind_kedro.storage.paths import local_path

logger = logging.getLogger(__name__)

_COLUMNS = ["farm_id", "source_table", "path", "bytes", "modified_ns", "sha256"]


class RawFiles(AbstractDataset[NoReturn, pd.DataFrame]):
    """Read-only: one row per farm and raw file that its card names, with size and checksum.

    A file is read for its checksum once: one of the same size and time as in the manifest before has the same. Raw files are
    never changed in place, and a run that wants to be sure removes the manifest.
    """

    def __init__(
        self,
        *,
        root: str,
        farms: Sequence[Mapping[str, Any]],
        manifest: str,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Say where the files are.

        Args:
            root: folder that the cards' paths start from.
            farms: farm cards, as they stand in ``farms.yml``.
            manifest: file of the manifest that an earlier run left, for the checksums that it has.
            metadata: ignored by Kedro, read by Kedro-Viz.
        """
        self._root = local_path(root, "root")
        self._farms = farms
        self._manifest = local_path(manifest, "manifest")
        self.metadata = metadata

    def load(self) -> pd.DataFrame:
        """The manifest as of now; sources that are missing have no row."""
        known: dict[tuple[Any, ...], str] = {}
        if self._manifest.is_file():
            try:
                before = read_whole(self._manifest, columns=["path", "bytes", "modified_ns", "sha256"])
                known = {tuple(row[:3]): row[3] for row in before.itertuples(index=False, name=None)}
            except Exception as error:  # whatever a parser raises on whatever bytes: what it held is found again
                logger.warning("%s: %s; all checksums are taken anew", self._manifest, why_unreadable(error))
        rows = []
        for farm in (Farm.model_validate(card) for card in self._farms):
            for table, sources in (("signals", [farm.signals]), ("weather", farm.weather)):
                for path in dict.fromkeys(path for source in sources for path in files_of(self._root, source)):
                    if not path.is_file():
                        continue
                    try:
                        state = path.stat()
                        key = (shown(path, self._root), state.st_size, state.st_mtime_ns)
                        if key not in known:
                            known[key] = file_sha256(path)
                    except OSError:  # `SourceTable` reports what cannot be read
                        continue
                    rows.append((farm.id, table, *key, known[key]))
        return pd.DataFrame(rows, columns=_COLUMNS)

    def save(self, data: NoReturn) -> NoReturn:
        """Raw files are never written."""
        raise DatasetError("raw files are never written")

    def _exists(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return {"root": str(self._root), "farms": [card.get("id") for card in self._farms]}
