"""What is evaluated on: a manifest, a folder in LibriSpeech's layout, or a set of LibriSpeech by name."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wavconformer.errors import DataError

# What a manifest may call its columns; the first name is ours.
COLUMNS: dict[str, tuple[str, ...]] = {
    "id": ("id", "utterance"),
    "audio": ("audio", "file", "path", "audio_filepath"),
    "text": ("text", "transcript", "sentence"),
    "speaker": ("speaker", "speaker_id", "client_id"),
    "label": ("label",),
    "start": ("start",),
    "end": ("end",),
}
DELIMITERS = {".tsv": "\t", ".csv": ","}
MANIFESTS = (*DELIMITERS, ".jsonl")
AUDIO_SUFFIXES = (".flac", ".wav", ".mp3", ".ogg", ".opus", ".m4a")
LIBRISPEECH = "librispeech:"


@dataclass(frozen=True)
class Utterance:
    """A recording, or a part of one, and what is known of it.

    id: unique in its data set. audio: path of the recording. start, end: the part in seconds, None for the
    recording's edges. text: what is said. label: its class. others: the manifest's further columns, to group by.
    """

    id: str
    audio: Path
    start: float | None = None
    end: float | None = None
    text: str | None = None
    speaker: str | None = None
    label: str | None = None
    others: Mapping[str, str] = field(default_factory=dict)

    def group(self, column: str) -> str | None:
        """What the utterance has in a column that scores are broken down by."""
        value = getattr(self, column) if column in ("speaker", "label") else self.others.get(column)
        return value if value is None else str(value)


def locate(data: str | Path, root: str | Path | None = None) -> Path:
    """The manifest or folder that `data` names.

    data: a path, or "librispeech:test-clean" for a set of LibriSpeech below `root`, the current folder by default.

    Raises DataError that says what was looked for where there is no such place.
    """
    name = str(data)
    if name.startswith(LIBRISPEECH):
        subset = name.removeprefix(LIBRISPEECH)
        base = Path(root or ".")
        places = [base / subset, base / "LibriSpeech" / subset]
        found = next((place for place in places if subset and place.is_dir()), None)
        if found is None:
            looked = " and ".join(f"'{place}'" for place in places)
            raise DataError(
                f"LibriSpeech's {subset or 'set'} isn't there: looked for {looked}. Unpack {subset or 'it'}.tar.gz "
                "from openslr.org/12 and name with --root the folder that holds it or its LibriSpeech folder."
            )
        return found
    path = Path(root, name) if root is not None and not Path(name).exists() else Path(name)
    if not path.exists():
        raise DataError(
            f"'{path}' doesn't exist. Give a manifest ({', '.join(MANIFESTS)}), a folder in LibriSpeech's layout, or "
            f"{LIBRISPEECH}test-clean with --root."
        )
    return path


def utterances(path: str | Path) -> Iterator[Utterance]:
    """The utterances of a manifest, in its order, or of a folder in LibriSpeech's layout, sorted by id.

    path: a .jsonl, .csv or .tsv file whose columns are named as in `COLUMNS`, the audio's path relative to it; or a
    folder with transcripts `<speaker>/<chapter>/*.trans.txt` and the recordings beside them.

    Recordings aren't opened. Raises DataError, with file and line, where a manifest can't be used: no audio column,
    an id twice, times that aren't numbers or don't follow each other.
    """
    path = Path(path)
    found = _librispeech(path) if path.is_dir() else _manifest(path)
    seen: set[str] = set()
    for utterance in found:
        if utterance.id in seen:
            raise DataError(
                f"'{path}' has the utterance '{utterance.id}' twice: give each an id of its own, in a column 'id'."
            )
        seen.add(utterance.id)
        yield utterance
    if not seen:
        wanted = "no *.trans.txt with lines in it" if path.is_dir() else "no utterances"
        raise DataError(f"'{path}' holds {wanted}.")


def rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a .jsonl, .csv or .tsv file by column, each with the number of its line.

    Raises DataError where the file can't be read as such.
    """
    suffix = path.suffix.lower()
    if suffix not in MANIFESTS:
        raise DataError(f"'{path}' is no manifest by its name: it must end in {', '.join(MANIFESTS)}.")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if suffix == ".jsonl":
                yield from _json_rows(path, file)
            else:
                delimiter = DELIMITERS[suffix]
                if suffix == ".tsv":  # where a quote is part of the text
                    reader = csv.DictReader(file, delimiter=delimiter, quoting=csv.QUOTE_NONE)
                else:
                    reader = csv.DictReader(file, delimiter=delimiter)
                for row in reader:
                    if None in row:
                        raise DataError(f"'{path}', line {reader.line_num}: more fields than the first line names.")
                    yield reader.line_num, row
    except UnicodeDecodeError as error:
        raise DataError(f"'{path}' isn't UTF-8: {error.reason} at byte {error.start}.") from error
    except csv.Error as error:
        raise DataError(f"'{path}' can't be read: {error}.") from error


