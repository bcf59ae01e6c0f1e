"""Hypotheses that exist already, matched to the utterances that they are of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from wavconformer.data.sources.table import COLUMNS, rows
from wavconformer.data.utterance import Utterance
from wavconformer.errors import DataError

_TABLES = (".jsonl", ".csv", ".tsv")
_VALUES = ("hypothesis", "output", "prediction", *COLUMNS["text"], *COLUMNS["label"])
_NAMES = (*COLUMNS["id"], *COLUMNS["audio"])


def read_hypotheses(path: str | Path) -> dict[str, str]:
    """Hypotheses by the name of what they are of, an id or a file.

    path: a .jsonl, .csv or .tsv file with a column of names (`id`, `audio`, `file` …) and one of hypotheses
    (`hypothesis`, `text`, `label` …), as `evaluate` writes it; or lines of a name, a tab and the text, without a first
    line of titles, as `transcribe` prints them.

    Raises DataError where it is neither, or names something twice.
    """
    path = Path(path)
    if path.suffix.lower() in _TABLES and _has_titles(path):
        found = []
        for where, row in rows(path):
            name = next((row[key] for key in _NAMES if row.get(key) is not None), None)
            value = next((row[key] for key in _VALUES if row.get(key) is not None), None)
            if name is None or value is None:
                raise DataError(
                    f"{where}: needs a name ({', '.join(_NAMES)}) and a hypothesis "
                    f"({', '.join(_VALUES)}); it has {', '.join(map(str, row))}."
                )
            found.append((str(name), str(value)))
    else:
        found = [_pair(path, number, line) for number, line in enumerate(_lines(path), 1) if line.strip()]
    twice = next((name for name, count in Counter(name for name, _ in found).items() if count > 1), None)
    if twice is not None:
        raise DataError(f"'{path}' has two hypotheses for '{twice}'.")
    return dict(found)


def match(hypotheses: Mapping[str, str], utterances: Sequence[Utterance]) -> tuple[dict[str, str], list[str]]:
    """The hypotheses by utterance id, and the names that no utterance has, as `ids_by_name` has them.

    Raises DataError where two names mean one utterance.
    """
    known = ids_by_name(utterances)
    matched: dict[str, str] = {}
    foreign = []
    for name, value in hypotheses.items():
        identifier = known.get(name)
        if identifier is None:
            foreign.append(name)
        elif identifier in matched:
            raise DataError(f"There are two hypotheses for the utterance '{identifier}', one of them as '{name}'.")
        else:
            matched[identifier] = value
    return matched, foreign


def ids_by_name(utterances: Sequence[Utterance]) -> dict[str, str]:
    """The names that utterances go by, and their ids: these, the audio's path, its last part, and its stem.

    The last three only where one utterance alone goes by it.
    """
    known: dict[str, str] = {}
    files = [(Path(one.audio), one.id) for one in utterances if isinstance(one.audio, str)]
    for name in (lambda path: path.stem, lambda path: path.name, str):
        counts = Counter(name(path) for path, _ in files)
        known.update((name(path), identifier) for path, identifier in files if counts[name(path)] == 1)
    known.update((utterance.id, utterance.id) for utterance in utterances)
    return known


def _has_titles(path: Path) -> bool:
    if path.suffix.lower() == ".jsonl":
        return True
    first = next(iter(_lines(path)), "")
    titles = first.split("\t" if path.suffix.lower() == ".tsv" else ",")
    return any(title.strip() in _NAMES for title in titles)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"'{path}' isn't UTF-8: {error.reason} at byte {error.start}.") from error


def _pair(path: Path, number: int, line: str) -> tuple[str, str]:
    name, tab, text = line.partition("\t")
    if not tab:
        raise DataError(f"'{path}', line {number}: not a name, a tab and a text.")
    return name, text
