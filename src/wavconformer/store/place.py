"""Where voices are kept unless somebody says otherwise."""

from __future__ import annotations

import os
import sys
from pathlib import Path

VARIABLE = "WAVCONFORMER_SPEAKERS"
"""The environment variable that names a store."""


def default_place() -> str:
    """What the environment variable names, else speakers.db where a user's programs keep their data.

    That is $XDG_DATA_HOME/wavconformer or ~/.local/share/wavconformer, on macOS ~/Library/Application Support/…, on
    Windows %LOCALAPPDATA%/….
    """
    named = os.environ.get(VARIABLE)
    if named:
        return named
    if sys.platform == "win32":
        root = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        root = Path.home() / "Library" / "Application Support"
    else:
        root = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return str(Path(root) / "wavconformer" / "speakers.db")
