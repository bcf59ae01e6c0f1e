"""Hugging Face `datasets`, as parquet or saved to disk, read with pyarrow."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wavconformer.data.utterance import Utterance
from wavconformer.errors import DataError

# What the columns are called in published sets, the first that is there counts.
_NAMES = {
    "id": ("id", "utt_id", "segment_id"),
    "audio": ("audio", "file", "path"),
    "text": ("text", "sentence", "transcription", "transcript", "normalized_text"),
    "speaker": ("speaker", "speaker_id", "client_id"),
    "label": ("label", "labels"),
}
_ROWS = 16  # at once, as each holds a whole recording


def read_parquet(files: list[Path]) -> Iterator[Utterance]:
    """The utterances of parquet files, in their order.

    Columns: audio (bytes and path, or either), text or sentence or transcription, speaker or speaker_id, label, id.
    Numbers of a ClassLabel become its names. Recordings that lie in the file come as bytes.
    """
    parquet = _pyarrow("pyarrow.parquet", files[0])
    number = 0
    for path in files:
        try:
            with parquet.ParquetFile(path) as file:
                columns = _columns(file.schema_arrow, path)
                for batch in file.iter_batches(_ROWS, columns=list(columns.values())):
                    yield from _utterances(batch, columns, path, number)
                    number += batch.num_rows
        except (OSError, ValueError) as error:  # pyarrow's own errors are of these kinds
            raise DataError(f"'{path}' can't be read as parquet ({_first(error)}).") from error


def count_parquet(files: list[Path]) -> int:
    """How many rows the files have, by what they say at their ends."""
    parquet = _pyarrow("pyarrow.parquet", files[0])
    total = 0
    for path in files:
        try:
            total += int(parquet.read_metadata(path).num_rows)
        except (OSError, ValueError) as error:
            raise DataError(f"'{path}' can't be read as parquet ({_first(error)}).") from error
    return total


def read_saved(folder: Path) -> Iterator[Utterance]:
    """The utterances of a dataset that `save_to_disk` wrote."""
    arrow = _pyarrow("pyarrow", folder)
    number = 0
    for path in saved_files(folder):
        try:
            with arrow.memory_map(str(path)) as mapped, arrow.ipc.open_stream(mapped) as stream:
                columns = _columns(stream.schema, path)
                for whole in stream:
                    for first in range(0, whole.num_rows, _ROWS):
                        batch = whole.slice(first, _ROWS)
                        yield from _utterances(batch, columns, path, number)
                        number += batch.num_rows
        except (OSError, ValueError) as error:
            raise DataError(f"'{path}' can't be read as Arrow data ({_first(error)}).") from error


def count_saved(folder: Path) -> int:
    """How many rows a dataset saved to disk has; the recordings aren't looked at."""
    arrow = _pyarrow("pyarrow", folder)
    count = 0
    for path in saved_files(folder):
        try:
            with arrow.memory_map(str(path)) as mapped, arrow.ipc.open_stream(mapped) as stream:
                count += sum(batch.num_rows for batch in stream)
        except (OSError, ValueError) as error:
            raise DataError(f"'{path}' can't be read as Arrow data ({_first(error)}).") from error
    return count


def saved_files(folder: Path) -> list[Path]:
    """The data files of a dataset saved to disk, in order."""
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        files = [folder / entry["filename"] for entry in state["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"'{folder}' was saved by `datasets`, but its state.json can't be read ({error!r}).") from error
    if state.get("_indices_data_files"):
        raise DataError(f"'{folder}' is a selection of its rows: call flatten_indices() and save it again.")
    if not files:
        raise DataError(f"'{folder}' is a dataset without data.")
    return files


def _pyarrow(module: str, path: Path) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DataError(f"'{path}' needs pyarrow to be read: pip install 'wavconformer[train]'.") from error


def _columns(schema: Any, path: Path) -> dict[str, str]:
    """Of each thing that is there, the name of its column."""
    found = {
        key: next(name for name in names if name in schema.names)
        for key, names in _NAMES.items()
        if any(name in schema.names for name in names)
    }
    if "audio" not in found:
        raise DataError(f"'{path}' has no column 'audio', only {', '.join(schema.names)}.")
    return found


def _utterances(batch: Any, columns: dict[str, str], path: Path, number: int) -> Iterator[Utterance]:
    names = _class_names(batch.schema, columns.get("label"))
    values = {key: batch.column(name).to_pylist() for key, name in columns.items()}
    for row in range(batch.num_rows):
        given = {key: column[row] for key, column in values.items()}
        audio, stem = _audio(given.pop("audio"), path)
        label = given.get("label")
        if names and isinstance(label, int):
            given["label"] = names[label] if 0 <= label < len(names) else None  # -1 is no label
        texts = {key: None if value is None else str(value) for key, value in given.items()}
        texts["id"] = texts.get("id") or f"{stem or 'row'}-{number + row:07d}"
        yield Utterance(audio=audio, **texts)  # type: ignore[arg-type]


def _audio(value: Any, path: Path) -> tuple[str | bytes, str]:
    """The recording of a row, and its name as far as that is known."""
    given = value if isinstance(value, dict) else {"path" if isinstance(value, str) else "bytes": value}
    data, name = given.get("bytes"), given.get("path")
    stem = Path(name).stem if isinstance(name, str) else ""
    if isinstance(data, bytes):
        return data, stem
    if isinstance(name, str) and name:
        return str(path.parent / name), stem
    return b"", stem  # nothing there: whoever opens it says so, and the other rows go on


def _class_names(schema: Any, column: str | None) -> list[str]:
    """Names of a ClassLabel, as `datasets` keeps them beside the columns; empty for none."""
    metadata = (schema.metadata or {}).get(b"huggingface")
    if metadata is None or column is None:
        return []
    try:
        feature = json.loads(metadata)["info"]["features"][column]
    except (ValueError, KeyError, TypeError):
        return []
    names = feature.get("names") if isinstance(feature, dict) else None
    return [str(name) for name in names] if isinstance(names, list) else []


def _first(error: BaseException) -> str:
    return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
