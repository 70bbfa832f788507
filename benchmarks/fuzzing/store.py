"""Class ``store``: what earlier runs left - models, manifests, promotions, the audit, histories - damaged, swapped, or with strangers beside."""

from __future__ import annotations

import io
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd

from wind_kedro.storage.delta import Delta

from .cases import Case, Step, generator
from .oracle import Verdict, error_lines, same_rows, worst
from .project import ISSUE, Ended, World, command, in_child, newest_forecasts, run

DATA = Path("data/test")
#: The issue that is forecast anew after the damage.


@dataclass
class Damage:
    """What was done to a project, and what must become of it.

    Attributes:
        project: where.
        hit: members whose forecasts may come from a fallback, or not at all; they and the damage must be named.
        named: words of which the output must have one, where `hit` or a refusal is concerned.
        refused: whether the command may refuse to go on, in a clear line; nothing of what was there may then have changed.
        found: whether `kedro wind verify` must find it.
        later: the damage itself, where it is done after the first of the steps.
        steps: what is run.
    """

    project: Path
    rng: np.random.Generator
    hit: set[tuple[str, str]] = field(default_factory=set)
    named: list[str] = field(default_factory=list)
    refused: bool = False
    found: bool = False
    later: Callable[[], None] | None = None
    steps: list[Step] = field(default_factory=lambda: [run("forecasting")])

    def one(self, pattern: str) -> Path:
        """One of the files or folders of a pattern."""
        every = sorted(self.project.glob(f"{DATA}/{pattern}"))
        return every[int(self.rng.integers(len(every)))]

    @property
    def manifest(self) -> Path:
        """The manifest of the version in force."""
        return next(path for path in sorted(self.project.rglob("manifest.json")) if "fleet_model" in path.parts)

    def member(self) -> tuple[tuple[str, str], Path]:
        """A member of the version in force, and the folder of its model."""
        members = [one for one in json.loads(self.manifest.read_text())["members"] if "object" in one]
        one = members[int(self.rng.integers(len(members)))]
        self.hit = {(m["product_id"], m["entity_id"]) for m in members if m["object"] == one["object"]}
        self.named = [one["object"], one["object"][:12], one["entity_id"]]
        return (one["product_id"], one["entity_id"]), self.project / DATA / "06_models/objects" / one["object"]


Change = Callable[[Damage], None]
DAMAGES: dict[str, Change] = {}


def damage(change: Change) -> Change:
    """Registers a damage under its function's name."""
    DAMAGES[change.__name__] = change
    return change


def _file(folder: Path, rng: np.random.Generator) -> Path:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return files[int(rng.integers(len(files)))]


# --- models ----------------------------------------------------------------------------------------------------------


@damage
def a_model_is_gone(damage: Damage) -> None:
    shutil.rmtree(damage.member()[1])


@damage
def a_file_of_a_model_is_gone(damage: Damage) -> None:
    _file(damage.member()[1], damage.rng).unlink()


@damage
def a_model_is_cut_short(damage: Damage) -> None:
    path = _file(damage.member()[1], damage.rng)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@damage
def a_model_has_a_flipped_bit(damage: Damage) -> None:
    path = _file(damage.member()[1], damage.rng)
    raw = bytearray(path.read_bytes())
    raw[int(damage.rng.integers(len(raw)))] ^= 1
    path.write_bytes(bytes(raw))


@damage
def a_model_is_garbage(damage: Damage) -> None:
    path = _file(damage.member()[1], damage.rng)
    path.write_bytes(
        [b"", b"\x00" * 100, b"{", b"[" * 100_000, b'{"type": "os.system"}', damage.rng.bytes(1000)][int(damage.rng.integers(6))]
    )


@damage
def a_model_is_another(damage: Damage) -> None:
    folder = damage.member()[1]
    other = next(path for path in sorted(folder.parent.iterdir()) if path.name != folder.name and path.name[0] != ".")
    shutil.rmtree(folder)
    shutil.copytree(other, folder)


@damage
def a_model_is_a_link_to_another(damage: Damage) -> None:
    folder = damage.member()[1]
    other = next(path for path in sorted(folder.parent.iterdir()) if path.name != folder.name and path.name[0] != ".")
    shutil.rmtree(folder)
    folder.symlink_to(other)


@damage
def a_model_is_a_file(damage: Damage) -> None:
    folder = damage.member()[1]
    shutil.rmtree(folder)
    folder.write_bytes(b"no folder")


@damage
def a_model_is_a_pipe(damage: Damage) -> None:
    path = _file(damage.member()[1], damage.rng)
    path.unlink()
    os.mkfifo(path)


@damage
def a_model_has_a_file_more(damage: Damage) -> None:
    (damage.member()[1] / "evil.pkl").write_bytes(b"cos\nsystem\n(S'touch broken_in'\ntR.")