def _json_rows(path: Path, file: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"'{path}', line {number}: not valid JSON: {error}.") from error
        if not isinstance(row, dict):
            raise DataError(f"'{path}', line {number}: not an object with names and values.")
        yield number, row


def column(row: Mapping[str, Any], name: str) -> Any:
    """What a row has under one of a column's names; None for nothing or an empty field."""
    found = next((row[alias] for alias in COLUMNS[name] if row.get(alias) is not None), None)
    return None if found == "" and name != "text" else found


def _manifest(path: Path) -> Iterator[Utterance]:
    known = {alias for names in COLUMNS.values() for alias in names}
    for number, row in rows(path):
        where = f"'{path}', line {number}"
        audio, text = column(row, "audio"), column(row, "text")
        if not isinstance(audio, str):
            raise DataError(f"{where}: no audio; the columns are {', '.join(map(str, row))}. Name one 'audio'.")
        start, end = _seconds(row, "start", where), _seconds(row, "end", where)
        if end is not None and end <= (start or 0.0):
            raise DataError(f"{where}: the end, {end:g} s, isn't after the start, {start or 0:g} s.")
        part = "" if start is None and end is None else f"#{start or 0:g}-{'' if end is None else format(end, 'g')}"
        identifier = column(row, "id")
        yield Utterance(
            id=f"{audio}{part}" if identifier is None else str(identifier),
            audio=path.parent / audio,
            start=start,
            end=end,
            text=None if text is None else str(text),
            speaker=_text(column(row, "speaker")),
            label=_text(column(row, "label")),
            others={key: str(value) for key, value in row.items() if key not in known and value is not None},
        )


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _seconds(row: Mapping[str, Any], name: str, where: str) -> float | None:
    value = column(row, name)
    if value is None:
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise DataError(f"{where}: {name} is {value!r}, but must be seconds from the recording's start.")
    return seconds


def _librispeech(folder: Path) -> Iterator[Utterance]:
    transcripts = sorted(folder.rglob("*.trans.txt"))
    if not transcripts:
        raise DataError(
            f"The folder '{folder}' isn't in LibriSpeech's layout: no <speaker>/<chapter>/*.trans.txt below it. "
            "Make a manifest with the columns audio and text, and give that."
        )
    for transcript in transcripts:
        place = transcript.parent
        speaker = transcript.resolve().parent.parent.name
        recordings = {file.stem: file for file in sorted(place.iterdir()) if file.suffix.lower() in AUDIO_SUFFIXES}
        for line in transcript.read_text(encoding="utf-8").splitlines():
            identifier, _, text = line.strip().partition(" ")
            if identifier:
                # One that is missing is told of when it is to be opened, as any other that can't be read.
                audio = recordings.get(identifier, place / f"{identifier}.flac")
                yield Utterance(identifier, audio, text=text.strip(), speaker=speaker)
