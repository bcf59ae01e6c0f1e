"""Weight files: safetensors or the old pickles, in one piece or in shards, read lazily and written whole."""

from __future__ import annotations

import pickle
import re
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from wavconformer.errors import CheckpointError
from wavconformer.files import Source, atomic, read_json, write_json

SAFETENSORS = "model.safetensors"
# Under a name of its own, so that no other reader takes rounded weights for plain ones.
INT8 = "model.int8.safetensors"
LEGACY = "pytorch_model.bin"
WEIGHTS = (SAFETENSORS, INT8, LEGACY)
_SHARD = re.compile(r"(model|model\.int8|pytorch_model)-\d{5}-of-\d{5}\.(safetensors|bin)")
# What reading a broken pickle may raise: its bytes are instructions, and damaged ones fail in any way.
_BROKEN_PICKLE = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    struct.error,
    EOFError,
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    OverflowError,
)
_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


_DTYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.float64: "F64", torch.int64: "I64"}


class LazyTensor(Protocol):
    """A tensor in a file: its shape and type are known, its values are read when asked for."""

    shape: tuple[int, ...]
    dtype: str  # as safetensors names it, such as F32

    def read(self) -> Tensor:
        """The tensor, mapped into memory where the file allows it."""


class _Slice:
    def __init__(self, file: Any, name: str) -> None:
        self._file = file
        self._name = name
        self.shape = tuple(file.get_slice(name).get_shape())
        self.dtype = str(file.get_slice(name).get_dtype())

    def read(self) -> Tensor:
        tensor: Tensor = self._file.get_tensor(self._name)
        return tensor


class _Loaded:
    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor
        self.shape = tuple(tensor.shape)
        self.dtype = _DTYPES.get(tensor.dtype, str(tensor.dtype))

    def read(self) -> Tensor:
        return self._tensor


@contextmanager
def open_weights(source: Source, use_safetensors: bool | None = None) -> Iterator[dict[str, LazyTensor]]:
    """All tensors of a checkpoint by the names they have in its files.

    use_safetensors: True or False to insist on one format; None takes safetensors where there are both.

    Raises CheckpointError where there are no weights, a shard is missing, or a file is broken.
    """
    with ExitStack() as files:
        tensors: dict[str, LazyTensor] = {}
        for path in find_weight_files(source, use_safetensors):
            tensors.update(files.enter_context(open_file(path)))
        yield tensors


def find_weight_files(source: Source, use_safetensors: bool | None = None) -> list[Path]:
    """The paths of a checkpoint's weight files, downloaded if need be."""
    wanted = {None: WEIGHTS, True: (SAFETENSORS, INT8), False: (LEGACY,)}
    names = wanted[use_safetensors]
    for name in names:
        if (path := source.find(name)) is not None:
            return [path]
        if (index := source.find(f"{name}.index.json")) is not None:
            shards = sorted(set(_weight_map(index).values()))
            return [source.require(shard) for shard in shards]
    plain = [name for name in names if name != INT8]
    if source.find("model.onnx") is not None:
        raise CheckpointError(
            f"{source} holds a graph, model.onnx, and no weights: `wavconformer transcribe --model` runs it, all else "
            "needs the checkpoint that it was exported from."
        )
    if source.find("base.json") is not None:
        raise CheckpointError(
            f"{source} holds what was trained beside a checkpoint, an adapter or low-rank matrices, and no whole "
            "weights: `wavconformer merge FOLDER OUTPUT` makes one checkpoint of both."
        )
    source.require("config.json")  # says so where there isn't even that
    raise CheckpointError(
        f"{source} has a config.json but no weights: expected {' or '.join(plain)}, or their shards with an index."
    )


def _weight_map(index: Path) -> dict[str, str]:
    content = read_json(index)
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise CheckpointError(f"{index} is no index of shards: it lacks a weight_map of names.")
    for name in weight_map.values():
        if Path(name).name != name:
            raise CheckpointError(f"{index} names a shard outside its folder, '{name}'.")
    return weight_map


