"""Local paths of the project's datasets."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any


def local_path(path: Any, where: str) -> Path:
    """Convert a value of the configuration to a local path; ``where`` is its key.

    Raises `ValueError` if it is a URL such as ``s3://bucket/key``, which would become a folder named ``s3:``, or not a path.
    """
    if not isinstance(path, str | Path) or not str(path).strip() or "\0" in str(path):
        raise ValueError(f"{where}: {path!r} is no path; write that of a file or folder of this machine")
    # Path takes one of two slashes away.
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(path)):
        raise ValueError(
            f"{where}: {path} is a URL, and only files and folders of this machine are supported here; "
            f"mount the store, and write the path where it is mounted"
        )
    return Path(path)
