"""Manifests with a line for each utterance: CSV, TSV, and JSONL, which is our own too."""

from __future__ import annotations

import csv
import difflib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from wavconformer.errors import DataError
from wavconformer.training.sources.lines import check_stretch, number_of, numbered, opened
from wavconformer.training.utterance import Utterance

COLUMNS = ("id", "audio", "text", "speaker", "label", "start", "end")


def read_table(path: Path) -> Iterator[Utterance]:
    """The utterances of a CSV or TSV file, whose first line names the columns.

    Columns: audio, and as far as there are id, text, speaker, label, start, end; others are left alone. Paths are
    as seen from the manifest. Raises DataError with the line's number for one that can't be used.
    """
    is_tsv = ".tsv" in path.suffixes
    with opened(path) as file:
        # Tab-separated texts are seldom quoted, and hold quotation marks of their own.
        rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if is_tsv else csv.reader(file, strict=True)
        try:
            header = [name.strip().lower() for name in next(rows, [])]
            _check_header(header, path)
            for row in rows:
                where = f"'{path}', line {rows.line_num}"
                if not any(row):
                    continue
                if len(row) != len(header):
                    raise DataError(f"{where}: {len(row)} fields, but the first line names {len(header)} columns.")
                yield utterance_of(dict(zip(header, row, strict=True)), path.parent, where)
        except (csv.Error, UnicodeDecodeError) as error:
            raise DataError(f"'{path}', line {rows.line_num}: can't be read as CSV ({error}).") from error


def read_jsonl(path: Path) -> Iterator[Utterance]:
    """The utterances of a file with a JSON object in each line, with keys as `read_table` has columns."""
    for number, line in numbered(path):
        yield utterance_of_line(line, path.parent, f"'{path}', line {number}")


def utterance_of_line(line: str | bytes, folder: Path, where: str) -> Utterance:
    """The utterance of one line of JSON; DataError where it is none."""
    try:
        row = json.loads(line)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{where}: no valid JSON ({error}).") from error
    if not isinstance(row, dict):
        raise DataError(f"{where}: no JSON object, but {str(line)[:40]!r}.")
    return utterance_of(row, folder, where)


def utterance_of(row: Mapping[str, Any], folder: Path, where: str) -> Utterance:
    """The utterance that a row describes; DataError where it says no audio, or no number where there must be one."""
    audio = row.get("audio")
    if not isinstance(audio, str) or not audio:
        near = difflib.get_close_matches("audio", row, n=1, cutoff=0.5) or ["nothing like it"]
        raise DataError(f"{where}: 'audio' must be the path of a recording; there is {near[0]}.")
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
        text=_text(row, "text", where),
        speaker=_text(row, "speaker", where),
        label=_text(row, "label", where),
        seconds=number_of(row.get("seconds"), f"{where}: seconds"),
        offset=_bytes(row, "offset", where),
        size=_bytes(row, "size", where),
    )


def _text(row: Mapping[str, Any], key: str, where: str) -> str | None:
    value = row.get(key)
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


def _check_header(header: list[str], path: Path) -> None:
    if "audio" not in header:
        found = f"it names {', '.join(map(repr, header))}" if header else "it is empty"
        raise DataError(
            f"'{path}': its first line must name the columns, 'audio' among them, of {', '.join(COLUMNS)}; {found}."
        )
    twice = {name for name in header if header.count(name) > 1 and name in COLUMNS}
    if twice:
        raise DataError(f"'{path}': its first line names {', '.join(sorted(twice))} twice.")
