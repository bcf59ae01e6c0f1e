"""What ships with the package: a small checkpoint and sample recordings."""

from __future__ import annotations

import os
from pathlib import Path

HERE = Path(__file__).parent

DEFAULT_MODEL = "tiny-en"


def model_place(name: str | os.PathLike[str] | None) -> str | os.PathLike[str]:
    """Where the model of that name is: the folder that ships with the package for None or "tiny-en", else the name.

    A folder "tiny-en" where the user stands comes first.
    """
    wanted = DEFAULT_MODEL if name is None else name
    shipped = HERE / wanted
    is_shipped = shipped.parent == HERE and (shipped / "config.json").is_file()
    return shipped if is_shipped and (name is None or not Path(wanted).is_dir()) else wanted


def samples() -> list[Path]:
    """The sample recordings."""
    return sorted((HERE / "samples").glob("*.flac"))
