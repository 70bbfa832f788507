"""Append-only logs of numbered entries; of two concurrent writers of the same number, one fails with `LostRaceError`."""

from __future__ import annotations

import datetime as dt
import io
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from kedro.io import DatasetError

from wind_kedro.datasets.parts import FolderTable, why_unreadable
from wind_kedro.errors import WindKedroError
from wind_kedro.governance.promotions import Chain, RefusedPromotionsError, link, verify
from wind_kedro.governance.provenance import sha256
from wind_kedro.governance.signing import KeyFileError, Keyring
from wind_kedro.storage.temporary import folder_aside, move, place, written_aside

logger = logging.getLogger(__name__)


#: By place, the state in which a chain was verified, and what was found: a run reads its promotions several times.
_verified: dict[Path, tuple[tuple[object, ...], Chain]] = {}


class LostRaceError(WindKedroError):
    """Another process wrote an entry of this number; nothing was written."""


class Log(FolderTable):
    """An append-only table: one Parquet file per entry, named by its number.

    A writer reads the log and numbers its entry one more than the newest. The file is written under a temporary name and linked
    to its final name, or put into an object store on condition that it is not there; this succeeds for one process only. So
    writing is an atomic compare-and-swap: it succeeds only if no entry was added since the read, and a killed process leaves the
    complete entry or none.

    The entries of a signed log are a chain (`governance.promotions`): each is signed together with the digest of the one before.
    Loading gives the entries that hold; ``strict`` raises where not all do. Nothing is added to a log that does not hold, but an
    empty log begins anew.
    """

    def __init__(self, *, number: str, signed: bool = False, strict: bool = False, **options: Any) -> None:
        """Set the location of the log.

        Args:
            number: the column that holds the number of the entry, from 1.
            signed: whether entries are signed when they are written and verified when they are read.
            strict: whether loading raises if an entry does not hold, or if this machine cannot sign the next: for training.
            options: of `FolderTable`.
        """
        super().__init__(**options)
        self._number = number
        self._signed = signed
        self._strict = strict

    def writable(self) -> Log:
        """The same log for writing, which pipelines do not have."""
        return Log(filepath=str(self._filepath), number=self._number, contract=self._contract)

    def load(self) -> pd.DataFrame:
        """All entries that hold, in order; of a log that is not signed, all that can be read.

        Raises:
            RefusedPromotionsError: of a strict log, if an entry does not hold.
            KeyFileError: of a strict log, if this machine cannot sign.
        """
        self._begin()
        if not self._signed:
            parts = []
            for number, entry in self._entries(self._contents()).items():
                if isinstance(entry, str):
                    self._pass_over(self._file(number), entry)
                else:
                    parts.append(entry)
            return self._joined(parts)
        chain = self.chain()
        if self._strict:
            self._refuse_unless_whole(chain)
            if not Keyring().can_promote():
                raise KeyFileError("this machine has public keys only: train and promote where the private key is")
        for reason in {chain.fault, chain.refusal} - {""}:
            logger.error("%s", reason)
        return self._joined(chain.entries)

    def _contents(self) -> dict[int, bytes | OSError]:
        """The bytes of each entry by its number, or why they cannot be read."""
        found: dict[int, bytes | OSError] = {}
        for number in self._numbers():
            try:
                found[number] = self._file(number).read_bytes()
            except OSError as error:
                found[number] = error
        return found

    def _entries(self, contents: dict[int, bytes | OSError]) -> dict[int, pd.DataFrame | str]:
        """Each entry by its number, or why it cannot be read."""
        entries: dict[int, pd.DataFrame | str] = {}
        for number, content in contents.items():
            try:
                if isinstance(content, OSError):
                    raise content
                entries[number] = pd.read_parquet(io.BytesIO(content))
            except Exception as error:  # whatever a parser raises on whatever bytes
                entries[number] = why_unreadable(error)
        return entries

    def chain(self) -> Chain:
        """What of a signed log holds. A log that did not change since is not verified again in the same process."""
        keyring = Keyring()
        # Before the entries: what another process adds meanwhile was seen, but is not missing.
        seen = keyring.seen(self._filepath)
        contents = self._contents()
        digests = [(number, sha256(content) if isinstance(content, bytes) else "") for number, content in contents.items()]

        def state() -> tuple[object, ...]:
            return keyring.folder, tuple(keyring.keys().items()), keyring.seen(self._filepath), digests

        place = self._filepath.resolve()
        known, chain = _verified.get(place, (None, None))
        if chain is None or known != state():
            chain = verify(self._entries(contents), self._filepath, keyring, seen)
            _verified[place] = (state(), chain)
        return chain

    def entries_as_they_are(self) -> pd.DataFrame:
        """All entries, whether they hold or not: for people who decide on them.

        Raises:
            RefusedPromotionsError: if one cannot be read.
        """
        entries = self._entries(self._contents())
        for number, entry in entries.items():
            if isinstance(entry, str):
                raise RefusedPromotionsError(f"{self._file(number)}: {entry}: restore it, or remove it and all later ones")
        return self._joined([entry for entry in entries.values() if isinstance(entry, pd.DataFrame)])

    def adopt(self, manifest_sha256: Callable[[str], str]) -> tuple[pd.DataFrame, Path]:
        """Sign all entries as they are, after a person checked them: of an earlier version, or restored on purpose.

        Args:
            manifest_sha256: gives the digest of a version's manifest as it is; empty: there is none, and it stays refused.

        Returns:
            The entries, and the folder in which the log is kept as it was.

        Raises:
            RefusedPromotionsError: if an entry is missing or cannot be read: there is nothing to sign in its place.
        """
        chain, links = Chain([]), []
        there = dict(iter(self.entries_as_they_are().groupby(self._number)))
        if self._numbers() != list(range(1, len(there) + 1)) or list(there) != self._numbers():
            raise RefusedPromotionsError(
                f"{self._filepath}: has entries {list(there)}: restore those that are missing, or remove all later ones"
            )
        for number, entry in enumerate(there.values(), 1):
            versions = {version: manifest_sha256(str(version)) for version in entry["model_version"].unique()}
            whole = entry.assign(manifest_sha256=entry["model_version"].map(versions)).reset_index(drop=True)
            linked, seen = link(whole, number, chain, Keyring())
            links.append(linked)
            chain = Chain([*chain.entries, linked], seen.chain, (*chain.digests, seen.digest))
        kept = self._filepath.with_name(f"{self._filepath.name}_until_{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%SZ}")
        if links:
            with folder_aside(self._filepath) as made:
                for number, linked in enumerate(links, 1):
                    linked.to_parquet(made / self._file(number).name, index=False)
                move(self._filepath, kept)
                place(made, self._filepath)
        Keyring().forget(self._filepath)
        self.chain()  # what is there now is what was seen
        return self._joined(links), kept

    def _refuse_unless_whole(self, chain: Chain) -> None:
        # A log without any entry begins anew: deleting all data is allowed.
        if self._numbers() and (chain.refusal or chain.fault):
            raise RefusedPromotionsError(chain.refusal or chain.fault)

    def save(self, data: pd.DataFrame) -> None:
        """Add ``data``, all of one number, as the next entry.

        Raises:
            LostRaceError: if its number was taken since the log was read.
            RefusedPromotionsError: of a signed log, if an entry that is there does not hold.
            KeyFileError: of a signed log, if this machine cannot sign.
            DatasetError: if it has several numbers, or one that is not the next.
        """
        self._check_writable()
        given = data[self._number].unique()
        if len(given) != 1:
            raise DatasetError(f"{self._filepath}: an entry has one {self._number}, not {list(given)}")
        number = int(given[0])
        chain = self.chain() if self._signed else None
        if chain is not None:
            self._refuse_unless_whole(chain)
        newest = max(self._numbers(), default=0) if chain is None else len(chain.digests)
        if number > newest + 1:
            raise DatasetError(f"{self._filepath}: {self._number} {number} does not follow {newest}")
        seen = None
        if chain is not None and number == newest + 1:  # an entry whose number is taken is refused below
            data, seen = link(data, number, chain, Keyring())
        try:
            with written_aside(self._file(number), durable=True, exclusive=True) as aside:
                data.to_parquet(aside, index=False)
        except FileExistsError:
            raise LostRaceError(
                f"{self._number} {number} of {self._filepath} was written meanwhile by another run: nothing was added here; "
                f"look, and start again"
            ) from None
        if seen is not None:
            Keyring().note(self._filepath, seen)

    def has_entries(self) -> bool:
        """Whether there are any, or this machine has seen some that were removed since: what reads them has to name that."""
        return bool(self._numbers()) or (self._signed and Keyring().seen(self._filepath) is not None)

    def _numbers(self) -> list[int]:
        files = self._filepath.glob("*.parquet") if self._filepath.is_dir() else []
        return sorted(int(file.stem) for file in files if file.stem.isascii() and file.stem.isdigit() and file.is_file())

    def _file(self, number: int) -> Path:
        return self._filepath / f"{number:06d}.parquet"

    def _exists(self) -> bool:
        return self._read_only or self.has_entries()
