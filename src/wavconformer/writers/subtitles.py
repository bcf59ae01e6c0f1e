"""Subtitles: SubRip (.srt) and WebVTT (.vtt, W3C)."""

from __future__ import annotations

import html

from wavconformer.decoding.transcript import Transcript
from wavconformer.writers.captions import captions


def srt(transcript: Transcript) -> str:
    """A transcript as SubRip; a caption whose speaker is known begins with the name, in brackets."""
    blocks = (
        f"{number}\n{_clock(caption.start, ',')} --> {_clock(caption.end, ',')}\n"
        + ("" if caption.speaker is None else f"[{caption.speaker}] ")
        + "\n".join(caption.lines)
        + "\n"
        for number, caption in enumerate(captions(transcript), 1)
    )
    return "\n".join(blocks)


def vtt(transcript: Transcript) -> str:
    """A transcript as WebVTT; a caption whose speaker is known has a voice span (W3C WebVTT, section 4.2.2)."""
    blocks = (
        f"{_clock(caption.start, '.')} --> {_clock(caption.end, '.')}\n"
        + ("" if caption.speaker is None else f"<v {html.escape(caption.speaker)}>")
        + "\n".join(html.escape(line, quote=False) for line in caption.lines)
        + "\n"
        for caption in captions(transcript)
    )
    return "\n".join(["WEBVTT\n", *blocks])


def _clock(seconds: float, mark: str) -> str:
    """Hours, minutes, seconds and milliseconds, as 00:00:01.500."""
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}{mark}{milliseconds:03}"
