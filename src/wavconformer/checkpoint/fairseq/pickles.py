"""The file as plain data and tensors: nothing that it names is imported or called.

torch's restricted unpickler makes tensors and plain data. Each other class or function that the file names is
replaced by an inert stand-in, which keeps what it is given and does nothing.
"""

from __future__ import annotations

import argparse
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import torch

from wavconformer.errors import CheckpointError

# A file's damage can show in any of these when its pickle is read.
UNPICKLING_ERRORS = (
    pickle.UnpicklingError,
    struct.error,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)

# torch refuses names from these modules even where a stand-in is given.
BLOCKED_MODULES = ("sys", "os", "posix", "nt")


def read_pickle(path: Path) -> dict[str, Any]:
    """The outermost dict of a checkpoint, its tensors mapped from the file.

    Raises CheckpointError where the file can't be read, is no checkpoint of torch, or holds something else than a
    dict.
    """
    _refuse_what_is_no_checkpoint(path)
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        blocked = [name for name in names if name.split(".")[0] in BLOCKED_MODULES]
        if blocked:
            raise CheckpointError(
                f"{path} wants to use {', '.join(sorted(blocked))}, as no checkpoint should: not read."
            )
        with torch.serialization.safe_globals([(_stand_in(name), name) for name in names]):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except UNPICKLING_ERRORS as error:
        raise CheckpointError(
            f"{path} can't be read as a PyTorch checkpoint ({type(error).__name__}): it is damaged, or no checkpoint. "
            "Get a fresh copy."
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not the dict that fairseq saves.")
    return content


def bare(value: object) -> object:
    """The value itself, out of the objects that older files wrap it in."""
    for _ in range(4):  # a leaf of omegaconf that holds an enum is the deepest there is
        if isinstance(value, argparse.Namespace):  # not a stand-in where the caller's program allows the class
            return vars(value)
        if not isinstance(value, _Inert):
            return value
        value = value.content
    return None


def mapping(value: object) -> dict[str, Any]:
    """The entries of a dict, a Namespace or a container of omegaconf; none for anything else."""
    value = bare(value)
    return value if isinstance(value, dict) else {}


class _Inert:
    """Stands where a file names a class or function: keeps what it is given, and does nothing."""

    arguments: tuple[object, ...]
    state: object

    def __new__(cls, *arguments: object, **_: object) -> _Inert:
        self = super().__new__(cls)
        self.arguments = arguments
        self.state = None
        return self

    def __setstate__(self, state: object) -> None:
        self.state = state

    @property
    def content(self) -> object:
        """The plain data inside: of an omegaconf node its value, of an object its attributes, of an enum its name."""
        if isinstance(self.state, dict):
            for key in ("_content", "_val"):  # containers and leaves of omegaconf
                if key in self.state:
                    return self.state[key]
            return self.state
        return self.arguments[0] if len(self.arguments) == 1 else None


def _stand_in(name: str) -> Any:
    """What to use for the global `name` of a file."""
    if name == "collections.defaultdict":  # torch fills plain dicts only
        return _empty_dict
    return type(name.rpartition(".")[2], (_Inert,), {})


def _empty_dict(*_: object) -> dict[Any, Any]:
    return {}


def _refuse_what_is_no_checkpoint(path: Path) -> None:
    if not path.exists():
        raise CheckpointError(f"There is no file '{path}'.")
    if path.is_dir():
        raise CheckpointError(f"'{path}' is a folder: give fairseq's checkpoint, a .pt file.")
    if path.suffix == ".safetensors":
        raise CheckpointError(
            f"{path} is a safetensors file, not fairseq's: load its folder, there is nothing to convert."
        )
    if zipfile.is_zipfile(path):
        return
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise CheckpointError(f"{path} can't be opened: {error.strerror}.") from error
    if start == b"PK\x03\x04":
        raise CheckpointError(f"{path} is cut short: its end is missing. Get a fresh copy.")
    if start == b"\x80\x02\x8a\n":
        raise CheckpointError(
            f"{path} is in PyTorch's format of before 1.6, which can't be read safely. Save it anew where you trust "
            "it: torch.save(torch.load(file, weights_only=False), new_file)."
        )
    raise CheckpointError(f"{path} is not a PyTorch checkpoint.")
