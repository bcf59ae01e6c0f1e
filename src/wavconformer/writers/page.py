"""A page to look at and listen to: one HTML file that asks nobody for anything."""

from __future__ import annotations

import base64
import html
import json
import os
import re
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

import numpy as np

from wavconformer.audio import SAMPLE_RATE, stream_audio
from wavconformer.audio.peaks import peaks
from wavconformer.decoding.transcript import Transcript

PEAKS_PER_SECOND = 50
UNSURE = 0.8
"""Words of a lower probability are marked."""
EMBEDDED_BYTES = 8 * 2**20
"""Recordings up to this size are put into the page, unless it is said otherwise; it refers to larger ones."""
# What browsers play, by suffix.
_TYPES = {
    ".aac": "audio/aac",
    ".flac": "audio/flac",
    ".m4a": "audio/mp4",
    ".mp3": "audio/mpeg",
    ".mp4": "audio/mp4",
    ".oga": "audio/ogg",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
    ".wav": "audio/wav",
    ".webm": "audio/webm",
}


def page(
    transcript: Transcript,
    name: str,
    *,
    audio: str | os.PathLike[str] | bytes | None = None,
    embed: bool | None = None,
    folder: Path | None = None,
) -> str:
    """The transcript with the recording's outline, a lane for each speaker, words or turns to click, and a player.

    name: the heading. audio: the recording's path or its bytes; without it there are the words alone.
    embed: whether it is put into the page, by default where it has at most 8 MiB; else the page refers to its path.
    folder: where the page will lie, which that path starts from; the working directory by default.

    Raises AudioError where `audio` can't be read, ValueError where bytes, which have no path, aren't to be embedded.
    """
    outline = np.zeros(0, np.uint8)
    if audio is not None:
        blocks = stream_audio(audio, on_loss=lambda message: None)  # the transcript tells of it
        outline = peaks(blocks, SAMPLE_RATE // PEAKS_PER_SECOND)
    data = {
        "duration": transcript.duration,
        "unsure": UNSURE,
        "peaksPerSecond": PEAKS_PER_SECOND,
        "peaks": base64.b64encode(outline.tobytes()).decode("ascii"),
        "segments": [
            [[word.text, word.start, word.end, word.probability] for word in segment.words]
            for segment in transcript.segments
        ],
        "speakers": [segment.speaker for segment in transcript.segments],
        "turns": [[turn.start, turn.end, turn.speaker] for turn in transcript.turns],
    }
    parts = {
        "title": html.escape(Path(name).name),
        "source": "" if audio is None else html.escape(_source(audio, embed, folder)),
        "problems": "".join(f"<p class=problem>{html.escape(problem)}</p>" for problem in transcript.problems),
        # "<" would end the script that the data stand in.
        "data": json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"),
    }
    template = (files("wavconformer.writers") / "page.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda mark: parts[mark[1]], template)


def _source(audio: str | os.PathLike[str] | bytes, embed: bool | None, folder: Path | None) -> str:
    """What the player plays: the recording itself, or where it lies."""
    if isinstance(audio, bytes):
        if embed is False:
            raise ValueError("embed=False needs the recording's path, so that the page can refer to it, not its bytes.")
        content, kind = audio, "audio/*"
    else:
        path = Path(audio)
        if not (_is_small(path) if embed is None else embed):
            return quote(Path(os.path.relpath(path, folder or Path())).as_posix())
        content, kind = path.read_bytes(), _TYPES.get(path.suffix.lower(), "audio/*")
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _is_small(path: Path) -> bool:
    return path.stat().st_size <= EMBEDDED_BYTES and path.suffix.lower() in _TYPES