@damage
def a_model_bursts(damage: Damage) -> None:
    folder = damage.member()[1]
    held = io.BytesIO()
    with (
        zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive,
        archive.open("levels.npy", "w", force_zip64=True) as file,
    ):
        file.write(b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (130000000,), }".ljust(128) + b"\n")
        for _ in range(1_000):
            file.write(bytes(1 << 20))
    _file(folder, damage.rng).with_suffix(".npz").write_bytes(held.getvalue())


@damage
def a_forged_model(damage: Damage) -> None:
    # Consistent with itself: the folder has the digest of its files, and the manifest names it.
    from wind_kedro.models.objects import digest

    _, folder = damage.member()
    path = folder / "model.json"
    path.write_text(path.read_text().replace("power_curve", "power_curve ", 0) + "\n")
    forged = folder.with_name(digest(folder))
    folder.rename(forged)
    manifest = damage.manifest
    manifest.write_text(manifest.read_text().replace(folder.name, forged.name))
    damage.refused = True
    damage.named += ["manifest", "digest", "version"]
    damage.hit = _everybody(damage)


def _everybody(damage: Damage) -> set[tuple[str, str]]:
    return {(one["product_id"], one["entity_id"]) for one in json.loads(damage.manifest.read_text())["members"]} | {
        ("hourly_36h", "coast"),
        ("quarter_hourly_24h", "coast"),
    }


def _of_manifest(name: str, change: Callable[[Damage, str], str | bytes | None]) -> None:
    def spoil(damage: Damage) -> None:
        everybody = _everybody(damage)
        path = damage.manifest
        content = change(damage, path.read_text())
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        damage.hit, damage.refused, damage.named = everybody, True, ["manifest", "version", "cannot be loaded", "fleet"]

    DAMAGES[name] = spoil


