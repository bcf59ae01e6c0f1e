"""Who speaks when, as text: RTTM (NIST's rich transcription), JSON, lines to read, and a page to look at."""

from __future__ import annotations

import json
import os
from pathlib import Path

from wavconformer.data.rttm import Turn, rttm_text
from wavconformer.decoding.diarization import Diarization
from wavconformer.writers.page import page

DIARIZATION_FORMATS = ("txt", "json", "rttm", "html")
"""Names of the formats, which are the files' suffixes too."""


def render_diarization(
    diarization: Diarization,
    format: str,
    *,
    name: str = "recording",
    audio: str | os.PathLike[str] | bytes | None = None,
    embed: bool | None = None,
    folder: Path | None = None,
) -> str:
    """A diarization as text in one of the `DIARIZATION_FORMATS`, with a newline at the end.

    name: what the recording is called. audio, embed, folder: for html alone, as `page` takes them.

    Raises ValueError for another format, AudioError where `audio` can't be read.
    """
    if format == "html":
        return page(diarization.as_transcript(), name, audio=audio, embed=embed, folder=folder)
    if format == "json":
        return json.dumps({"file": name, **diarization.as_dict()}, ensure_ascii=False) + "\n"
    if format == "rttm":
        return rttm(diarization, name)
    if format != "txt":
        raise ValueError(f"format is {format!r}, but must be one of {', '.join(DIARIZATION_FORMATS)}.")
    return "".join(f"{turn.start:.2f}\t{turn.end:.2f}\t{turn.speaker}\n" for turn in diarization.turns)


def rttm(diarization: Diarization, name: str) -> str:
    """Lines SPEAKER of RTTM; of the recording's name folder and suffix don't count, and spaces become underscores."""
    recording = "_".join(Path(name).stem.split()) or "recording"
    return rttm_text(
        Turn(recording, turn.start, turn.end, "_".join(turn.speaker.split())) for turn in diarization.turns
    )
