"""Folders of recordings, with transcripts beside them as LibriSpeech has them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from wavconformer.data.sources.lines import numbered
from wavconformer.data.utterance import Utterance
from wavconformer.errors import DataError

AUDIO_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("aac", "aif", "aiff", "amr", "au", "flac", "m4a", "mka", "mkv", "mp3", "mp4", "oga", "ogg", "opus", "sph"),
        *("wav", "webm", "wma", "wv"),
    )
)


def has_recordings(folder: Path) -> bool:
    """Whether a recording or a transcript lies anywhere in the folder."""
    return next(read_folder(folder), None) is not None


def read_folder(folder: Path) -> Iterator[Utterance]:
    """All recordings under a folder, folder by folder in the order of their names.

    A file `*.trans.txt` holds a line "id text" for each recording beside it; recordings without a line have no text.
    Where folders are laid out as speaker/chapter/speaker-chapter-number, the speaker is known too. A line without
    a recording makes an utterance all the same, whose file is then missed by whoever opens it.
    """
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        here = Path(place)
        texts = dict(_texts(here, sorted(name for name in names if name.endswith(".trans.txt"))))
        audio = sorted(
            name for name in names if Path(name).suffix.lower() in AUDIO_SUFFIXES and not name.startswith(".")
        )
        for name in audio:
            stem = Path(name).stem
            yield _utterance(folder, here / name, texts.pop(stem, None))
        suffix = Path(audio[0]).suffix if audio else ".flac"
        for stem, text in texts.items():
            yield _utterance(folder, here / f"{stem}{suffix}", text)


def _texts(folder: Path, names: list[str]) -> Iterator[tuple[str, str]]:
    for name in names:
        for number, line in numbered(folder / name):
            stem, _, text = line.partition(" ")
            if "/" in stem:
                raise DataError(f"'{folder / name}', line {number}: '{stem}' is no name of a recording beside it.")
            yield stem, text.strip()


def _utterance(folder: Path, path: Path, text: str | None) -> Utterance:
    speaker, chapter = path.parent.parent.name, path.parent.name
    in_layout = path.stem.startswith(f"{speaker}-{chapter}-")
    name = path.stem if in_layout else str(path.relative_to(folder).with_suffix(""))
    return Utterance(id=name, audio=str(path), text=text, speaker=speaker if in_layout else None)
