"""Keys: made once, readable by nobody else, rotated, revoked; and what was seen is not forgotten."""

from __future__ import annotations

import multiprocessing
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from wind_kedro.governance.signing import KeyFileError, Keyring, Seen, default_folder, message_of

CONTENT = {"number": 3, "digest": "d" * 64}


@pytest.fixture
def ring(tmp_path: Path) -> Keyring:
    return Keyring(tmp_path / "keys")


def sign(ring: Keyring) -> tuple[str, str]:
    signed = ring.sign("promotion", CONTENT)
    return signed["key"], signed["signature"]


def test_the_key_is_made_when_it_is_first_needed_and_nobody_else_can_read_it(ring: Keyring) -> None:
    assert (ring.current(), ring.keys(), ring.can_promote(), ring.folder.exists()) == (None, {}, True, False)
    key, signature = sign(ring)
    assert ring.fault("promotion", CONTENT, key, signature) == ""
    assert (ring.current(), ring.keys()) == (key, {key: "trusted"})
    assert stat.S_IMODE((ring.folder / "signing_key.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE(ring.folder.stat().st_mode) == 0o700
    assert sign(ring) == (key, signature), "Ed25519 signs the same the same"


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        pytest.param({"WIND_KEDRO_KEYS": "/k", "XDG_CONFIG_HOME": "/x", "HOME": "/h"}, "/k", id="named"),
        pytest.param({"WIND_KEDRO_KEYS": "", "XDG_CONFIG_HOME": "/x", "HOME": "/h"}, "/x/wind-kedro/keys", id="XDG"),
        pytest.param({"HOME": "/h"}, "/h/.config/wind-kedro/keys", id="home"),
    ],
)
def test_where_the_keys_are(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], folder: str) -> None:
    for name in ("WIND_KEDRO_KEYS", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert default_folder() == Path(folder)


def _linked(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        pytest.param(lambda path: path.chmod(0o640), "can be read by others (mode 0640): chmod go-rwx", id="group reads"),
        pytest.param(lambda path: path.chmod(0o604), "can be read by others (mode 0604)", id="all read"),
        pytest.param(lambda path: path.write_bytes(b"garbage"), "is no private key that can be read", id="garbage"),
        pytest.param(lambda path: path.write_bytes(_rsa()), "is no Ed25519 key", id="another kind of key"),
        pytest.param(_linked, "is a symbolic link", id="a link"),
        pytest.param(lambda path: os.chown(path, 65534, -1), "is not this user's", id="another user's"),
    ],
)
def test_a_private_key_that_is_not_private_is_refused_in_one_line(
    ring: Keyring, spoil: Callable[[Path], object], told: str
) -> None:
    sign(ring)
    try:
        spoil(ring.folder / "signing_key.pem")
    except PermissionError:
        pytest.skip("only root gives files away")
    with pytest.raises(KeyFileError) as caught:
        sign(ring)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def _rsa() -> bytes:
    key = rsa.generate_private_key(65537, 2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def test_keys_that_others_could_have_put_there_are_not_trusted(ring: Keyring) -> None:
    key, signature = sign(ring)
    (ring.folder / "trusted").chmod(0o777)
    with pytest.raises(KeyFileError, match=r"trusted: can be written by others .* chmod go-w"):
        ring.fault("promotion", CONTENT, key, signature)


@pytest.mark.parametrize(
    ("purpose", "content", "key", "signature", "told"),
    [
        pytest.param("audit head", CONTENT, None, None, "was changed", id="signed for something else"),
        pytest.param("promotion", CONTENT | {"number": 4}, None, None, "was changed", id="other content"),
        pytest.param("promotion", CONTENT, None, "00" * 64, "was changed", id="another signature"),
        pytest.param("promotion", CONTENT, None, "no hex", "was changed", id="no signature"),
        pytest.param("promotion", CONTENT, "f" * 16, None, "is not trusted on this machine", id="unknown key"),
        pytest.param("promotion", CONTENT, "../../x", None, "is not trusted on this machine", id="a path for a key"),
        pytest.param("promotion", CONTENT, "", "", "is not signed", id="nothing"),
        pytest.param("promotion", CONTENT, float("nan"), None, "is not signed", id="a missing value"),
    ],
)
def test_what_was_not_signed_is_found(
    ring: Keyring, purpose: str, content: dict[str, object], key: object, signature: object, told: str
) -> None:
    own, right = sign(ring)
    assert told in ring.fault(purpose, content, own if key is None else key, right if signature is None else signature)


def test_a_public_key_under_the_name_of_another_is_refused(ring: Keyring) -> None:
    key, signature = sign(ring)
    other = ed25519.Ed25519PrivateKey.generate().public_key()
    (ring.folder / "trusted" / f"{key}.pem").write_bytes(other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(KeyFileError, match="is not the key that its name gives"):
        ring.fault("promotion", CONTENT, key, signature)


def test_keys_rotate_and_are_revoked(ring: Keyring) -> None:
    old, signature = sign(ring)
    with pytest.raises(KeyFileError, match="is the one that signs here: kedro wind keys rotate"):
        ring.revoke(old)
    new = ring.rotate()
    assert ring.keys() == {old: "trusted", new: "trusted"}
    assert sign(ring)[0] == new
    assert ring.fault("promotion", CONTENT, old, signature) == ""
    pem = ring.export(old)
    ring.revoke(old)
    assert "was revoked" in ring.fault("promotion", CONTENT, old, signature)
    with pytest.raises(KeyFileError, match="was revoked and stays so"):
        ring.trust(pem)
    with pytest.raises(KeyFileError, match="no key 0123456789abcdef"):
        ring.revoke("0123456789abcdef")


def test_a_machine_that_only_reads_never_makes_a_key(ring: Keyring, tmp_path: Path) -> None:
    key, signature = sign(ring)
    reader = Keyring(tmp_path / "reader")
    assert reader.trust(ring.export()) == key
    assert reader.fault("promotion", CONTENT, key, signature) == ""
    assert not reader.can_promote()
    for attempt in (lambda: sign(reader), reader.rotate):
        with pytest.raises(KeyFileError, match="holds public keys only"):
            attempt()
    assert reader.current() is None


def test_a_machine_that_does_not_promote_signs_its_own_records_and_nothing_else(ring: Keyring, tmp_path: Path) -> None:
    sign(ring)
    reader = Keyring(tmp_path / "reader")
    reader.trust(ring.export())
    signed = reader.sign("audit head", CONTENT)
    own = signed["key"]
    assert reader.keys() == {str(ring.current()): "trusted", own: "recording"}
    assert reader.fault("audit head", CONTENT, own, signed["signature"]) == ""
    assert reader.sign("audit head", CONTENT) == signed
    private = serialization.load_pem_private_key((reader.folder / "recording_key.pem").read_bytes(), None)
    assert isinstance(private, ed25519.Ed25519PrivateKey)
    forged = private.sign(message_of("promotion", CONTENT)).hex()
    assert "is not trusted on this machine" in reader.fault("promotion", CONTENT, own, forged)
    with pytest.raises(KeyFileError, match="cannot promote"):
        sign(reader)


@pytest.mark.parametrize("pem", [b"", b"garbage", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"])
def test_what_is_no_public_key_is_not_trusted(ring: Keyring, pem: bytes) -> None:
    with pytest.raises(KeyFileError, match="is no public key in PEM"):
        ring.trust(pem)


def test_a_run_that_was_killed_between_the_two_files_of_a_key_is_gone_on_from(ring: Keyring) -> None:
    key, signature = sign(ring)
    (ring.folder / "trusted" / f"{key}.pem").unlink()
    assert sign(ring) == (key, signature)
    assert ring.keys() == {key: "trusted"}


def _sign_in(folder: Path, found: str) -> None:
    (folder / found).write_text(sign(Keyring(folder / "keys"))[0])


def test_of_many_at_once_one_makes_the_key(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_sign_in, args=(tmp_path, str(number))) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert len({(tmp_path / str(number)).read_text() for number in range(4)}) == 1
    assert len(Keyring(tmp_path / "keys").keys()) == 1


def test_the_newest_that_was_seen_is_kept_by_place(ring: Keyring, tmp_path: Path) -> None:
    place, other = tmp_path / "data/promotions", tmp_path / "elsewhere"
    assert ring.seen(place) is None
    ring.note(place, Seen("a", 2, "x"))
    ring.note(place, Seen("a", 1, "y"))
    assert ring.seen(place) == Seen("a", 2, "x"), "an older one is not newer"
    assert ring.seen(other) is None
    ring.note(place, Seen("b", 1, "z"))
    assert ring.seen(place) == Seen("b", 1, "z"), "a new chain begins at 1"
    ring.forget(place)
    assert ring.seen(place) is None


def test_what_was_seen_and_cannot_be_read_is_no_reason_to_trust(ring: Keyring, tmp_path: Path) -> None:
    ring.note(tmp_path, Seen("a", 2, "x"))
    (file,) = (ring.folder / "seen").iterdir()
    file.write_text("{}")
    with pytest.raises(KeyFileError, match="older and newer models cannot be distinguished"):
        ring.seen(tmp_path)