def open_file(path: Path) -> AbstractContextManager[dict[str, LazyTensor]]:
    """The tensors of one weight file, by its suffix."""
    return _open_safetensors(path) if path.suffix == ".safetensors" else _open_pickle(path)


@contextmanager
def _open_safetensors(path: Path) -> Iterator[dict[str, LazyTensor]]:
    try:
        opened = safe_open(path, framework="pt", device="cpu")
    except SafetensorError as error:
        raise CheckpointError(
            f"{path} is not a whole safetensors file ({error}): copy or download it again."
        ) from error
    with opened as file:
        yield {name: _Slice(file, name) for name in file.keys()}  # noqa: SIM118 (the handle is no mapping)


@contextmanager
def _open_pickle(path: Path) -> Iterator[dict[str, LazyTensor]]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except _BROKEN_PICKLE as error:
        raise CheckpointError(
            f"{path} can't be read as a file of tensors. It is broken: copy or download it again. Or it holds more "
            "than tensors, which wavconformer doesn't run; for a fairseq checkpoint use `wavconformer convert`."
        ) from error
    if not isinstance(content, Mapping) or not all(isinstance(tensor, Tensor) for tensor in content.values()):
        raise CheckpointError(
            f"{path} holds more than tensors by name; for a fairseq checkpoint use `wavconformer convert`."
        )
    yield loaded(content)


def loaded(tensors: Mapping[str, Tensor]) -> dict[str, LazyTensor]:
    """Tensors in memory, as if in a file."""
    return {str(name): _Loaded(tensor) for name, tensor in tensors.items()}


# --- writing


def save_weights(
    tensors: Mapping[str, Tensor], folder: Path, max_shard_size: int | str = "5GB", filename: str = SAFETENSORS
) -> list[Path]:
    """Writes tensors as one safetensors file, or as shards of at most that size with their index; returns the paths."""
    stem = filename.removesuffix(".safetensors")
    limit = parse_size(max_shard_size)
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        if shards[-1] and size + tensor.nbytes > limit:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes
    if len(shards) == 1:
        names = [filename]
    else:
        names = [f"{stem}-{number:05d}-of-{len(shards):05d}.safetensors" for number in range(1, len(shards) + 1)]
    for name, shard in zip(names, shards, strict=True):
        save_tensors(shard, folder / name)
    written = [folder / name for name in names]
    if len(shards) > 1:
        index = folder / f"{filename}.index.json"
        weight_map = {key: name for name, shard in zip(names, shards, strict=True) for key in shard}
        total = sum(tensor.nbytes for tensor in tensors.values())
        write_json(index, {"metadata": {"total_size": total}, "weight_map": weight_map})
        written.append(index)
    return written


def remove_other_weights(folder: Path, keep: set[str]) -> None:
    """Removes weight files that an earlier save left under other names, so that one checkpoint is there, not two."""
    indices = tuple(f"{name}.index.json" for name in WEIGHTS)
    for path in folder.iterdir():
        is_weights = path.name in (*WEIGHTS, *indices) or _SHARD.fullmatch(path.name)
        if is_weights and path.name not in keep:
            path.unlink()


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Writes one safetensors file, whole or not at all."""
    with atomic(path) as temporary:
        save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, temporary, {"format": "pt"})


def parse_size(size: int | str) -> int:
    """Bytes of a size such as "500MB" or "5GB"; ValueError for what is none."""
    if isinstance(size, int):
        number, unit = float(size), ""
    else:
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", size)
        number, unit = (float(match[1]), match[2].upper()) if match else (0.0, "?")
    if unit not in _UNITS or number <= 0:
        raise ValueError(f"{size!r} is no size of a file: give bytes, or a number and one of {', '.join(_UNITS)[2:]}.")
    return int(number * _UNITS[unit])
