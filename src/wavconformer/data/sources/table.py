"""Manifests with a line for each utterance: CSV, TSV, and JSONL, which is our own too."""

from __future__ import annotations

import csv
import difflib
import json
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from wavconformer.data.sources.lines import check_stretch, number_of, numbered, opened
from wavconformer.data.utterance import Utterance
from wavconformer.errors import DataError

COLUMNS: dict[str, tuple[str, ...]] = {
    "id": ("id", "utterance"),
    "audio": ("audio", "file", "path", "audio_filepath"),
    "text": ("text", "transcript", "sentence"),
    "speaker": ("speaker", "speaker_id", "client_id"),
    "label": ("label",),
    "start": ("start",),
    "end": ("end",),
}
"""What a table may call its columns; the first name is ours."""
_OURS = ("seconds", "offset", "size")  # what `prepare` adds
_KNOWN = {*_OURS, *(name for names in COLUMNS.values() for name in names)}


def rows(path: Path, required: Collection[str] = ()) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a CSV, TSV or JSONL file, by its name, as values by column; each with file and line for messages.

    required: columns of which the first line of a CSV or TSV must name one.

    Raises DataError where the file can't be read as such.
    """
    if path.name.removesuffix(".gz").endswith((".jsonl", ".json")):
        for number, line in numbered(path):
            where = f"'{path}', line {number}"
            yield where, _object(line, where)
        return
    is_tsv = ".tsv" in path.suffixes
    with opened(path) as file:
        # Tab-separated texts are seldom quoted, and hold quotation marks of their own.
        lines = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if is_tsv else csv.reader(file, strict=True)
        try:
            header = [name.strip().lower() for name in next(lines, [])]
            if required and not set(header) & set(required):
                found = f"it names {', '.join(map(repr, header))}" if header else "it is empty"
                raise DataError(
                    f"'{path}': its first line must name the columns, 'audio' among them, of {', '.join(COLUMNS)}; "
                    f"{found}."
                )
            twice = {name for name in header if header.count(name) > 1}
            if twice:
                raise DataError(f"'{path}': its first line names {', '.join(sorted(twice))} twice.")
            for fields in lines:
                where = f"'{path}', line {lines.line_num}"
                if not any(fields):
                    continue
                if len(fields) != len(header):
                    raise DataError(f"{where}: {len(fields)} fields, but the first line names {len(header)} columns.")
                yield where, dict(zip(header, fields, strict=True))
        except (csv.Error, UnicodeDecodeError) as error:
            raise DataError(f"'{path}', line {lines.line_num}: can't be read as CSV ({error}).") from error


def read_table(path: Path) -> Iterator[Utterance]:
    """The utterances of a CSV, TSV or JSONL file.

    Columns: audio, and as far as there are id, text, speaker, label, start, end, or what else `COLUMNS` calls them;
    others are kept as they are. Paths are as seen from the table. Raises DataError with the line's number for one that
    can't be used.
    """
    for where, row in rows(path, COLUMNS["audio"]):
        yield utterance_of(row, path.parent, where)


def utterance_of_line(line: str | bytes, folder: Path, where: str) -> Utterance:
    """The utterance of one line of JSON; DataError where it is none."""
    return utterance_of(_object(line, where), folder, where)


def _object(line: str | bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{where}: no valid JSON ({error}).") from error
    if not isinstance(row, dict):
        raise DataError(f"{where}: no JSON object, but {str(line)[:40]!r}.")
    return row


def utterance_of(row: Mapping[str, Any], folder: Path, where: str) -> Utterance:
    """The utterance that a row describes; DataError where it says no audio, or no number where there must be one."""
    audio = _value(row, "audio")
    if not isinstance(audio, str) or not audio:
        near = difflib.get_close_matches("audio", row, n=1, cutoff=0.5)
        found = near[0] if near else ", ".join(map(str, row)) or "nothing"
        raise DataError(f"{where}: 'audio' must be the path of a recording; there is {found}.")
    start = number_of(row.get("start"), f"{where}: start") or 0.0
    end = number_of(row.get("end"), f"{where}: end")
    check_stretch(start, end, where)
    name = _text(row, "id", where)
    if name is None:
        name = os.path.splitext(audio)[0]  # noqa: PTH122 (of the path as it is written)
        if start or end is not None:
            name += f"-{start:.2f}-{'' if end is None else f'{end:.2f}'}"
    return Utterance(
        id=name,
        audio=os.path.join(folder, audio),  # noqa: PTH118 (a million times over)
        start=start,
        end=end,
        text="" if _value(row, "text") == "" else _text(row, "text", where),  # silence, where it is said to be
        speaker=_text(row, "speaker", where),
        label=_text(row, "label", where),
        seconds=number_of(row.get("seconds"), f"{where}: seconds"),
        offset=_bytes(row, "offset", where),
        size=_bytes(row, "size", where),
        others={key: str(value) for key, value in row.items() if key not in _KNOWN and value not in (None, "")},
    )


def _value(row: Mapping[str, Any], column: str) -> Any:
    """What a row has under one of a column's names; None for nothing."""
    return next((row[name] for name in COLUMNS[column] if row.get(name) is not None), None)


def _text(row: Mapping[str, Any], key: str, where: str) -> str | None:
    value = _value(row, key)
    if value is None or value == "":
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise DataError(f"{where}: '{key}' must be text, not {value!r}.")
    return value


def _bytes(row: Mapping[str, Any], key: str, where: str) -> int | None:
    value = row.get(key)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
        raise DataError(f"{where}: '{key}' must be a number of bytes, not {value!r}.")
    return value
