"""A line for each word: tab-separated values, and NIST's CTM (of the scoring toolkit sclite)."""

from __future__ import annotations

from pathlib import Path

from wavconformer.decoding.transcript import Transcript


def tsv(transcript: Transcript) -> str:
    """Columns start and end (seconds), probability (empty where unknown), segment (from 1), word; a heading first.

    Where turns are known there is a last column, speaker, empty where nobody was heard.
    """
    lines = ["start\tend\tprobability\tsegment\tword" + ("\tspeaker" if transcript.turns else "")]
    for number, segment in enumerate(transcript.segments, 1):
        for word in segment.words:
            probability = "" if word.probability is None else f"{word.probability:.4f}"
            lines.append(
                f"{word.start:.3f}\t{word.end:.3f}\t{probability}\t{number}\t{_plain(word.text, ' ')}"
                + (f"\t{_plain(word.speaker or '', ' ')}" if transcript.turns else "")
            )
    return "\n".join(lines) + "\n"


def ctm(transcript: Transcript, name: str) -> str:
    """Lines of recording, channel, start, duration, word and, where it is known, confidence.

    name: of the recording, whose folder and suffix don't count. Spaces in it become underscores.
    """
    recording = _plain(Path(name).stem, "_") or "recording"
    lines = []
    for word in transcript.words:
        confidence = "" if word.probability is None else f" {word.probability:.4f}"
        lines.append(
            f"{recording} 1 {word.start:.3f} {word.end - word.start:.3f} {_plain(word.text, '_')}{confidence}\n"
        )
    return "".join(lines)


def _plain(text: str, space: str) -> str:
    """Without what would part columns or lines."""
    return space.join(text.split())
