"""What is evaluated on: any corpus that `wavconformer.data` reads, or a set of LibriSpeech by name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from wavconformer.data.manifest import open_manifest
from wavconformer.data.utterance import Utterance
from wavconformer.errors import DataError

LIBRISPEECH = "librispeech:"


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
            f"'{path}' doesn't exist. Give a manifest (.jsonl, .csv, .tsv), the folder of a corpus, or "
            f"{LIBRISPEECH}test-clean with --root."
        )
    return path


def utterances(path: str | Path) -> Iterator[Utterance]:
    """The utterances of a corpus, in its order: a table, a folder in LibriSpeech's layout, or what else is known.

    In a folder with transcripts, recordings without one are left out. Recordings aren't opened. Raises DataError, with
    file and line, where it can't be used: no audio column, an id twice, times that aren't numbers.
    """
    place = Path(path)
    seen: set[str] = set()
    found = list(open_manifest(place))
    if place.is_dir() and any(one.text is not None for one in found):
        found = [one for one in found if one.text is not None]
    for utterance in found:
        if utterance.id in seen:
            raise DataError(
                f"'{path}' has the utterance '{utterance.id}' twice: give each an id of its own, in a column 'id'."
            )
        seen.add(utterance.id)
        yield utterance
    if not seen:
        raise DataError(f"'{path}' holds no utterances.")
