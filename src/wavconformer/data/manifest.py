"""Whatever a corpus comes as, opened as one stream of utterances."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from wavconformer.data.sources import arrow, cuts, folder, kaldi, table
from wavconformer.data.sources.lines import numbered
from wavconformer.data.utterance import Utterance
from wavconformer.errors import DataError

MANIFEST_FILE = "manifest.jsonl"

_KINDS = f"""\
{MANIFEST_FILE} (what `wavconformer prepare` writes), wav.scp (Kaldi), cuts.*.jsonl.gz with recording.*.tar (lhotse \
Shar), a *cuts*.jsonl.gz or *recordings*.jsonl.gz (lhotse), state.json (a Hugging Face dataset saved to disk), \
*.parquet, and recordings such as *.wav or *.flac, with or without *.trans.txt (LibriSpeech)"""


@dataclass(frozen=True)
class Manifest:
    """A corpus that was found, and how to read it.

    kind: what it comes as. path: where it is. read: starts a stream of its utterances. count: how many there are,
    without any of the sound.
    """

    kind: str
    path: Path
    read: Callable[[], Iterator[Utterance]]
    count: Callable[[], int]

    def __iter__(self) -> Iterator[Utterance]:
        return self.read()


def open_manifest(path: str | os.PathLike[str]) -> Manifest:
    """The corpus at `path`, whatever it comes as: a file, or a folder with certain files in it.

    Nothing is read but what tells the kind. Raises DataError where it can't be told, with what was looked for.
    """
    place = Path(path)
    if place.is_dir():
        return _in_folder(place)
    if not place.is_file():
        raise DataError(f"There is no file or folder '{place}'. Give a manifest, or the folder of a corpus.")
    manifest = _in_file(place)
    if manifest is None:
        raise DataError(
            f"'{place}' is no manifest by its name: that of a table ends in .csv, .tsv or .jsonl, one of lhotse's in "
            ".jsonl or .jsonl.gz, one of Hugging Face datasets in .parquet."
        )
    return manifest


def _in_file(path: Path) -> Manifest | None:
    name = path.name.removesuffix(".gz")
    if name.endswith((".csv", ".tsv")):
        return _manifest(name[-3:].upper(), path, lambda: table.read_table(path))
    if name.endswith(".parquet"):
        return _parquet(path, [path])
    return _jsonl(path) if name.endswith((".jsonl", ".json")) else None


def _in_folder(place: Path) -> Manifest:
    if (place / MANIFEST_FILE).is_file():
        return _jsonl(place / MANIFEST_FILE)
    if (place / "wav.scp").is_file():
        return _manifest("Kaldi folder", place, lambda: kaldi.read_kaldi(place))
    if any(place.glob("cuts.*.jsonl*")) and any(place.glob("recording.*")):
        cuts.shar_files(place)
        return Manifest("lhotse Shar", place, lambda: cuts.read_shar(place), lambda: cuts.count_shar(place))
    for kind in ("cuts", "recordings"):
        files = sorted(file for file in place.glob(f"*{kind}*.jsonl*") if file.suffix in (".jsonl", ".gz"))
        if len(files) > 1:
            names = ", ".join(file.name for file in files[:5])
            raise DataError(f"'{place}' holds several manifests of {kind}: give one of {names}.")
        if files:
            return _jsonl(files[0])
    if (place / "dataset_dict.json").is_file():
        splits = ", ".join(sorted(file.parent.name for file in place.glob("*/state.json")))
        raise DataError(f"'{place}' holds several splits of a dataset: give one of its folders {splits}.")
    if (place / "state.json").is_file():
        return Manifest(
            "Hugging Face dataset", place, lambda: arrow.read_saved(place), lambda: arrow.count_saved(place)
        )
    files = sorted(place.glob("*.parquet"))
    if files:
        splits = ", ".join(sorted({file.name.rsplit("-of-")[0].rpartition("-")[0] for file in files} - {""}))
        if ", " in splits:
            raise DataError(f"'{place}' holds parquet files of several splits, {splits}: put each into its own folder.")
        return _parquet(place, files)
    if folder.has_recordings(place):
        return _manifest("folder of recordings", place, lambda: folder.read_folder(place))
    raise DataError(f"'{place}' holds nothing that is known as a corpus. Looked for: {_KINDS}.")


def _jsonl(path: Path) -> Manifest:
    """A table of ours, or one of lhotse's manifests, told by its first line."""
    _, line = next(numbered(path), (0, "{}"))
    try:
        item = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"'{path}', first line: no valid JSON ({error}).") from error
    kind = cuts.kind_of_item(item) if isinstance(item, dict) else None
    if kind == "cuts":
        return _manifest("lhotse cuts", path, lambda: cuts.read_cuts(path))
    if kind == "recordings":
        beside = path.with_name(path.name.replace("recordings", "supervisions"))
        supervisions = beside if beside != path and beside.is_file() else None
        return _manifest("lhotse recordings", path, lambda: cuts.read_recordings(path, supervisions))
    if kind == "supervisions":
        raise DataError(f"'{path}' holds supervisions: give the manifest of their recordings, or of cuts.")
    return _manifest("JSONL", path, lambda: table.read_table(path))


def _parquet(path: Path, files: list[Path]) -> Manifest:
    return Manifest("parquet", path, lambda: arrow.read_parquet(files), lambda: arrow.count_parquet(files))


def _manifest(kind: str, path: Path, read: Callable[[], Iterator[Utterance]]) -> Manifest:
    return Manifest(kind, path, read, lambda: sum(1 for _ in read()))
