"""Clean environment of a training: the code at its commit and the libraries of its lock."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wind_kedro.datasets.training_kit import Kits
from wind_kedro.errors import WindKedroError
from wind_kedro.storage.temporary import Scratch


class CannotRebuildError(WindKedroError):
    """The environment of a training cannot be recreated."""


def compare_clean(kits: Kits, run_id: str, entries: list[dict[str, Any]], objects: Path, project: Path) -> dict[str, Any]:
    """Run `refit.compare` in an environment of the training's lock and commit.

    Raises:
        CannotRebuildError: if the code or the environment cannot be had, or the fit fails in it.
    """
    document = kits.document(run_id)
    if document["lock"] is None:
        raise CannotRebuildError(f"training run '{run_id}' had no requirements.lock: use --here")
    with Scratch("rebuild") as folder:
        lock = Path(folder) / "requirements.lock"
        lock.write_bytes(kits.get(document["lock"]))
        with code_at(document["provenance"]["git_commit"], project, Path(folder) / "code") as code:
            python = make_environment(Path(folder) / "venv", lock, code, document["provenance"]["python"])
            (Path(folder) / "entries.json").write_text(json.dumps(entries), encoding="utf-8")
            threads = dict(re.findall(r"(\w+_THREADS)=(\S+)", document["provenance"]["threads"]))
            done = subprocess.run(  # noqa: S603 - our own module in our own environment
                [
                    str(python), "-m", "wind_kedro.rebuild", str(kits.folder.resolve()), run_id,
                    str(Path(folder) / "entries.json"), str(objects.resolve()),
                ],
                cwd=code, capture_output=True, text=True, check=False, env={**os.environ, **threads},
            )  # fmt: skip
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise CannotRebuildError(f"the fit failed in the clean environment: {last[0]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


@contextmanager
def code_at(commit: str, project: Path, folder: Path) -> Iterator[Path]:
    """Yield the project's code at a commit in a temporary git worktree.

    Raises:
        CannotRebuildError: outside of a checkout, as from the wheel; or if the commit is not in it.
    """
    found = re.fullmatch(r"([0-9a-f]{40})( \(changed since\))?", commit)
    if not found:
        raise CannotRebuildError(f"the training ran from {commit}, so its code is in no checkout: use --here")
    try:
        _run("git", "worktree", "add", "--detach", str(folder), found[1], cwd=project)
    except CannotRebuildError as error:
        raise CannotRebuildError(f"commit {found[1][:12]} cannot be had from {project}: {error}") from None
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _run("git", "worktree", "prune", cwd=project)


def make_environment(folder: Path, lock: Path, code: Path, version: str, *extra: str) -> Path:
    """Create a virtual environment of a lock with the code installed; return its Python.

    Args:
        folder: where.
        lock: hashed, or the libraries would not be the same ones.
        code: the project's checkout.
        version: of Python; the environment's is its minor version.
        extra: options of uv, such as where to find wheels.
    """
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if uv is None:
        raise CannotRebuildError("a clean environment is made with uv: pip install uv, or use --here")
    python = folder / "bin" / "python"
    minor = ".".join(version.split(".")[:2])
    interpreter = sys.executable if minor == f"{sys.version_info.major}.{sys.version_info.minor}" else minor
    _run(uv, "venv", "--quiet", "--python", interpreter, str(folder))
    _run(uv, "pip", "sync", "--quiet", "--python", str(python), "--require-hashes", *extra, str(lock))
    _run(
        uv, "pip", "install", "--quiet", "--python", str(python), "--no-deps", "--no-build-isolation", "--editable", str(code)
    )  # fmt: skip
    return python


def _run(*command: str, cwd: Path | None = None) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise CannotRebuildError(" ".join((done.stderr or done.stdout).split())[-400:] or f"{command[0]} failed")
