"""wavconformer: the Wav2Vec2-Conformer speech models as one whole, fast, exact package.

    import wavconformer
    print(wavconformer.transcribe("talk.mp3").text)

The classes have their Hugging Face names, arguments, outputs and files. `__init__.pyi` lists all public names and
their homes. Each is imported when first used: importing the package doesn't import torch.
"""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from typing import Any

__version__ = "0.1.0"


def _read_homes() -> dict[str, tuple[str, str]]:
    """Of each public name the module that holds it and its name there."""
    stub = ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    return {
        alias.asname or alias.name: (node.module or "", alias.name)
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


_HOMES = _read_homes()


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'wavconformer' has no attribute '{name}'")
    module, attribute = _HOMES[name]
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
