"""Ed25519 keys that sign what the data folder must not be able to forge, and the newest that this machine has seen of each chain.

Keys are kept outside the data folder, so that a user who can write data cannot sign. The folder is `WIND_KEDRO_KEYS`, else
``wind-kedro/keys`` in the user's configuration folder::

    signing_key.pem      the private key, mode 0600, made when something is first signed
    trusted/<id>.pem     public keys whose signatures count
    revoked/<id>.pem     public keys whose signatures no longer count
    recording_key.pem    where the private key of promotions is elsewhere: this machine's own key, for its audit only
    recording/<id>.pem   its public key
    seen/<digest>.json   by place of a chain: the newest entry that this machine has seen

A machine that does not promote has public keys only: it verifies promotions and cannot sign them. Where it issues forecasts it
signs its audit with a key of its own, whose signatures count for nothing else.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from filelock import FileLock

from wind_kedro.errors import WindKedroError
from wind_kedro.storage.temporary import written_aside

#: Names the folder of the keys.
KEYS_VARIABLE = "WIND_KEDRO_KEYS"
#: The digest before the first entry of a chain.
GENESIS = "0" * 64
#: Hexadecimal digits of a key's id, which only names the key: 64 bits distinguish a few keys.
_ID_DIGITS = 16
#: Only the owner may read or write the private key, and add a trusted key.
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH

logger = logging.getLogger(__name__)

Trust = Literal["trusted", "recording", "revoked"]
#: Purposes for which a recording key counts.
RECORDS = frozenset({"audit head", "audit records"})


class KeyFileError(WindKedroError):
    """A key cannot be used: its file is readable by others, not this user's, damaged, or not there."""


@dataclass(frozen=True)
class Seen:
    """The newest entry of a chain that this machine has verified or written.

    Attributes:
        chain: id of the chain, made with its first entry.
        number: of the entry, from 1.
        digest: of the entry.
    """

    chain: str
    number: int
    digest: str


def default_folder() -> Path:
    """The folder of the keys: `WIND_KEDRO_KEYS`, else ``wind-kedro/keys`` in ``$XDG_CONFIG_HOME`` or ``~/.config``."""
    if os.environ.get(KEYS_VARIABLE):
        return Path(os.environ[KEYS_VARIABLE]).expanduser()
    configured = os.environ.get("XDG_CONFIG_HOME")
    return (Path(configured) if configured else Path.home() / ".config") / "wind-kedro" / "keys"


def message_of(purpose: str, content: Mapping[str, Any]) -> bytes:
    """The bytes that are signed: the purpose, so that a signature counts for no other, and the content in one spelling."""
    return f"wind-kedro {purpose} 1\n{json.dumps(content, sort_keys=True)}".encode()


