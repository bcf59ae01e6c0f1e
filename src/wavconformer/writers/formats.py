"""The formats by name, and files of them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from itertools import groupby
from pathlib import Path

from wavconformer.decoding.transcript import Transcript
from wavconformer.files import write_text
from wavconformer.writers.page import page
from wavconformer.writers.subtitles import srt, vtt
from wavconformer.writers.tables import ctm, tsv
from wavconformer.writers.textgrid import textgrid

UNKNOWN = "?"
"""Stands for a speaker whom nobody knows."""


def _txt(transcript: Transcript, name: str) -> str:
    """All of the text in one line; a line for each speaker's turn to speak, where that is known."""
    if not transcript.turns:
        return transcript.text + "\n"
    runs = groupby(transcript.segments, key=lambda segment: segment.speaker)
    return "".join(f"{speaker or UNKNOWN}: {' '.join(segment.text for segment in run)}\n" for speaker, run in runs)


def _json(transcript: Transcript, name: str) -> str:
    return json.dumps({"file": name, **transcript.as_dict()}, ensure_ascii=False) + "\n"


_WRITERS: dict[str, Callable[[Transcript, str], str]] = {
    "txt": _txt,
    "json": _json,
    "srt": lambda transcript, name: srt(transcript),
    "vtt": lambda transcript, name: vtt(transcript),
    "tsv": lambda transcript, name: tsv(transcript),
    "ctm": ctm,
    "TextGrid": lambda transcript, name: textgrid(transcript),
}
FORMATS = (*_WRITERS, "html")
"""Names of the formats, which are the files' suffixes too."""


def render(
    transcript: Transcript,
    format: str,
    *,
    name: str = "recording",
    audio: str | os.PathLike[str] | bytes | None = None,
    embed: bool | None = None,
    folder: Path | None = None,
) -> str:
    """A transcript as text in one of the `FORMATS`, with a newline at the end.

    name: what the recording is called. audio, embed, folder: for html alone, as `page` takes them.

    Raises ValueError for another format, AudioError where `audio` can't be read.
    """
    if format == "html":
        return page(transcript, name, audio=audio, embed=embed, folder=folder)
    if format not in _WRITERS:
        raise ValueError(f"format is {format!r}, but must be one of {', '.join(FORMATS)}.")
    return _WRITERS[format](transcript, name)


def save_transcript(
    transcript: Transcript,
    path: str | os.PathLike[str],
    *,
    name: str | None = None,
    audio: str | os.PathLike[str] | bytes | None = None,
    embed: bool | None = None,
) -> Path:
    """Writes a transcript to a file, whole or not at all, in the format that its suffix names; returns the path.

    The other arguments are those of `render`; the recording is called as the file is, unless a name is given.
    """
    path = Path(path)
    names = {known.lower(): known for known in FORMATS}
    suffix = path.suffix.removeprefix(".")
    format = names.get(suffix.lower(), suffix)
    write_text(path, render(transcript, format, name=name or path.stem, audio=audio, embed=embed, folder=path.parent))
    return path