_of_manifest("no_manifest", lambda damage, text: None)
_of_manifest("a_manifest_cut_short", lambda damage, text: text[: len(text) // 2])
_of_manifest(
    "a_manifest_that_is_none",
    lambda damage, text: [b"", b"null", b"[]", b"[" * 100_000, b"\xff\xfe", b'{"format": 99}', b'{"members": 7}'][
        int(damage.rng.integers(7))
    ],
)
_of_manifest("a_manifest_with_paths", lambda damage, text: text.replace('"object": "', '"object": "../../../../../../', 1))
_of_manifest("a_manifest_with_members_swapped", lambda damage, text: _swapped(text))


def _swapped(text: str) -> str:
    manifest = json.loads(text)
    own = [member for member in manifest["members"] if "object" in member]
    own[0]["object"], own[-1]["object"] = own[-1]["object"], own[0]["object"]
    return json.dumps(manifest, indent=2)


# --- promotions ------------------------------------------------------------------------------------------------------


def _of_promotions(name: str, change: Callable[[Path, Damage], None], *, hit: bool) -> None:
    """Registers a damage to the log of promotions; with ``hit`` the version in force is no longer certain."""

    def spoil(damage: Damage) -> None:
        damage.hit = _everybody(damage) if hit else set()
        damage.refused, damage.named = hit, ["promotion", "000001", "000002"]
        change(damage.project / DATA / "06_models/promotions", damage)

    DAMAGES[name] = spoil


def _forged(folder: Path, damage: Damage) -> None:
    del damage
    table = pd.read_parquet(folder / "000001.parquet")
    table.assign(promotion=2, model_version="99").to_parquet(folder / "000002.parquet", index=False)


def _altered(folder: Path, damage: Damage) -> None:
    del damage
    table = pd.read_parquet(folder / "000001.parquet")
    table.assign(model="climatology").to_parquet(folder / "000001.parquet", index=False)


_of_promotions(
    "a_promotion_cut_short",
    lambda folder, _: (folder / "000001.parquet").write_bytes((folder / "000001.parquet").read_bytes()[:300]) and None,
    hit=True,
)
_of_promotions("a_forged_promotion", _forged, hit=True)
_of_promotions("an_altered_promotion", _altered, hit=True)
_of_promotions("an_empty_promotion", lambda folder, _: (folder / "000002.parquet").write_bytes(b"") and None, hit=True)
_of_promotions("a_promotion_that_is_a_folder", lambda folder, _: (folder / "000002.parquet").mkdir(), hit=False)
_of_promotions(
    "strangers_beside_promotions",
    lambda folder, _: (
        [
            (folder / name).write_bytes(b"x")
            for name in ("notes.txt", ".tmp.parquet", "x.parquet", "000001.parquet.bak", "Thumbs.db")
        ]
        and None
    ),
    hit=False,
)


# --- the audit -------------------------------------------------------------------------------------------------------


def _of_audit(name: str, change: Callable[[Path, Path], None], *, found: bool = True) -> None:
    def spoil(damage: Damage) -> None:
        output = damage.project / DATA / "07_model_output"
        damage.later = lambda: change(output / "audit", output / "audit_head.json")
        damage.found, damage.refused, damage.named = found, True, ["audit", "chain", "record", "head"]
        # The first time, this machine sees the chain whole.
        damage.steps = [command("wind", "--env", "test", "verify")] * 2

    DAMAGES[name] = spoil


def _records(folder: Path) -> Path:
    return sorted(folder.glob("*.parquet"))[-1]


def _change_records(folder: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    path = _records(folder)
    change(pd.read_parquet(path)).to_parquet(path, index=False)


def _forge_record(folder: Path, head: Path) -> None:
    from wind_kedro.governance.audit import digest

    table = pd.read_parquet(_records(folder)).tail(1).copy()
    before = table.iloc[0]
    table["sequence"] = before["sequence"] + 1
    table["previous_sha256"] = before["sha256"]
    table["sha256"] = [digest(row) for row in table.to_dict("records")]
    number = int(before["sequence"]) + 1
    table.to_parquet(folder / f"{number:012d}-{number:012d}.parquet", index=False)
    del head


def _cut_and_headless(folder: Path, head: Path) -> None:
    _change_records(folder, lambda table: table.iloc[:-2])
    head.unlink()


def _lock_a_folder(folder: Path, head: Path) -> None:
    del head
    (folder / "lock").unlink(missing_ok=True)
    (folder / "lock").mkdir()


_of_audit("audit_without_a_head", lambda folder, head: head.unlink())
_of_audit(
    "audit_with_a_head_of_nought",
    lambda folder, head: head.write_text(json.dumps({"sequence": 0, "sha256": "0" * 64})) and None,
)
_of_audit("audit_with_a_broken_head", lambda folder, head: head.write_bytes(b"{") and None)
_of_audit("audit_with_a_head_of_another_kind", lambda folder, head: head.write_bytes(b"[]") and None)
_of_audit("audit_cut", lambda folder, head: _change_records(folder, lambda table: table.iloc[:-2]))
_of_audit("audit_cut_and_without_a_head", _cut_and_headless)
_of_audit("audit_altered", lambda folder, head: _change_records(folder, lambda table: table.assign(model="x")))
_of_audit("audit_with_a_forged_record", _forge_record)
_of_audit("audit_gone", lambda folder, head: shutil.rmtree(folder))
_of_audit("audit_of_garbage", lambda folder, head: _records(folder).write_bytes(b"PAR1") and None)
_of_audit(
    "strangers_in_the_audit",
    lambda folder, head: (
        [(folder / name).write_bytes(b"x") for name in ("notes.txt", "x.parquet", ".000.parquet", "1-2.parquet")] and None
    ),
    found=False,
)
_of_audit(
    "audit_whose_lock_is_a_folder",
    _lock_a_folder,
    found=False,
)


# --- histories and tables --------------------------------------------------------------------------------------------


@damage
def a_broken_part_of_a_history(damage: Damage) -> None:
    path = damage.one("07_model_output/forecasts/month=*/*.parquet")
    path.write_bytes([b"", b"PAR1", path.read_bytes()[:-9]][int(damage.rng.integers(3))])
    damage.named = [path.name.split(".")[0]]
    damage.steps = [run("forecasting"), command("wind", "--env", "test", "forecast")]


@damage
def strangers_in_a_history(damage: Damage) -> None:
    folder = damage.project / DATA / "07_model_output/forecasts/month=2024-01"
    for name in (
        "notes.txt",
        "._20240128T060000Z.parquet",
        ".tmp.parquet",
        "Thumbs.db",
        "20240128T060000Z.parquet.part",
    ):
        (folder / name).write_bytes(b"x")
    damage.steps = [run("forecasting"), command("wind", "--env", "test", "forecast")]


@damage
def a_broken_table_before(damage: Damage) -> None:
    path = damage.one("04_feature/features/rows/month=*/*.parquet")
    path.write_bytes([b"", b"PAR1", path.read_bytes()[:-9], path.read_bytes()[:100]][int(damage.rng.integers(4))])
    damage.refused, damage.named, damage.hit = True, ["features"], _everybody(damage)


@damage
def temporary_files_of_killed_runs(damage: Damage) -> None:
    for folder in (
        "02_intermediate",
        "03_primary",
        "06_models/objects",
        "06_models/promotions",
        "07_model_output/forecasts/month=2024-01",
        "07_model_output/audit",
    ):
        (damage.project / DATA / folder / f".{damage.rng.bytes(16).hex()}.parquet").write_bytes(b"half")
        (damage.project / DATA / folder / f".{damage.rng.bytes(16).hex()}").mkdir()


@damage
def a_broken_kit(damage: Damage) -> None:
    damage.one("06_models/kits/*.json").write_bytes(b"{")
    damage.one("06_models/kits/objects/*/*").write_bytes(b"")


def _of_database(name: str, *contents: bytes) -> None:
    def spoil(damage: Damage) -> None:
        path = damage.project / DATA / "mlflow.db"
        content = contents[int(damage.rng.integers(len(contents)))]
        if content == b"gone":
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[: len(path.read_bytes()) // 2] if content == b"half" else content)
        damage.refused, damage.named, damage.hit = True, ["mlflow", "registry", "model", "database"], _everybody(damage)

    DAMAGES[name] = spoil


_of_database("a_broken_database", b"half", b"SQLite format 3\x00" + bytes(4000), b"no database at all" * 100)
_of_database("no_database", b"gone")


@dataclass
class StoreCase(Case):
    """A damage to what earlier runs left."""

    name: str = field(kw_only=True)
    before: dict[str, pd.DataFrame] = field(kw_only=True)
    done: Damage | None = None

    trained = True
    limit_seconds = 60.0
    compared: ClassVar[tuple[str, ...]] = ()

    def prepare(self, project: Path) -> None:
        """Do the damage; the newest issue is to be forecast anew."""
        self.done = Damage(project, generator("store", self.number, self.seed))
        forecasts = Delta(project / DATA / "07_model_output/forecasts")
        in_child(lambda: forecasts.delete(f"issued_at = '{ISSUE}'"))
        DAMAGES[self.name](self.done)

    def steps(self) -> list[Step]:
        """Mostly a run of forecasting."""
        assert self.done is not None  # noqa: S101 - it was prepared
        return self.done.steps

    def between(self, project: Path, step: int) -> None:
        """Do what is to be done after the first step."""
        if step == 1 and self.done is not None and self.done.later is not None:
            self.done.later()

    def judge(self, project: Path, ended: list[Ended], found: dict[str, pd.DataFrame], *, alone: bool) -> Verdict:
        """Whether all others are forecast as ever, and the damage is named."""
        del found, alone
        damage = self.done
        assert damage is not None  # noqa: S101 - it was prepared
        faults = []
        if (project / "broken_in").exists():
            faults.append(Verdict("wrong", "code of the store was executed"))
        everything = "".join(end.stdout + end.stderr for end in ended)
        is_named = any(word in everything for word in damage.named)
        lines = [line for end in ended for line in error_lines(end)]
        if damage.found and ended[-1].code == 0:
            faults.append(Verdict("wrong", f"verify finds nothing: {ended[-1].stdout.strip()[-200:]}"))
        if damage.steps and not damage.found and self.name.startswith(("audit", "strangers_in_the_audit")):
            pass
        elif not damage.found:
            faults += self._forecasts(project, damage, lines)
        if (damage.hit or damage.named) and not is_named and not faults:
            faults.append(Verdict("wrong", f"nothing names the damage ({damage.named}); exit code {ended[0].code}"))
        return worst(faults or [Verdict("clear_error" if lines else "right", lines[0][:300] if lines else "")])

    def _forecasts(self, project: Path, damage: Damage, lines: list[str]) -> list[Verdict]:
        now = newest_forecasts(project)
        if now.empty:
            if damage.refused and lines:
                return []
            return [Verdict("stops_others", f"nobody is forecast: {lines[:1]}")]
        faults = []
        for (product, entity), rows in self.before["forecasts"].groupby(["product_id", "entity_id"]):
            own = now[(now["product_id"] == product) & (now["entity_id"] == entity)]
            keys = [
                "valid_at",
                "model",
                *(name for name in rows.columns if name.startswith("q") and name in own.columns),
            ]
            is_same = same_rows(rows[keys].dropna(axis=1, how="all"), own[keys].dropna(axis=1, how="all"))
            touched = (product, entity) in damage.hit or any(
                product == p and entity == "coast" and damage.hit for p, _ in damage.hit
            )
            if not touched and not is_same:
                faults.append(Verdict("stops_others", f"{product} of {entity} is forecast otherwise, or not: {len(own)} rows"))
            if (product, entity) in damage.hit and entity != "coast" and is_same and len(own):
                faults.append(Verdict("wrong", f"{product} of {entity} is forecast by the damaged model as if nothing were"))
            if (product, entity) in damage.hit and own.empty and not lines:
                faults.append(Verdict("lost", f"{product} of {entity} is not forecast, and no line tells"))
        return faults


def make(world: World, seed: int, number: int) -> StoreCase:
    """A case of this class: each damage in turn, then again with other draws."""
    names = list(DAMAGES)
    name = names[number % len(names)]
    return StoreCase("store", number, seed, [name], name=name, before=world.trained_tables)


#: How many cases a full run has.
COUNT = len(DAMAGES)