class Keyring:
    """The keys of this machine."""

    def __init__(self, folder: Path | None = None) -> None:
        """``folder`` is `default_folder` unless given."""
        self.folder = folder or default_folder()

    # --- signing ---

    def can_promote(self) -> bool:
        """Whether this machine signs promotions: it has the private key, or no key at all yet and so may make one."""
        return self._private_path.exists() or not self.keys()

    def sign(self, purpose: str, content: Mapping[str, Any]) -> dict[str, str]:
        """``key`` and ``signature`` of a content; the key is made if this machine has none at all.

        Raises:
            KeyFileError: if the private key cannot be used, or this machine has public keys only and the purpose is no record.
        """
        private = self._private(recording=purpose in RECORDS)
        signature = private.sign(message_of(purpose, content)).hex()
        return {"key": key_id(private.public_key()), "signature": signature}

    def fault(self, purpose: str, content: Mapping[str, Any], key: Any, signature: Any) -> str:
        """Why a signature does not count; empty: it does."""
        if not isinstance(key, str) or not isinstance(signature, str) or not key or not signature:
            return "is not signed"
        known = self.keys()
        if known.get(key) == "revoked":
            return f"is signed by key {key}, which was revoked"
        if known.get(key) != "trusted" and not (known.get(key) == "recording" and purpose in RECORDS):
            return f"is signed by key {key[:_ID_DIGITS]}, which is not trusted on this machine (kedro wind keys trust)"
        try:
            self._public(key).verify(bytes.fromhex(signature), message_of(purpose, content))
        except (InvalidSignature, ValueError):
            return f"was changed: the signature by key {key} does not fit"
        return ""

    # --- keys ---

    def current(self) -> str | None:
        """Id of the key that signs promotions; none: there is none yet, or this machine only verifies them."""
        return key_id(self._private().public_key()) if self._private_path.exists() else None

    def keys(self) -> dict[str, Trust]:
        """By id, whether signatures of the key count."""
        found: dict[str, Trust] = {}
        for state in get_args(Trust):  # a key that is in several folders is revoked
            folder = self.folder / state
            if folder.is_dir():
                _check_mode(folder, _OTHERS_WRITE, "written", owner_only=False)
                found |= {path.stem: state for path in sorted(folder.glob("*.pem"))}
        return found

    def export(self, key: str | None = None) -> bytes:
        """A public key as PEM, for machines that read; ``key``: of this id instead of the current."""
        return _pem(self._private().public_key() if key is None else self._public(key))

    def trust(self, pem: bytes) -> str:
        """Let signatures of a public key count from now on; its id is returned. A revoked key stays revoked."""
        try:
            public = serialization.load_pem_public_key(pem)
        except ValueError as error:
            raise KeyFileError(f"is no public key in PEM: {' '.join(str(error).split())}") from error
        if not isinstance(public, Ed25519PublicKey):
            raise KeyFileError("is no Ed25519 key; kedro wind keys export writes one")
        key = key_id(public)
        if self.keys().get(key) == "revoked":
            raise KeyFileError(f"key {key} was revoked and stays so; make another (kedro wind keys rotate)")
        self._write(self.folder / "trusted" / f"{key}.pem", _pem(public))
        return key

    def revoke(self, key: str) -> None:
        """Let signatures of a key count no longer, earlier ones too. The key that signs cannot be revoked: rotate first."""
        if self._private_path.exists() and self.current() == key:
            raise KeyFileError(f"key {key} is the one that signs here: kedro wind keys rotate, then revoke it")
        pem = _pem(self._public(key))
        self._write(self.folder / "revoked" / f"{key}.pem", pem)
        (self.folder / "trusted" / f"{key}.pem").unlink(missing_ok=True)

    def rotate(self) -> str:
        """Make a new key that signs from now on; the old public key stays trusted. The new id is returned."""
        if self._private_path.exists():
            self._private()  # its public key is there, or is written now
        with self._lock():
            if not self.can_promote():
                raise self._reads_only()
            return self._make(self._private_path, "trusted")

    # --- what was seen ---

    def seen(self, place: Path) -> Seen | None:
        """The newest entry that this machine has seen of the chain in a folder; none: it has not seen any there."""
        path = self._seen_path(place)
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            return Seen(str(found["chain"]), int(found["number"]), str(found["digest"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise KeyFileError(f"{path}: cannot be read, so older and newer models cannot be distinguished: {error}") from error

    def note(self, place: Path, seen: Seen) -> None:
        """Keep the newest entry seen of the chain in a folder; one that is older is not kept, unless the chain is another.

        Where the folder of the keys cannot be written, this is logged: forecasting needs to read the keys only.
        """
        before = self.seen(place)
        if before == seen or (before is not None and before.chain == seen.chain and before.number > seen.number):
            return
        content = asdict(seen) | {"place": str(place.resolve())}
        try:
            self._write(self._seen_path(place), (json.dumps(content, indent=2) + "\n").encode())
        except KeyFileError as error:
            logger.warning("an older state of %s would not be found from now on: %s", place, error)

    def forget(self, place: Path) -> None:
        """Forget what was seen of the chain in a folder, after a person decided that its present state is right."""
        self._seen_path(place).unlink(missing_ok=True)

    # --- files ---

    @property
    def _private_path(self) -> Path:
        return self.folder / "signing_key.pem"

    def _seen_path(self, place: Path) -> Path:
        return self.folder / "seen" / f"{hashlib.sha256(str(place.resolve()).encode()).hexdigest()}.json"

    def _lock(self) -> FileLock:
        self._make_folder(self.folder)
        return FileLock(self.folder / "lock")

    def _private(self, *, recording: bool = False) -> Ed25519PrivateKey:
        path, state = self._own(recording)
        if not path.exists():
            with self._lock():
                path, state = self._own(recording)  # another process may have made it meanwhile
                if not path.exists():
                    self._make(path, state)
        private = self._read_private(path)
        key = key_id(private.public_key())
        if key not in self.keys():  # a run was killed between the two files
            self._write(self.folder / state / f"{key}.pem", _pem(private.public_key()))
        return private

    def _own(self, recording: bool) -> tuple[Path, Trust]:
        """File of the private key to sign with, made or not yet, and how its public key counts."""
        if self.can_promote():
            return self._private_path, "trusted"
        if recording:
            return self.folder / "recording_key.pem", "recording"
        raise self._reads_only()

    def _reads_only(self) -> KeyFileError:
        return KeyFileError(
            f"{self.folder}: holds public keys only, so this machine verifies and cannot promote: do it where the private key is"
        )

    def _read_private(self, path: Path) -> Ed25519PrivateKey:
        _check_mode(path, _OTHERS, "read")
        try:
            private = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except (OSError, ValueError, TypeError) as error:
            raise KeyFileError(f"{path}: is no private key that can be read: {' '.join(str(error).split())}") from error
        if not isinstance(private, Ed25519PrivateKey):
            raise KeyFileError(f"{path}: is no Ed25519 key")
        return private

    def _make(self, path: Path, state: str) -> str:
        private = Ed25519PrivateKey.generate()
        pem = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        # The private key first: with a public key alone, another process would take this for a machine that only verifies.
        # `_private` writes the public key if a run is killed in between.
        self._write(path, private.private_bytes(*pem))
        self._write(self.folder / state / f"{key_id(private.public_key())}.pem", _pem(private.public_key()))
        return key_id(private.public_key())

    def _public(self, key: str) -> Ed25519PublicKey:
        state = self.keys().get(key) if re.fullmatch(rf"[0-9a-f]{{{_ID_DIGITS}}}", key) else None
        if state is None:
            raise KeyFileError(f"no key {key}; there are {', '.join(self.keys()) or 'none'}")
        path = self.folder / state / f"{key}.pem"
        _check_mode(path, _OTHERS_WRITE, "written", owner_only=False)
        try:
            public = serialization.load_pem_public_key(path.read_bytes())
        except (OSError, ValueError) as error:
            raise KeyFileError(f"{path}: is no public key that can be read: {error}") from error
        if not isinstance(public, Ed25519PublicKey) or key_id(public) != key:
            raise KeyFileError(f"{path}: is not the key that its name gives")
        return public

    def _make_folder(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise KeyFileError(f"{folder}: cannot be made: {error.strerror}; set {KEYS_VARIABLE} to a folder of yours") from error

    def _write(self, path: Path, content: bytes) -> None:
        """Replace a file whole, readable by its owner only from the first byte on."""
        self._make_folder(self.folder)
        self._make_folder(path.parent)
        try:
            with written_aside(path, durable=True) as aside:
                aside.touch(mode=0o600)
                aside.write_bytes(content)
        except OSError as error:
            raise KeyFileError(f"{path}: cannot be written: {error.strerror}") from error


def key_id(public: Ed25519PublicKey) -> str:
    """What a key is called: the first digits of the digest of its public half."""
    return hashlib.sha256(public.public_bytes_raw()).hexdigest()[:_ID_DIGITS]


def _pem(public: Ed25519PublicKey) -> bytes:
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _check_mode(path: Path, forbidden: int, verb: str, *, owner_only: bool = True) -> None:
    """Refuse a file that is a link, that others could have read or written, or that is another user's.

    Public keys may be root's: an administrator hands them out.
    """
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        raise KeyFileError(f"{path}: is a symbolic link; put the file itself there")
    if found.st_mode & forbidden:
        mode, mend = stat.S_IMODE(found.st_mode), "go-rwx" if owner_only else "go-w"
        raise KeyFileError(f"{path}: can be {verb} by others (mode {mode:04o}): chmod {mend} {path}")
    if found.st_uid not in ({os.geteuid()} if owner_only else {os.geteuid(), 0}):
        raise KeyFileError(f"{path}: is not this user's: chown it, or set {KEYS_VARIABLE} to a folder of yours")
