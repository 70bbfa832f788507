"""Commands of a project, typed one after the other in a process of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

#: Starting Python and importing costs more than a run.
_IN_TURN = """
import json, sys
from kedro.framework.project import configure_project
configure_project("wind_kedro")
from wind_kedro.cli import cli
commands, allowed = json.loads(sys.argv[1])
for words in commands:
    try:
        cli(words, standalone_mode=True)
    except SystemExit as stop:
        if (stop.code or 0) not in allowed:
            sys.exit(f"{words}: {stop.code}")
"""


def type_in_turn(folder: Path, *commands: list[str], allowed: Collection[int] = (0,)) -> str:
    """Type commands in a project; what they printed.

    Args:
        folder: of the project.
        commands: words of each.
        allowed: exit codes after which the next one is typed; the test fails at any other.
    """
    command = [sys.executable, "-c", _IN_TURN, json.dumps([commands, list(allowed)])]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=550, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout
