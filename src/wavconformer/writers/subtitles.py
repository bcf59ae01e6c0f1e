"""Subtitles: SubRip (.srt) and WebVTT (.vtt, W3C)."""

from __future__ import annotations

import html

from wavconformer.decoding.transcript import Transcript
from wavconformer.writers.captions import captions


def srt(transcript: Transcript) -> str:
    """A transcript as SubRip."""
    blocks = (
        f"{number}\n{_clock(caption.start, ',')} --> {_clock(caption.end, ',')}\n" + "\n".join(caption.lines) + "\n"
        for number, caption in enumerate(captions(transcript), 1)
    )
    return "\n".join(blocks)


def vtt(transcript: Transcript) -> str:
    """A transcript as WebVTT."""
    blocks = (
        f"{_clock(caption.start, '.')} --> {_clock(caption.end, '.')}\n"
        + "\n".join(html.escape(line, quote=False) for line in caption.lines)
        + "\n"
        for caption in captions(transcript)
    )
    return "\n".join(["WEBVTT\n", *blocks])


def _clock(seconds: float, mark: str) -> str:
    """Hours, minutes, seconds and milliseconds, as 00:00:01.500."""
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}{mark}{milliseconds:03}"
